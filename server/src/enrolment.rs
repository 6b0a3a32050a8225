//! Registering devices, and operators elsewhere: the line that an operator hands out, and the exchange in which its holder
//! becomes known.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol_core::{
    code::{CloseReason, Role},
    frame::{self, Decoded, Frame},
    invitation::{self, Invitation},
    message::{self, Close, DecodeError, ENROLMENT_MAX_FRAME, Enrol, Enrolled, Pin, Secret, Text},
    session::ProtocolError,
    tag::Tag,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    event::{EventKind, Who},
    frames,
    host::{AddressBook, Host},
    refusal::Refusal,
    store::{
        DeviceName, Enrolment, EnrolmentRefusal, Facts, NewToken, OperatorEnrolment, StoreError, UnixMillis,
    },
};

/// How long the whole exchange may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The largest frame that the server says here, in bytes.
const LONGEST_ANSWER: u16 = 1024;

/// What an operator wants of an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationRequest {
    /// The device's name; with more than one use, what the names begin with. Without it, host names are taken.
    pub name: Option<DeviceName>,
    /// How many devices may use it.
    pub uses: u32,
    /// Until when.
    pub expires_at: UnixMillis,
    /// The role of an operator of this name, whom it is for; none: it is for devices.
    pub role: Option<Role>,
    /// The operator.
    pub who: Who,
    /// Where the device finds the server, `host:port`, best first.
    pub addresses: Vec<String>,
}

/// Why there is no invitation.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    NoRandom(#[from] getrandom::Error),
    /// The store can't keep the token.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server does not know its own addresses.
    #[error("the server's addresses do not fit an invitation; set `advertise` in its configuration")]
    NoAddress,
}

/// Makes an invitation: gives the text `hf1.…` that a device enrols with. The token in it is not kept here.
///
/// # Errors
/// [`InviteError`].
pub async fn invite(host: &Host, request: InvitationRequest) -> Result<String, InviteError> {
    let mut token = [0; 16];
    getrandom::fill(&mut token)?;
    let told = AddressBook { addresses: request.addresses, ..host.address_book };
    let endpoints = told.endpoints();
    let mut buffer = [0; invitation::MAX_LENGTH];
    let invitation =
        Invitation { pin: endpoints.current, token: Secret(token), addresses: endpoints.addresses };
    let bytes = invitation.encode(&mut buffer).ok_or(InviteError::NoAddress)?;
    let line = format!("{}{}", invitation::PREFIX, URL_SAFE_NO_PAD.encode(bytes));
    let token = NewToken {
        hash: Sha256::digest(token).into(),
        name: request.name,
        uses: request.uses,
        expires_at: request.expires_at,
        role: request.role,
        who: request.who,
    };
    host.store.create_token(token).await?;
    Ok(line)
}

/// How an exchange went wrong.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Refused(#[from] EnrolmentRefusal),
    #[error("the server's store does not answer")]
    Store(#[from] StoreError),
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    #[error("it took too long")]
    TooSlow,
}

impl Failure {
    fn reason(&self) -> CloseReason {
        match self {
            Self::Protocol(error) => error.reason(),
            Self::Refused(EnrolmentRefusal::Expired) => CloseReason::TokenExpired,
            Self::Refused(EnrolmentRefusal::UsedUp) => CloseReason::TokenUsedUp,
            Self::Refused(EnrolmentRefusal::NameTaken(_) | EnrolmentRefusal::OperatorTaken(_)) => {
                CloseReason::NameTaken
            }
            Self::Refused(EnrolmentRefusal::KeyRevoked) => CloseReason::Revoked,
            Self::Refused(_) => CloseReason::TokenUnknown,
            Self::Store(_) => CloseReason::Overloaded,
            Self::Broken(_) => CloseReason::Finished,
            Self::TooSlow => CloseReason::Silent,
        }
    }
}

