//! A connection between a device and the server: it keeps the order of bytes, and nothing else is sure.

use std::collections::VecDeque;

use protocol_core::time::{Duration, Instant};

use crate::random::Random;

/// Both directions of a connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// From the device to the server.
    pub(super) up: Pipe,
    /// From the server to the device.
    pub(super) down: Pipe,
}

impl Wire {
    /// Ends both directions; what is under way is lost, but for a part that is random.
    pub(super) fn cut(&mut self, now: Instant, random: &mut Random) {
        for pipe in [&mut self.up, &mut self.down] {
            pipe.chunks.truncate(random.below(pipe.chunks.len() as u64 + 1) as usize);
            pipe.close(now, random);
        }
    }

    /// One direction or both swallow everything from now on, and nobody is told.
    pub(super) fn fall_silent(&mut self, random: &mut Random) {
        let which = random.below(3);
        self.up.is_silent |= which != 0;
        self.down.is_silent |= which != 1;
    }

    /// Nothing arrives for a while.
    pub(super) fn stall(&mut self, until: Instant) {
        self.up.stall(until);
        self.down.stall(until);
    }
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    /// What is under way, and when it arrives.
    chunks: VecDeque<(Instant, Vec<u8>)>,
    /// When what was last written arrives: nothing overtakes it.
    last: Instant,
    /// When the reader hears that there is no more.
    closes: Option<Instant>,
    is_silent: bool,
}

impl Default for Pipe {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), last: Instant::from_micros(0), closes: None, is_silent: false }
    }
}

impl Pipe {
    /// Sends bytes, in pieces of any size.
    pub(super) fn write(&mut self, now: Instant, mut bytes: &[u8], random: &mut Random) {
        while !bytes.is_empty() && !self.is_silent && self.closes.is_none() {
            let length =
                if random.once_in(3) { 1 + random.below(bytes.len() as u64) as usize } else { bytes.len() };
            let (piece, rest) = bytes.split_at(length);
            let delay = if random.once_in(20) { random.up_to(2_000) } else { random.up_to(80) };
            self.last = now.after(delay).max(self.last);
            self.chunks.push_back((self.last, piece.to_vec()));
            bytes = rest;
        }
    }

    /// What has arrived by now.
    pub(super) fn read(&mut self, now: Instant) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((_, piece)) = self.chunks.pop_front_if(|(at, _)| *at <= now) {
            bytes.extend(piece);
        }
        bytes
    }

    /// The writer ends it, in order: what was written arrives first.
    pub(super) fn close(&mut self, now: Instant, random: &mut Random) {
        if !self.is_silent && self.closes.is_none() {
            self.closes = Some(now.after(random.up_to(80)).max(self.last));
        }
    }

    /// Whether the reader has read all, and heard that there is no more.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        self.chunks.is_empty() && self.closes.is_some_and(|at| at <= now)
    }

    /// When the reader has something to read.
    pub(super) fn next(&self) -> Option<Instant> {
        self.chunks.front().map(|(at, _)| *at).or(self.closes)
    }

    fn stall(&mut self, until: Instant) {
        self.last = self.last.max(until);
        self.chunks.iter_mut().for_each(|(at, _)| *at = (*at).max(until));
        self.closes = self.closes.map(|at| at.max(until));
    }
}

/// Seconds, for readers of these files.
pub(super) const fn seconds(count: u32) -> Duration {
    Duration::from_secs(count)
}
