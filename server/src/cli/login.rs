//! `login`, `contexts`: becoming known to a server elsewhere, once, and which are known.

use std::{fs, io, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use protocol_core::{
    code::CloseReason,
    frame::{self, Decoded},
    invitation::{self, Invitation, InvitationError},
    message::{self, Close, ENROLMENT_MAX_FRAME, Enrol, Enrolled, OLDEST_VERSION, Text, VERSION},
    tag::Tag,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    Shared,
    context::{self, BEGUN, Choice, Context, Contexts},
    dial::dial,
    error::CliError,
    output::{Cell, Output, Style, Table, clock},
};
use crate::{
    http,
    tls::{ClientKey, Connector, Protocol},
};

/// How long the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(25);

/// The arguments of `login`.
#[derive(Args, Clone, Debug)]
pub(super) struct Login {
    /// What `holdfast enroll --operator` has printed: hf1.…, or the whole line
    #[arg(value_name = "LINE", required = true, num_args = 1..)]
    line: Vec<String>,
    /// Log in anew, in the place of a context of this name
    #[arg(long)]
    again: bool,
}

/// A login that was begun: a lost answer can be asked for again with the same key.
#[derive(Serialize, Deserialize)]
struct Begun {
    /// The SHA-256 of the token, in hexadecimal digits.
    token: String,
    key: ClientKey,
}

/// A context, for programs.
#[derive(Serialize)]
struct ContextView<'a> {
    name: &'a str,
    operator: &'a str,
    /// As the server said last; nothing before it was asked for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    addresses: &'a [String],
    made: crate::api::view::Time,
    used: bool,
}

impl<'a> ContextView<'a> {
    fn new(context: &'a Context, used: bool) -> Self {
        let Context { name, operator, role, addresses, made, .. } = context;
        Self { name, operator, role: role.as_deref(), addresses, made: *made, used }
    }
}

/// `holdfast contexts`.
pub(super) fn list(shared: &Shared, output: &mut Output) -> Result<(), CliError> {
    let (all, damaged) = Contexts::of_user()?.readable()?;
    let used = match context::choose(shared) {
        Ok(Choice::Elsewhere(context)) => Some(context.name),
        Ok(Choice::Local(_)) => None,
        // Which one it would be depends on those that can't be read.
        Err(_) if !damaged.is_empty() => None,
        Err(error) => return Err(error),
    };
    let mut table = Table::new(&["NAME", "SERVER", "OPERATOR", "ROLE", "MADE", "USED"]);
    for context in &all {
        let is_used = used.as_ref() == Some(&context.name);
        if output.json {
            output.json_line(&ContextView::new(context, is_used))?;
            continue;
        }
        table.row([
            Cell::plain(&context.name),
            Cell::plain(context.server()),
            Cell::plain(&context.operator),
            Cell::plain(context.role.as_deref().unwrap_or("-")),
            Cell::plain(clock(context.made)),
            if is_used { Cell::styled(Style::Good, "yes") } else { Cell::plain("-") },
        ]);
    }
    match (output.json, all.is_empty()) {
        (true, _) => {}
        (false, true) => eprintln!("There are no contexts. `holdfast login LINE` makes one."),
        (false, false) => output.table(&table)?,
    }
    damaged.into_iter().next().map_or(Ok(()), Err)
}

/// `holdfast login LINE`.
pub(super) async fn login(shared: &Shared, login: &Login, output: &mut Output) -> Result<(), CliError> {
    let line = login.line.join(" ");
    let bytes = invitation_bytes(&line)?;
    let damaged = |error: InvitationError| CliError::Usage(format!("the line is damaged: {error}"));
    let invitation = Invitation::decode(&bytes).map_err(damaged)?;
    let addresses: Vec<_> = invitation.addresses.iter().map(|address| address.as_str().to_owned()).collect();
    let name = shared.context.clone().unwrap_or_else(|| default_name(&addresses));
    context::check_name(&name)?;
    let contexts = Contexts::of_user()?;
    // One that is damaged does not stand in the way of a new one.
    if !login.again
        && let Some(context) = contexts.find(&name)?
    {
        return Err(CliError::failed(format!(
            "there is a context {name} already ({} at {}): choose another name by --context, or replace it by --again",
            context.operator,
            context.server()
        )));
    }
    let begun_file = format!("{name}{BEGUN}");
    let begun = begin(&contexts, &begun_file, &invitation.token.0)?;
    let connector = Connector::new(&begun.key, &[invitation.pin], Protocol::Login)?;
    let asked = async {
        let (mut stream, address) = dial(&connector, &addresses).await?;
        let cut = |error: io::Error| CliError::NotReached {
            server: address.to_owned(),
            reason: format!(
                "the connection ended before the answer came ({error}): give the same line again"
            ),
        };
        let answer = timeout(TIMEOUT, ask(&mut stream, &invitation)).await;
        match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(cut)? {
            Answer::Enrolled(frame) => {
                let enrolled: Enrolled<'_> =
                    message::decode(&frame).map_err(|error| cut(io::Error::other(error)))?;
                // The one that has served comes first: by it the server is known here.
                let mut best_first = addresses.clone();
                best_first.sort_by_key(|tried| tried != address);
                Ok(Context::new(&name, &enrolled, best_first, begun.key.clone()))
            }
            Answer::Refused(reason, detail) => {
                if reason.ends_enrolment() {
                    // Nobody knows the key.
                    fs::remove_file(contexts.file(&begun_file))?;
                }
                Err(CliError::LoginRefused { detail, next_step: advice(reason) })
            }
        }
    };
    let context = asked.await?;
    contexts.write(&context)?;
    fs::remove_file(contexts.file(&begun_file))?;
    if output.json {
        return Ok(output.json_line(&ContextView::new(&context, true))?);
    }
    let (server, operator) = (Cell::plain(context.server()), Cell::plain(&context.operator));
    Ok(output.line(&format!("Logged in to {server} as {operator}; the context is called {name}."))?)
}

