//! TLS to the server, by the pin of its key.