/// Who asks to be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomer {
    /// A device.
    Device,
    /// An operator elsewhere.
    Operator,
}

/// Serves one connection of someone who asks to be registered: one question, one answer.
pub async fn serve<S>(host: &Host, mut stream: S, newcomer: Newcomer, key: Pin, address: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = tokio::time::timeout(TIMEOUT, exchange(host, &mut stream, newcomer, key, address)).await;
    if let Err(failure) = exchange.unwrap_or(Err(Failure::TooSlow)) {
        let refusal = Refusal {
            event: EventKind::EnrolmentRefused,
            reason: failure.reason(),
            detail: failure.to_string(),
            address,
            key: Some(key),
            device: None,
            original: None,
        };
        refusal.record(&host.store).await;
        let close =
            Close { reason: refusal.reason, retry_after: 0, detail: Text::shortened(&refusal.detail) };
        // Whoever does not take the farewell does without it.
        let farewell = frames::send(&mut stream, &close, LONGEST_ANSWER);
        let _ = tokio::time::timeout(Duration::from_secs(2), farewell).await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), stream.shutdown()).await;
}

async fn exchange<S>(
    host: &Host,
    stream: &mut S,
    newcomer: Newcomer,
    key: Pin,
    address: SocketAddr,
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = Vec::new();
    let mut greeted = false;
    loop {
        let Some((frame, consumed)) = next_frame(&input)? else {
            if stream.take(u64::from(ENROLMENT_MAX_FRAME)).read_buf(&mut input).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            continue;
        };
        match frame.tag {
            Tag::PING => {
                greeted = true;
                stream.write_all(b"PONG").await?;
            }
            tag if !greeted => return Err(ProtocolError::ExpectedPing { tag }.into()),
            Tag::ENROL => {
                let name = register(host, frame, newcomer, key, address).await?;
                let name = Text::shortened(name.as_str());
                let enrolled = Enrolled { name, endpoints: host.address_book.endpoints() };
                return Ok(frames::send(stream, &enrolled, LONGEST_ANSWER).await?);
            }
            tag => return Err(ProtocolError::Unexpected { tag }.into()),
        }
        input.drain(..consumed);
    }
}

fn next_frame(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, ProtocolError> {
    Ok(match frame::decode(input, ENROLMENT_MAX_FRAME)? {
        Decoded::Frame { frame, consumed } => Some((frame, consumed)),
        Decoded::Incomplete => None,
    })
}

/// Registers who asks, or refuses it; gives the name.
async fn register(
    host: &Host,
    frame: Frame<'_>,
    newcomer: Newcomer,
    key: Pin,
    address: SocketAddr,
) -> Result<String, Failure> {
    let enrol: Enrol<'_> =
        message::decode(frame.body).map_err(|error: DecodeError| ProtocolError::from(error))?;
    let (oldest, newest) = (enrol.oldest_version, enrol.newest_version);
    message::common_version(oldest, newest).ok_or(ProtocolError::NoCommonVersion { oldest, newest })?;
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (token_hash, host_name) = (Sha256::digest(enrol.token.0).into(), said(enrol.host_name.as_str()));
    if newcomer == Newcomer::Operator {
        let enrolment = OperatorEnrolment { token_hash, key: key.0, host_name, address: address.ip() };
        let operator = host.store.enrol_operator(enrolment).await??;
        tracing::info!(operator = operator.name, role = %operator.role, %address, "logged in");
        return Ok(operator.name);
    }
    let facts = Facts {
        host_name,
        ssh_host_keys: Some(enrol.ssh_host_keys.iter().map(|line| line.as_str().to_owned()).collect()),
        ..Facts::default()
    };
    let enrolment = Enrolment { token_hash, key: key.0, facts, address: address.ip() };
    let enrolled = host.store.enrol(enrolment).await??;
    tracing::info!(device = %enrolled.name, %address, repeat = enrolled.repeat, "enrolled");
    Ok(enrolled.name.to_string())
}
