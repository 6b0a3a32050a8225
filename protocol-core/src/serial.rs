//! Below the session on a serial line that loses and damages bytes: packets, a check sum, and an
//! acknowledgement for each (`docs/protocol.md`, Serial).
//!
//! A [`Link`] makes a stream of bytes in order, each once, of such a line; or says that it can't. It is driven
//! as a session is: input first, then output, then wait for bytes or for [`Link::timeout`].

mod cobs;
mod packet;
#[cfg(test)]
mod tests;

use crate::time::{Duration, Instant};
use cobs::{Decoder, Encoder};
use packet::{Ends, OVERHEAD, Packet};

/// The smallest buffer for what comes: the opening packets must fit it, in bytes.
pub const MIN_RECEIVE_BUFFER: usize = 32;

/// The room that [`Link::output`] needs to write a packet with `payload` bytes, and any shorter one.
pub const fn output_room(payload: usize) -> usize {
    // A delimiter before the packet ends what a disturbance has left on the line; another one ends the packet.
    let packet = payload.saturating_add(OVERHEAD);
    let longest = if packet < MIN_RECEIVE_BUFFER { MIN_RECEIVE_BUFFER } else { packet };
    cobs::encoded_length(longest).saturating_add(2)
}

/// How long a link waits, and how often it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// A packet is sent again when it is not acknowledged for so long. More than a packet and its
    /// acknowledgement take on the line.
    pub resend: Duration,
    /// The link is down when a packet was sent so often and not acknowledged.
    pub attempts: u8,
}

impl Retries {
    /// For 115,200 baud and packets of up to 256 bytes: 100 ms, 20 times.
    pub const DEFAULT: Self = Self { resend: Duration::from_millis(100), attempts: 20 };
}

impl Default for Retries {
    /// [`Retries::DEFAULT`].
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Where a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not opened, or down: what comes is dropped until [`Link::open`].
    Down,
    /// The peer has not answered yet.
    Opening,
    /// Bytes pass.
    Up,
}

/// What a link tells its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The link is up. The host opens a new session over it.
    Up,
    /// The peer has begun anew. What was not acknowledged is lost; the session over the link has ended.
    Reset,
    /// Bytes from the peer, in order, each once.
    Data(&'a [u8]),
}

/// Why a link can't write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The peer does not acknowledge. The link is down until it is opened again.
    #[error("the peer did not answer {attempts} times in a row; check the wire, then open the link again")]
    Lost {
        /// How often the packet was sent.
        attempts: u8,
    },
    /// The host's buffer is too small. Nothing was written.
    #[error("a packet does not fit the {room} bytes of room given; give as much as `output_room` says")]
    NoRoom {
        /// The buffer's size, in bytes.
        room: usize,
    },
}

/// One end of a serial line, with buffers `B`: arrays of its own, or slices of its host's.
#[derive(Debug)]
pub struct Link<B> {
    state: State,
    retries: Retries,
    /// The random numbers of both ends: a packet of an older start of either fails its check sum.
    ends: Ends,
    peer_max_payload: u16,
    decoder: Decoder<B>,
    /// What waits for its acknowledgement: `waiting` is at most its length.
    unacknowledged: B,
    waiting: usize,
    /// The number of what waits, or is sent next; and of what is to come next.
    next_out: u8,
    next_in: u8,
    /// Something of ours is due.
    answer_due: bool,
    acknowledgement_due: Option<u8>,
    /// How often the packet that waits was sent, and when it is due again.
    attempts: u8,
    resend_at: Instant,
}

const _: () = assert!(size_of::<Link<&mut [u8]>>() <= 160, "a link is small beside its buffers");

