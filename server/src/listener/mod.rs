//! The sockets that the server listens on.
pub mod framed;
