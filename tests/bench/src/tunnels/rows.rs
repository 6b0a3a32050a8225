//! What of the tunnels is measured, and what is aimed at.

use super::{measure::Measure, network::Network, peers::Tunnel};
use crate::compare::{Aim, Quantity, Sheet};

/// A part of the report.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) sheet: Sheet,
    pub(crate) measure: Measure,
    pub(crate) network: Network,
    /// Ours first.
    pub(crate) tunnels: &'static [Tunnel],
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

const FAST: &[Aim] = &[
    Aim::OfPeer("from-rate", Tunnel::Rathole.name(), 1.0),
    Aim::OfPeer("to-rate", Tunnel::Rathole.name(), 1.0),
];

const TIMES: &[Quantity] =
    &[Quantity("median", "median, ms", 2), Quantity("most", "nine of ten below, ms", 2)];

/// How long a packet is under way on the far link, in milliseconds.
const FAR: u64 = 50;

/// Everything of the tunnels that is measured.
pub(crate) const ROWS: &[Row] = &[
    Row {
        sheet: Sheet {
            name: "ssh-tunnel",
            title: "a tunnel's bytes, without ssh",
            quantities: BULK,
            aims: FAST,
        },
        measure: Measure::Bytes,
        network: Network::Loopback,
        tunnels: ALL,
    },
    Row {
        sheet: Sheet { name: "ssh-bytes", title: "bytes by ssh, AES-GCM", quantities: BULK, aims: FAST },
        measure: Measure::Ssh,
        network: Network::Loopback,
        tunnels: ALL,
    },
    Row {
        sheet: Sheet {
            name: "ssh-first",
            title: "a session's first byte",
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
        measure: Measure::FirstByte,
        network: Network::Loopback,
        tunnels: ALL_AND_OTHERS,
    },
    Row {
        sheet: Sheet {
            name: "ssh-far",
            title: "a session's first byte, with a round trip of 100 ms to the device",
            quantities: TIMES,
            aims: &[Aim::AtMost("median", 4.0 * FAR as f64 + 10.0)],
        },
        measure: Measure::FirstByte,
        network: Network::Far(FAR),
        tunnels: ALL,
    },
    Row {
        sheet: Sheet {
            name: "ssh-echo",
            title: "an echo while a transfer fills the device's 1 MB/s",
            quantities: TIMES,
            // Not the median: whoever types feels the slow ones.
            aims: &[Aim::AtMost("most", 100.0)],
        },
        measure: Measure::Echo,
        network: Network::Slow,
        tunnels: ALL,
    },
    Row {
        sheet: Sheet {
            name: "ssh-idle",
            title: "200 idle sessions",
            quantities: &[Quantity("memory", "the server's memory for each, KB", 1)],
            aims: &[Aim::AtMost("memory", 18.0)],
        },
        measure: Measure::Idle,
        network: Network::Loopback,
        tunnels: &[Tunnel::Holdfast, Tunnel::Rathole, Tunnel::OpenSsh],
    },
    Row {
        sheet: Sheet { name: "ssh-login", title: "ssh DEVICE true", quantities: TIMES, aims: &[] },
        measure: Measure::Login,
        network: Network::Loopback,
        tunnels: ALL,
    },
];
