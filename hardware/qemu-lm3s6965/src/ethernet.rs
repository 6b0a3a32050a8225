//! The Stellaris Ethernet controller, as a driver for embassy-net.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use firmware::executor;

use crate::interrupts::{self, Interrupt};
use crate::registers::Register;

const BASE: usize = 0x4004_8000;
const INTERRUPT_ACKNOWLEDGE: Register = Register::new(BASE, 0x00);
const INTERRUPT_MASK: Register = Register::new(BASE, 0x04);
const RECEIVE_CONTROL: Register = Register::new(BASE, 0x08);
const TRANSMIT_CONTROL: Register = Register::new(BASE, 0x0C);
const DATA: Register = Register::new(BASE, 0x10);
const ADDRESS: [Register; 2] = [Register::new(BASE, 0x14), Register::new(BASE, 0x18)];
const PACKETS: Register = Register::new(BASE, 0x34);
const TRANSMIT_REQUEST: Register = Register::new(BASE, 0x38);

const INTERRUPT_RECEIVED: u32 = 1;
const INTERRUPT_TRANSMITTED: u32 = 1 << 2;

/// The longest frame without its check sum, in bytes.
const MAX_FRAME: usize = 1514;

/// The length of addresses and type in front of a frame's content, in bytes.
const HEADER: usize = 14;

/// The controller.
#[derive(Debug)]
pub struct Ethernet(());

/// Starts it. To be called once.
pub(crate) fn start() -> Ethernet {
    const ENABLED: u32 = 1;
    const PADDED: u32 = 1 << 1;
    const CHECK_SUM: u32 = 1 << 2;
    const DUPLEX: u32 = 1 << 4;
    INTERRUPT_MASK.write(0);
    RECEIVE_CONTROL.write(ENABLED);
    TRANSMIT_CONTROL.write(ENABLED | PADDED | CHECK_SUM | DUPLEX);
    interrupts::enable(Interrupt::Ethernet);
    Ethernet(())
}

/// The driver looks by itself what there is, and asks for the next interrupt when it finds nothing.
#[unsafe(no_mangle)]
extern "C" fn ETHERNET() {
    INTERRUPT_MASK.write(0);
    executor::wake();
}

impl Driver for Ethernet {
    type RxToken<'a> = Received;
    type TxToken<'a> = Transmitter;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received, Transmitter)> {
        // First forgotten, then looked for: one that comes in between asks again.
        INTERRUPT_ACKNOWLEDGE.write(INTERRUPT_RECEIVED);
        if PACKETS.read() == 0 {
            INTERRUPT_MASK.write(INTERRUPT_RECEIVED);
            return None;
        }
        // Without room for an answer it waits in the controller.
        self.transmit(context).map(|transmitter| (Received(()), transmitter))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Transmitter> {
        INTERRUPT_ACKNOWLEDGE.write(INTERRUPT_TRANSMITTED);
        if TRANSMIT_REQUEST.read() != 0 {
            INTERRUPT_MASK.write(INTERRUPT_RECEIVED | INTERRUPT_TRANSMITTED);
            return None;
        }
        Some(Transmitter(()))
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = MAX_FRAME;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        let [a, b, c, d] = ADDRESS[0].read().to_le_bytes();
        let [e, f, ..] = ADDRESS[1].read().to_le_bytes();
        HardwareAddress::Ethernet([a, b, c, d, e, f])
    }
}

/// A frame that waits in the controller.
#[derive(Debug)]
pub struct Received(());

impl embassy_net_driver::RxToken for Received {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, take: F) -> R {
        // On the stack, where nothing else needs the room at the same time.
        let mut buffer = [0; MAX_FRAME];
        let length = read_frame(&mut buffer);
        take(&mut buffer[..length])
    }
}

/// Reads a frame: gives its length.
fn read_frame(buffer: &mut [u8; MAX_FRAME]) -> usize {
    const LENGTH: usize = 2;
    const CHECK_SUM: usize = 4;
    let [low, high, first, second] = DATA.read().to_le_bytes();
    let all = usize::from(u16::from_le_bytes([low, high]));
    let length = all.saturating_sub(LENGTH + CHECK_SUM);
    buffer[..2].copy_from_slice(&[first, second]);
    let mut rest = buffer[2..].chunks_mut(4);
    // What does not fit, and the check sum, are read and dropped.
    for _ in 1..all.div_ceil(4) {
        let word = DATA.read().to_le_bytes();
        if let Some(place) = rest.next() {
            place.copy_from_slice(&word[..place.len()]);
        }
    }
    length.min(MAX_FRAME)
}

/// Room for a frame.
#[derive(Debug)]
pub struct Transmitter(());

impl embassy_net_driver::TxToken for Transmitter {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        // In front of the frame the controller takes the length of its content, in two bytes.
        let mut buffer = [0; 2 + MAX_FRAME];
        let content = (length.saturating_sub(HEADER) as u16).to_le_bytes();
        buffer[..2].copy_from_slice(&content);
        let result = fill(&mut buffer[2..2 + length]);
        for chunk in buffer[..2 + length].chunks(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            DATA.write(u32::from_le_bytes(word));
        }
        TRANSMIT_REQUEST.write(1);
        result
    }
}
