//! Places: how many requests and streams there may be at a time, and how many of them one operator may have. So nobody
//! who has an account keeps others out, and least of all the admin who wants to revoke it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;
use crate::{lock::lock, store::OperatorId};

/// How many requests may be worked on at a time, over either way. Streams take only some of the places.
pub const REQUESTS: usize = 256;

/// How many streams there may be, of events and of cameras: fewer than requests, so that there is always a place for a question.
pub(super) const STREAMS: usize = 224;

/// How many connections browsers may have in which somebody is logged in. Those of strangers are none of them, so there is
/// always a place for a newcomer.
pub const CONNECTIONS: usize = 256;

/// One operator may have one of so many parts of what there is for all.
const PART: usize = 4;

/// The places of all operators elsewhere.
#[derive(Debug)]
pub struct Places {
    /// All requests that come over TLS, or of browsers.
    requests: Arc<Semaphore>,
    /// All streams.
    streams: Arc<Semaphore>,
    /// All connections of browsers.
    connections: Arc<Semaphore>,
    operators: Mutex<HashMap<OperatorId, Own>>,
}

/// The places of one operator.
#[derive(Clone, Debug)]
struct Own {
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// A place: free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _own: Option<OwnedSemaphorePermit>,
}

impl Default for Places {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            requests: places(REQUESTS),
            streams: places(STREAMS),
            connections: places(CONNECTIONS),
            operators: Mutex::default(),
        }
    }
}

impl Places {
    /// A place for a request of this operator.
    pub(super) fn request(&self, operator: OperatorId) -> Result<Place, ApiError> {
        let own = self.own(operator).requests;
        let own = own.try_acquire_owned().map_err(|_| ApiError::too_many_requests(REQUESTS / PART))?;
        let all = Arc::clone(&self.requests).try_acquire_owned();
        Ok(Place { _all: all.map_err(|_| ApiError::too_many_requests(REQUESTS))?, _own: Some(own) })
    }

    /// A place for a stream of this operator, or of a user of this machine.
    pub(super) fn stream(&self, operator: Option<OperatorId>) -> Result<Place, ApiError> {
        let own = operator.map(|operator| self.own(operator).streams.try_acquire_owned()).transpose();
        let own = own.map_err(|_| ApiError::too_many_streams(STREAMS / PART))?;
        let all = Arc::clone(&self.streams).try_acquire_owned();
        Ok(Place { _all: all.map_err(|_| ApiError::too_many_streams(STREAMS))?, _own: own })
    }

    /// A place for a connection of a browser in which this operator is logged in.
    pub(super) fn connection(&self, operator: OperatorId) -> Result<Place, ApiError> {
        let own = self.own(operator).connections;
        let own = own.try_acquire_owned().map_err(|_| ApiError::too_many_requests(CONNECTIONS / PART))?;
        let all = Arc::clone(&self.connections).try_acquire_owned();
        Ok(Place { _all: all.map_err(|_| ApiError::too_many_requests(CONNECTIONS))?, _own: Some(own) })
    }

    /// How many requests and streams there are now.
    pub(super) fn taken(&self) -> (usize, usize) {
        (REQUESTS - self.requests.available_permits(), STREAMS - self.streams.available_permits())
    }

    /// How many requests this operator has now.
    #[cfg(test)]
    pub(super) fn taken_by(&self, operator: OperatorId) -> usize {
        REQUESTS / PART - self.own(operator).requests.available_permits()
    }

    fn own(&self, operator: OperatorId) -> Own {
        let mut operators = lock(&self.operators);
        let places = |count| Arc::new(Semaphore::new(count));
        let own = operators.entry(operator).or_insert_with(|| Own {
            requests: places(REQUESTS / PART),
            streams: places(STREAMS / PART),
            connections: places(CONNECTIONS / PART),
        });
        own.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{CONNECTIONS, PART, Places, REQUESTS, STREAMS};
    use crate::store::OperatorId;

    #[test]
    fn one_operator_takes_no_more_than_their_part() {
        let places = Places::default();
        let (anna, boris) = (OperatorId(1), OperatorId(2));
        let requests: Vec<_> = (0..REQUESTS).map_while(|_| places.request(anna).ok()).collect();
        let streams: Vec<_> = (0..STREAMS).map_while(|_| places.stream(Some(anna)).ok()).collect();
        assert_eq!((requests.len(), streams.len()), (REQUESTS / PART, STREAMS / PART));
        assert!(places.request(boris).is_ok() && places.stream(Some(boris)).is_ok());
        drop((requests, streams));
        assert!(places.request(anna).is_ok() && places.stream(Some(anna)).is_ok());
        assert_eq!(places.taken(), (0, 0));
        let own: Vec<_> = (0..CONNECTIONS).map_while(|_| places.connection(anna).ok()).collect();
        assert_eq!(own.len(), CONNECTIONS / PART);
        let others: Vec<_> = (2..100).filter_map(|id| places.connection(OperatorId(id)).ok()).collect();
        assert_eq!(others.len(), 98);
        let more: Vec<_> =
            (2..100).cycle().take(10_000).filter_map(|id| places.connection(OperatorId(id)).ok()).collect();
        assert_eq!(own.len() + others.len() + more.len(), CONNECTIONS, "of all of them together");
    }
}
