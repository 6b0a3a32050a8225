//! A link that takes its time: two tun devices, and all that goes into one comes out of the other a while later.
//!
//! It stands in for the kernel's netem, which not every kernel has. Nothing is lost, doubled or reordered.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tun_tap::{Iface, Mode};

use crate::error::{Error, Result};

/// The largest packet.
const PACKET: usize = 2_048;

/// How many packets may be under way each way; what comes beyond that is lost, as on any link.
const UNDER_WAY: usize = 8_192;

/// Two tun devices, with a delay between them
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The name of one
    #[arg(long)]
    left: String,
    /// The name of the other
    #[arg(long)]
    right: String,
    /// How long each packet is under way, in milliseconds
    #[arg(long)]
    milliseconds: u64,
}

/// `holdfast-bench delay`: carries packets until it is killed.
///
/// # Errors
/// The devices can't be made.
pub(crate) fn run(arguments: &Arguments) -> Result {
    let make = |name: &str| Iface::without_packet_info(name, Mode::Tun).map(Arc::new);
    let (left, right) = (make(&arguments.left)?, make(&arguments.right)?);
    let delay = Duration::from_millis(arguments.milliseconds);
    println!("ready");
    io::stdout().flush()?;
    let ways = [(Arc::clone(&left), Arc::clone(&right)), (right, left)];
    let ways = ways.map(|(from, to)| {
        let (sender, receiver) = sync_channel(UNDER_WAY);
        // A device that is down takes nothing: a packet is lost.
        thread::spawn(move || deliver(&receiver, |packet| drop(to.send(packet))));
        thread::spawn(move || collect(&sender, delay, |room| from.recv(room)))
    });
    for way in ways {
        way.join().map_err(|_| Error::Told("a way of the link has panicked".to_owned()))??;
    }
    Ok(())
}

/// A packet, and when it is there.
type Due = (Instant, Box<[u8]>);

/// Takes in packets until there are no more.
fn collect(
    sender: &SyncSender<Due>,
    delay: Duration,
    mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut room = [0; PACKET];
    loop {
        let length = receive(&mut room)?;
        let Some(packet @ [_, ..]) = room.get(..length) else { return Ok(()) };
        let _ = sender.try_send((Instant::now() + delay, packet.into()));
    }
}

/// Hands each packet on when it is due. They are due in the order in which they came.
fn deliver(receiver: &Receiver<Due>, mut send: impl FnMut(&[u8])) {
    while let Ok((due, packet)) = receiver.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        send(&packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_late_and_in_order() {
        const DELAY: Duration = Duration::from_millis(20);
        let (sender, receiver) = sync_channel(UNDER_WAY);
        let begun = Instant::now();
        let mut rest = 0..=100_u8;
        let receive = |room: &mut [u8]| {
            let Some((room, number)) = room.first_mut().zip(rest.next()) else { return Ok(0) };
            *room = number;
            Ok(usize::from(number < 100))
        };
        collect(&sender, DELAY, receive).unwrap();
        drop(sender);
        let mut came = Vec::new();
        deliver(&receiver, |packet| {
            assert!(begun.elapsed() >= DELAY);
            came.extend_from_slice(packet);
        });
        assert_eq!(came, (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn what_has_no_room_is_lost() {
        let (sender, receiver) = sync_channel(2);
        let mut rest = 5_usize;
        let receive = |_: &mut [u8]| {
            rest -= 1;
            Ok(usize::from(rest > 0))
        };
        collect(&sender, Duration::ZERO, receive).unwrap();
        assert_eq!(receiver.try_iter().count(), 2);
    }
}
