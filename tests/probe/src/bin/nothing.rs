//! Probe: no part at all; what the others are compared with.

#![cfg_attr(target_os = "none", no_std, no_main)]

probe::probe!(probe::parts::nothing);
