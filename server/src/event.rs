//! Events: what happened, when, to whom and from where; kept in the store and streamed live.
