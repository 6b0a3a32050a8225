//! The bare TLS echo: what a server costs that keeps nothing, on tokio and rustls like ours.

use std::{io::Write, net::SocketAddr};

use holdfast_tests::tls;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::error::Result;

/// A bare TLS echo server: what comes is written back
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
}

/// Echoes until it is killed.
///
/// # Errors
/// It can't listen.
pub(crate) fn run(arguments: &Arguments) -> Result {
    tokio::runtime::Runtime::new()?.block_on(serve(arguments.listen))
}

async fn serve(address: SocketAddr) -> Result {
    // TLS as the server speaks it: 1.3, ring, P-256, the client's key asked for.
    let acceptor = TlsAcceptor::from(tls::server(&tls::new_key(), &["echo"]));
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(4_096)?;
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A connection that fails has ended: there is nobody to be told.
        tokio::spawn(echo(acceptor.clone(), stream));
    }
}

async fn echo(acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = Box::pin(acceptor.accept(stream)).await?;
    let mut buffer = [0; 2_048];
    loop {
        let length = stream.read(&mut buffer).await?;
        let Some(read @ [_, ..]) = buffer.get(..length) else { return Ok(()) };
        stream.write_all(read).await?;
        stream.flush().await?;
    }
}
