//! A microcontroller's TLS against the TLS of servers: whom it trusts, and how it tells what went wrong.

mod impostor;

use std::{future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use agent_embedded::tls::{self, Room, TlsError};
use embedded_io_async::{ErrorKind, ErrorType, Read as _, Write as _};
use holdfast_tests::{tls as peer, wait::LONGEST_WAIT};
use impostor::{Impostor, certificate, certificate_verify, message, no_extensions};
use protocol_core::{
    alpn::{MAX_RECORD, SESSION},
    message::{Endpoints, Pin, Text},
    provisioning::{PrivateKey, Provisioning},
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What a read of the wire gives at most: a record comes in pieces then.
#[derive(Clone, Copy)]
enum Pieces {
    Whole,
    Bytes,
}

/// A stream of tokio's, as a board's transport.
struct Wire<S>(S, Pieces);

impl<S> ErrorType for Wire<S> {
    type Error = ErrorKind;
}

impl<S: AsyncRead + Unpin> embedded_io_async::Read for Wire<S> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let most = if matches!(self.1, Pieces::Bytes) { 1 } else { buffer.len() };
        self.0.read(&mut buffer[..most]).await.map_err(|_| ErrorKind::Other)
    }
}

impl<S: AsyncWrite + Unpin> embedded_io_async::Write for Wire<S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(bytes).await.map_err(|_| ErrorKind::Other)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.0.flush().await.map_err(|_| ErrorKind::Other)
    }
}

/// A device: its key, its certificate, and the keys that it trusts.
struct Device {
    key: PrivateKey,
    certificate: Vec<u8>,
    current: Pin,
    next: Pin,
}

impl Device {
    /// One that trusts this server, and no other.
    fn of(server: &KeyPair) -> Self {
        Self::new(peer::pin(server), Pin([0; 32]))
    }

    fn new(current: Pin, next: Pin) -> Self {
        let pair = peer::new_key();
        let certificate = CertificateParams::default().self_signed(&pair).unwrap().der().to_vec();
        Self { key: scalar(&pair), certificate, current, next }
    }

    fn provisioning(&self) -> Provisioning<'_> {
        let endpoints = Endpoints { current: self.current, next: self.next, addresses: Default::default() };
        let name = Text::new("mcu").unwrap();
        Provisioning { name, key: self.key.clone(), certificate: &self.certificate, endpoints }
    }

    async fn open<'r>(
        &self,
        wire: DuplexStream,
        pieces: Pieces,
        room: &'r mut Room,
    ) -> Result<tls::Stream<'r, Wire<DuplexStream>>, TlsError> {
        tls::open(Wire(wire, pieces), &self.provisioning(), random, room).await
    }
}

/// The secret of a key, out of its PKCS #8.
fn scalar(pair: &KeyPair) -> PrivateKey {
    let der = pair.serialize_der();
    let at = der.windows(5).position(|bytes| bytes == [2, 1, 1, 4, 32]).unwrap() + 5;
    PrivateKey(der[at..at + 32].try_into().unwrap())
}

fn random(bytes: &mut [u8]) {
    ring::default_provider().secure_random.fill(bytes).unwrap();
}

/// A server's TLS, as the server itself has it.
fn config(key: &KeyPair) -> Arc<ServerConfig> {
    let mut config = Arc::unwrap_or_clone(peer::server(key, &[SESSION]));
    config.max_fragment_size = Some(MAX_RECORD + 5);
    Arc::new(config)
}

fn acceptor(key: &KeyPair) -> TlsAcceptor {
    TlsAcceptor::from(config(key))
}

/// Runs a test, which must not take for ever.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { timeout(LONGEST_WAIT, test).await.expect("the test ends in time") })
}

