//! What the device shows to a person, on a UART that carries nothing else.

use core::fmt::{self, Write};

use agent_embedded::application::State;
use agent_embedded::board::ResetReason;
use protocol_core::escape::OneLine;

use crate::uart::Port;

/// A UART that a terminal is connected to.
#[derive(Debug)]
pub struct Console<P>(pub P);

impl<P: Port> Write for Console<P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // A few lines, once in a while: they are waited for.
            while !self.0.transmit(byte) {}
        }
        Ok(())
    }
}

impl<P: Port> Console<P> {
    /// Shows that the device has started, and why.
    pub fn started(&mut self, reason: ResetReason) {
        self.line(format_args!("started, firmware {}: {reason:?}", env!("CARGO_PKG_VERSION")));
    }

    /// Shows where the agent stands.
    pub fn state(&mut self, state: State<'_>) {
        match state {
            State::Connecting => self.line(format_args!("connecting")),
            State::Online(name) => self.line(format_args!("online as {}", OneLine(name.as_str()))),
            State::Offline(failure, wait) => {
                // In 2^16ths of a second, which spares a division of 64 bits.
                let seconds = (wait.as_micros() >> 4) as u32 / 62_500;
                self.line(format_args!("offline: {failure}; next attempt in {seconds} s"));
            }
            State::Resetting => self.line(format_args!("resetting")),
        }
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        // A console does not fail.
        _ = write!(self, "{text}\r\n");
    }
}
