//! The request that the server stops: made by a signal, an operator or a classic client, heard by `serve`.

use std::sync::Arc;

use tokio::sync::watch;

/// The request that the server stops; clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    request: Arc<watch::Sender<Option<String>>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { request: Arc::new(watch::Sender::new(None)) }
    }
}

impl Shutdown {
    /// Asks the server to drain and to stop; `cause` says who wished it, and stands in the last event. The first
    /// cause stands.
    pub fn request(&self, cause: impl Into<String>) {
        self.request.send_if_modified(|request| {
            let is_first = request.is_none();
            if is_first {
                *request = Some(cause.into());
            }
            is_first
        });
    }

    /// Whether the server was asked to stop.
    pub fn is_requested(&self) -> bool {
        self.request.borrow().is_some()
    }

    /// Waits until the server is asked to stop: gives the cause.
    pub async fn requested(&self) -> String {
        let mut request = self.request.subscribe();
        // The sender lives as long as `self`: there is always someone to wait for.
        let request = request.wait_for(Option::is_some).await;
        request.ok().and_then(|request| request.clone()).unwrap_or_default()
    }
}
