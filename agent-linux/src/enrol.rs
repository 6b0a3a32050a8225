//! Becoming known to a server, once.

use std::{io, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol_core::{
    code::CloseReason,
    frame::{self, Decoded},
    invitation::{self, Invitation, InvitationError},
    message::{self, Close, ENROLMENT_MAX_FRAME, Enrol, Enrolled, OLDEST_VERSION, Text, VERSION},
    session::ProtocolError,
    tag::Tag,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    config::Config,
    dial::{DialError, dial},
    facts::{self, Device},
    identity::{Begun, Identity, IdentityError},
    queue::QueueError,
    state::{StateDirectory, StateError},
    store::Queues,
    tls::{Connector, Protocol, SetupError, Stream},
};

/// Why a device was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The line is no invitation.
    #[error(
        "expected an enrolment line that starts with {}; copy the whole line that `holdfast enroll` printed",
        invitation::PREFIX
    )]
    NoInvitation,
    /// The line is damaged.
    #[error("the line hf1.… is damaged: {0}")]
    Damaged(#[from] InvitationError),
    /// The device has an identity.
    #[error("this device is enrolled as {name}; to give it a new identity, say --again")]
    AlreadyEnrolled {
        /// Its name.
        name: String,
    },
    /// The state can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The queues can't be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// TLS can't be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// No server was reached.
    #[error("{}{}", .0, after_no_connection(.0))]
    Unreachable(DialError),
    /// The connection broke before the answer came.
    #[error("{address}: the connection ended before the answer came ({error}); give the same line again")]
    Cut {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The server speaks otherwise.
    #[error("{address}: {error}")]
    Protocol {
        /// Where.
        address: String,
        /// What is wrong.
        error: ProtocolError,
    },
    /// The server said no.
    #[error("the server refused: {}; {}", detail, advice(*reason))]
    Refused {
        /// Why.
        reason: CloseReason,
        /// Why, in the server's words.
        detail: String,
    },
}

impl From<StateError> for EnrolError {
    fn from(error: StateError) -> Self {
        Self::Identity(error.into())
    }
}

/// What to do after a refusal.
fn advice(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::TokenExpired
        | CloseReason::TokenUsedUp
        | CloseReason::TokenUnknown
        | CloseReason::Revoked => "ask for a new line (holdfast enroll)",
        CloseReason::NameTaken => "ask for a line with another name (holdfast enroll --name)",
        CloseReason::NoCommonVersion => "update the older of agent and server",
        CloseReason::Overloaded | CloseReason::Silent => "give the same line again later",
        _ => "ask the server's operator",
    }
}

/// What to do if no connection was made. Where the server is not trusted, the error says it.
fn after_no_connection(error: &DialError) -> &'static str {
    match error.is_untrusted() {
        true => "",
        false => "; check the network and the address, then give the same line again",
    }
}

/// Has this device registered by the server of the line; `again` gives it a new identity if it has one.
///
/// # Errors
/// [`EnrolError`]. Where the answer was lost, the same line may be given again.
pub async fn enrol(
    line: &str,
    directory: &std::path::Path,
    config: &Config,
    again: bool,
) -> Result<Identity, EnrolError> {
    let text = invitation_text(line).ok_or(EnrolError::NoInvitation)?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvitationError { length: text.len() })?;
    let invitation = Invitation::decode(&bytes)?;
    let had_directory = directory.exists();
    let state = StateDirectory::make(directory)?;
    if let Some(identity) = known(&state, again)? {
        return Err(EnrolError::AlreadyEnrolled { name: identity.name });
    }
    let had_begun = Begun::is_begun(&state);
    let begun = Begun::begin(&state, &invitation.token.0)?;
    match ask(&invitation, &begun, config).await {
        Ok(identity) => {
            let mut queues = Queues::open(&state, config)?;
            queues.outbox.change_server()?;
            queues.commit()?;
            begun.finish(&state, &identity)?;
            if facts::ssh_host_keys(&config.ssh_directory).is_empty() {
                tracing::warn!(
                    directory = %config.ssh_directory.display(),
                    "no SSH host key is there (ssh_host_*_key.pub), so `holdfast ssh` will not log in here yet; where OpenSSH's server is installed later, its keys are registered when the agent starts again"
                );
            }
            Ok(identity)
        }
        Err(error) => {
            let nothing_came_of_it = match &error {
                EnrolError::Refused { reason, .. } => reason.ends_enrolment(),
                EnrolError::Unreachable(_) => true,
                _ => false,
            };
            if nothing_came_of_it && !had_begun {
                begun.forget(&state)?;
                if !had_directory {
                    // It is empty, unless somebody else has put something there: then it stays.
                    let _ = std::fs::remove_dir(directory);
                }
            }
            Err(error)
        }
    }
}

