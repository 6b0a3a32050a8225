//! One run of a camera's program, and what ends it.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep_until};

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

/// Runs a camera's program, and passes on what it gives, until it ends or gives no picture for as long as `silence`; for
/// its first one it has twice as long. Gives what was wrong, and its last words.
pub(crate) async fn film(
    command: CommandLine,
    silence: Duration,
    pass_on: impl FnMut(Instant, Found),
) -> (Fault, Vec<String>) {
    let mut program = match CameraProgram::start(command) {
        Ok(program) => program,
        Err(error) => return (Fault::NoStart(error), Vec::new()),
    };
    let fault = watch(&mut program, silence, pass_on).await;
    if fault.is_none() {
        program.farewell().await;
    }
    let HowItEnded { how, said } = program.end().await;
    (fault.unwrap_or(Fault::Ended(how)), said)
}

/// Takes a program's pictures, until it closes its output (no fault yet), or gives none.
async fn watch(
    program: &mut CameraProgram,
    silence: Duration,
    mut pass_on: impl FnMut(Instant, Found),
) -> Option<Fault> {
    let start = Instant::now();
    let mut pictures = Pictures::new(start);
    let mut room = vec![0; ROOM];
    let (mut patience, mut last_picture, mut last_keyframe) = (silence * 2, start, start);
    loop {
        let flush_at = pictures.flush_at();
        let read = tokio::select! {
            biased;
            read = program.read(&mut room) => Some(read),
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
            }
            (last_picture, patience) = (now, silence);
            pass_on(now, next);
            found = pictures.next();
        }
        match () {
            () if has_ended => return None,
            () if now >= last_picture + patience => return Some(Fault::Silent(patience)),
            () if now >= last_keyframe + KEYFRAME_WAIT => return Some(Fault::NoKeyframe),
            () => {}
        }
    }
}