impl<B: AsRef<[u8]> + AsMut<[u8]>> Link<B> {
    /// A link that is down. `receive` holds the largest packet that this end takes, [`MIN_RECEIVE_BUFFER`]
    /// or more; `send` holds what is sent at once.
    pub const fn new(retries: Retries, receive: B, send: B) -> Self {
        Self {
            state: State::Down,
            retries,
            ends: Ends { mine: 0, peers: None },
            peer_max_payload: 0,
            decoder: Decoder::new(receive),
            unacknowledged: send,
            waiting: 0,
            next_out: 0,
            next_in: 0,
            answer_due: false,
            acknowledgement_due: None,
            attempts: 0,
            resend_at: Instant::NEVER,
        }
    }

    /// Opens the link, or begins anew. `nonce` is a random number, another one each time, also after a restart.
    pub fn open(&mut self, now: Instant, nonce: u32) {
        self.ends = Ends { mine: nonce, peers: None };
        self.decoder.restart();
        self.begin(now);
    }

    /// Where the link stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// When [`Link::output`] must be called at the latest; nothing if only input or [`Link::send`] can change the link.
    pub fn timeout(&self) -> Option<Instant> {
        (self.resend_at != Instant::NEVER).then_some(self.resend_at)
    }

    /// Takes what came: gives how many bytes it used up, and what they mean to the host.
    ///
    /// Call it until it has used up all bytes. `room` is how many bytes of data the host can take: a packet with more is
    /// dropped as if it were lost, and comes again.
    pub fn input(&mut self, now: Instant, bytes: &[u8], room: usize) -> (usize, Option<Event<'_>>) {
        let mut used = 0_usize;
        for byte in bytes {
            used = used.saturating_add(1);
            let Some(length) = self.decoder.push(*byte) else { continue };
            match self.packet(now, length, room) {
                None => {}
                Some(Told::Up) => return (used, Some(Event::Up)),
                Some(Told::Reset) => return (used, Some(Event::Reset)),
                Some(Told::Data) => {
                    let payload = packet::payload(self.decoder.packet(length));
                    return (used, Some(Event::Data(payload)));
                }
            }
        }
        (used, None)
    }

    /// How many bytes [`Link::send`] would take now.
    pub fn room(&self) -> usize {
        if self.state != State::Up || self.waiting > 0 {
            return 0;
        }
        self.unacknowledged.as_ref().len().min(usize::from(self.peer_max_payload))
    }

    /// Takes bytes to send: gives how many, as [`Link::room`] says. The next output writes them.
    pub fn send(&mut self, now: Instant, bytes: &[u8]) -> usize {
        let length = bytes.len().min(self.room());
        let Some((to, from)) = self.unacknowledged.as_mut().get_mut(..length).zip(bytes.get(..length)) else {
            return 0;
        };
        if length > 0 {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            self.waiting = length;
            self.attempts = 0;
            self.resend_at = now;
        }
        length
    }

    /// Writes a packet that is due to `buffer`, which has [`output_room`]: gives the length.
    ///
    /// Call it until it writes nothing: after input, after [`Link::send`], and when [`Link::timeout`] has come.
    ///
    /// # Errors
    /// [`LinkError::Lost`]: the link is down. [`LinkError::NoRoom`]: try again with a larger buffer.
    pub fn output(&mut self, now: Instant, buffer: &mut [u8]) -> Result<usize, LinkError> {
        if self.answer_due {
            let answer = Packet::Answer { max_payload: self.max_payload() };
            let length = self.write(&answer, buffer)?;
            self.answer_due = false;
            return Ok(length);
        }
        if let Some(number) = self.acknowledgement_due {
            let length = self.write(&Packet::Acknowledgement { number }, buffer)?;
            self.acknowledgement_due = None;
            return Ok(length);
        }
        if self.resend_at > now {
            return Ok(0);
        }
        if self.attempts >= self.retries.attempts {
            self.rest(State::Down);
            return Err(LinkError::Lost { attempts: self.retries.attempts });
        }
        let length = match self.state {
            State::Opening => self.write(&Packet::Open { max_payload: self.max_payload() }, buffer)?,
            _ => {
                let payload = self.unacknowledged.as_ref().get(..self.waiting).unwrap_or_default();
                self.write(&Packet::Data { number: self.next_out, payload }, buffer)?
            }
        };
        self.attempts = self.attempts.saturating_add(1);
        self.resend_at = now.after(self.retries.resend);
        Ok(length)
    }

