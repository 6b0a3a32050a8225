//! One serial line: its port, the link over it, and the loop that drives both.

use std::{collections::VecDeque, convert::Infallible, io, sync::Arc, time::Duration};

use protocol_core::{
    backoff,
    code::CloseReason,
    serial::{Event, Link, LinkError, Retries, State, output_room},
    time::{self, Instant},
};
use tokio::sync::watch;

use super::{
    carrier::{Carrier, CarrierError, Ended},
    overheard::Heard,
    port::{Port, PortError},
    unread::Unread,
};
use crate::{
    agent::{Agent, LineState, LineStatus},
    backoff::Backoff,
    clock::{self, Alarm},
    config::Serial,
    pipe::Pipe,
};

/// The largest payload of a packet either way, in bytes.
const PAYLOAD: usize = 256;

/// The largest packet: its payload, and what stands around it.
const PACKET: usize = PAYLOAD + 6;

/// The longest wait before a port is looked for again: one that is plugged in should not be waited for.
const LONGEST_PORT_WAIT: Duration = Duration::from_secs(2);

/// The longest wait before another connection is made for a device. It waits by itself, as every client; this
/// only holds back one that does not.
const LONGEST_DIAL_WAIT: Duration = Duration::from_secs(5);

/// What a device takes to be heard again, beside what it waits: its link has to come up.
const LINK_TIME: Duration = Duration::from_secs(4);

/// How many reasons the log has at most, before they stand there again: more than a line goes through in turn.
const MOST_LOGGED: usize = 16;

/// What the two ends of a line, and the systems behind them, take beside the bytes' own time.
const SLACK: Duration = Duration::from_millis(50);

/// How often the packets of a line are sent again: each takes ten bits a byte, and may have to wait until one of the
/// other end has passed, and for its acknowledgement.
pub(super) fn retries(baud: u32) -> Retries {
    let bytes = 2 * output_room(PACKET) + output_room(0);
    let on_the_line = Duration::from_secs_f64(bytes as f64 * 10.0 / f64::from(baud.max(1)));
    let millis = u32::try_from((on_the_line + SLACK).as_millis()).unwrap_or(u32::MAX);
    Retries { resend: time::Duration::from_millis(millis), ..Retries::default() }
}

/// How long a device may say nothing after the server closed its connection: it waits as every client does.
pub(super) fn longest_wait(reason: CloseReason, retry_after: u32) -> Duration {
    let mut backoff = backoff::Backoff::default();
    // As after many attempts: then it draws from the longest span.
    for _ in 0..8 {
        backoff.next(u16::MAX);
    }
    LINK_TIME.saturating_add(backoff.closed(reason, retry_after, u16::MAX).into())
}

/// The same, where the server has said nothing of it.
fn longest_silence() -> Duration {
    longest_wait(CloseReason::Finished, 0)
}

