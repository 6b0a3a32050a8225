//! `holdfast`: the server, and its operators' command line.

fn main() {}
