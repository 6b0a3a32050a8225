//! The packets of a link: their bytes, and the check sum that ties them to both ends.

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};

use super::cobs::Encoder;

/// Bytes of a data packet beside its payload: what it is, its number and the check sum.
pub(super) const OVERHEAD: usize = 6;

/// Without a table: a serial line is slow, and a microcontroller's flash is small.
static CHECK_SUM: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

const OPEN: u8 = b'O';
const ANSWER: u8 = b'A';
const DATA: u8 = b'D';
const ACKNOWLEDGEMENT: u8 = b'K';

/// The random numbers of both ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) mine: u32,
    pub(super) peers: Option<u32>,
}

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// The sender wants an answer. It takes payloads of up to `max_payload` bytes.
    Open { max_payload: u16 },
    /// The sender knows the receiver's random number.
    Answer { max_payload: u16 },
    /// Bytes for the host.
    Data { number: u8, payload: &'a [u8] },
    /// The data packet of that number came.
    Acknowledgement { number: u8 },
}

impl Packet<'_> {
    pub(super) fn write(&self, ends: &Ends, encoder: &mut Encoder<'_>) {
        let mut writer = Writer { encoder, check_sum: 0 };
        match *self {
            Packet::Open { max_payload } => {
                writer.put(&[OPEN]);
                writer.put(&ends.mine.to_be_bytes());
                writer.put(&max_payload.to_be_bytes());
            }
            Packet::Answer { max_payload } => {
                writer.put(&[ANSWER]);
                writer.put(&ends.mine.to_be_bytes());
                writer.put(&max_payload.to_be_bytes());
                writer.put(&ends.peers.unwrap_or_default().to_be_bytes());
            }
            Packet::Data { number, payload } => {
                writer.put(&[DATA, number]);
                writer.put(payload);
                writer.tie(ends);
            }
            Packet::Acknowledgement { number } => {
                writer.put(&[ACKNOWLEDGEMENT, number]);
                writer.tie(ends);
            }
        }
        let check_sum = writer.check_sum.to_be_bytes();
        check_sum.iter().for_each(|byte| encoder.push(*byte));
    }
}

struct Writer<'a, 'b> {
    encoder: &'a mut Encoder<'b>,
    check_sum: u32,
}

impl Writer<'_, '_> {
    fn put(&mut self, bytes: &[u8]) {
        self.check_sum = check_sum(self.check_sum, bytes);
        bytes.iter().for_each(|byte| self.encoder.push(*byte));
    }

    /// Counts both ends into the check sum, from the sender to the receiver, without sending them.
    fn tie(&mut self, ends: &Ends) {
        self.check_sum = check_sum(self.check_sum, &ends.mine.to_be_bytes());
        self.check_sum = check_sum(self.check_sum, &ends.peers.unwrap_or_default().to_be_bytes());
    }
}

/// Counts more bytes into a check sum, which is 0 before the first. Not a `Digest`, which carries its algorithm about:
/// then the code for any other one is there as well.
#[inline(never)]
fn check_sum(before: u32, bytes: &[u8]) -> u32 {
    let mut digest = CHECK_SUM.digest_with_initial((!before).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// Reads a packet and the random number of its sender. Gives nothing if it is damaged, of an older start
/// of either end, not for this end, or of a kind that this version does not know.
pub(super) fn read<'a>(bytes: &'a [u8], ends: &Ends) -> Option<(u32, Packet<'a>)> {
    let (content, received) = bytes.split_last_chunk::<4>()?;
    let mut expected = check_sum(0, content);
    let (kind, rest) = content.split_first()?;
    let (sender, packet) = match *kind {
        OPEN => {
            let (sender, max_payload) = opening(rest)?;
            (sender, Packet::Open { max_payload })
        }
        ANSWER => {
            let (rest, receiver) = rest.split_last_chunk::<4>()?;
            let (sender, max_payload) = opening(rest)?;
            if u32::from_be_bytes(*receiver) != ends.mine {
                return None;
            }
            (sender, Packet::Answer { max_payload })
        }
        DATA | ACKNOWLEDGEMENT => {
            let sender = ends.peers?;
            expected = check_sum(expected, &sender.to_be_bytes());
            expected = check_sum(expected, &ends.mine.to_be_bytes());
            let (number, payload) = rest.split_first()?;
            match (*kind, payload) {
                (DATA, _) => (sender, Packet::Data { number: *number, payload }),
                (_, []) => (sender, Packet::Acknowledgement { number: *number }),
                _ => return None,
            }
        }
        _ => return None,
    };
    // Our own number comes back only over a wire that leads to ourselves.
    (expected.to_be_bytes() == *received && sender != ends.mine).then_some((sender, packet))
}

/// The payload of a data packet that was read before.
pub(super) fn payload(bytes: &[u8]) -> &[u8] {
    let end = bytes.len().saturating_sub(4);
    bytes.get(2..end).unwrap_or_default()
}

fn opening(bytes: &[u8]) -> Option<(u32, u16)> {
    let (sender, rest) = bytes.split_first_chunk::<4>()?;
    let max_payload = rest.try_into().ok()?;
    Some((u32::from_be_bytes(*sender), u16::from_be_bytes(max_payload)))
}
