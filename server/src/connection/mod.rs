//! One framed connection: a session, its bytes, and the plain loop that drives them.

mod caller;
mod delivery;
mod end;
mod opening;
mod refused;
mod wire;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use protocol_core::{
    message::{self, Kind, Order, Stop, Text},
    session::{Event, Lost, OPENING_MAX_FRAME, OUTPUT_ROOM, Server, Session},
    time,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};

pub use self::caller::Caller;
use self::{
    delivery::Delivery,
    end::End,
    opening::Opened,
    wire::{Wake, Wire},
};
use crate::{
    clock,
    handler::{self, Allowance, Device},
    host::Host,
    mailbox::{Instruction, Requests},
    registry::Online,
    store::{SessionEnd, UnixMillis},
    strangers::Stranger,
};

/// How long a peer has to take the farewell.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// What the longest frame about a task needs, in bytes.
const INSTRUCTION_ROOM: usize = 256;

/// Serves one connection of the caller, to its end. It is a stranger until it is known whose it is.
pub async fn serve<S>(
    host: &Arc<Host>,
    stream: S,
    caller: Caller,
    address: SocketAddr,
    mut stranger: Stranger,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut wire = Wire::new(stream);
    let mut session = Session::server(clock::now(), opening::time_limit(host));
    // Opening takes a large future, and is soon over: an idle connection should not keep it.
    let opened = Box::pin(opening::open(host, &mut wire, &mut session, caller, address, &mut stranger)).await;
    drop(stranger);
    match opened {
        Ok(Opened { device, place, archived }) => {
            let online = Arc::clone(place.online());
            let end = Connection::new(&device, &online, &mut wire, &mut session).run(archived).await;
            // Offline at once; then the record of it, which the peer does not wait for.
            drop(place);
            Box::pin(async {
                tokio::join!(record_end(host, &device, &online, &end), say_farewell(&mut wire, &end))
            })
            .await;
        }
        Err(refused) => {
            Box::pin(async {
                tokio::join!(
                    refused.record(host, caller.key(), address),
                    say_farewell(&mut wire, &refused.end)
                )
            })
            .await;
        }
    }
}