/// Both ends of a connection that is open.
async fn connected<'r>(
    device: &Device,
    server: &TlsAcceptor,
    (pieces, room_on_wire): (Pieces, usize),
    room: &'r mut Room,
) -> (tls::Stream<'r, Wire<DuplexStream>>, TlsStream<DuplexStream>) {
    let (near, far) = duplex(room_on_wire);
    let (opened, accepted) = tokio::join!(device.open(near, pieces, room), server.accept(far));
    (opened.unwrap(), accepted.unwrap())
}

/// Why a device does not get a connection from what `server` does at the other end of the wire.
fn refusal<T>(device: &Device, server: impl AsyncFnOnce(DuplexStream) -> T) -> TlsError {
    run(async {
        let (near, far) = duplex(4096);
        let mut room = Room::new();
        let (opened, _kept) = tokio::join!(device.open(near, Pieces::Whole, &mut room), server(far));
        opened.err().expect("no connection")
    })
}

/// What a device with these trusted keys makes of a server with that one.
fn meet(server: &KeyPair, current: Pin, next: Pin) -> Result<Pin, TlsError> {
    run(async {
        let (near, far) = duplex(4096);
        let (device, mut room) = (Device::new(current, next), Room::new());
        let accepted = acceptor(server).accept(far);
        let (opened, _) = tokio::join!(device.open(near, Pieces::Whole, &mut room), accepted);
        opened.map(|stream| stream.pin())
    })
}

#[test]
fn a_device_trusts_the_current_key_and_the_next_one() {
    let (current, next, other) = (peer::new_key(), peer::new_key(), peer::new_key());
    let (current_pin, next_pin) = (peer::pin(&current), peer::pin(&next));
    assert_eq!(meet(&current, current_pin, next_pin), Ok(current_pin));
    assert_eq!(meet(&next, current_pin, next_pin), Ok(next_pin));
    let error = meet(&other, current_pin, next_pin).unwrap_err();
    assert_eq!(error, TlsError::WrongKey { shown: Some(peer::pin(&other)) });
}

#[test]
fn bytes_go_both_ways_however_they_are_cut() {
    for pieces in [Pieces::Whole, Pieces::Bytes] {
        run(async {
            let server = peer::new_key();
            let (device, mut room) = (Device::of(&server), Room::new());
            let (mut stream, mut accepted) =
                connected(&device, &acceptor(&server), (pieces, 64), &mut room).await;
            assert_eq!(accepted.get_ref().1.alpn_protocol(), Some(SESSION.as_bytes()));
            assert_eq!(accepted.get_ref().1.peer_certificates().unwrap()[0].as_ref(), device.certificate);

            let sent: Vec<u8> = (0..5000_u32).map(|number| number as u8).collect();
            let (mut up, mut down) = (vec![0; sent.len()], Vec::new());
            let device_side = async {
                stream.write_all(&sent).await.unwrap();
                stream.flush().await.unwrap();
                let mut part = [0; 77];
                while down.len() < sent.len() {
                    let count = stream.read(&mut part).await.unwrap();
                    down.extend_from_slice(&part[..count]);
                }
                assert_eq!(stream.read(&mut part).await, Ok(0), "the server says farewell");
                assert_eq!(stream.read(&mut part).await, Ok(0));
                assert_eq!(stream.write(b"more").await, Err(TlsError::Lost(ErrorKind::BrokenPipe)));
            };
            let server_side = async {
                accepted.read_exact(&mut up).await.unwrap();
                accepted.write_all(&sent).await.unwrap();
                accepted.shutdown().await.unwrap();
            };
            tokio::join!(device_side, server_side);
            assert!(up == sent && down == sent);
        });
    }
}

