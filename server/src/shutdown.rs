//! The wish that the server stops: made by a signal, an operator or a classic client, heard by `serve`.

use std::sync::Arc;

use tokio::sync::watch;

/// The wish that the server stops; clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    wish: Arc<watch::Sender<Option<String>>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { wish: Arc::new(watch::Sender::new(None)) }
    }
}

impl Shutdown {
    /// Asks the server to drain and to stop; `cause` says who wished it, and stands in the last event. The first
    /// cause stands.
    pub fn request(&self, cause: impl Into<String>) {
        self.wish.send_if_modified(|wish| {
            let is_first = wish.is_none();
            if is_first {
                *wish = Some(cause.into());
            }
            is_first
        });
    }

    /// Whether the server was asked to stop.
    pub fn is_requested(&self) -> bool {
        self.wish.borrow().is_some()
    }

    /// Waits until the server is asked to stop: gives the cause.
    pub async fn requested(&self) -> String {
        let mut wish = self.wish.subscribe();
        // The sender lives as long as `self`: there is always someone to wait for.
        let wish = wish.wait_for(Option::is_some).await;
        wish.ok().and_then(|wish| wish.clone()).unwrap_or_default()
    }
}
