//! The Holdfast server, and the command line of its operators.
//!
//! Data runs one way: socket, listener, connection, session, event, handler, store, reply, session, socket.

#![forbid(unsafe_code)]

pub mod api;
pub mod byte_stream;
pub mod classic_clients;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod console;
pub mod data;
pub mod enrolment;
pub mod event;
pub mod files;
pub mod firmware;
pub mod frames;
pub mod handler;
pub mod host;
pub mod host_key;
pub mod http;
pub mod id;
pub mod listener;
pub mod lock;
pub mod logs;
pub mod mailbox;
pub mod metrics;
pub mod parts;
pub mod passwords;
pub mod rate_limit;
pub mod refusal;
pub mod registry;
pub mod serve;
pub mod shutdown;
pub mod socket_table;
pub mod span;
pub mod ssh_account;
pub mod store;
pub mod strangers;
pub mod tally;
pub mod tasks;
pub mod term_password;
pub mod tls;
pub mod totp;
pub mod video;
pub mod write_timeout;