/// A connection whose session is open.
struct Connection<'a, S> {
    device: &'a Arc<Device>,
    online: &'a Online,
    wire: &'a mut Wire<S>,
    session: &'a mut Session<Server>,
    delivery: Delivery,
    /// How many notices more the device may send now.
    allowance: Allowance,
    /// Who waits for the answer to the `PING` that is under way.
    pings: Vec<oneshot::Sender<Duration>>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    fn new(
        device: &'a Arc<Device>,
        online: &'a Online,
        wire: &'a mut Wire<S>,
        session: &'a mut Session<Server>,
    ) -> Self {
        Self {
            device,
            online,
            wire,
            session,
            delivery: Delivery::new(),
            allowance: Allowance::default(),
            pings: Vec::new(),
        }
    }

    /// Runs the connection; gives how it ended.
    async fn run(mut self, archived: u64) -> End {
        let Err(end) = self.go_on(archived).await;
        self.delivery.finish(self.device);
        end
    }

    /// The loop: input first, then output, then wait. It goes on until something ends it. It waits for the peer
    /// only: what is asked of the store is handed over, or comes as a wake.
    async fn go_on(&mut self, archived: u64) -> Result<Infallible, End> {
        opening::welcome(self.device, archived, self.wire, self.session)?;
        let mut wake = Wake::default();
        loop {
            self.take_input().await?;
            if let Some(requests) = wake.requests {
                self.take_requests(requests)?;
            }
            write_due(self.session, self.wire, wake.due)?;
            self.delivery.send(self.device, self.session, self.wire);
            wake = self.next().await?;
        }
    }

    async fn next(&mut self) -> Result<Wake, End> {
        let wake = tokio::select! {
            wake = self.wire.next(&self.online.mailbox, self.session.timeout()) => wake?,
            done = self.delivery.done() => {
                done?;
                Wake::default()
            }
        };
        if wake.input {
            self.online.figures.heard(UnixMillis::now());
        }
        Ok(wake)
    }

    async fn take_input(&mut self) -> Result<(), End> {
        let begun = clock::now();
        loop {
            let now = clock::now();
            let (used, event) = self.session.input(now, self.wire.input())?;
            match event {
                Some(Event::Message(message)) => {
                    handler::message::archive(self.device, &message, begun).await?;
                }
                Some(Event::Echo(echo)) => {
                    self.delivery.echoed(self.device, echo);
                }
                Some(Event::Pong { round_trip }) => {
                    self.online.figures.measured(round_trip.as_micros());
                    for waiting in self.pings.drain(..) {
                        // Whoever asked may have stopped waiting.
                        let _ = waiting.send(round_trip.into());
                    }
                }
                Some(Event::Notice(frame)) => {
                    handler::notice(self.device, &mut self.allowance, now, frame)?;
                }
                Some(Event::Closed(close)) => return Err(End::left(&close)),
                Some(Event::Hello(_) | Event::Welcome(_)) | None => {}
            }
            if used == 0 {
                return Ok(());
            }
            self.wire.consume(used);
        }
    }

    fn take_requests(&mut self, requests: Requests) -> Result<(), End> {
        if let Some(echo) = requests.archived {
            self.session.echo(echo.stream, echo.number);
        }
        if let Some(farewell) = requests.farewell() {
            // What is archived is echoed first: else the device would have to send it again.
            write_due(self.session, self.wire, false)?;
            return Err(End::Told(farewell));
        }
        if requests.deliver {
            self.delivery.look_again();
        }
        for instruction in &requests.instructions {
            self.instruct(instruction);
        }
        if !requests.pings.is_empty() {
            if self.pings.is_empty() {
                self.session.ping();
            }
            self.pings.extend(requests.pings);
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Tells the device about a task. What can't be told is found by the task's own deadlines.
    fn instruct(&mut self, instruction: &Instruction) {
        let now = clock::now();
        let told = match instruction {
            Instruction::Run { task, kind, role, who, key, limit, parameters } => {
                let order = Order {
                    task: *task,
                    // Both types allow the same kinds.
                    kind: Kind::new(kind.as_str()).unwrap_or(Kind::TEXT),
                    role: *role,
                    who: Text::shortened(who),
                    key: *key,
                    limit: *limit,
                    parameters,
                };
                let room = INSTRUCTION_ROOM.saturating_add(parameters.len());
                self.wire.write(room, |room| self.session.notice(now, &order, room))
            }
            Instruction::Stop { task, detail } => {
                let stop = Stop { task: *task, detail: Text::shortened(detail) };
                self.wire.write(INSTRUCTION_ROOM, |room| self.session.notice(now, &stop, room))
            }
        };
        if let Err(error) = told {
            tracing::error!(device = self.device.name, %error, "the device could not be told about a task");
        }
    }
}

/// Puts all that the session has to say behind what is to be sent. Its deadline has come only where the wire says
/// that it is `due`: until then the peer may have said something that was not read yet.
fn write_due<S: AsyncRead + AsyncWrite + Unpin>(
    session: &mut Session<Server>,
    wire: &mut Wire<S>,
    due: bool,
) -> Result<(), Lost> {
    let now = match session.timeout() {
        Some(deadline) if !due => clock::now().min(deadline.before(time::Duration::from_micros(1))),
        _ => clock::now(),
    };
    while wire.write(OUTPUT_ROOM, |room| session.output(now, room))? > 0 {}
    Ok(())
}

async fn record_end(host: &Host, device: &Device, place: &Online, end: &End) {
    let (reason, text) = (end.reason(), end.detail());
    tracing::info!(device = %device.name, reason = reason.name(), detail = text, "device offline");
    let last_seen = place.figures.last_heard();
    let ended = SessionEnd { session: device.session, last_seen, reason, text: Some(text) };
    if let Err(error) = host.store.end_session(ended).await {
        // The next start closes the row: nothing is left open for ever.
        tracing::error!(device = %device.name, %error, "the end of a session could not be recorded");
    }
}

/// Without the session: that of a lost peer has ended, and its last word may still reach whoever was only held up.
async fn say_farewell<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, end: &End) {
    if let Some(farewell) = end.farewell() {
        let room = usize::from(OPENING_MAX_FRAME);
        // Every farewell fits.
        let _ = wire.write(room, |room| message::encode(&farewell.close(), OPENING_MAX_FRAME, room));
    }
    wire.finish(FAREWELL_TIMEOUT).await;
}
