//! `send`.

use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    os::unix::{ffi::OsStrExt as _, net::UnixStream},
};

use clap::Args;
use protocol_core::message::{Kind, StreamId};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Shared, error::CliError};
use crate::{
    clock,
    config::Config,
    local_client::{LocalClient, LocalError},
    outbox::{NewMessage, Outbox},
    queue::{MAX_FRAME, QueueError, max_body},
    state::StateDirectory,
};

/// The arguments of `send`.
#[derive(Args, Clone, Debug)]
pub(super) struct Send {
    /// The message; `-` reads it from standard input, to its end
    #[arg(value_name = "TEXT|-", allow_hyphen_values = true)]
    text: OsString,
    /// What the message is: 1 to 32 of a-z, 0-9, `.`, `_` and `-`
    #[arg(long, default_value = "text", value_parser = kind)]
    kind: String,
    /// A name for the message: the same name again is the same message, and is not sent twice (as long as the
    /// outbox keeps it: 1,000 messages after its echo, unless configured)
    #[arg(long)]
    id: Option<String>,
}

fn kind(text: &str) -> Result<String, String> {
    let wrong = || "expected 1 to 32 of a-z, 0-9, `.`, `_` and `-`".to_owned();
    Kind::new(text).map(|kind| kind.as_str().to_owned()).ok_or_else(wrong)
}

/// `holdfast-agent send`.
pub(super) fn send(shared: &Shared, config: &Config, send: &Send) -> Result<(), CliError> {
    let state = StateDirectory::open(&shared.state)?;
    let message = NewMessage {
        source: (source(send.id.as_deref())?, 1),
        is_named: send.id.is_some(),
        time: clock::unix_time(),
        kind: send.kind.clone(),
        body: read_body(send)?,
    };
    keep(&state, config, &message)?;
    if shared.json {
        let answer = json!({ "stored": true, "kind": message.kind, "bytes": message.body.len() });
        writeln!(io::stdout(), "{answer}")?;
    }
    Ok(())
}

/// Brings the message into the outbox, by way of the agent if it runs, so that many share a sync.
fn keep(state: &StateDirectory, config: &Config, message: &NewMessage) -> Result<(), CliError> {
    let socket = state.socket();
    let sent = LocalClient::connect(&socket, 0).and_then(|mut client| client.send(message));
    match sent {
        Ok(()) => return Ok(()),
        Err(LocalError::NotRunning) => {}
        // Then neither is the outbox ours to write.
        Err(error @ LocalError::Denied(_)) => return Err(error.into()),
        // Whatever is wrong there, the outbox itself tells it best; and a message that did get there is
        // known by its source.
        Err(error) => tracing::debug!(%error, "the agent could not take the message"),
    }
    let mut outbox = Outbox::open(state, config.outbox)?;
    outbox.put(message)?;
    outbox.commit()?;
    // An agent that has started meanwhile looks into the outbox when somebody looks in.
    let _ = UnixStream::connect(&socket);
    Ok(())
}

/// What the message is known by: from its name, or at random.
fn source(id: Option<&str>) -> Result<StreamId, CliError> {
    let Some(id) = id else {
        return Ok(StreamId(getrandom::u64()?));
    };
    let hash = Sha256::digest(id);
    Ok(StreamId(hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))))
}

fn read_body(send: &Send) -> Result<Vec<u8>, CliError> {
    let limit = max_body(&send.kind, MAX_FRAME);
    let mut body = send.text.as_bytes().to_vec();
    if body == b"-" {
        body.clear();
        io::stdin().lock().take(limit as u64 + 1).read_to_end(&mut body)?;
    }
    if body.len() > limit {
        return Err(QueueError::TooLarge { length: body.len(), limit }.into());
    }
    Ok(body)
}
