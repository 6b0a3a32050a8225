//! The Holdfast agent for Linux devices.

#![forbid(unsafe_code)]

pub mod agent;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod dial;
pub mod enrol;
pub mod facts;
mod feed;
pub mod identity;
pub mod inbox;
pub mod local;
pub mod local_client;
pub mod outbox;
mod pipe;
pub mod queue;
pub mod run;
pub mod serial;
pub mod state;
pub mod status;
pub mod store;
pub mod tasks;
pub mod tls;