/// A device waits for bytes and for its time at once, and drops the read when the time has come.
#[test]
fn a_read_that_is_dropped_loses_nothing() {
    run(async {
        let server = peer::new_key();
        let (device, mut room) = (Device::of(&server), Room::new());
        let (mut stream, mut accepted) =
            connected(&device, &acceptor(&server), (Pieces::Bytes, 64), &mut room).await;
        let sent: Vec<u8> = (0..3000_u32).map(|number| (number / 7) as u8).collect();
        let device_side = async {
            let mut came = Vec::new();
            let (mut part, mut dropped) = ([0; 100], 0);
            while came.len() < sent.len() {
                let read = poll_once(stream.read(&mut part)).await;
                match read {
                    Some(count) => came.extend_from_slice(&part[..count.unwrap()]),
                    None => dropped += 1,
                }
            }
            assert!(dropped > 20, "only {dropped} reads were dropped");
            assert!(came == sent);
        };
        let server_side = async {
            for part in sent.chunks(333) {
                accepted.write_all(part).await.unwrap();
                accepted.flush().await.unwrap();
            }
        };
        tokio::join!(device_side, server_side);
    });
}

/// Polls a future once, and lets others run; gives what it came to, if it did.
async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let polled = {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            Poll::Ready(match future.as_mut().poll(context) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            })
        })
        .await
    };
    tokio::task::yield_now().await;
    polled
}

/// The handshake of a server that refuses, and what the device makes of it.
fn refused(change: impl FnOnce(&mut ServerConfig)) -> TlsError {
    let server = peer::new_key();
    let mut config = Arc::unwrap_or_clone(config(&server));
    change(&mut config);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    refusal(&Device::of(&server), async |far| acceptor.accept(far).await)
}

#[test]
fn a_server_that_refuses_is_told_apart() {
    let error = refused(|config| config.alpn_protocols = vec![b"h2".to_vec()]);
    assert!(matches!(error, TlsError::Refused { .. }), "{error:?}");
    let error = refused(|config| {
        let mut provider = ring::default_provider();
        provider.kx_groups = vec![ring::kx_group::X25519];
        *config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&config.cert_resolver));
    });
    assert!(matches!(error, TlsError::Refused { alert: Some(40) }), "{error:?}");
}

/// The device's side of the handshake ends before the server's does.
#[test]
fn a_certificate_that_is_refused_shows_at_the_first_read() {
    run(async {
        let (server, authority) = (peer::new_key(), peer::new_key());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateParams::default().self_signed(&authority).unwrap().der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let mut strict = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_cert_resolver(Arc::clone(&config(&server).cert_resolver));
        strict.max_fragment_size = Some(MAX_RECORD + 5);
        let (near, far) = duplex(4096);
        let (device, mut room) = (Device::of(&server), Room::new());
        let acceptor = TlsAcceptor::from(Arc::new(strict));
        let (opened, accepted) =
            tokio::join!(device.open(near, Pieces::Whole, &mut room), acceptor.accept(far));
        assert!(accepted.is_err());
        let mut stream = opened.unwrap();
        assert_eq!(stream.read(&mut [0; 10]).await, Err(TlsError::Refused { alert: None }));
    });
}

#[test]
fn a_record_that_is_too_large_is_an_error() {
    let error = refused(|config| config.max_fragment_size = Some(64));
    assert_eq!(error, TlsError::Malformed, "a handshake in pieces");
    run(async {
        let server = peer::new_key();
        let mut large = Arc::unwrap_or_clone(config(&server));
        large.max_fragment_size = None;
        let (device, mut room) = (Device::of(&server), Room::new());
        let acceptor = TlsAcceptor::from(Arc::new(large));
        let (mut stream, mut accepted) =
            connected(&device, &acceptor, (Pieces::Whole, 4096), &mut room).await;
        let mut part = [0; 100];
        let (read, _) = tokio::join!(stream.read(&mut part), async {
            accepted.write_all(&[0; MAX_RECORD + 1]).await.unwrap();
            accepted.flush().await.unwrap();
        });
        assert_eq!(read, Err(TlsError::Malformed));
    });
}

