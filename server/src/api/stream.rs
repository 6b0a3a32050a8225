//! Live streams of server-sent events; and those of lists, in which each has the id of its row.
//!
//! A stream of a list holds no rows but those of the page it is at: it wakes when something was committed, and reads on from
//! the store behind the last id it sent. A slow reader is only behind; one that takes nothing is cut
//! (`http.rs`), and goes on by its last id.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::{HeaderMap, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream as futures;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::{Api, error::ApiError, peer::Rights, places::Place};
use crate::store::Newest;

/// A list that grows at its end.
pub(super) trait List: Clone + Send + Sync + 'static {
    /// An entry, as it is shown.
    type View: Serialize + DeserializeOwned + Send + 'static;

    /// The entries behind this one, in the order of their ids. None: there are no more now.
    fn read(&self, api: &Api, after: i64) -> impl Future<Output = Result<Vec<Self::View>, ApiError>> + Send;

    /// Whether it is read from its end.
    fn is_end(&self) -> bool;

    /// The last entry before this one, and nothing else.
    fn last_before(&self, id: i64) -> Self;

    /// The id of an entry.
    fn id(view: &Self::View) -> i64;

    /// The id of the newest entry of all.
    fn newest(newest: &Newest) -> i64;
}

/// Whether a stream is asked for by what the client takes.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    accepts.is_some_and(|accepted| accepted.contains("text/event-stream"))
}

/// How often a comment is sent where nothing else is: by its silence a client knows a dead connection.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// A place for a stream of the one with these rights.
pub(super) fn place_for(api: &Api, rights: &Rights) -> Result<Place, ApiError> {
    if api.shutdown.is_requested() {
        return Err(ApiError::stopping());
    }
    api.places.stream(rights.operator())
}

/// A live stream.
pub(super) trait Follow: Send + 'static {
    /// What is sent next; nothing at its end.
    fn next(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// The answer that a live stream is.
pub(super) fn answer(follower: impl Follow) -> Response {
    let events = futures::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)).into_response()
}

/// Streams what is behind `after`, and then whatever comes, until the rights to it are gone.
pub(super) async fn follow<L: List>(
    api: &Arc<Api>,
    rights: Rights,
    list: L,
    after: i64,
) -> Result<Response, ApiError> {
    let place = place_for(api, &rights)?;
    let mut follower = Follower {
        api: Arc::clone(api),
        rights,
        newest: api.host.store.newest(),
        page: VecDeque::new(),
        list,
        after,
        _place: place,
    };
    // If nothing can be read, that is the answer.
    follower.read().await?;
    Ok(answer(follower))
}

struct Follower<L: List> {
    api: Arc<Api>,
    rights: Rights,
    newest: watch::Receiver<Newest>,
    list: L,
    /// What was read and not sent yet.
    page: VecDeque<L::View>,
    /// The last row that was read.
    after: i64,
    _place: Place,
}

impl<L: List> Follow for Follower<L> {
    /// The next row; none if the server stops, its store can't be read, or the rights are gone.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.rights.are_gone() {
                return None;
            }
            if let Some(view) = self.page.pop_front() {
                return Event::default().id(L::id(&view).to_string()).json_data(&view).ok();
            }
            self.read().await.ok()?;
            if self.page.is_empty() {
                tokio::select! {
                    changed = self.newest.wait_for(|newest| L::newest(newest) > self.after) => changed.ok().map(drop)?,
                    _ = self.api.shutdown.requested() => return None,
                    () = self.rights.gone() => return None,
                }
            }
        }
    }
}

impl<L: List> Follower<L> {
    /// Reads the next page. If there is none, all rows until now were seen, and need not be looked at again.
    async fn read(&mut self) -> Result<(), ApiError> {
        let newest = L::newest(&self.newest.borrow());
        self.page = self.list.read(&self.api, self.after).await?.into();
        self.after = match self.page.back() {
            Some(last) => L::id(last),
            None => self.after.max(newest),
        };
        Ok(())
    }
}
