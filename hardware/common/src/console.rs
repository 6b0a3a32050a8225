//! What the device shows to a person, on a UART that carries nothing else.

use core::fmt::{self, Write};

use agent_embedded::application::{Failure, State};
use agent_embedded::board::ResetReason;
use agent_embedded::connection::End;
use protocol_core::code::CloseReason;
use protocol_core::escape::OneLine;

use crate::uart::Port;

/// What lets a device in again that its server refuses: one with a network has a key of its own, a wired one has not.
const ENROL: &str = if cfg!(feature = "tls") {
    "; on the server, run `holdfast enroll --firmware --name NAME --out DIR`, then write the new block to this device"
} else {
    "; on the server, run `holdfast enroll --name NAME --gateway GATEWAY`"
};

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
            State::Connecting("") => self.line(format_args!("connecting")),
            State::Connecting(address) => self.line(format_args!("connecting to {}", OneLine(address))),
            State::Online(name) => self.line(format_args!("online as {}", OneLine(name.as_str()))),
            State::Offline(failure, wait) => {
                // In 2^16ths of a second, which spares a division of 64 bits.
                let seconds = (wait.as_micros() >> 4) as u32 / 62_500;
                let under = if seconds == 0 { "under " } else { "" };
                let next_step = match failure {
                    Failure::End(End::Closed {
                        reason: CloseReason::UnknownKey | CloseReason::Revoked,
                        ..
                    }) => ENROL,
                    _ => "",
                };
                self.line(format_args!(
                    "offline: {failure}{next_step}; next attempt in {under}{} s",
                    seconds.max(1)
                ));
            }
            State::Resetting => self.line(format_args!("resetting")),
        }
    }

    /// Shows a line.
    pub fn line(&mut self, text: fmt::Arguments<'_>) {
        // A console does not fail.
        _ = write!(self, "{text}\r\n");
    }
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;

    use embedded_io_async::ErrorKind;
    use protocol_core::time::Duration;

    use super::*;

    /// Keeps what is shown.
    #[derive(Default)]
    struct Screen(RefCell<Vec<u8>>);

    impl Port for &Screen {
        fn transmit(&self, byte: u8) -> bool {
            self.0.borrow_mut().push(byte);
            true
        }
    }

    fn shown(state: State<'_>) -> String {
        let screen = Screen::default();
        Console(&screen).state(state);
        String::from_utf8(screen.0.into_inner()).unwrap()
    }

    #[test]
    fn a_failure_names_where_to_look_and_when_it_is_tried_again() {
        assert_eq!(shown(State::Connecting("")), "connecting\r\n");
        assert_eq!(shown(State::Connecting("a.example:1\n")), "connecting to a.example:1\\n\r\n");
        let unknown = Failure::Connect(ErrorKind::NotFound);
        for (millis, words) in [
            (0, "in under 1 s\r\n"),
            (999, "in under 1 s\r\n"),
            (1_000, "in 1 s\r\n"),
            (312_345, "in 312 s\r\n"),
        ] {
            let text = shown(State::Offline(unknown, Duration::from_millis(millis)));
            assert!(text.contains("no host of that name") && text.ends_with(words), "{text}");
        }
    }

    #[test]
    fn a_device_that_is_refused_says_what_lets_it_in_again() {
        let text = |reason| {
            shown(State::Offline(
                Failure::End(End::Closed { reason, retry_after: 0 }),
                Duration::from_secs(1),
            ))
        };
        for reason in [CloseReason::Revoked, CloseReason::UnknownKey] {
            let text = text(reason);
            assert!(text.contains(&reason.to_string()) && text.contains("`holdfast enroll --"), "{text}");
        }
        assert!(!text(CloseReason::Draining).contains("enroll"));
    }
}
