//! What whoever comes late begins with: all pictures since the last keyframe.

use std::sync::Arc;

use super::unit::Unit;

/// The most bytes of a group: of one that is larger only the next begins.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// So few bytes are held whatever others hold.
pub(super) const LITTLE: usize = 256 * 1024;

/// The most pictures of one.
const MAX_UNITS: usize = 600;

/// A keyframe, and what came since. Nothing, before the first one.
#[derive(Debug, Default)]
pub(super) struct Group {
    units: Vec<Arc<Unit>>,
    bytes: usize,
}

impl Group {
    /// Adds the next picture of the stream. A keyframe begins anew.
    pub(super) fn add(&mut self, unit: &Arc<Unit>) {
        if unit.is_keyframe() {
            *self = Self::default();
        } else if self.units.is_empty() {
            return;
        }
        self.bytes += unit.size();
        self.units.push(Arc::clone(unit));
        // A camera that makes keyframes seldom, or never, costs no more than that: who comes late waits for the next.
        if self.bytes > MAX_BYTES || self.units.len() > MAX_UNITS {
            *self = Self::default();
        }
    }

    /// Gives up what others may need more, unless it is little: who comes late waits for the next keyframe.
    pub(super) fn shed(&mut self) {
        if self.bytes > LITTLE {
            *self = Self::default();
        }
    }

    /// The pictures, the keyframe first.
    pub(super) fn units(&self) -> &[Arc<Unit>] {
        &self.units
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Group, MAX_UNITS};
    use crate::video::tests::{keyframe, picture};

    #[test]
    fn it_begins_with_the_last_keyframe_and_is_shared() {
        let mut group = Group::default();
        group.add(&picture(1));
        assert!(group.units().is_empty());
        let first = keyframe(2);
        for unit in [first.clone(), picture(3), picture(4)] {
            group.add(&unit);
        }
        assert_eq!(group.units().len(), 3);
        assert!(Arc::ptr_eq(&group.units()[0], &first), "nothing is copied");
        group.add(&keyframe(5));
        assert_eq!(group.units().iter().map(|unit| unit.time()).collect::<Vec<_>>(), [5]);
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn it_never_grows_beyond_its_bounds() {
        let mut group = Group::default();
        group.add(&keyframe(0));
        for time in 0..=MAX_UNITS as u64 {
            group.add(&picture(time));
        }
        assert!(group.units().is_empty(), "whoever comes now waits for the next keyframe");
        group.add(&keyframe(1));
        assert_eq!(group.units().len(), 1);
        let large = Arc::new(crate::video::unit::Unit::new(None, 0, &vec![7; 2 << 20]));
        for _ in 0..100 {
            group.add(&large);
            assert!(Arc::strong_count(&large) <= 3);
        }
    }
}
