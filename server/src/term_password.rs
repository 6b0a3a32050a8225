//! The password that lets a classic client stop the server.
