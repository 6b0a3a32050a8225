//! One framed connection: a session, its bytes, and the plain loop that drives them.

mod delivery;
mod end;
mod opening;
mod wire;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use protocol_core::{
    message::{Hello, Pin},
    session::{Event, Lost, OUTPUT_ROOM, Server, Session},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};

use self::{
    delivery::Delivery,
    end::End,
    opening::Opened,
    wire::{Wake, Wire},
};
use crate::{
    clock,
    handler::{self, Device},
    host::Host,
    mailbox::Letters,
    registry::{Online, Place},
    store::{SessionEnd, UnixMillis},
};

/// How long a peer has to take the farewell.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(2);

/// Serves one connection of the peer that holds `key`, to its end.
pub async fn serve<S>(host: &Arc<Host>, stream: S, key: Pin, address: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut wire = Wire::new(stream);
    let mut session = Session::server(clock::now(), opening::patience(host));
    // Opening takes a large future, and is soon over: an idle connection should not keep it.
    let opened = Box::pin(opening::open(host, &mut wire, &mut session, key, address)).await;
    let end = match opened {
        Ok(Opened { device, place, hello }) => {
            let mut connection =
                Connection { device, place, wire, session, delivery: Delivery::new(), pings: Vec::new() };
            let Err(end) = connection.run(&hello).await;
            let online = Arc::clone(connection.place.online());
            // Offline at once; then the record of it.
            drop(connection.place);
            Box::pin(record_end(host, &connection.device, &online, &end)).await;
            (wire, session) = (connection.wire, connection.session);
            end
        }
        Err(refused) => {
            Box::pin(refused.refusal(key, address).record(&host.store)).await;
            refused.end
        }
    };
    say_farewell(wire, session, &end).await;
}

/// A connection whose session is open.
struct Connection<S> {
    device: Arc<Device>,
    /// The device's place in the registry: given up when the connection ends, before that is written down.
    place: Place,
    wire: Wire<S>,
    session: Session<Server>,
    delivery: Delivery,
    /// Who waits for the answer to the `PING` that is under way.
    pings: Vec<oneshot::Sender<Duration>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The loop: input first, then output, then wait. It goes on until something ends it.
    async fn run(&mut self, hello: &Hello) -> Result<Infallible, End> {
        Box::pin(opening::welcome(&self.device, hello, &mut self.wire, &mut self.session)).await?;
        let mailbox = Arc::clone(&self.place.online().mailbox);
        loop {
            self.take_input().await?;
            write_due(&mut self.session, &mut self.wire)?;
            self.delivery.send(&self.device, &mut self.session, &mut self.wire).await?;
            match self.wire.next(&mailbox, self.session.timeout()).await? {
                Wake::Input => {
                    self.place.online().figures.heard(
                        UnixMillis::now(),
                        self.wire.bytes_in,
                        self.wire.bytes_out,
                    );
                }
                Wake::Letters(letters) => self.take_letters(letters)?,
                Wake::Due => {}
            }
        }
    }

    async fn take_input(&mut self) -> Result<(), End> {
        let now = clock::now();
        loop {
            let (used, event) = self.session.input(now, self.wire.input())?;
            match event {
                Some(Event::Message(message)) => handler::message::archive(&self.device, &message).await?,
                Some(Event::Echo(echo)) => {
                    let count = self.delivery.echoed(&self.device, echo);
                    self.place.online().figures.delivered(count);
                }
                Some(Event::Pong { round_trip }) => {
                    self.place.online().figures.measured(round_trip.as_micros());
                    for waiting in self.pings.drain(..) {
                        // Whoever asked may have stopped waiting.
                        let _ = waiting.send(round_trip.into());
                    }
                }
                // A notice is rare, and its handler's future large.
                Some(Event::Notice(frame)) => Box::pin(handler::notice(&self.device, frame)).await?,
                Some(Event::Closed(close)) => return Err(End::left(&close)),
                Some(Event::Hello(_) | Event::Welcome(_)) | None => {}
            }
            if used == 0 {
                return Ok(());
            }
            self.wire.consume(used);
        }
    }

    fn take_letters(&mut self, letters: Letters) -> Result<(), End> {
        if let Some(echo) = letters.archived {
            self.session.echo(echo.stream, echo.number);
            self.place.online().figures.archived(letters.archived_count);
        }
        if let Some(farewell) = letters.last_word() {
            // What is archived is echoed first: else the device would have to send it again.
            write_due(&mut self.session, &mut self.wire)?;
            return Err(End::Told(farewell));
        }
        if letters.deliver {
            self.delivery.look_again();
        }
        if !letters.pings.is_empty() {
            if self.pings.is_empty() {
                self.session.ping();
            }
            self.pings.extend(letters.pings);
        }
        Ok(())
    }
}

/// Puts all that the session has to say behind what is to be sent.
fn write_due<S: AsyncRead + AsyncWrite + Unpin>(
    session: &mut Session<Server>,
    wire: &mut Wire<S>,
) -> Result<(), Lost> {
    let now = clock::now();
    while wire.write(OUTPUT_ROOM, |room| session.output(now, room))? > 0 {}
    Ok(())
}

async fn record_end(host: &Host, device: &Device, place: &Online, end: &End) {
    let (reason, text) = (end.reason(), end.detail());
    tracing::info!(device = %device.name, reason = reason.name(), detail = text, "device offline");
    let last_seen = place.figures.now().last_heard;
    let ended = SessionEnd { session: device.session, last_seen, reason, text: Some(text) };
    if let Err(error) = host.store.end_session(ended).await {
        // The next start closes the row: nothing is left open for ever.
        tracing::error!(device = %device.name, %error, "the end of a session could not be recorded");
    }
}

async fn say_farewell<S: AsyncRead + AsyncWrite + Unpin>(
    mut wire: Wire<S>,
    mut session: Session<Server>,
    end: &End,
) {
    if let Some(farewell) = end.farewell() {
        let length = wire.write(256, |room| Ok::<_, ()>(session.close(&farewell.close(), room)));
        tracing::debug!(?length, reason = ?farewell.reason, "farewell");
    }
    wire.finish(FAREWELL_PATIENCE).await;
}
