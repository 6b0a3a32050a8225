//! The Holdfast agent for Linux devices.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod enrol;
pub mod facts;
pub mod identity;
pub mod inbox;
pub mod local;
pub mod outbox;
pub mod queue;
pub mod state;
pub mod status;
pub mod store;
pub mod tls;
