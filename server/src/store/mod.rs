//! What is kept: devices, sessions, messages, events and tokens, on disk.
