//! Pictures on their way to the server: what the connection does not take in time is left out, up to the next keyframe.

use std::{collections::VecDeque, time::Duration};

use protocol_core::message::Unit;
use tokio::time::Instant;

use crate::tasks::camera::Picture;

/// How long a picture may wait, before those behind it are left out.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// How much may wait, in bytes; one keyframe may be more.
const MOST_BYTES: usize = 1 << 20;

/// The pictures that wait: a bounded time, and bounded memory.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<(u64, Picture)>,
    bytes: usize,
    /// The number of the next picture.
    next: u64,
    /// The number of the picture behind the one that was taken last; none before the first.
    expected: Option<u64>,
    /// What comes is left out, up to the next keyframe.
    skips: bool,
}

impl Queue {
    /// Takes in a picture. Gives how many were left out.
    pub(super) fn push(&mut self, now: Instant, picture: Picture) -> u32 {
        let number = self.next;
        self.next += 1;
        let waits_too_long = self.waiting.front().is_some_and(|(_, first)| now - first.at > LONGEST_WAIT);
        let is_behind = waits_too_long || self.bytes + picture.bytes.len() > MOST_BYTES;
        let before = self.waiting.len();
        if picture.is_keyframe {
            self.skips = false;
            if is_behind {
                self.waiting.clear();
            }
        } else if is_behind || self.skips {
            self.skips = true;
            // The newest keyframe by itself is the latest that can be shown.
            let newest = self.waiting.iter().rposition(|(_, waiting)| waiting.is_keyframe);
            self.waiting.drain(..newest.unwrap_or(before));
            self.waiting.truncate(1);
        }
        let left_out = before - self.waiting.len() + usize::from(self.skips);
        if !self.skips {
            self.waiting.push_back((number, picture));
        }
        self.bytes = self.waiting.iter().map(|(_, picture)| picture.bytes.len()).sum();
        u32::try_from(left_out).unwrap_or(u32::MAX)
    }

    /// Notes that the camera has begun anew: what comes does not belong to what came before.
    pub(super) fn begin_anew(&mut self) {
        self.next += 1;
    }

    /// The picture that has waited for longest, and its flags.
    pub(super) fn pop(&mut self) -> Option<(u8, Picture)> {
        let (number, picture) = self.waiting.pop_front()?;
        self.bytes -= picture.bytes.len();
        let is_gap = self.expected.is_some_and(|expected| expected != number);
        self.expected = Some(number + 1);
        let keyframe = if picture.is_keyframe { Unit::KEYFRAME } else { 0 };
        Some((keyframe | if is_gap { Unit::GAP } else { 0 }, picture))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (u8, bool) = (Unit::KEYFRAME, true);

    fn picture(at: Instant, is_keyframe: bool, length: usize) -> Picture {
        Picture { at, is_keyframe, bytes: vec![u8::from(is_keyframe); length] }
    }

    fn popped(queue: &mut Queue) -> Vec<(u8, bool)> {
        std::iter::from_fn(|| queue.pop()).map(|(flags, picture)| (flags, picture.is_keyframe)).collect()
    }

    #[test]
    fn all_that_is_taken_in_time_goes_on() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for at in 0..100 {
            assert_eq!(queue.push(now, picture(now, at % 10 == 0, 1_000)), 0);
        }
        let all = popped(&mut queue);
        assert_eq!((all.len(), all[0], all[1]), (100, KEY, (0, false)));
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_slow_connection_gets_keyframes() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let mut left_out = 0;
        // 30 pictures a second, one keyframe each second; the connection takes one every 1.2 s.
        let (mut sent, mut next_pop) = (Vec::new(), start);
        for at in 0..300_u32 {
            let now = start + Duration::from_millis(33) * at;
            left_out += queue.push(now, picture(now, at % 30 == 0, 4_000));
            if now >= next_pop {
                sent.extend(queue.pop().map(|(flags, picture)| {
                    assert!(now - picture.at < Duration::from_millis(1_600), "{:?}", now - picture.at);
                    (flags, picture.is_keyframe)
                }));
                next_pop = now + Duration::from_millis(1_200);
            }
        }
        let kept = u32::try_from(queue.waiting.len()).unwrap();
        assert_eq!(u32::try_from(sent.len()).unwrap() + left_out + kept, 300);
        assert!(sent.len() >= 7, "{sent:?}");
        // No picture follows one that it does not build on.
        for (flags, is_keyframe) in &sent[1..] {
            assert!(*is_keyframe || flags & Unit::GAP == 0, "{sent:?}");
        }
        assert!(sent.contains(&(Unit::KEYFRAME | Unit::GAP, true)));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for at in 0..1_000 {
            queue.push(now, picture(now, at % 50 == 0, 100_000));
            assert!(queue.bytes <= MOST_BYTES);
        }
        // One that is larger than all that may wait is kept by itself.
        assert_eq!(queue.push(now, picture(now, true, 2 * MOST_BYTES)), 1);
        assert_eq!(popped(&mut queue), [KEY], "there is no gap before the first");
    }

    #[test]
    fn a_camera_that_begins_anew_leaves_a_gap() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.begin_anew();
        queue.push(now, picture(now, true, 1));
        assert_eq!(popped(&mut queue), [KEY]);
        queue.begin_anew();
        queue.push(now, picture(now, true, 1));
        assert_eq!(popped(&mut queue), [(Unit::KEYFRAME | Unit::GAP, true)]);
    }
}