#[test]
fn a_link_that_is_cut_is_lost() {
    let server = peer::new_key();
    // What a whole handshake says to the device, cut at every so many bytes.
    for cut in (0..650).step_by(21) {
        let error = refusal(&Device::of(&server), async |mut middle| {
            let (mut inner, far) = duplex(4096);
            let relay = async {
                let mut hello = [0; 1024];
                let count = middle.read(&mut hello).await.unwrap();
                inner.write_all(&hello[..count]).await.unwrap();
                let mut answer = vec![0; cut];
                inner.read_exact(&mut answer).await.unwrap();
                middle.write_all(&answer).await.unwrap();
                drop((middle, inner));
            };
            tokio::join!(relay, acceptor(&server).accept(far))
        });
        assert!(matches!(error, TlsError::Lost(_)), "cut at {cut}: {error:?}");
    }
}

#[test]
fn what_is_no_tls_is_an_error() {
    let garbage: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"PONG",
        &[0; 64],
        &[22, 3, 3, 0xff, 0xff, 0, 0],
        &[23, 3, 3, 0, 40, 1, 2, 3],
        &[22, 3, 3, 0, 4, 2, 0, 0, 0],
    ];
    for bytes in garbage {
        let error = refusal(&Device::new(Pin([1; 32]), Pin([2; 32])), async |mut far| {
            far.write_all(bytes).await.unwrap();
            far.shutdown().await.unwrap();
        });
        let expected =
            if bytes == b"PONG" { TlsError::Lost(ErrorKind::ConnectionReset) } else { TlsError::Malformed };
        assert_eq!(error, expected, "{bytes:?}");
    }
}

/// Whoever sits on the way can put records between the server's: none reaches the library but encrypted ones.
#[test]
fn what_is_put_between_the_records_ends_the_connection() {
    for bytes in [
        &[22, 3, 3, 0, 4, 24, 0, 0, 0][..],
        &[21, 3, 3, 0, 2, 1, 0],
        &[23, 3, 3, 0, 16, 0],
        &[20, 3, 3, 0, 1, 1],
    ] {
        run(async {
            let server = peer::new_key();
            let (near, mut middle) = duplex(4096);
            let (mut inner, far) = duplex(4096);
            let (device, mut room) = (Device::of(&server), Room::new());
            let (opened, _, accepted) = tokio::join!(
                device.open(near, Pieces::Whole, &mut room),
                timeout(Duration::from_secs(1), tokio::io::copy_bidirectional(&mut middle, &mut inner)),
                acceptor(&server).accept(far),
            );
            let (mut stream, _accepted) = (opened.unwrap(), accepted.unwrap());
            middle.write_all(bytes).await.unwrap();
            assert_eq!(stream.read(&mut [0; 10]).await, Err(TlsError::Malformed), "{bytes:?}");
        });
    }
}

#[test]
fn a_key_that_is_none_is_told() {
    let mut device = Device::new(Pin([1; 32]), Pin([2; 32]));
    device.key = PrivateKey([0; 32]);
    assert_eq!(refusal(&device, async |far| far), TlsError::OwnKey);
}

#[test]
fn a_write_that_is_dropped_ends_the_connection() {
    run(async {
        let server = peer::new_key();
        let (device, mut room) = (Device::of(&server), Room::new());
        let (mut stream, _accepted) =
            connected(&device, &acceptor(&server), (Pieces::Whole, 64), &mut room).await;
        assert_eq!(stream.write(&[0; 400]).await, Ok(400), "it waits for the flush");
        assert!(poll_once(stream.flush()).await.is_none(), "nobody reads");
        assert_eq!(stream.flush().await, Err(TlsError::Interrupted));
    });
}

/// What a device makes of a server that says this behind its hello, and then that it has finished.
fn meet_impostor(trusted: Pin, before: &[u8], behind: &[u8]) -> TlsError {
    refusal(&Device::new(trusted, Pin([0; 32])), async |far| {
        let mut impostor = Impostor::greet(far, |_| ()).await;
        let flight = [before, &impostor.finished(before), behind].concat();
        impostor.say(&flight).await;
        impostor
    })
}

