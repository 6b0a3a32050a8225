//! The operator's API: HTTP and JSON under `/api/v1`, over a Unix socket.
