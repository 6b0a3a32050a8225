//! The connection to the server for one session of a wired device.

use std::{io, mem, pin::Pin, sync::Arc, time::Duration};

use protocol_core::{
    message::{self, Gateway, Text},
    session::OPENING_MAX_FRAME,
    time::Instant,
};

use super::overheard::{Heard, Overheard};
use crate::{
    agent::{Agent, Link as LinkToServer, NOT_ENROLLED},
    clock,
    dial::{DialError, dial},
    identity::{Identity, IdentityError},
    pipe::Pipe,
    tls::{Connector, Protocol, SetupError, Stream},
};

/// What a device may send while its connection is being made, in bytes: a `PING` and a hello are far less.
const MOST_HELD: usize = 4 * 1024;

/// What may wait for a server that reads slowly, in bytes.
const MOST_UNSENT: usize = 32 * 1024;

/// How long a connection may take, from the device's first byte on. The device waits 10 s in all for its welcome, and the
/// server's part of that has to be left.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long the device has to take what the server said last.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long the server has to take what the device said last.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why there is no connection for the device.
#[derive(Debug, thiserror::Error)]
pub(super) enum CarrierError {
    #[error("{}", NOT_ENROLLED)]
    NotEnrolled,
    #[error(transparent)]
    Unusable(#[from] IdentityError),
    #[error(transparent)]
    NoTls(#[from] SetupError),
    #[error(transparent)]
    Unreachable(#[from] DialError),
    #[error("{address}: no connection in the time that a wired device waits for one")]
    TooSlow { address: String },
    #[error("the session has ended: the device has left, as before a reset, or the server has closed it")]
    Closed,
    #[error("the connection to the server broke: {0}")]
    Broken(io::Error),
}

type Dialled = Pin<Box<dyn Future<Output = Result<Stream, CarrierError>> + Send>>;

/// The connection to the server, from the device's first byte on.
pub(super) enum Carrier {
    /// The device has said nothing yet, and nobody is asked.
    Idle,
    /// The connection is being made.
    Dialling {
        /// Gives it.
        dialled: Dialled,
        /// What the device has said: [`MOST_HELD`] at most.
        held: Vec<u8>,
    },
    /// It stands.
    Open {
        /// Its bytes.
        pipe: Box<Pipe<Stream>>,
        /// What people are shown of them.
        overheard: Overheard,
    },
    /// It has ended, and the device is told what the server said last.
    Ended {
        /// What is left of it.
        rest: Vec<u8>,
        /// Until when.
        deadline: Instant,
    },
}

impl Carrier {
    /// How many bytes of the device may be taken now.
    pub(super) fn room(&self) -> usize {
        match self {
            Self::Idle => MOST_HELD,
            Self::Dialling { held, .. } => MOST_HELD - held.len().min(MOST_HELD),
            Self::Open { pipe, .. } => MOST_UNSENT.saturating_sub(pipe.unsent()),
            Self::Ended { .. } => usize::MAX,
        }
    }

    /// Takes bytes of the device, as many as there is room for. The first have a connection made, at `not_before`.
    pub(super) fn take(&mut self, bytes: &[u8], agent: &Arc<Agent>, not_before: Instant) {
        match self {
            Self::Idle => {
                let dialled = Box::pin(connect(Arc::clone(agent), not_before));
                *self = Self::Dialling { dialled, held: bytes.to_vec() };
            }
            Self::Dialling { held, .. } => held.extend_from_slice(bytes),
            Self::Open { pipe, .. } => append(pipe, bytes),
            // The session that they are of is over.
            Self::Ended { .. } => {}
        }
    }

    /// What waits for the device.
    pub(super) fn received(&self) -> &[u8] {
        match self {
            Self::Idle | Self::Dialling { .. } => &[],
            Self::Open { pipe, .. } => pipe.received(),
            Self::Ended { rest, .. } => rest,
        }
    }

    /// Notes that the device gets the first `count` bytes of what waits for it; gives what people are shown of them.
    pub(super) fn consume(&mut self, count: usize) -> Option<Heard> {
        match self {
            Self::Idle | Self::Dialling { .. } => None,
            Self::Open { pipe, overheard } => {
                let heard = overheard.hear(pipe.received().get(..count).unwrap_or_default());
                pipe.consume(count);
                heard
            }
            Self::Ended { rest, .. } => {
                rest.drain(..count.min(rest.len()));
                None
            }
        }
    }

    /// When the device has had enough time for what the server said last; nothing while the server may say more.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Ended { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }

    /// Waits until bytes have moved, or the connection stands. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The connection has [`Ended`]. What the server said last is still [`Carrier::received`].
    pub(super) async fn moved(&mut self, name: &str) -> Result<(), Ended> {
        let error = match self {
            Self::Idle | Self::Ended { .. } => return std::future::pending().await,
            Self::Dialling { dialled, held } => match dialled.await {
                Ok(stream) => {
                    let mut pipe = Box::new(Pipe::new(stream));
                    announce(&mut pipe, name);
                    append(&mut pipe, held);
                    *self = Self::Open { pipe, overheard: Overheard::default() };
                    return Ok(());
                }
                Err(error) => error,
            },
            Self::Open { pipe, .. } => match pipe.moved().await {
                Ok(()) => return Ok(()),
                // As it does after the device's own farewell, too.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => CarrierError::Closed,
                Err(error) => CarrierError::Broken(error),
            },
        };
        let last_words = match self {
            Self::Open { pipe, overheard } => overheard.hear(pipe.received()),
            _ => None,
        };
        let rest = self.received().to_vec();
        *self = Self::Ended { rest, deadline: clock::after(LAST_WORDS) };
        Err(Ended { error, last_words })
    }

    /// Ends the connection, if there is one: the device's session is over. What the device has said still goes out.
    pub(super) async fn finish(&mut self) {
        if let Self::Open { mut pipe, .. } = mem::replace(self, Self::Idle) {
            let _ = tokio::time::timeout(FAREWELL, pipe.finish()).await;
        }
    }

    /// The same, without waiting for it. Gives whether there was a connection, or one was being made, that has not
    /// [`Ended`] before.
    pub(super) fn part(&mut self) -> bool {
        match mem::replace(self, Self::Idle) {
            Self::Idle | Self::Ended { .. } => return false,
            Self::Open { mut pipe, .. } => {
                tokio::spawn(async move { tokio::time::timeout(FAREWELL, pipe.finish()).await });
            }
            Self::Dialling { .. } => {}
        }
        true
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Why.
    pub(super) error: CarrierError,
    /// What people are shown of what the device has not got yet.
    pub(super) last_words: Option<Heard>,
}

/// Says for which device the connection is.
fn announce(pipe: &mut Pipe<Stream>, name: &str) {
    let gateway = Gateway { name: Text::shortened(name) };
    // It always fits.
    let _ =
        pipe.write(usize::from(OPENING_MAX_FRAME), |room| message::encode(&gateway, OPENING_MAX_FRAME, room));
}

fn append(pipe: &mut Pipe<Stream>, bytes: &[u8]) {
    let _ = pipe.write(bytes.len(), |room| {
        room.copy_from_slice(bytes);
        Ok::<_, io::Error>(bytes.len())
    });
}

/// Connects to the server, wherever it is found now, by this device's own key, while the wired device waits for it.
async fn connect(agent: Arc<Agent>, not_before: Instant) -> Result<Stream, CarrierError> {
    let deadline = clock::after(PATIENCE);
    tokio::time::sleep(not_before.since(clock::now()).into()).await;
    let identity = Identity::read(&agent.state)?.ok_or(CarrierError::NotEnrolled)?;
    let trusted = [identity.current, identity.next];
    let connector = Connector::new(&identity.key.pair()?, &trusted, Protocol::Gateway)?;
    let addresses = likeliest_first(identity.targets(), &agent.link.borrow());
    let mut last = DialError::Malformed { address: "no address is known".into() }.into();
    for (tried, address) in addresses.iter().enumerate() {
        // Each gets its part, so that one that does not answer leaves time for those behind it.
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let part = Duration::from(deadline.since(clock::now())) / untried;
        let dialled = dial(&connector, address, agent.config.connection.timeout);
        match tokio::time::timeout(part, dialled).await {
            Ok(Ok(connected)) => return Ok(connected.stream),
            Ok(Err(error)) => last = error.into(),
            Err(_) => last = CarrierError::TooSlow { address: address.clone() },
        }
        tracing::debug!(error = %last, "no connection");
    }
    Err(last)
}

/// The server's addresses, and before all others the one where it serves this device now.
fn likeliest_first(mut addresses: Vec<String>, link: &LinkToServer) -> Vec<String> {
    if let LinkToServer::Connected { server, .. } = link {
        // What is equal stays in its order.
        addresses.sort_by_key(|address| address != server);
    }
    addresses
}
