//! What happens to bytes on a bad line.

use crate::random::Random;

/// Noise on a line: the same seed makes the same choices.
#[derive(Debug)]
pub(crate) struct Noise {
    random: Random,
    /// It hits one byte in so many; 0 for none.
    once_in: u64,
    /// How many it has hit.
    pub(crate) hit: usize,
}

impl Noise {
    pub(crate) fn new(seed: u64, once_in: u64) -> Self {
        Self { random: Random::new(seed), once_in, hit: 0 }
    }

    /// What comes of these bytes: one that is hit is lost, or changed, or another one comes before it.
    pub(crate) fn wear(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.once_in == 0 {
            return bytes.to_vec();
        }
        let mut worn = Vec::new();
        for byte in bytes {
            let other = self.random.number().to_be_bytes()[0];
            let is_hit = self.random.once_in(self.once_in);
            self.hit += usize::from(is_hit);
            match (is_hit, self.random.below(3)) {
                (true, 0) => {}
                (true, 1) => worn.push(byte ^ other.max(1)),
                (true, _) => worn.extend([other, *byte]),
                (false, _) => worn.push(*byte),
            }
        }
        worn
    }
}
