//! `receive`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protocol_core::{code::CloseReason, escape::EscapedBytes};
use serde_json::{Map, Value, json};

use super::{Shared, error::CliError};
use crate::{
    clock,
    config::Config,
    inbox::Inbox,
    local_client::{Happened, LocalClient, LocalError},
    queue::StoredMessage,
    state::{StateDirectory, StateError},
};

/// How many messages are printed before they are taken.
const AT_ONCE: usize = 64;

/// How much of them, in bytes.
const BYTES_AT_ONCE: u64 = 256 * 1024;

/// How many messages the agent may send ahead.
const WINDOW: u8 = 16;

/// How long to wait before looking again for an agent that does not run.
const ABSENCE: Duration = Duration::from_millis(500);

/// How often to try again when another program takes messages: it may be about to end.
const MOST_REFUSALS: u32 = 4;

/// `holdfast-agent receive`.
pub(super) fn receive(shared: &Shared, config: &Config, follow: bool) -> Result<(), CliError> {
    let state = StateDirectory::open(&shared.state)?;
    let mut printer = Printer { json: shared.json, escapes: io::stdout().is_terminal() };
    let mut refusals = 0;
    loop {
        let received = if follow {
            receive_while_it_lasts(&state, config, &mut printer)
        } else {
            take_all(&state, config, &mut printer)
        };
        match received {
            Ok(()) if follow => refusals = 0,
            Err(error) if is_refusal(&error) && refusals < MOST_REFUSALS => refusals += 1,
            ended => return ended,
        }
        thread::sleep(ABSENCE);
    }
}

/// Prints what comes until the agent ends; or, if none runs, what waits.
fn receive_while_it_lasts(
    state: &StateDirectory,
    config: &Config,
    printer: &mut Printer,
) -> Result<(), CliError> {
    match LocalClient::connect(&state.socket(), WINDOW) {
        Ok(client) => match print_all(client, printer) {
            // The agent stops, or was killed: another will come.
            CliError::Local(LocalError::Socket(_) | LocalError::Lost(_)) => Ok(()),
            CliError::Local(LocalError::Closed { reason: CloseReason::Draining, .. }) => Ok(()),
            error => Err(error),
        },
        Err(LocalError::NotRunning) => take_all(state, config, printer),
        Err(LocalError::Socket(error)) if is_passing(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Another program takes messages, or the agent has no room.
fn is_refusal(error: &CliError) -> bool {
    matches!(
        error,
        CliError::State(StateError::Receiving)
            | CliError::Local(LocalError::Closed { reason: CloseReason::Overloaded, .. })
    )
}

/// An agent that stops while somebody connects.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Prints what waits, and takes it, without the agent's help: only if it takes messages for nobody else.
fn take_all(state: &StateDirectory, config: &Config, printer: &mut Printer) -> Result<(), CliError> {
    let _lock = state.lock_for_receive()?;
    let mut inbox = Inbox::open(state, config.inbox)?;
    let mut has_taken = false;
    loop {
        let messages = inbox.after(0, AT_ONCE, BYTES_AT_ONCE)?;
        let Some(last) = messages.last() else { break };
        messages.iter().try_for_each(|message| printer.print(message))?;
        printer.flush()?;
        inbox.taken(last.position)?;
        inbox.commit()?;
        has_taken = true;
    }
    if has_taken {
        // There may be room again for what waits at the server.
        let _ = UnixStream::connect(state.socket());
    }
    Ok(())
}

/// Prints what the agent sends, as long as it does.
fn print_all(mut client: LocalClient, printer: &mut Printer) -> CliError {
    let mut step = || -> Result<(), CliError> {
        if let Happened::Message(message) = client.step(None)? {
            printer.print(&message)?;
            printer.flush()?;
            client.taken(&message)?;
        }
        Ok(())
    };
    loop {
        if let Err(error) = step() {
            return error;
        }
    }
}

struct Printer {
    json: bool,
    /// The output is a terminal, which a message must not move.
    escapes: bool,
}

impl Printer {
    fn print(&mut self, message: &StoredMessage) -> io::Result<()> {
        let mut output = io::stdout().lock();
        if self.json {
            writeln!(output, "{}", to_json(message))
        } else if self.escapes {
            writeln!(output, "{}", EscapedBytes(&message.body))
        } else {
            output.write_all(&message.body)?;
            output.write_all(b"\n")
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// A message as `--json` shows it: `time` is left out where the sender had none, and the body is text where it is
/// UTF-8, else base64.
fn to_json(message: &StoredMessage) -> Value {
    let mut object = Map::new();
    object.insert("kind".into(), json!(message.kind));
    if message.time > 0 {
        object.insert("time".into(), json!(clock::rfc3339(message.time)));
    }
    match std::str::from_utf8(&message.body) {
        Ok(text) => object.insert("body".into(), json!(text)),
        Err(_) => object.insert("body_base64".into(), json!(STANDARD.encode(&message.body))),
    };
    object.insert("stream".into(), json!(message.stream.to_string()));
    object.insert("number".into(), json!(message.number));
    Value::Object(object)
}
