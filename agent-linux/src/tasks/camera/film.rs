//! One run of a camera's program, and what ends it.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::{Instant, sleep_until},
};

use super::{CameraProgram, CommandLine, Found, HowItEnded, Pictures};

/// How much is read of a camera at once, in bytes.
const ROOM: usize = 64 * 1024;

/// How long a camera may give pictures without a keyframe. Some in the network have one in ten seconds.
const KEYFRAME_WAIT: Duration = Duration::from_secs(30);

/// Why a camera's program is ended, or has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// For so long.
    #[error("gave no picture for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// Its pictures can't be begun with.
    #[error("gave no keyframe for {} s: H.264 with IDR pictures is needed", KEYFRAME_WAIT.as_secs())]
    NoKeyframe,
    /// By itself, and how.
    #[error("ended with {0}")]
    Ended(String),
    /// What the system says.
    #[error("can't be started: {0}")]
    NoStart(io::Error),
}

/// How one run of a camera's program went.
#[derive(Debug)]
pub(crate) struct Run {
    /// What was wrong.
    pub(crate) fault: Fault,
    /// Its last words, escaped; oldest first.
    pub(crate) said: Vec<String>,
    /// How long it gave pictures: from its first keyframe to its last.
    pub(crate) shown: Duration,
}

/// Runs a camera's program, and passes on what it gives, until it ends or gives no picture for as long as `silence`; for
/// its first one it has twice as long.
pub(crate) async fn film(
    command: CommandLine,
    silence: Duration,
    pass_on: impl FnMut(Instant, Found),
) -> Run {
    let mut program = match CameraProgram::start(command) {
        Ok(program) => program,
        Err(error) => return Run { fault: Fault::NoStart(error), said: Vec::new(), shown: Duration::ZERO },
    };
    let (fault, shown) = watch(program.output(), silence, pass_on).await;
    if fault.is_none() {
        program.farewell().await;
    }
    let HowItEnded { how, said } = program.end().await;
    Run { fault: fault.unwrap_or(Fault::Ended(how)), said, shown }
}

/// Takes a program's pictures, until it closes its output (no fault yet), or gives none; gives how long they came, too.
async fn watch(
    output: &mut (impl AsyncRead + Unpin),
    silence: Duration,
    mut pass_on: impl FnMut(Instant, Found),
) -> (Option<Fault>, Duration) {
    let start = Instant::now();
    let mut pictures = Pictures::new(start);
    let mut room = vec![0; ROOM];
    let (mut patience, mut last_picture, mut last_keyframe) = (silence * 2, start, start);
    let mut first_keyframe = None;
    loop {
        let flush_at = pictures.flush_at();
        let read = tokio::select! {
            biased;
            read = output.read(&mut room) => Some(read),
            () = sleep_until(flush_at.unwrap_or(last_picture + patience)) => None,
        };
        let now = Instant::now();
        let (mut found, has_ended) = match read {
            Some(Ok(count @ 1..)) => {
                pictures.push(now, room.get(..count).unwrap_or_default());
                (pictures.next(), false)
            }
            // Its last picture may be whole.
            Some(_) => (pictures.flush(), true),
            None => (pictures.flush(), false),
        };
        while let Some(next) = found {
            if matches!(&next, Found::Picture(picture) if picture.is_keyframe) {
                last_keyframe = now;
                first_keyframe.get_or_insert(now);
            }
            (last_picture, patience) = (now, silence);
            pass_on(now, next);
            found = pictures.next();
        }
        let fault = match () {
            () if has_ended => None,
            () if now >= last_picture + patience => Some(Fault::Silent(patience)),
            () if now >= last_keyframe + KEYFRAME_WAIT => Some(Fault::NoKeyframe),
            () => continue,
        };
        return (fault, first_keyframe.map_or(Duration::ZERO, |first| last_keyframe - first));
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    const KEYFRAME: &[u8] = &[0, 0, 0, 1, 0x67, 66, 1, 0, 0, 0, 1, 0x68, 2, 1, 0, 0, 0, 1, 0x65, 0x88, 9];
    const PICTURE: &[u8] = &[0, 0, 0, 1, 0x61, 0x9a, 7];
    const SILENCE: Duration = Duration::from_secs(10);

    /// What becomes of a program that writes this each second, so often, and then nothing.
    async fn watched(writes: &'static [u8], times: usize) -> (Option<Fault>, Duration, usize) {
        let (mut theirs, mut ours) = duplex(1024);
        let mut count = 0;
        let write = async {
            for _ in 0..times {
                tokio::time::sleep(Duration::from_secs(1)).await;
                theirs.write_all(writes).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let (fault, shown) = tokio::select! {
            ended = watch(&mut ours, SILENCE, |_, _| count += 1) => ended,
            () = write => unreachable!(),
        };
        (fault, shown, count)
    }

    #[tokio::test(start_paused = true)]
    async fn pictures_without_a_keyframe_are_a_fault_however_long_they_come() {
        let (fault, shown, count) = watched(PICTURE, 1_000).await;
        assert!(matches!(fault, Some(Fault::NoKeyframe)), "{fault:?}");
        assert_eq!(shown, Duration::ZERO, "nothing was shown");
        assert!((28..=31).contains(&count), "{count}");
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_pictures_came_is_told_without_the_silence_behind_them() {
        let (fault, shown, count) = watched(KEYFRAME, 60).await;
        assert!(matches!(fault, Some(Fault::Silent(SILENCE))), "{fault:?}");
        assert!((58..=59).contains(&shown.as_secs()) && count == 60, "{shown:?} {count}");
        let (fault, shown, count) = watched(KEYFRAME, 0).await;
        assert!(matches!(fault, Some(Fault::Silent(first)) if first == SILENCE * 2), "{fault:?}");
        assert_eq!((shown, count), (Duration::ZERO, 0));
    }
}
