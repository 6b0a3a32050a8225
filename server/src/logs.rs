//! Plain-text log files for people and `grep`, written from the store.
