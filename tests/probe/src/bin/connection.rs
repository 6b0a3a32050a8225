//! Probe: a device's connection, without the loop around it.

#![cfg_attr(target_os = "none", no_std, no_main)]

probe::probe!(probe::parts::connection);
