//! What comes on a camera's data connection: frames, made into pictures.

use std::{io, sync::Arc, time::Duration};

use protocol_core::{
    frame::{self, Decoded, Frame},
    message::{self, DecodeError, VIDEO_MAX_FRAME, VideoStatus},
    tag::Tag,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout},
};

use super::{parameters::Parameters, unit::Unit};

/// How much room there is at least for what is read at once.
const ROOM: usize = 64 * 1024;

/// How long a device may say nothing of its camera.
const SILENCE: Duration = Duration::from_secs(15);

/// Something that a device said of its camera.
#[derive(Debug)]
pub(super) enum Said {
    /// A picture.
    Unit(Unit),
    /// How the camera does.
    Status(VideoStatus),
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// The connection broke.
    #[error("the connection to the device broke: {0}")]
    Broken(#[from] io::Error),
    /// The device sends something else than pictures.
    #[error("the device sent what is no picture: {0}")]
    Frame(#[from] frame::FrameError),
    /// As before, inside of a frame.
    #[error("the device sent what is no picture: {0}")]
    Body(#[from] DecodeError),
    /// It is silent, though it says each second how its camera does: it has gone without a word.
    #[error("the device has said nothing for {} s", SILENCE.as_secs())]
    Silent,
    /// There are more pictures than any camera gives: each costs all who look.
    #[error("the device sent more than {MAX_PACE} pictures in a second")]
    TooMany,
}

/// The most pictures, and words about them, in a second: far more than cameras give, also where they have waited.
const MAX_PACE: u32 = 1_000;

/// How many have come in the second that goes on.
#[derive(Debug)]
struct Pace {
    since: Option<Instant>,
    count: u32,
}

impl Pace {
    const fn new() -> Self {
        Self { since: None, count: 0 }
    }

    fn step(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        if self.count > MAX_PACE { Err(SourceError::TooMany) } else { Ok(()) }
    }
}

/// A camera's data connection.
pub(super) struct Source<S> {
    stream: S,
    /// What has come of frames that are not whole.
    buffer: Vec<u8>,
    /// How much of that was looked at.
    start: usize,
    pace: Pace,
    /// Of the last keyframe: most have the same.
    parameters: Option<Arc<Parameters>>,
    /// Of the last picture: time never goes back.
    time: u64,
    /// How many bytes have come.
    count: u64,
}

impl<S: AsyncRead + Unpin> Source<S> {
    /// A connection on which nothing has been read behind its first frame.
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, pace: Pace::new(), parameters: None, time: 0, count: 0 }
    }

    /// How many bytes have come.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// What the device says next; nothing, if it has said all. What was read is kept if this is given up.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(super) async fn next(&mut self) -> Result<Option<Said>, SourceError> {
        loop {
            loop {
                let rest = self.buffer.get(self.start..).unwrap_or_default();
                let Decoded::Frame { frame, consumed } = frame::decode(rest, VIDEO_MAX_FRAME)? else { break };
                let said = read(frame, &mut self.parameters, &mut self.time)?;
                self.start += consumed;
                if said.is_some() {
                    self.pace.step()?;
                    return Ok(said);
                }
            }
            // Once for all that was read, however many frames it was.
            self.buffer.drain(..self.start);
            self.start = 0;
            self.buffer.reserve(ROOM);
            let read = timeout(SILENCE, self.stream.read_buf(&mut self.buffer)).await;
            match read.map_err(|_| SourceError::Silent)?? {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => self.count += count as u64,
            }
        }
    }
}

