//! The sockets that the server listens on.

pub mod classic;
pub mod framed;
pub mod http;

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// How long no connection is accepted after the system refused one: it lacks file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Waits for the next connection, and for the system to have room for it.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                let address = listener.local_addr().ok().map(tracing::field::display);
                tracing::warn!(%error, address, "no connection could be accepted; raise the limit of open files (ulimit -n)?");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
