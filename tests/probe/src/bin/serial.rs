//! Probe: a link over a serial line.

#![cfg_attr(target_os = "none", no_std, no_main)]

probe::probe!(probe::parts::serial);
