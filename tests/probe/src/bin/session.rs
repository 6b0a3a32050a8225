//! Probe: a client's session with its frames and messages.

#![cfg_attr(target_os = "none", no_std, no_main)]

probe::probe!(probe::parts::session);