/// The library asks for a proof only if the server offers one: all ways around it.
#[test]
fn a_server_without_the_key_is_found_out() {
    let real = peer::new_key();
    let (trusted, der) = (peer::pin(&real), CertificateParams::default().self_signed(&real).unwrap());
    let shown = certificate(der.der());
    let own = peer::new_key();
    let own_der = CertificateParams::default().self_signed(&own).unwrap();
    // Any signature of the right form: it is of another handshake.
    let signature = [&[0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01][..]].concat();
    let begin = no_extensions();
    let request = message(13, &[0, 0, 0]);
    let with = |parts: &[&[u8]]| meet_impostor(trusted, &parts.concat(), &[]);
    assert_eq!(with(&[]), TlsError::NotProven, "nothing but the end");
    assert_eq!(with(&[&begin]), TlsError::NotProven, "no certificate");
    assert_eq!(with(&[&begin, &request]), TlsError::NotProven, "it asks for ours, and shows none");
    assert_eq!(with(&[&begin, &shown]), TlsError::NotProven, "the real one's certificate, and no signature");
    assert_eq!(with(&[&begin, &shown, &shown]), TlsError::NotProven);
    assert_eq!(with(&[&begin, &shown, &certificate_verify(&signature)]), TlsError::NotProven);
    assert_eq!(
        with(&[&begin, &certificate_verify(&signature)]),
        TlsError::NotProven,
        "a signature of nobody"
    );
    let behind = [shown.clone(), certificate_verify(&signature)].concat();
    assert_eq!(meet_impostor(trusted, &begin, &behind), TlsError::NotProven, "behind the end");
    let untrusted = TlsError::WrongKey { shown: Some(peer::pin(&own)) };
    let owned = certificate(own_der.der());
    assert_eq!(with(&[&begin, &owned, &certificate_verify(&signature)]), untrusted);
    assert_eq!(with(&[&begin, &shown, &owned]), untrusted);
    let none = TlsError::WrongKey { shown: None };
    assert_eq!(with(&[&begin, &certificate(&[])]), none, "an empty certificate");
    assert_eq!(with(&[&begin, &certificate(&der.der()[..100])]), none, "a part of one");
    let no_entry = message(impostor::CERTIFICATE, &[0, 0, 0, 0]);
    assert_eq!(with(&[&begin, &no_entry]), none);
}

/// An impostor's handshake may be anything: it ends in an error, not in a panic.
#[test]
fn what_an_impostor_says_is_an_error() {
    let real = peer::new_key();
    let (trusted, der) = (peer::pin(&real), CertificateParams::default().self_signed(&real).unwrap());
    let whole =
        [no_extensions(), message(13, &[0, 0, 0]), certificate(der.der()), certificate_verify(&[1; 70])]
            .concat();
    let mut state = 7_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % limit
    };
    for _ in 0..40 {
        let mut flight = whole.clone();
        for _ in 0..=below(3) {
            let at = below(flight.len());
            match below(3) {
                0 => flight[at] = below(256) as u8,
                1 => flight.truncate(at.max(1)),
                _ => drop(flight.remove(at)),
            }
        }
        meet_impostor(trusted, &flight, &[]);
    }
    for kind in 0..=255 {
        if kind % 16 < 8 || kind < 32 {
            meet_impostor(trusted, &message(kind, &[0; 40]), &[]);
        }
    }
}

#[test]
fn a_hello_that_is_damaged_is_an_error() {
    // Type, length, version, 32 random bytes that nobody looks at, and the rest.
    for at in (0..6).chain(38..123) {
        let error = refusal(&Device::new(Pin([1; 32]), Pin([2; 32])), async |far| {
            let mut impostor = Impostor::greet(far, |hello| hello[at] ^= 0x55).await;
            impostor.say(&no_extensions()).await;
        });
        // What changes nothing is found out later.
        assert!(matches!(error, TlsError::Malformed | TlsError::Lost(_)), "{at}: {error:?}");
    }
}