/// Why a line's port is left.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("the agent stops")]
    Stopped,
    #[error(transparent)]
    NoPort(#[from] PortError),
    #[error("{path}: the port is gone: {error}; was it unplugged?")]
    Gone { path: String, error: io::Error },
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    #[error("the system gave no random numbers: {0}")]
    NoRandom(#[from] getrandom::Error),
}

/// The reasons that the log has: [`MOST_LOGGED`] at most, newest first.
#[derive(Debug, Default)]
pub(super) struct Logged(VecDeque<String>);

impl Logged {
    /// Whether the log does not have this reason; it has it from now on.
    pub(super) fn is_new(&mut self, reason: &str) -> bool {
        if self.0.iter().any(|logged| logged == reason) {
            return false;
        }
        self.0.truncate(MOST_LOGGED - 1);
        self.0.push_front(reason.to_owned());
        true
    }
}

/// One line of the configuration.
pub(super) struct Line {
    agent: Arc<Agent>,
    serial: Serial,
    status: watch::Sender<LineStatus>,
    /// How long connections for the device are held back, and until when.
    backoff: Backoff,
    not_before: Instant,
    /// When the server last welcomed the device, if it still is.
    welcomed: Option<Instant>,
    /// Until when the device may be silent, and nothing be wrong: it waits before it asks again.
    silent_until: Instant,
    /// What came over the line while the link was not up.
    unread: Unread,
    /// The reasons that the log has, since the device was connected last.
    logged: Logged,
}

impl Line {
    pub(super) fn new(agent: Arc<Agent>, serial: Serial, status: watch::Sender<LineStatus>) -> Self {
        let limits = &agent.config.connection;
        let backoff = Backoff::new(limits.least_wait, limits.most_wait.min(LONGEST_DIAL_WAIT));
        status.send_modify(|status| status.since = clock::unix_time());
        Self {
            agent,
            serial,
            status,
            backoff,
            not_before: Instant::from_micros(0),
            welcomed: None,
            silent_until: Instant::from_micros(0),
            unread: Unread::new(longest_silence()),
            logged: Logged::default(),
        }
    }

    /// Serves the line until the agent stops.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let limits = &self.agent.config.connection;
        let mut backoff = Backoff::new(limits.least_wait, limits.most_wait.min(LONGEST_PORT_WAIT));
        loop {
            let begun = clock::now();
            let Err(end) = self.serve(&mut stop).await;
            if matches!(end, LineError::Stopped) {
                return;
            }
            self.welcomed = None;
            self.tell(LineState::NoPort, Some(end.to_string()));
            backoff.was_open_for(since(begun));
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Opens the port, and serves the line as long as it is there.
    async fn serve(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Infallible, LineError> {
        let port = Port::open(&self.serial.path, self.serial.baud)?;
        // It may wait since before this agent was started, and know nothing of that.
        self.may_be_silent(longest_silence());
        let reason = "the device is not heard yet; one that was refused, or had no answer, waits for up to a minute, as a clone for six";
        // No more than at every start: it is nothing to warn of.
        self.show(LineState::Silent, Some(reason.to_owned()));
        let mut carrier = Carrier::Idle;
        let end = self.drive(Pipe::new(port), &mut carrier, stop).await;
        carrier.finish().await;
        end
    }

    /// The loop: input first, then output, then wait; for the link, and for the connection beside it.
    async fn drive(
        &mut self,
        mut wire: Pipe<Port>,
        carrier: &mut Carrier,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Infallible, LineError> {
        let mut link = Link::new(retries(self.serial.baud), [0; PACKET], [0; PACKET]);
        let alarm = Alarm::new()?;
        link.open(clock::now(), getrandom::u32()?);
        loop {
            if !wire.received().is_empty() && link.state() != State::Up {
                self.unread.came(clock::now());
            }
            self.take_input(&mut link, &mut wire, carrier);
            self.pass_on(&mut link, carrier);
            let was = link.state();
            if let Err(LinkError::Lost { .. }) = write_due(&mut link, &mut wire) {
                self.lost(was, carrier);
                link.open(clock::now(), getrandom::u32()?);
                continue;
            }
            if is_told(&link, carrier) {
                if is_acknowledged(&link, carrier) {
                    self.asks_again();
                }
                // The device learns that its session is over, and begins anew.
                *carrier = Carrier::Idle;
                link.open(clock::now(), getrandom::u32()?);
                continue;
            }
            // What the link has to say waits until the wire has taken what it said before.
            let due = if wire.unsent() == 0 { link.timeout() } else { None };
            let due = due.unwrap_or(Instant::NEVER).min(carrier.deadline().unwrap_or(Instant::NEVER));
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Err(LineError::Stopped),
                moved = wire.moved() => moved.map_err(|error| self.gone(error))?,
                moved = carrier.moved(&self.serial.device) => {
                    if let Err(ended) = moved {
                        self.ended(ended);
                    }
                }
                () = alarm.until(Some(due)) => {}
            }
        }
    }

    /// Takes what came over the wire. What there is no room for counts as lost, and comes again.
    fn take_input(&mut self, link: &mut Link<[u8; PACKET]>, wire: &mut Pipe<Port>, carrier: &mut Carrier) {
        while !wire.received().is_empty() {
            let (used, event) = link.input(clock::now(), wire.received(), carrier.room());
            match event {
                None => {}
                Some(Event::Up) => {
                    self.unread.forget();
                    carrier.part();
                    self.tell(LineState::Up, None);
                }
                Some(Event::Reset) => {
                    let was_connected = self.welcomed.is_some();
                    if carrier.part() {
                        self.hold_back();
                    }
                    let reason = was_connected.then(|| "the device has begun anew".to_owned());
                    self.tell(LineState::Up, reason);
                }
                Some(Event::Data(data)) => {
                    if matches!(carrier, Carrier::Idle) {
                        self.silent_until = Instant::from_micros(0);
                        self.tell(LineState::Connecting, None);
                    }
                    carrier.take(data, &self.agent, self.not_before);
                }
            }
            wire.consume(used);
        }
    }

    /// Passes on what the server has said, as far as the link takes it.
    fn pass_on(&mut self, link: &mut Link<[u8; PACKET]>, carrier: &mut Carrier) {
        if carrier.received().is_empty() || link.room() == 0 {
            return;
        }
        let count = link.send(clock::now(), carrier.received());
        match carrier.consume(count) {
            None => {}
            Some(Heard::Welcome) => {
                self.welcomed = Some(clock::now());
                self.silent_until = Instant::from_micros(0);
                self.tell(LineState::Connected, None);
            }
            Some(closed @ Heard::Closed { .. }) => self.closed(&closed),
        }
    }

    /// The server has said farewell.
    fn closed(&mut self, heard: &Heard) {
        if let Heard::Closed { reason, detail, retry_after } = heard {
            // Whom the server has not heard for long may be off: only if it takes this will it ask again.
            if *reason != CloseReason::Silent {
                self.may_be_silent(longest_wait(*reason, *retry_after));
            }
            let what = match reason {
                CloseReason::Clone | CloseReason::UnknownKey | CloseReason::Revoked => {
                    "the server refuses it"
                }
                _ => "the server closed the connection",
            };
            self.tell(LineState::Up, Some(format!("{what}: {detail} ({reason})")));
        }
    }

    /// The connection to the server has ended.
    fn ended(&mut self, ended: Ended) {
        self.hold_back();
        match ended.last_words {
            Some(heard) => self.closed(&heard),
            // It has said why.
            None if self.status.borrow().state == LineState::Up => {}
            None => {
                self.may_be_silent(longest_silence());
                let reason = Some(ended.error.to_string());
                match ended.error {
                    // It is for the device, or the server, to say more of that.
                    CarrierError::Closed => self.show(LineState::Up, reason),
                    _ => self.tell(LineState::Up, reason),
                }
            }
        }
    }

    /// The device waits before it asks again, for so long at most.
    fn may_be_silent(&mut self, longest: Duration) {
        self.silent_until = clock::after(longest);
    }

    /// The device has all that the server said, and will come back.
    fn asks_again(&mut self) {
        if clock::now() >= self.silent_until {
            self.may_be_silent(longest_silence());
            self.status.send_modify(|status| status.asks_again_by = Some(self.silent_until));
        }
    }

    /// The device does not answer on the line.
    fn lost(&mut self, was: State, carrier: &mut Carrier) {
        if carrier.part() {
            self.hold_back();
        }
        let now = clock::now();
        let may_wait = now < self.silent_until;
        let is_known_to_wait = may_wait && self.status.borrow().state == LineState::Up;
        let reason = match was {
            _ if is_known_to_wait => return,
            State::Up => "the device no longer answers on the line",
            _ if self.unread.is_noise(now) => {
                "what comes over the line is not to be read; is the speed (baud) the same on both ends, and is the device the right one?"
            }
            // Nothing has to be wrong with the line for that.
            _ if may_wait || self.unread.is_any(now) => return,
            _ => "nothing comes over the line; is the device on, are both wires right, and the ground?",
        };
        self.tell(LineState::Silent, Some(reason.to_owned()));
    }

    /// Draws when the next connection may be made.
    fn hold_back(&mut self) {
        if let Some(welcomed) = self.welcomed.take() {
            self.backoff.was_open_for(since(welcomed));
        }
        self.not_before = clock::after(self.backoff.next_wait());
    }

    fn gone(&self, error: io::Error) -> LineError {
        LineError::Gone { path: self.serial.path.display().to_string(), error }
    }

    /// Shows people how the line stands, and why, and logs it: each reason once, until the device is connected again.
    fn tell(&mut self, state: LineState, reason: Option<String>) {
        let (path, device) = (self.serial.path.display(), &self.serial.device);
        match &reason {
            Some(reason) if self.logged.is_new(reason) => {
                tracing::warn!(%path, device, reason, "a serial line is not connected");
            }
            None if state == LineState::Connected => {
                tracing::info!(%path, device, "a serial line is connected");
                self.logged = Logged::default();
            }
            _ => {}
        }
        self.show(state, reason);
    }

    /// Shows people how the line stands, and why; without a reason that of the state before goes.
    fn show(&self, state: LineState, reason: Option<String>) {
        let (path, device) = (self.serial.path.display(), &self.serial.device);
        tracing::debug!(%path, device, state = state.name(), reason, "a serial line");
        let waits = state == LineState::Up && clock::now() < self.silent_until;
        self.status.send_modify(|status| {
            let is_new = status.state != state;
            if is_new {
                (status.state, status.since) = (state, clock::unix_time());
            }
            if is_new || reason.is_some() {
                status.reason = reason;
            }
            status.asks_again_by = waits.then_some(self.silent_until);
        });
    }
}

/// Writes what the link has to say, once the wire has taken what it said before.
fn write_due(link: &mut Link<[u8; PACKET]>, wire: &mut Pipe<Port>) -> Result<(), LinkError> {
    if wire.unsent() > 0 {
        return Ok(());
    }
    while wire.write(output_room(PACKET), |room| link.output(clock::now(), room))? > 0 {}
    Ok(())
}

/// Whether the connection has ended, and the device has all that the server said, or will not take it.
fn is_told(link: &Link<[u8; PACKET]>, carrier: &Carrier) -> bool {
    carrier.deadline().is_some_and(|deadline| {
        is_acknowledged(link, carrier) || link.state() != State::Up || clock::now() >= deadline
    })
}

/// Whether the device has all that the server said.
fn is_acknowledged(link: &Link<[u8; PACKET]>, carrier: &Carrier) -> bool {
    carrier.received().is_empty() && link.room() > 0
}

fn since(moment: Instant) -> Duration {
    clock::now().since(moment).into()
}
