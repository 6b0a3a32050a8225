//! Messages from the server, kept until a local program has them.
