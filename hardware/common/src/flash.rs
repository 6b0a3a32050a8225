//! The provisioning block in a chip's own flash: as it was provisioned, and as it was changed since.
//!
//! Three sectors. The first holds the block that a person has put there, and nothing here writes to it. The other two take
//! turns in holding what it was changed to, with a trailer that is written last: so a power cut leaves the old block or the
//! new one. A changed block counts only for the provisioned one that it came from: one who provisions the device anew has
//! nothing else to erase.

use core::cell::RefCell;

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};
use embedded_io_async::ErrorKind;
use embedded_storage::nor_flash::NorFlash;
use protocol_core::provisioning::{LENGTH, Provisioning};

static CHECK_SUM: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// How long a trailer is, in bytes: what every flash writes at once.
const TRAILER: usize = 32;

/// The three sectors.
#[derive(Debug)]
pub struct Sectors<F> {
    flash: RefCell<F>,
    /// Where the first begins, in bytes from the start of the flash.
    start: u32,
}

/// A block that was changed.
struct Changed {
    /// The sector that it is in: 1 or 2.
    sector: u32,
    /// How many were stored before it.
    sequence: u32,
}

impl<F: NorFlash> Sectors<F> {
    /// The sectors of `flash` that begin at `start`, in bytes: each is as long as the flash erases at once.
    pub const fn new(flash: F, start: u32) -> Self {
        const {
            assert!(TRAILER.is_multiple_of(F::WRITE_SIZE), "a trailer is written at once");
            assert!(F::ERASE_SIZE >= LENGTH + TRAILER, "a block and its trailer fit a sector");
        }
        Self { flash: RefCell::new(flash), start }
    }

    /// Reads the block as it stands now.
    pub fn load(&self, block: &mut [u8; LENGTH]) {
        self.read(0, 0, block);
        if let Some(Changed { sector, .. }) = self.changed(origin(block)) {
            self.read(sector, 0, block);
        }
    }

    /// Keeps a changed block.
    ///
    /// # Errors
    /// [`ErrorKind::Other`]: the flash could not be written; the block stands as it was.
    pub fn store(&self, block: &[u8; LENGTH]) -> Result<(), ErrorKind> {
        let mut provisioned = [0; LENGTH];
        self.read(0, 0, &mut provisioned);
        let origin = origin(&provisioned);
        let (sector, sequence) = match self.changed(origin) {
            Some(Changed { sector: 1, sequence }) => (2, sequence.wrapping_add(1)),
            Some(Changed { sequence, .. }) => (1, sequence.wrapping_add(1)),
            None => (1, 0),
        };
        self.write(sector, block, &trailer(origin, sequence)).map_err(|_| ErrorKind::Other)
    }

    /// The newest change of the block with this origin.
    fn changed(&self, origin: u32) -> Option<Changed> {
        let one = |sector| Some(Changed { sector, sequence: self.sequence(sector, origin)? });
        match (one(1), one(2)) {
            (Some(first), Some(second)) if second.sequence == first.sequence.wrapping_add(1) => Some(second),
            (first, second) => first.or(second),
        }
    }

    /// The sequence of the changed block in `sector`, if there is a whole one of this origin.
    fn sequence(&self, sector: u32, origin: u32) -> Option<u32> {
        let (mut block, mut found) = ([0; LENGTH], [0; TRAILER]);
        self.read(sector, 0, &mut block);
        self.read(sector, LENGTH as u32, &mut found);
        let sequence = u32::from_le_bytes(*found.get(4..)?.first_chunk()?);
        (found == trailer(origin, sequence) && Provisioning::decode(&block).is_ok()).then_some(sequence)
    }

    /// What can't be read is as if it were erased.
    fn read(&self, sector: u32, offset: u32, into: &mut [u8]) {
        let at = self.address(sector) + offset;
        if self.flash.borrow_mut().read(at, into).is_err() {
            into.fill(0xFF);
        }
    }

    fn write(&self, sector: u32, block: &[u8; LENGTH], trailer: &[u8; TRAILER]) -> Result<(), F::Error> {
        let (mut flash, at) = (self.flash.borrow_mut(), self.address(sector));
        flash.erase(at, at + F::ERASE_SIZE as u32)?;
        flash.write(at, block)?;
        flash.write(at + LENGTH as u32, trailer)
    }

    const fn address(&self, sector: u32) -> u32 {
        self.start + sector * F::ERASE_SIZE as u32
    }
}

/// By what a changed block knows the one that it came from.
fn origin(provisioned: &[u8; LENGTH]) -> u32 {
    CHECK_SUM.checksum(provisioned)
}

