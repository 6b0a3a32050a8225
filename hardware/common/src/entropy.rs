//! Random bytes from a source that is noisy, but not even.

use sha2::{Digest, Sha256};

/// How much noise goes into each 32 bytes, in bytes: enough where only one of 8 bits can't be foretold.
const NOISE: usize = 256;

/// Fills `bytes` with what a hash makes of the noise.
pub fn fill(bytes: &mut [u8], mut noise: impl FnMut() -> u8) {
    for chunk in bytes.chunks_mut(32) {
        let mut hash = Sha256::new();
        for _ in 0..NOISE {
            hash.update([noise()]);
        }
        for (byte, random) in chunk.iter_mut().zip(hash.finalize()) {
            *byte = random;
        }
    }
}
