//! The sockets that the server listens on.
