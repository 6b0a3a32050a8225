use protocol_core::{
    frame::HEADER_LENGTH,
    message::{Body, Text},
    provisioning::{LENGTH, PrivateKey, Provisioning},
    time::Instant,
};

use super::*;
use crate::board::{Clock, ResetReason};

const SHOWN: Pin = Pin([1; 32]);

/// A board with flash that can fail.
struct Flash {
    block: Cell<[u8; LENGTH]>,
    fails: Cell<bool>,
}

impl Clock for Flash {
    fn now(&self) -> Instant {
        Instant::from_micros(0)
    }

    async fn sleep_until(&self, _: Instant) {}
}

impl Board for Flash {
    fn fill_random(&self, _: &mut [u8]) {}

    fn feed_watchdog(&self) {}

    fn reset_reason(&self) -> ResetReason {
        ResetReason::PowerOn
    }

    fn reset(&self) {}

    fn load(&self, block: &mut [u8; LENGTH]) {
        *block = self.block.get();
    }

    fn store(&self, block: &[u8; LENGTH]) -> Result<(), ErrorKind> {
        if self.fails.get() {
            return Err(ErrorKind::Other);
        }
        self.block.set(*block);
        Ok(())
    }
}

fn endpoints(next: u8) -> Endpoints<'static> {
    let addresses = Text::new("a:1").into_iter().collect();
    Endpoints { current: SHOWN, next: Pin([next; 32]), addresses }
}

/// What a server says of a connection over which it has shown the current key.
fn tell(tls: &Tls, board: &Flash, told: &Endpoints<'_>) {
    let mut buffer = [0; 512];
    let length = message::encode(told, u16::MAX, &mut buffer).expect("it fits");
    tls.shown.set(Some(SHOWN));
    tls.notice(board, Frame { tag: Endpoints::TAG, body: &buffer[HEADER_LENGTH..length] });
}

#[test]
fn a_key_is_in_the_flash_when_it_was_told_or_when_the_flash_takes_it() {
    let mut block = [0; LENGTH];
    let name = Text::new("mcu").unwrap();
    Provisioning { name, key: PrivateKey([7; 32]), certificate: &[1; 300], endpoints: endpoints(2) }
        .encode(&mut block)
        .unwrap();
    let board = Flash { block: Cell::new(block), fails: Cell::new(false) };
    let tls = Tls::new();
    assert_eq!(tls.address(&board).unwrap(), "a:1");
    let known = || Provisioning::decode(&board.block.get()).unwrap().endpoints.next.0[0];

    tell(&tls, &board, &endpoints(3));
    assert_eq!(known(), 3);
    board.fails.set(true);
    tell(&tls, &board, &endpoints(4));
    assert_eq!(known(), 3);
    board.fails.set(false);
    tls.keep(&board);
    assert_eq!(known(), 4, "the connection stands as it was");
}
