//! What of the tunnels is measured, and what is aimed at.

use super::{measure::Measure, network::Network, peers::Tunnel};

/// A part of the report.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it is called in the table.
    pub(crate) title: &'static str,
    pub(crate) measure: Measure,
    pub(crate) network: Network,
    /// Ours first.
    pub(crate) tunnels: &'static [Tunnel],
    pub(crate) quantities: &'static [Quantity],
    pub(crate) aims: &'static [Aim],
}

/// A quantity that is measured: its name, its title with its unit, and how many decimals are shown.
#[derive(Debug)]
pub(crate) struct Quantity(pub(crate) &'static str, pub(crate) &'static str, pub(crate) usize);

/// What is aimed at, of our median.
#[derive(Debug)]
pub(crate) enum Aim {
    /// This quantity is at least so many times this peer's of the same round.
    OfPeer(&'static str, Tunnel, f64),
    /// This quantity is at most this.
    AtMost(&'static str, f64),
}

const ALL: &[Tunnel] = &[Tunnel::Holdfast, Tunnel::Rathole, Tunnel::OpenSsh, Tunnel::Direct];

/// The same, and what else there is beside a session's first byte: our other ways, and the least that TLS costs.
const ALL_AND_OTHERS: &[Tunnel] = &[
    Tunnel::Holdfast,
    Tunnel::Elsewhere,
    Tunnel::StockSsh,
    Tunnel::Rathole,
    Tunnel::OpenSsh,
    Tunnel::Handshake,
    Tunnel::Direct,
];

const BULK: &[Quantity] = &[
    Quantity("from-rate", "from the device, MB/s", 0),
    Quantity("from-device-cpu", "from the device, CPU s/GB on the device", 2),
    Quantity("from-server-cpu", "from the device, CPU s/GB on the server", 2),
    Quantity("to-rate", "to the device, MB/s", 0),
    Quantity("to-device-cpu", "to the device, CPU s/GB on the device", 2),
    Quantity("to-server-cpu", "to the device, CPU s/GB on the server", 2),
];

const FAST: &[Aim] =
    &[Aim::OfPeer("from-rate", Tunnel::Rathole, 1.0), Aim::OfPeer("to-rate", Tunnel::Rathole, 1.0)];

const TIMES: &[Quantity] =
    &[Quantity("median", "median, ms", 2), Quantity("most", "nine of ten below, ms", 2)];

/// How long a packet is under way on the far link, in milliseconds.
const FAR: u64 = 50;

/// Everything of the tunnels that is measured.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "ssh-tunnel",
        title: "a tunnel's bytes, without ssh",
        measure: Measure::Bytes,
        network: Network::Loopback,
        tunnels: ALL,
        quantities: BULK,
        aims: FAST,
    },
    Row {
        name: "ssh-bytes",
        title: "bytes by ssh, AES-GCM",
        measure: Measure::Ssh,
        network: Network::Loopback,
        tunnels: ALL,
        quantities: BULK,
        aims: FAST,
    },
    Row {
        name: "ssh-first",
        title: "a session's first byte",
        measure: Measure::FirstByte,
        network: Network::Loopback,
        tunnels: ALL_AND_OTHERS,
        quantities: &[
            Quantity("median", "median, ms", 2),
            Quantity("most", "nine of ten below, ms", 2),
            Quantity("first-device-cpu", "until then, CPU ms on the device", 2),
            Quantity("first-server-cpu", "until then, CPU ms on the server", 2),
            Quantity("device-cpu", "with the session's end, CPU ms on the device", 2),
            Quantity("server-cpu", "with the session's end, CPU ms on the server", 2),
        ],
        aims: &[Aim::AtMost("first-device-cpu", 1.0), Aim::AtMost("first-server-cpu", 1.0)],
    },
    Row {
        name: "ssh-far",
        title: "a session's first byte, with a round trip of 100 ms to the device",
        measure: Measure::FirstByte,
        network: Network::Far(FAR),
        tunnels: ALL,
        quantities: TIMES,
        aims: &[Aim::AtMost("median", 4.0 * FAR as f64 + 10.0)],
    },
    Row {
        name: "ssh-echo",
        title: "an echo while a transfer fills the device's 1 MB/s",
        measure: Measure::Echo,
        network: Network::Slow,
        tunnels: ALL,
        quantities: TIMES,
        // Not the median: whoever types feels the slow ones.
        aims: &[Aim::AtMost("most", 100.0)],
    },
    Row {
        name: "ssh-idle",
        title: "200 idle sessions",
        measure: Measure::Idle,
        network: Network::Loopback,
        tunnels: &[Tunnel::Holdfast, Tunnel::Rathole, Tunnel::OpenSsh],
        quantities: &[Quantity("memory", "the server's memory for each, KB", 1)],
        aims: &[Aim::AtMost("memory", 18.0)],
    },
    Row {
        name: "ssh-login",
        title: "ssh DEVICE true",
        measure: Measure::Login,
        network: Network::Loopback,
        tunnels: ALL,
        quantities: TIMES,
        aims: &[],
    },
];
