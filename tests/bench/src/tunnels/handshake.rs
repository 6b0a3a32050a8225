//! The floor of a session's first byte: a TLS connection from the device to the server, by which each shows its key, and a
//! byte over it. No program is started, nobody is asked, and nothing is written down.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use holdfast_tests::tls;
use protocol_core::alpn;
use rustix::time::{ClockId, clock_gettime};
use rustls::{ClientConfig, ClientConnection, ServerConnection, StreamOwned, pki_types::ServerName};

use super::measure::of_times;
use crate::{
    compare::Figures,
    error::{Error, Result},
};

/// Shakes hands so often.
///
/// # Errors
/// There is no connection.
pub(crate) fn measure(times: u32, pause: Duration) -> Result<Figures> {
    let config = tls::server(&tls::new_key(), &[alpn::DATA]);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (orders, ordered) = mpsc::channel();
    let address = listener.local_addr()?;
    let device = thread::spawn(move || be_device(address, &ordered));
    let (mut took, begun) = (Vec::new(), cpu());
    for _ in 0..times {
        let begun = Instant::now();
        orders.send(()).map_err(Error::talk)?;
        let (tcp, _) = listener.accept()?;
        tcp.set_nodelay(true)?;
        let server = ServerConnection::new(Arc::clone(&config)).map_err(Error::talk)?;
        StreamOwned::new(server, tcp).read_exact(&mut [0])?;
        took.push(begun.elapsed());
        thread::sleep(pause);
    }
    let server = cpu().saturating_sub(begun);
    drop(orders);
    let device = device.join().map_err(|_| Error::Told("the device's side has panicked".to_owned()))??;
    let mut figures = of_times(&mut took);
    for (name, used) in [("first-device-cpu", device), ("first-server-cpu", server)] {
        figures.insert(name.to_owned(), used.as_secs_f64() * 1e3 / f64::from(times));
    }
    Ok(figures)
}

/// Connects as often as it is told to. Gives how much CPU time that took.
fn be_device(address: SocketAddr, orders: &mpsc::Receiver<()>) -> io::Result<Duration> {
    let config: Arc<ClientConfig> = tls::client(&tls::new_key(), alpn::DATA);
    let begun = cpu();
    while orders.recv().is_ok() {
        let tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("holdfast").map_err(io::Error::other)?;
        let client = ClientConnection::new(Arc::clone(&config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(client, tcp);
        stream.write_all(b"w")?;
        stream.flush()?;
    }
    Ok(cpu().saturating_sub(begun))
}

/// How much CPU time this thread has used.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}
