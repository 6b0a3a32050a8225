//! Probe: frames and messages, as a microcontroller needs them.

#![cfg_attr(target_os = "none", no_std, no_main)]

probe::probe!(probe::parts::codec);
