//! Becoming known to a server, once.
