//! Places: how many may look at a time, and how many of them one operator may have. Who waits until a camera begins has one
//! as well.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::{MAX_OWN_VIEWERS, MAX_VIEWERS, VideoError};
use crate::{lock::lock, store::OperatorId};

/// The places of all who look.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    own: HashMap<OperatorId, usize>,
}

/// A place: free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    operator: Option<OperatorId>,
}

impl Places {
    /// A place for this operator, or for a user of this machine.
    pub(super) fn take(self: &Arc<Self>, operator: Option<OperatorId>) -> Result<Place, VideoError> {
        let mut taken = lock(&self.0);
        if taken.all >= MAX_VIEWERS {
            return Err(VideoError::TooMany);
        }
        if let Some(operator) = operator {
            let own = taken.own.entry(operator).or_default();
            if *own >= MAX_OWN_VIEWERS {
                return Err(VideoError::TooManyOwn);
            }
            *own += 1;
        }
        taken.all += 1;
        Ok(Place { places: Arc::clone(self), operator })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.0);
        taken.all = taken.all.saturating_sub(1);
        if let Some(operator) = self.operator
            && let Some(own) = taken.own.get_mut(&operator)
        {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.own.remove(&operator);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Places, lock};
    use crate::{
        store::OperatorId,
        video::{MAX_OWN_VIEWERS, MAX_VIEWERS, VideoError},
    };

    #[test]
    fn one_operator_keeps_nobody_out() {
        let places = Arc::<Places>::default();
        let (anna, boris) = (Some(OperatorId(1)), Some(OperatorId(2)));
        let own: Vec<_> = (0..MAX_VIEWERS).map_while(|_| places.take(anna).ok()).collect();
        assert_eq!(own.len(), MAX_OWN_VIEWERS);
        assert_eq!(places.take(anna).err(), Some(VideoError::TooManyOwn));
        let others: Vec<_> = (0..MAX_VIEWERS).map_while(|_| places.take(None).ok()).collect();
        assert_eq!(others.len(), MAX_VIEWERS - MAX_OWN_VIEWERS);
        assert_eq!(places.take(boris).err(), Some(VideoError::TooMany));
        drop((own, others));
        let taken = lock(&places.0);
        assert!(taken.all == 0 && taken.own.is_empty(), "{taken:?}");
    }
}
