//! What is measured, beside what, and what is aimed at.

use crate::servers::Server;

/// A line of the report.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it is called in the table.
    pub(crate) title: &'static str,
    pub(crate) measure: Measure,
    pub(crate) connections: usize,
    /// Ours first; then those that it is compared with.
    pub(crate) servers: &'static [Server],
    /// What the first of the others is compared with.
    pub(crate) aim: Option<Aim>,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// Echoes, with so many messages in flight on each connection, of so many bytes; those that may go at the
    /// same time go in one write, or in one each.
    Echoes { in_flight: usize, together: bool, payload: usize },
    /// Memory of idle connections.
    Memory,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// Our echoes a second are at least so much of the peer's: the median of the rounds.
    OfPeer(f64),
    /// At most so many bytes for a connection.
    Bytes(f64),
}

const ECHO: &[Server] = &[Server::Holdfast, Server::BareEcho];

/// Everything that is measured.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "echo-1",
        title: "1 connection, 1 in flight, 16 bytes",
        measure: Measure::Echoes { in_flight: 1, together: false, payload: 16 },
        connections: 1,
        servers: ECHO,
        aim: None,
    },
    Row {
        name: "echo-64",
        title: "64 connections, 1 in flight, 16 bytes",
        measure: Measure::Echoes { in_flight: 1, together: false, payload: 16 },
        connections: 64,
        servers: ECHO,
        aim: Some(Aim::OfPeer(0.8)),
    },
    Row {
        name: "echo-64-1k",
        title: "64 connections, 1 in flight, 1 KiB",
        measure: Measure::Echoes { in_flight: 1, together: false, payload: 1_024 },
        connections: 64,
        servers: ECHO,
        aim: None,
    },
    Row {
        name: "echo-64x16",
        title: "64 connections, 16 in flight, 16 bytes",
        measure: Measure::Echoes { in_flight: 16, together: false, payload: 16 },
        connections: 64,
        servers: ECHO,
        aim: Some(Aim::OfPeer(0.5)),
    },
    Row {
        name: "echo-64x16-together",
        title: "64 connections, 16 in flight in one write, 16 bytes",
        measure: Measure::Echoes { in_flight: 16, together: true, payload: 16 },
        connections: 64,
        servers: ECHO,
        aim: None,
    },
    Row {
        name: "echo-1000",
        title: "1,000 connections, 1 in flight, 16 bytes",
        measure: Measure::Echoes { in_flight: 1, together: false, payload: 16 },
        connections: 1_000,
        servers: ECHO,
        aim: None,
    },
    Row {
        name: "classic-64",
        title: "classic, 64 connections, 1 in flight, 16 bytes",
        measure: Measure::Echoes { in_flight: 1, together: false, payload: 16 },
        connections: 64,
        servers: &[Server::Classic, Server::Original],
        aim: Some(Aim::OfPeer(3.0)),
    },
    Row {
        name: "idle",
        title: "10,000 idle connections",
        measure: Measure::Memory,
        connections: 10_000,
        servers: ECHO,
        aim: Some(Aim::Bytes(10_000.0)),
    },
];
