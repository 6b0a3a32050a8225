//! The relay of SSH sessions as a process of its own: `relay SOCKET DEVICE`, with the socket of a server's API.
//!
//! It reaches the device by the server's API alone, and joins operators to it by the server's own `Relay`. A test
//! kills it, to see that nothing else of the server notices. It prints where operators find it.

use std::{env, io, net::Ipv4Addr, time::Duration};

use holdfast_server::tasks::Relay;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};

/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 4 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [socket, device] = arguments.as_slice() else {
        return Err(io::Error::other("expected the socket of a server's API, and a device's name"));
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (operator, _) = listener.accept().await?;
        let (socket, device) = (socket.clone(), device.clone());
        tokio::spawn(async move {
            if let Err(error) = join(operator, &socket, &device).await {
                eprintln!("relay: {device}: {error}");
            }
        });
    }
}

/// Joins an operator to a session with the device.
async fn join(operator: TcpStream, socket: &str, device: &str) -> io::Result<()> {
    let session = open(socket, device).await?;
    let never = std::future::pending();
    let carried = Relay::new(operator, &[], Duration::ZERO).carry(session, never).await;
    let reason = carried.end.reason.unwrap_or_default();
    eprintln!("relay: {device}: {} bytes, {} bytes, {reason}", carried.from_device, carried.to_device);
    Ok(())
}

/// A session with the device's SSH server, by the API.
async fn open(socket: &str, device: &str) -> io::Result<UnixStream> {
    let mut session = UnixStream::connect(socket).await?;
    let request = format!(
        "POST /api/v1/devices/{device}/ssh HTTP/1.1\r\nHost: holdfast\r\nConnection: upgrade\r\n\
         Upgrade: holdfast-ssh\r\nContent-Length: 0\r\n\r\n"
    );
    session.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    // Byte by byte: what stands behind the head is SSH's.
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        head.push(session.read_u8().await?);
    }
    match head.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(session),
        false => Err(io::Error::other(String::from_utf8_lossy(&head).into_owned())),
    }
}
