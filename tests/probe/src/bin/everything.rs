//! Probe: all that protocol-core offers.

#![cfg_attr(target_os = "none", no_std, no_main)]

probe::probe!(probe::parts::everything);
