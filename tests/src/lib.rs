//! Shared test tools: the real programs, the network between them, and what plays their peers.
//!
//! A test that needs a server and a device starts with [`server::Server::start`] and [`agent::Agent::start`];
//! [`proxy::Proxy`] stands between them and breaks what networks break; [`device::Device`] is a device that says what
//! no agent would; [`machine::Machine`] is a microcontroller in QEMU, with its firmware;
//! [`microcontroller::Microcontroller`] is one without, run on the host, on a network or a [`serial_line::SerialLine`].
//! [`simulation`] needs no programs: it runs the sessions themselves, on a virtual clock.

#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod binaries;
pub mod chaos;
pub mod demo;
pub mod device;
pub mod files;
pub mod fuzz_targets;
pub mod laptop;
pub mod machine;
pub mod measure;
pub mod microcontroller;
pub mod namespace;
mod noise;
pub mod original;
pub mod process;
pub mod proxy;
mod random;
pub mod scene;
pub mod serial_line;
pub mod server;
pub mod simulation;
pub mod sshd;
pub mod system_sshd;
pub mod terminal;
pub mod tls;
pub mod wait;
