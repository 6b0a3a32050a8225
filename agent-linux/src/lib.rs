//! The Holdfast agent for Linux devices.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod cli;
pub mod config;
pub mod connection;
pub mod enrol;
pub mod facts;
pub mod identity;
pub mod inbox;
pub mod local;
pub mod outbox;
pub mod state;
pub mod status;
pub mod tls;
