//! `holdfast-agent`: holds one connection to the server, and keeps what must not be lost.

fn main() {}
