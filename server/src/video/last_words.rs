//! The last words of a `live.mp4`, as whoever reads it finds them.

/// How many bytes the length and the name of a box have.
const HEAD: usize = 8;

/// The most bytes that are taken for words.
const LONGEST: usize = 64 * 1024;

/// Follows a stream as it comes, in whatever pieces.
#[derive(Debug, Default)]
pub struct LastWords {
    /// The length and the name of the box that comes, as far as they have.
    head: Vec<u8>,
    /// How much of its content has yet to come.
    left: usize,
    words: Vec<u8>,
}

impl LastWords {
    /// Takes what comes next.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let is_head = self.head.len() < HEAD;
            let wanted = if is_head { HEAD - self.head.len() } else { self.left };
            let (taken, rest) = bytes.split_at(bytes.len().min(wanted));
            if is_head {
                self.head.extend_from_slice(taken);
                if let [a, b, c, d, _, _, _, _] = *self.head {
                    self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(HEAD);
                    self.words.clear();
                }
            } else {
                self.left -= taken.len();
                if self.head.ends_with(b"free") && self.words.len() + taken.len() <= LONGEST {
                    self.words.extend_from_slice(taken);
                }
            }
            if self.left == 0 && self.head.len() == HEAD {
                self.head.clear();
            }
            bytes = rest;
        }
    }

    /// What the stream's last box says, if it is one that says something.
    pub fn found(&self) -> Option<&[u8]> {
        (!self.words.is_empty()).then_some(&*self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::LastWords;
    use crate::video::{mp4, tests::keyframe};

    #[test]
    fn they_are_found_however_the_stream_is_cut() {
        let sample = mp4::Sample { duration: 1, is_keyframe: true, bytes: keyframe(0).sample() };
        let fragment = mp4::fragment(1, 0, &[sample]);
        let stream = [&fragment[..], &fragment, &mp4::words_beside("it is over")].concat();
        for size in [1, 3, 7, 8, 100, stream.len()] {
            let mut words = LastWords::default();
            for piece in stream.chunks(size) {
                words.read(piece);
            }
            assert_eq!(words.found(), Some(&b"it is over"[..]), "in pieces of {size}");
        }
        let mut cut = LastWords::default();
        cut.read(&fragment);
        assert_eq!(cut.found(), None);
    }
}