/// What stands behind `hf1.`. The whole command that `holdfast enroll` prints is often pasted as one argument.
fn invitation_text(line: &str) -> Option<&str> {
    let line = line.trim();
    line.strip_prefix("holdfast-agent enroll ").unwrap_or(line).trim_start().strip_prefix(invitation::PREFIX)
}

/// The identity that stands in the way. A damaged one does not, where a new one is wanted.
fn known(state: &StateDirectory, again: bool) -> Result<Option<Identity>, EnrolError> {
    if again { Ok(None) } else { Ok(Identity::read(state)?) }
}

async fn ask(invitation: &Invitation<'_>, begun: &Begun, config: &Config) -> Result<Identity, EnrolError> {
    let connector = Connector::new(&begun.key.pair()?, &[invitation.pin], Protocol::Enrolment)?;
    let limit = config.connection.timeout;
    let addresses: Vec<_> = invitation.addresses.iter().map(|text| text.as_str().to_owned()).collect();
    let mut last = DialError::Malformed { address: "the line names no address".into() };
    for address in &addresses {
        match dial(&connector, address, limit).await {
            Ok(mut connected) => {
                let exchange =
                    exchange(&mut connected.stream, address, invitation, begun, config, addresses.clone());
                // The server may have to wait for its disk.
                return timeout(limit * 2, exchange).await.unwrap_or_else(|_| {
                    Err(EnrolError::Cut { address: address.clone(), error: io::ErrorKind::TimedOut.into() })
                });
            }
            Err(error) => {
                // The last of them is told as what came of it.
                if addresses.last() != Some(address) {
                    tracing::warn!(%error, "no connection");
                }
                last = error;
            }
        }
    }
    Err(EnrolError::Unreachable(last))
}

async fn exchange(
    stream: &mut Stream,
    address: &str,
    invitation: &Invitation<'_>,
    begun: &Begun,
    config: &Config,
    addresses: Vec<String>,
) -> Result<Identity, EnrolError> {
    let cut = |error| EnrolError::Cut { address: address.to_owned(), error };
    let protocol = |error| EnrolError::Protocol { address: address.to_owned(), error };
    stream.write_all(&question(invitation, config)).await.map_err(cut)?;
    stream.flush().await.map_err(cut)?;
    let mut input = Vec::new();
    loop {
        while let Decoded::Frame { frame, consumed } =
            frame::decode(&input, ENROLMENT_MAX_FRAME).map_err(|error| protocol(error.into()))?
        {
            match frame.tag {
                Tag::ENROLLED => {
                    let enrolled: Enrolled<'_> =
                        message::decode(frame.body).map_err(|error| protocol(error.into()))?;
                    let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
                    return Ok(Identity::new(&enrolled, addresses, begun.key.clone()));
                }
                Tag::CLOSE => {
                    let close: Close<'_> =
                        message::decode(frame.body).map_err(|error| protocol(error.into()))?;
                    let detail = close.detail.as_str().to_owned();
                    return Err(EnrolError::Refused { reason: close.reason, detail });
                }
                _ => {}
            }
            input.drain(..consumed);
        }
        // One frame at most is kept: a larger one is an error above.
        let mut room = [0; 1024];
        match stream.read(&mut room).await.map_err(cut)? {
            0 => return Err(cut(io::ErrorKind::UnexpectedEof.into())),
            count => input.extend_from_slice(room.get(..count).unwrap_or_default()),
        }
    }
}

/// `PING` and the wish to be registered.
fn question(invitation: &Invitation<'_>, config: &Config) -> Vec<u8> {
    let device = Device::find(config);
    let keys = facts::ssh_host_keys(&config.ssh_directory);
    let enrol = Enrol {
        oldest_version: OLDEST_VERSION,
        newest_version: VERSION,
        token: invitation.token,
        host_name: device.host_name(),
        ssh_host_keys: keys.iter().filter_map(|key| Text::new(key)).collect(),
    };
    let mut question = Tag::PING.bytes().to_vec();
    let mut buffer = vec![0; usize::from(ENROLMENT_MAX_FRAME)];
    // Its capacities are bounded: it always fits.
    let length = message::encode(&enrol, ENROLMENT_MAX_FRAME, &mut buffer).unwrap_or_default();
    question.extend_from_slice(buffer.get(..length).unwrap_or_default());
    question
}