/// The bytes of the invitation. The whole command that `holdfast enroll` prints is often pasted.
fn invitation_bytes(line: &str) -> Result<Vec<u8>, CliError> {
    let line = line.trim();
    if line.starts_with("holdfast-agent enroll ") {
        return Err(CliError::Usage(
            "this line is a device's: run it there; `holdfast enroll --operator NAME` makes a line for a person"
                .to_owned(),
        ));
    }
    let text = line.strip_prefix("holdfast login ").unwrap_or(line).trim_start();
    let text = text.strip_prefix(invitation::PREFIX).ok_or_else(|| {
        // It is not shown: the line is a secret, whatever has got in front of it.
        CliError::Usage(format!(
            "expected the line that `holdfast enroll --operator` prints, which begins with {}, found another one of {} characters",
            invitation::PREFIX,
            line.chars().count()
        ))
    })?;
    let damaged = |_| CliError::Usage("the line is damaged: copy all of it again".to_owned());
    URL_SAFE_NO_PAD.decode(text).map_err(damaged)
}

/// The host of the first address, as a context's name.
fn default_name(addresses: &[String]) -> String {
    let host = addresses.first().and_then(|address| address.rsplit_once(':')).map_or("", |(host, _)| host);
    let name: String =
        host.trim_matches(['[', ']']).replace(':', "-").trim_start_matches(['-', '.']).to_owned();
    if name.is_empty() { "server".to_owned() } else { name }
}

/// The key for a login by this token: a new one, or the one by which it was begun before. It is on disk.
fn begin(contexts: &Contexts, file: &str, token: &[u8; 16]) -> Result<Begun, CliError> {
    let token = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let before = fs::read_to_string(contexts.file(file)).ok();
    let before = before.and_then(|text| toml::from_str::<Begun>(&text).ok());
    if let Some(before) = before.filter(|before| before.token == token) {
        return Ok(before);
    }
    let begun = Begun { token, key: ClientKey::make()? };
    contexts.write_file(file, &begun)?;
    Ok(begun)
}

/// What the server says.
enum Answer {
    /// The body of its `ENOK`.
    Enrolled(Vec<u8>),
    Refused(CloseReason, String),
}

async fn ask(stream: &mut http::Stream, invitation: &Invitation<'_>) -> io::Result<Answer> {
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let enrol = Enrol {
        oldest_version: OLDEST_VERSION,
        newest_version: VERSION,
        token: invitation.token,
        host_name: Text::shortened(&host_name),
        ssh_host_keys: heapless::Vec::new(),
    };
    let mut question = Tag::PING.bytes().to_vec();
    let mut buffer = vec![0; usize::from(ENROLMENT_MAX_FRAME)];
    let length = message::encode(&enrol, ENROLMENT_MAX_FRAME, &mut buffer).map_err(io::Error::other)?;
    question.extend_from_slice(buffer.get(..length).unwrap_or_default());
    stream.write_all(&question).await?;
    stream.flush().await?;
    let mut input = Vec::new();
    loop {
        while let Decoded::Frame { frame, consumed } =
            frame::decode(&input, ENROLMENT_MAX_FRAME).map_err(io::Error::other)?
        {
            match frame.tag {
                Tag::ENROLLED => return Ok(Answer::Enrolled(frame.body.to_vec())),
                Tag::CLOSE => {
                    let close: Close<'_> = message::decode(frame.body).map_err(io::Error::other)?;
                    return Ok(Answer::Refused(close.reason, close.detail.as_str().to_owned()));
                }
                _ => {}
            }
            input.drain(..consumed);
        }
        // One frame at most is kept: a larger one is an error above.
        if stream.take(u64::from(ENROLMENT_MAX_FRAME)).read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What to do after a refusal.
const fn advice(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::NameTaken => "ask for a line with another name, or have that operator revoked first",
        CloseReason::NoCommonVersion => "update the older of this program and the server",
        CloseReason::Overloaded | CloseReason::Silent => "give the same line again later",
        _ => "ask for a new line (holdfast enroll --operator NAME)",
    }
}

#[cfg(test)]
mod tests {
    use super::{default_name, invitation_bytes};

    #[test]
    fn lines_are_taken_as_they_are_pasted() {
        for line in ["hf1.AAAA", " hf1.AAAA\n", "holdfast login hf1.AAAA"] {
            assert_eq!(invitation_bytes(line).unwrap(), [0; 3], "{line:?}");
        }
        let error = invitation_bytes("holdfast-agent enroll hf1.AAAA").unwrap_err();
        assert!(error.to_string().contains("is a device's"), "{error}");
        for bad in ["", "hf1.!", "hf2.AAAA", "AAAA"] {
            assert_eq!(invitation_bytes(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
        for secret in ["xhf1.c2VjcmV0", "hf1.c2VjcmV0!"] {
            let error = invitation_bytes(secret).unwrap_err().to_string();
            assert!(!error.contains("c2VjcmV0"), "{error}");
        }
    }

    #[test]
    fn contexts_are_called_by_their_servers() {
        for (address, name) in [
            ("fleet.example.org:1", "fleet.example.org"),
            ("[2001:db8::1]:1", "2001-db8--1"),
            ("[::1]:1", "1"),
        ] {
            assert_eq!(default_name(&[address.to_owned()]), name);
        }
        assert_eq!(default_name(&[]), "server");
    }
}
