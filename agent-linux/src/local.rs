//! The Unix socket for local programs.
