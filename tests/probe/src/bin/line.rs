//! Probe: a serial line as a transport.

#![cfg_attr(target_os = "none", no_std, no_main)]

probe::async_probe!(probe::parts::line);