    fn write(&self, packet: &Packet<'_>, buffer: &mut [u8]) -> Result<usize, LinkError> {
        let room = buffer.len();
        let mut encoder = Encoder::new(buffer);
        packet.write(&self.ends, &mut encoder);
        encoder.finish().ok_or(LinkError::NoRoom { room })
    }

    /// The largest payload that fits our buffer.
    fn max_payload(&self) -> u16 {
        u16::try_from(self.decoder.room().saturating_sub(OVERHEAD)).unwrap_or(u16::MAX)
    }

    /// Starts to ask the peer for an answer.
    fn begin(&mut self, now: Instant) {
        self.rest(State::Opening);
        self.resend_at = now;
    }

    /// Forgets what was under way.
    fn rest(&mut self, state: State) {
        self.state = state;
        self.waiting = 0;
        self.next_out = 0;
        self.next_in = 0;
        self.answer_due = false;
        self.acknowledgement_due = None;
        self.attempts = 0;
        self.resend_at = Instant::NEVER;
    }

    /// A packet of `length` bytes stands in the decoder's buffer, whole or not.
    fn packet(&mut self, now: Instant, length: usize, room: usize) -> Option<Told> {
        if self.state == State::Down {
            return None;
        }
        let (sender, packet) = packet::read(self.decoder.packet(length), &self.ends)?;
        match packet {
            Packet::Open { max_payload } => self.take_open(now, sender, max_payload),
            Packet::Answer { max_payload } => self.take_answer(sender, max_payload),
            Packet::Data { payload, .. } if payload.len() > room => None,
            Packet::Data { number, .. } => self.take_data(number),
            Packet::Acknowledgement { number } => {
                self.take_acknowledgement(number);
                None
            }
        }
    }

    /// The peer asks for an answer. If it has begun anew, so do we: it knows nothing of what was.
    fn take_open(&mut self, now: Instant, sender: u32, max_payload: u16) -> Option<Told> {
        let was_up = self.state == State::Up;
        let is_anew = self.ends.peers != Some(sender);
        if is_anew {
            self.ends.peers = Some(sender);
            self.begin(now);
        }
        self.peer_max_payload = max_payload;
        self.answer_due = true;
        (was_up && is_anew).then_some(Told::Reset)
    }

    /// The peer knows our number.
    fn take_answer(&mut self, sender: u32, max_payload: u16) -> Option<Told> {
        if self.state != State::Opening {
            return None;
        }
        let answer_due = self.answer_due;
        self.rest(State::Up);
        self.answer_due = answer_due;
        self.ends.peers = Some(sender);
        self.peer_max_payload = max_payload;
        Some(Told::Up)
    }

    fn take_data(&mut self, number: u8) -> Option<Told> {
        if self.state != State::Up {
            return None;
        }
        if number == self.next_in {
            self.next_in = number.wrapping_add(1);
            self.acknowledgement_due = Some(number);
            return Some(Told::Data);
        }
        if number == self.next_in.wrapping_sub(1) {
            // It came before, and its acknowledgement was lost.
            self.acknowledgement_due = Some(number);
        }
        None
    }

    fn take_acknowledgement(&mut self, number: u8) {
        if self.state == State::Up && self.waiting > 0 && number == self.next_out {
            self.next_out = number.wrapping_add(1);
            self.waiting = 0;
            self.attempts = 0;
            self.resend_at = Instant::NEVER;
        }
    }
}

/// What became of a packet: an event that does not borrow yet.
enum Told {
    Up,
    Reset,
    Data,
}
