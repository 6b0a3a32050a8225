//! A control: this must not link, for a panic is within reach.

#![cfg_attr(target_os = "none", no_std, no_main)]

probe::probe!(probe::parts::panics);