/// What a frame says; nothing, if it is not for us.
fn read(
    frame: Frame<'_>,
    parameters: &mut Option<Arc<Parameters>>,
    time: &mut u64,
) -> Result<Option<Said>, SourceError> {
    Ok(match frame.tag {
        Tag::UNIT => {
            let unit: message::Unit<'_> = message::decode(frame.body)?;
            *time = (*time).max(unit.microseconds);
            // What the flag says of it is not believed: it has to be there.
            let found = unit.is_keyframe().then(|| Parameters::find(unit.bytes)).flatten();
            let found = found.map(|found| match parameters {
                Some(last) if **last == found => Arc::clone(last),
                _ => Arc::clone(parameters.insert(Arc::new(found))),
            });
            Some(Said::Unit(Unit::new(found, *time, unit.bytes)))
        }
        Tag::VIDEO_STATUS => Some(Said::Status(message::decode(frame.body)?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol_core::message::{self, VIDEO_MAX_FRAME, VideoStatus};

    use super::{Said, Source, SourceError};
    use crate::video::{parameters::tests::KEYFRAME, tests::frame};

    #[tokio::test]
    async fn frames_are_read_however_they_are_split() {
        let mut bytes = frame(1, 7, KEYFRAME);
        bytes.extend(b"SOME\0\0\0\x02ab");
        bytes.extend(frame(0, 3, b"\0\0\x01\x41picture"));
        bytes.extend(frame(1, 9, KEYFRAME));
        let mut status = [0; 64];
        let said = VideoStatus { frames: 30, bytes: 9, dropped: 2, restarts: 1 };
        let length = message::encode(&said, 64_u16, &mut status).unwrap();
        bytes.extend(&status[..length]);
        for size in [1, 7, 100_000] {
            let mut reader = tokio_chunks(&bytes, size);
            let mut units = Vec::new();
            while let Some(said) = reader.next().await.unwrap() {
                match said {
                    Said::Unit(unit) => units.push(unit),
                    Said::Status(status) => assert_eq!(status, said_status()),
                }
            }
            assert_eq!(
                units.iter().map(|unit| (unit.is_keyframe(), unit.time())).collect::<Vec<_>>(),
                [(true, 7), (false, 7), (true, 9)]
            );
            assert!(Arc::ptr_eq(units[0].parameters().unwrap(), units[2].parameters().unwrap()));
            assert_eq!(reader.count(), bytes.len() as u64);
        }
    }

    const fn said_status() -> VideoStatus {
        VideoStatus { frames: 30, bytes: 9, dropped: 2, restarts: 1 }
    }

    fn tokio_chunks(bytes: &[u8], size: usize) -> Source<impl tokio::io::AsyncRead + Unpin + use<>> {
        let (ours, mut theirs) = tokio::io::duplex(size);
        let bytes = bytes.to_vec();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut theirs, &bytes).await });
        Source::new(ours)
    }

    #[tokio::test]
    async fn a_flag_is_not_believed() {
        let bytes = frame(1, 0, b"\0\0\x01\x65no parameters");
        let Some(Said::Unit(unit)) = Source::new(&bytes[..]).next().await.unwrap() else { panic!() };
        assert!(!unit.is_keyframe());
    }

    /// Each frame costs as much as it has bytes, and not as much as waits behind it.
    #[tokio::test]
    async fn very_many_small_frames_are_read_in_no_time() {
        // Behind a large one much is read at once.
        let large = [&b"SOME"[..], &(VIDEO_MAX_FRAME - 8).to_be_bytes(), &[7; VIDEO_MAX_FRAME as usize - 8]];
        let bytes = [large.concat(), b"SOME\0\0\0\0".repeat(1 << 20)].concat();
        let start = std::time::Instant::now();
        assert!(matches!(Source::new(&bytes[..]).next().await, Ok(None)));
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_says_nothing_has_gone() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut source = Source::new(ours);
        let begin = frame(0, 3, b"\0\0\x01\x41picture");
        tokio::io::AsyncWriteExt::write_all(&mut theirs, &begin).await.unwrap();
        assert!(matches!(source.next().await, Ok(Some(Said::Unit(_)))));
        assert!(matches!(source.next().await, Err(SourceError::Silent)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_camera_gives_so_many_pictures() {
        let pictures = |count: usize| frame(0, 3, b"\0\0\x01\x41picture").repeat(count);
        let read_all = async |bytes: Vec<u8>| {
            let mut source = Source::new(&bytes[..]);
            loop {
                match source.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(error) => return Some(error),
                }
            }
        };
        assert!(read_all(pictures(1_000)).await.is_none());
        assert!(matches!(read_all(pictures(1_001)).await, Some(SourceError::TooMany)));
    }

    #[tokio::test]
    async fn what_is_no_picture_ends_it() {
        let too_large = [&b"UNIT"[..], &(VIDEO_MAX_FRAME - 7).to_be_bytes()].concat();
        assert!(matches!(Source::new(&too_large[..]).next().await, Err(SourceError::Frame(_))));
        assert!(matches!(Source::new(&b"unit"[..]).next().await, Err(SourceError::Frame(_))));
        assert!(matches!(Source::new(&b"UNIT\0\0\0\x01\0"[..]).next().await, Err(SourceError::Body(_))));
        let cut = &frame(0, 0, b"picture")[..12];
        assert!(matches!(Source::new(cut).next().await, Err(SourceError::Broken(_))));
        assert!(matches!(Source::new(&b""[..]).next().await, Ok(None)));
    }
}
