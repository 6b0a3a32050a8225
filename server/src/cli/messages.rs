//! `send`.

use std::{
    io::{self, Read},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;

use super::{
    api_client::ApiClient,
    devices::path,
    error::CliError,
    output::{Cell, Output},
};
use crate::{
    api::view::{SendRequest, SentAnswer},
    span,
};

/// The longest message that any frame carries, in bytes; the server may take less.
const MAX_MESSAGE: usize = 65_535;

/// The arguments of `send`.
#[derive(Args, Clone, Debug)]
pub(super) struct Send {
    /// The device's name
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The message; `-` reads it from standard input, to its end
    #[arg(value_name = "TEXT|-", allow_hyphen_values = true)]
    text: String,
    /// What the message is: 1 to 32 of a-z, 0-9, `.`, `_` and `-`
    #[arg(long, default_value = "text")]
    kind: String,
    /// Drop it if the device has not fetched it in time [default: it is kept]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    expires: Option<Duration>,
}

/// `holdfast send DEVICE TEXT|-`.
pub(super) async fn send(api: &ApiClient, send: &Send, output: &mut Output) -> Result<(), CliError> {
    let (body, body_base64) = match read_body(&send.text)? {
        Ok(text) => (Some(text), None),
        Err(bytes) => (None, Some(STANDARD.encode(bytes))),
    };
    let request = SendRequest {
        kind: Some(send.kind.clone()),
        body,
        body_base64,
        expires_seconds: send.expires.map(|expires| expires.as_secs().max(1)),
    };
    let answer: SentAnswer = api.post(&path(&send.device, "/messages"), &request).await?;
    if output.json {
        return Ok(output.json_line(&answer)?);
    }
    let name = Cell::plain(&answer.device);
    let then = match answer.online {
        true => "on its way",
        false => "kept: the device is offline",
    };
    Ok(output.line(&format!("message {} to {name} is {then}", answer.id))?)
}

/// The message's text, or its bytes if it is none.
fn read_body(text: &str) -> Result<Result<String, Vec<u8>>, CliError> {
    if text != "-" {
        return Ok(Ok(text.to_owned()));
    }
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_MESSAGE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(CliError::Usage(format!(
            "expected a message of at most {MAX_MESSAGE} bytes, found a longer one"
        )));
    }
    Ok(String::from_utf8(bytes).map_err(|error| error.into_bytes()))
}
