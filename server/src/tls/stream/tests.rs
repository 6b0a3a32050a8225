//! Against the TLS client that agents use.

use std::{io, net::Ipv4Addr};

use holdfast_tests::tls;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Stream;
use crate::tls::{Acceptor, Certificate, Keys, Peer, Protocol};

fn connector() -> TlsConnector {
    TlsConnector::from(tls::client(&tls::new_key(), Protocol::Framed.name()))
}

fn acceptor() -> Acceptor {
    let directory = TempDir::new().unwrap();
    let certificate = Certificate::own(directory.path(), &[]).unwrap();
    Acceptor::new(&Keys::load_or_create(directory.path()).unwrap(), certificate).unwrap()
}

/// A client and a server that have shaken hands, over a network that may pass on one byte at a time.
async fn pair(byte_by_byte: bool) -> (TlsStream<TcpStream>, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut address = listener.local_addr().unwrap();
    if byte_by_byte {
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let back = std::mem::replace(&mut address, front.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut client, _) = front.accept().await.unwrap();
            let mut server = TcpStream::connect(back).await.unwrap();
            server.set_nodelay(true).unwrap();
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            let up = async {
                while let Ok(byte) = from_client.read_u8().await {
                    to_server.write_u8(byte).await?;
                    tokio::task::yield_now().await;
                }
                to_server.shutdown().await
            };
            let down = async {
                tokio::io::copy(&mut from_server, &mut to_client).await?;
                to_client.shutdown().await
            };
            let _ = tokio::join!(up, down);
        });
    }
    let server = async {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor().accept(tcp).await.unwrap().0
    };
    let client = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        connector().connect(ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()), tcp).await.unwrap()
    };
    tokio::join!(client, server)
}

/// Sends back all that comes, reading into `size` bytes.
async fn echo(mut stream: Stream, size: usize) -> io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..length]).await?;
        stream.flush().await?;
    }
}

async fn echoes(byte_by_byte: bool, size: usize, length: usize) {
    let (client, server) = pair(byte_by_byte).await;
    let echo = tokio::spawn(echo(server, size));
    let sent: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
    let (mut from_server, mut to_server) = tokio::io::split(client);
    let bytes = sent.clone();
    let sending = tokio::spawn(async move {
        to_server.write_all(&bytes).await?;
        to_server.shutdown().await
    });
    let mut came = Vec::new();
    // The server's `close_notify` comes last: without it this would be an error.
    from_server.read_to_end(&mut came).await.unwrap();
    assert!(came == sent, "{} bytes of {length} came back", came.len());
    sending.await.unwrap().unwrap();
    echo.await.unwrap().unwrap();
}

#[tokio::test]
async fn bytes_pass_both_ways() {
    echoes(false, 4_096, 1).await;
    echoes(false, 64 * 1024, 1_000_000).await;
    echoes(false, 7, 100_000).await;
}

#[tokio::test]
async fn records_may_come_in_pieces() {
    echoes(true, 16 * 1024, 20_000).await;
}

#[tokio::test]
async fn new_keys_may_be_asked_for() {
    let (mut client, mut server) = pair(false).await;
    for round in 0..3 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(&[round; 100]).await.unwrap();
        client.flush().await.unwrap();
        let mut came = [0; 100];
        server.read_exact(&mut came).await.unwrap();
        server.write_all(&came).await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut came).await.unwrap();
        assert_eq!(came, [round; 100]);
    }
}

#[tokio::test]
async fn an_end_that_was_cut_off_is_no_end() {
    let (client, mut server) = pair(false).await;
    drop(client);
    let error = server.read_u8().await.unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{error}");
}

#[tokio::test]
async fn damaged_bytes_end_the_connection_and_hold_nothing_up() {
    let (mut client, mut server) = pair(false).await;
    // An application record that nobody encrypted; then the beginning of one.
    client.get_mut().0.write_all(&[23, 3, 3, 0, 32]).await.unwrap();
    client.get_mut().0.write_all(&[0x55; 64]).await.unwrap();
    let error = server.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    assert!(client.read_u8().await.unwrap_err().to_string().contains("alert"));
    assert!(server.write_all(b"more").await.is_err());
}

#[tokio::test]
async fn whoever_does_not_speak_tls_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let error = acceptor().accept(tcp).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

/// How large the chunks are in which a client of this protocol reads what a server sends in bulk: a record at a time.
async fn largest_record(protocol: Protocol) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let (mut stream, peer) = acceptor().accept(tcp).await.unwrap();
        assert!(matches!(peer, Peer::Holder { protocol: spoken, .. } if spoken == protocol), "{peer:?}");
        stream.write_all(&[7; 100_000]).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let client = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(tls::client(&tls::new_key(), protocol.name()));
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        let mut stream = connector.connect(name, tcp).await.unwrap();
        let (mut largest, mut total) = (0, 0);
        let mut header = [0; 5];
        // The server sends nothing of its own behind the handshake: what comes are whole records.
        let (tcp, _) = stream.get_mut();
        loop {
            match tcp.read_exact(&mut header).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => panic!("{error}"),
            }
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            tcp.read_exact(&mut vec![0; length]).await.unwrap();
            largest = length.max(largest);
            total += length;
        }
        assert!(total > 100_000);
        largest
    };
    tokio::join!(server, client).1
}

#[tokio::test]
async fn records_are_short_but_where_no_microcontroller_is() {
    for short in [Protocol::Framed, Protocol::Enrolment, Protocol::Gateway] {
        let largest = largest_record(short).await;
        assert!(largest <= 1024 + 17, "{short:?}: {largest}");
    }
    for long in [Protocol::Data, Protocol::Api] {
        let largest = largest_record(long).await;
        assert!(largest > 16_000, "{long:?}: {largest}");
    }
}
