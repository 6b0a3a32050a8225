//! The sockets that the server listens on.

pub mod classic;
pub mod framed;
pub mod http;
