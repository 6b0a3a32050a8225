//! A control: what is `async`, with another panic within its reach.

#![cfg_attr(target_os = "none", no_std, no_main)]

probe::async_probe!(probe::parts::async_panics);
