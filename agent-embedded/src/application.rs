//! What a device is there for.

use embedded_io_async::ErrorKind;
use heapless::Vec;
use protocol_core::{
    message::{Facts, Kind, MAX_READINGS, Message, Reading, Text},
    time::Duration,
};

use crate::{connection::End, outbox::Outbox, security::SecurityError};

/// How many readings a device adds to the agent's own.
pub const MAX_OWN_READINGS: usize = MAX_READINGS - 2;

/// The readings of a status: the agent's own come first.
pub type Readings = Vec<Reading<'static>, MAX_READINGS>;

/// The device's own code, as its agent calls it.
pub trait Application {
    /// A message came. It is echoed when this returns, which is to be soon: nothing is said to the server meanwhile. If it
    /// takes longer than [`MESSAGE_LIMIT`](crate::run::MESSAGE_LIMIT) it is dropped, and the message comes again.
    /// After a reset it may come again. One of kind [`RESET`] is the agent's, not shown here.
    fn message(&mut self, message: &Message<'_>) -> impl Future<Output = ()>;

    /// Waits until there is something to say: then comes [`Application::say`]. Not called while the queue is full. May
    /// be dropped at any time, and is called again.
    fn next(&mut self) -> impl Future<Output = ()>;

    /// Pushes what there is to say. `time` is the time for it, in milliseconds since 1970; 0 if it is not known yet.
    fn say<const MESSAGES: usize, const BODY: usize>(
        &mut self,
        time: u64,
        outbox: &mut Outbox<MESSAGES, BODY>,
    );

    /// A message was larger than this server takes, and is dropped. Only if `BODY` is above 188.
    fn too_large(&mut self, message: &Message<'_>) {
        _ = message;
    }

    /// What the device says of itself; its `version` is the firmware's.
    fn facts(&self) -> Facts<'_>;

    /// Adds readings to a status, at most [`MAX_OWN_READINGS`].
    fn read(&mut self, readings: &mut Readings) {
        _ = readings;
    }

    /// Where the agent stands now, to show it.
    fn state(&mut self, state: State<'_>) {
        _ = state;
    }
}

/// Where the agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// It connects to this address, which a server may have told it; empty on a wired line.
    Connecting(&'a str),
    /// The server knows it, by this name.
    Online(Text<'a, 63>),
    /// It is not connected, and tries again after a wait.
    Offline(Failure, Duration),
    /// It was told to reset, and does so within three seconds.
    Resetting,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The transport could not be connected.
    #[error("no way to the server: {0:?}{hint}", hint = hint(*.0))]
    Connect(ErrorKind),
    /// It could not be protected.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// A step took longer than it may: to connect, to protect the connection, or to send a frame.
    #[error("no answer in time on the way to the server")]
    TimedOut,
    /// The session ended.
    #[error(transparent)]
    End(#[from] End),
}

/// More of an error that says little by itself.
const fn hint(error: ErrorKind) -> &'static str {
    match error {
        ErrorKind::NotFound => ", no host of that name was found; is it right, and known in this network?",
        ErrorKind::ConnectionRefused => ", no server listens there",
        ErrorKind::TimedOut => ", nobody answers",
        _ => "",
    }
}

/// The kind of a message that resets the device once its echo and its farewell are sent, or three seconds later, whatever
/// became of them: without an echo the message comes again. Its body means nothing.
pub const RESET: Kind<'static> = constant("reset");

pub(crate) const RESET_REASON: Kind<'static> = constant("reset-reason");
pub(crate) const QUEUE_FREE: Kind<'static> = constant("queue-free");

/// A kind that is known when the firmware is compiled; what is none does not compile.
#[expect(clippy::panic, reason = "only for constants")]
const fn constant(kind: &'static str) -> Kind<'static> {
    match Kind::new(kind) {
        Some(kind) => kind,
        None => panic!("not a kind"),
    }
}
