//! Messages to the server, kept on disk until they are echoed.