/// Origin, sequence, and the complement of both; the rest is as erased.
fn trailer(origin: u32, sequence: u32) -> [u8; TRAILER] {
    let mut trailer = [0xFF; TRAILER];
    let words = [origin, sequence, !origin, !sequence];
    for (place, word) in trailer.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    trailer
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use embedded_storage::nor_flash::{ErrorType, NorFlashError, NorFlashErrorKind, ReadNorFlash};
    use protocol_core::message::{Endpoints, Pin, Text};
    use protocol_core::provisioning::PrivateKey;

    use super::*;

    /// Flash in memory, whose power is cut in the middle of a step after so many more: an erasure, or a write of 32 bytes.
    struct Fake {
        bytes: Vec<u8>,
        steps_left: usize,
        /// What decides what such a step leaves behind; not 0.
        random: u32,
    }

    impl Fake {
        /// Gives whether the power lasts for one step more.
        fn step(&mut self) -> bool {
            let lasts = self.steps_left > 0;
            self.steps_left = self.steps_left.saturating_sub(1);
            lasts
        }

        fn random(&mut self) -> u8 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 17;
            self.random ^= self.random << 5;
            self.random as u8
        }
    }

    struct Lent<'f>(&'f RefCell<Fake>);

    #[derive(Debug)]
    struct Cut;

    impl NorFlashError for Cut {
        fn kind(&self) -> NorFlashErrorKind {
            NorFlashErrorKind::Other
        }
    }

    impl ErrorType for Lent<'_> {
        type Error = Cut;
    }

    impl ReadNorFlash for Lent<'_> {
        const READ_SIZE: usize = 1;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Cut> {
            bytes.copy_from_slice(&self.0.borrow().bytes[offset as usize..][..bytes.len()]);
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.0.borrow().bytes.len()
        }
    }

    impl NorFlash for Lent<'_> {
        const WRITE_SIZE: usize = 32;
        const ERASE_SIZE: usize = 4096;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), Cut> {
            let mut fake = self.0.borrow_mut();
            let (lasts, how) = (fake.step(), fake.random() % 4);
            for at in from as usize..to as usize {
                let was = fake.bytes[at];
                fake.bytes[at] = match how {
                    _ if lasts => 0xFF,
                    0 => was,
                    // Some chips write zeros first.
                    1 => was & fake.random(),
                    2 => was | fake.random(),
                    _ => fake.random(),
                };
            }
            if lasts { Ok(()) } else { Err(Cut) }
        }

        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Cut> {
            let mut fake = self.0.borrow_mut();
            for (at, chunk) in (offset as usize..).step_by(32).zip(bytes.chunks(32)) {
                assert!(fake.bytes[at..][..32].iter().all(|byte| *byte == 0xFF), "flash is erased first");
                let lasts = fake.step();
                for (at, byte) in (at..).zip(chunk) {
                    fake.bytes[at] = if lasts { *byte } else { *byte | fake.random() };
                }
                if !lasts {
                    return Err(Cut);
                }
            }
            Ok(())
        }
    }

    fn fake() -> RefCell<Fake> {
        RefCell::new(Fake { bytes: vec![0xFF; 4 * 4096], steps_left: usize::MAX, random: 1 })
    }

    fn block(current: u8) -> [u8; LENGTH] {
        let endpoints =
            Endpoints { current: Pin([current; 32]), next: Pin([9; 32]), addresses: Default::default() };
        let name = Text::new("mcu").unwrap();
        let device = Provisioning { name, key: PrivateKey([5; 32]), certificate: &[1, 2, 3], endpoints };
        let mut block = [0; LENGTH];
        device.encode(&mut block).unwrap();
        block
    }

    fn loaded(sectors: &Sectors<Lent<'_>>) -> [u8; LENGTH] {
        let mut block = [0; LENGTH];
        sectors.load(&mut block);
        block
    }

    fn provision(fake: &RefCell<Fake>, block: &[u8; LENGTH]) {
        fake.borrow_mut().bytes[4096..8192].fill(0xFF);
        fake.borrow_mut().bytes[4096..][..LENGTH].copy_from_slice(block);
    }

    #[test]
    fn the_newest_change_counts_and_another_provisioning_ends_it() {
        let fake = fake();
        let sectors = Sectors::new(Lent(&fake), 4096);
        assert_eq!(loaded(&sectors), [0xFF; LENGTH]);
        provision(&fake, &block(0));
        assert_eq!(loaded(&sectors), block(0));
        for current in 1..8 {
            sectors.store(&block(current)).unwrap();
            assert_eq!(loaded(&sectors), block(current));
        }
        provision(&fake, &block(77));
        assert_eq!(loaded(&sectors), block(77));
        sectors.store(&block(78)).unwrap();
        assert_eq!(loaded(&sectors), block(78));
    }

    #[test]
    fn a_power_cut_leaves_the_old_block_or_the_new_one_whatever_else_it_leaves() {
        for seed in 1..40 {
            let fake = fake();
            fake.borrow_mut().random = seed;
            provision(&fake, &block(0));
            let sectors = Sectors::new(Lent(&fake), 4096);
            let mut stands = block(0);
            for (current, steps) in (1_u8..).zip(0..80) {
                fake.borrow_mut().steps_left = steps % 40;
                let stored = sectors.store(&block(current));
                fake.borrow_mut().steps_left = usize::MAX;
                if stored.is_ok() {
                    stands = block(current);
                }
                assert_eq!(loaded(&sectors), stands, "cut after {steps} steps, seed {seed}");
            }
        }
    }
}
