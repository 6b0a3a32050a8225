//! A camera whose pictures tell when they were drawn: blocks of black and white in the first lines are a clock's time.
//!
//! `browser/stamps.mjs` reads them.

use std::{
    io::{self, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::error::{Error, Result};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const FRAMERATE: u32 = 30;

/// Bits a second that the encoder is to reach.
const BITRATE: u32 = 1_000_000;

/// The side of a block of the stamp, in pixels: what the encoder does to one does not reach its middle.
const BLOCK: usize = 16;

/// How many bits a stamp has: a time, and the sum of its bytes.
const TIME_BITS: usize = 24;
const BITS: usize = TIME_BITS + 8;

/// Black and white, as cameras have them.
const BLACK: u8 = 16;
const WHITE: u8 = 235;

/// A camera whose pictures tell when they were drawn, encoded by ffmpeg on standard output
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What it writes
    #[arg(long)]
    format: Format,
}

/// What a camera writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// H.264 in the form of Annex B.
    H264,
    /// Fragmented MP4 as ffmpeg makes it, with a fragment for each picture.
    Mp4,
}

/// `holdfast-bench camera`: films until nobody reads any longer.
///
/// # Errors
/// ffmpeg can't be started, or has ended.
pub(crate) fn run(arguments: &Arguments) -> Result {
    let (mut encoder, mut frames) = encoder(arguments.format, Stdio::inherit())?;
    let ended = film(&mut frames, || true);
    let _ = encoder.kill();
    encoder.wait()?;
    Err(Error::Told(format!("the encoder takes no more: {ended}")))
}

/// How long the encoder alone takes for each of so many pictures: from the moment that stands in it to the last byte of it.
///
/// # Errors
/// ffmpeg can't be started, or has ended.
pub(crate) fn encoding_times(count: usize) -> Result<Vec<Duration>> {
    let (mut encoder, mut frames) = encoder(Format::H264, Stdio::piped())?;
    let output = encoder.stdout.take();
    let mut output = output.ok_or_else(|| Error::Told("the encoder has no output".to_owned()))?;
    let (sender, came) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut room = vec![0; 64 * 1024];
        while output.read(&mut room).is_ok_and(|count| count > 0) && sender.send(Instant::now()).is_ok() {}
    });
    // The first ones wait for the encoder's start.
    let (mut times, mut drawn, mut left) = (Vec::new(), None::<Instant>, count + FRAMERATE as usize);
    film(&mut frames, || {
        let last = came.try_iter().last();
        if let (Some(drawn), Some(last)) = (drawn, last) {
            times.push(last.saturating_duration_since(drawn));
        }
        drawn = Some(Instant::now());
        left -= 1;
        left > 0
    });
    drop(frames);
    let _ = encoder.kill();
    encoder.wait()?;
    let _ = reader.join();
    times.drain(..times.len().saturating_sub(count));
    Ok(times)
}

/// ffmpeg, which encodes raw pictures as they come and keeps none back.
fn encoder(format: Format, output: Stdio) -> Result<(Child, ChildStdin)> {
    let input = format!(
        "-hide_banner -loglevel error -nostats -fflags nobuffer -probesize 32 -analyzeduration 0 \
         -f rawvideo -pix_fmt yuv420p -video_size {WIDTH}x{HEIGHT} -framerate {FRAMERATE} -i -"
    );
    let encoding = format!(
        "-an -c:v libx264 -preset ultrafast -tune zerolatency -profile:v baseline -threads 1 -g {FRAMERATE} \
         -b:v {BITRATE} -maxrate {BITRATE} -bufsize {BITRATE}"
    );
    let written = match format {
        Format::H264 => "-f h264 -flush_packets 1 -",
        Format::Mp4 => "-movflags frag_every_frame+empty_moov+default_base_moof -f mp4 -flush_packets 1 -",
    };
    let words = [input.as_str(), encoding.as_str(), written];
    let mut child = Command::new("ffmpeg")
        .args(words.iter().flat_map(|part| part.split_whitespace()))
        .stdin(Stdio::piped())
        .stdout(output)
        .spawn()
        .map_err(|error| Error::Told(format!("ffmpeg: {error}")))?;
    let frames = child.stdin.take().ok_or_else(|| Error::Told("ffmpeg has no input".to_owned()))?;
    Ok((child, frames))
}

/// Draws pictures and writes each at its time, while `goes_on` says so before it; gives what ended that.
fn film(frames: &mut impl Write, mut goes_on: impl FnMut() -> bool) -> io::Error {
    let interval = Duration::from_secs(1) / FRAMERATE;
    let (mut picture, mut noise) = (vec![128; WIDTH * HEIGHT * 3 / 2], 1_u32);
    let mut next = Instant::now();
    for number in 0_usize.. {
        draw(&mut picture, &mut noise, number);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if !goes_on() {
            break;
        }
        stamp(&mut picture, now());
        if let Err(error) = frames.write_all(&picture).and_then(|()| frames.flush()) {
            return error;
        }
        // Who is late does not hurry afterwards.
        next = (next + interval).max(Instant::now());
    }
    io::ErrorKind::Interrupted.into()
}

/// Something that moves, and some noise: about as much as the encoder may use bits for.
fn draw(picture: &mut [u8], noise: &mut u32, number: usize) {
    for (y, line) in picture.chunks_exact_mut(WIDTH).take(HEIGHT).enumerate().skip(2 * BLOCK) {
        for (x, pixel) in line.iter_mut().enumerate() {
            *pixel = ((x + y + 3 * number) / 2 % 200 + 20) as u8;
        }
        if (160..260).contains(&y) {
            for pixel in line.iter_mut().skip(240).take(160) {
                // Xorshift: as random as noise has to be.
                *noise ^= *noise << 13;
                *noise ^= *noise >> 17;
                *noise ^= *noise << 5;
                *pixel = 96 + (*noise % 64) as u8;
            }
        }
    }
}

/// The time of the clock that browsers read, too, in tenths of milliseconds; what is beyond the bits is left out.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_micros() / 100 % (1 << TIME_BITS)) as u32
}

/// Writes a time into the first lines.
fn stamp(picture: &mut [u8], time: u32) {
    let sum = time.to_be_bytes().iter().fold(0x5a_u8, |sum, byte| sum.wrapping_add(*byte));
    let bits = time << 8 | u32::from(sum);
    for line in picture.chunks_exact_mut(WIDTH).take(2 * BLOCK) {
        for (index, block) in line.chunks_exact_mut(BLOCK).take(BITS).enumerate() {
            block.fill(if bits >> (BITS - 1 - index) & 1 == 1 { WHITE } else { BLACK });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_from_the_middle_of_its_blocks() {
        let mut picture = vec![128; WIDTH * HEIGHT * 3 / 2];
        stamp(&mut picture, 0x00ab_cdef);
        let bits = (0..BITS).map(|index| picture[BLOCK * WIDTH + index * BLOCK + BLOCK / 2] > 128);
        let read = bits.fold(0_u32, |read, bit| read << 1 | u32::from(bit));
        assert_eq!(read >> 8, 0x00ab_cdef);
        assert_eq!(read & 0xff, (0x5a + 0xab + 0xcd + 0xef) & 0xff);
    }
}
