//! The plainest relay of what ffmpeg makes: each viewer is sent its fragmented MP4 over TLS, from the last keyframe on. It asks
//! nobody who they are, has no bounds, and writes nothing down.

use std::{
    env,
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rcgen::CertificateParams;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::broadcast,
};
use tokio_rustls::TlsAcceptor;

use crate::error::{Error, Result};

/// How many fragments may wait for a viewer.
const WAITING: usize = 64;

/// The page that plays it: the browser's own means, and the rules by which ours keeps near the newest picture.
const PAGE: &str = include_str!("../../browser/plain.html");

/// The plainest relay of fragmented MP4, over TLS
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
}

type Fragment = Arc<[u8]>;

/// What all viewers share.
struct Shared {
    state: Mutex<State>,
    fragments: broadcast::Sender<Fragment>,
}

#[derive(Default)]
struct State {
    head: Vec<u8>,
    /// The fragments since the last keyframe.
    group: Vec<Fragment>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `holdfast-bench plain`: relays until it is killed.
///
/// # Errors
/// It can't listen, or the camera has ended.
pub(crate) fn run(arguments: &Arguments) -> Result {
    tokio::runtime::Runtime::new()?.block_on(serve(arguments.listen))
}

async fn serve(address: SocketAddr) -> Result {
    let acceptor = TlsAcceptor::from(Arc::new(tls()?));
    let listener = TcpListener::bind(address).await?;
    let shared = Arc::new(Shared { state: Mutex::default(), fragments: broadcast::Sender::new(WAITING) });
    let mut camera = Command::new(env::current_exe()?)
        .args(["camera", "--format", "mp4"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = camera.stdout.take();
    let output = output.ok_or_else(|| Error::Told("the camera has no output".to_owned()))?;
    tokio::select! {
        ended = film(output, &shared) => ended,
        ended = accept(&listener, &acceptor, &shared) => ended,
    }
}

fn tls() -> Result<ServerConfig> {
    let key = holdfast_tests::tls::new_key();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], secret)
        })
        .map_err(Error::talk)
}

/// Hands on what the camera gives: what stands before the first fragment is the head, and a fragment ends with its data.
async fn film(mut output: impl AsyncRead + Unpin, shared: &Shared) -> Result {
    let mut fragment = Vec::new();
    let mut is_begun = false;
    loop {
        let mut head = [0; 8];
        output.read_exact(&mut head).await?;
        let [a, b, c, d, name @ ..] = head;
        let length = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(head.len());
        let start = fragment.len() + head.len();
        fragment.extend_from_slice(&head);
        fragment.resize(start + length, 0);
        let content = fragment.get_mut(start..).unwrap_or_default();
        output.read_exact(content).await?;
        match &name {
            b"moov" => {
                shared.state().head = std::mem::take(&mut fragment);
                println!("ready");
            }
            b"mdat" => {
                let is_keyframe = has_idr(content);
                let whole = Fragment::from(std::mem::take(&mut fragment));
                let mut state = shared.state();
                is_begun |= is_keyframe;
                if is_keyframe {
                    state.group.clear();
                }
                if is_begun {
                    state.group.push(Arc::clone(&whole));
                    // Nobody may look.
                    let _ = shared.fragments.send(whole);
                }
            }
            _ => {}
        }
    }
}

/// Whether one of the NAL units, each behind its length, is of an IDR picture.
fn has_idr(mut data: &[u8]) -> bool {
    const IDR: u8 = 5;
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        if rest.first().is_some_and(|first| first & 0x1f == IDR) {
            return true;
        }
        data = rest.get(u32::from_be_bytes(*length) as usize..).unwrap_or_default();
    }
    false
}

async fn accept(listener: &TcpListener, acceptor: &TlsAcceptor, shared: &Arc<Shared>) -> Result {
    loop {
        let (stream, _) = listener.accept().await?;
        // A connection that fails has ended: there is nobody to be told.
        tokio::spawn(answer(acceptor.clone(), stream, Arc::clone(shared)));
    }
}

/// One request on each connection: the page, or the stream.
async fn answer(acceptor: TlsAcceptor, stream: TcpStream, shared: Arc<Shared>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = Box::pin(acceptor.accept(stream)).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let head = |kind| format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
    if !request.starts_with(b"GET /live.mp4 ") {
        stream.write_all((head("text/html") + PAGE).as_bytes()).await?;
        return stream.shutdown().await;
    }
    let (mut fragments, first) = {
        let state = shared.state();
        let first: Vec<u8> =
            state.head.iter().chain(state.group.iter().flat_map(|it| it.iter())).copied().collect();
        (shared.fragments.subscribe(), first)
    };
    stream.write_all(head("video/mp4").as_bytes()).await?;
    stream.write_all(&first).await?;
    stream.flush().await?;
    // Who is too slow is let go.
    while let Ok(fragment) = fragments.recv().await {
        stream.write_all(&fragment).await?;
        stream.flush().await?;
    }
    Ok(())
}
