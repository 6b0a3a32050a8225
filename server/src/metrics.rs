//! Counters and gauges for Prometheus.
//!
//! They count what this process does, wherever it is done: so there is one set of them, [`METRICS`], and the parts
//! need not hand it to each other. Nothing is decided by them.

use std::{
    sync::{LazyLock, PoisonError, RwLock},
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::id::Direction;

/// The figures of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The media type of [`Metrics::render`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A label and its value.
type Label = [(&'static str, String); 1];

/// All figures.
#[derive(Debug)]
pub struct Metrics {
    registry: RwLock<Registry>,
    connections: Family<Label, Counter>,
    refused: Family<Label, Counter>,
    messages: Family<Label, Counter>,
    message_bytes: Family<Label, Counter>,
    events: Family<Label, Counter>,
    store_errors: Counter,
    commit_jobs: Histogram,
    commit_seconds: Histogram,
    gauges: Gauges,
}

/// What is true at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Devices that are registered and not revoked.
    pub devices: u64,
    /// Devices that are online.
    pub online: u64,
    /// Connections of classic clients.
    pub classic_clients: u64,
    /// Messages that wait for devices.
    pub queued: u64,
    /// Jobs that wait for the store's writer.
    pub backlog: u64,
    /// Bytes of the messages among them.
    pub backlog_bytes: u64,
    /// For how long the server runs.
    pub uptime: Duration,
}

#[derive(Debug, Default)]
struct Gauges {
    devices: Gauge,
    online: Gauge,
    classic_clients: Gauge,
    queued: Gauge,
    backlog: Gauge,
    backlog_bytes: Gauge,
    uptime: Gauge,
}

impl Metrics {
    fn new() -> Self {
        let metrics = Self {
            registry: RwLock::new(Registry::with_prefix("holdfast")),
            connections: Family::default(),
            refused: Family::default(),
            messages: Family::default(),
            message_bytes: Family::default(),
            events: Family::default(),
            store_errors: Counter::default(),
            commit_jobs: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            // 0.1 ms to 1.6 s.
            commit_seconds: Histogram::new(exponential_buckets(0.0001, 4.0, 8)),
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        let registry = &mut *registry;
        registry.register(
            "connections",
            "Connections whose peer is known, by kind",
            self.connections.clone(),
        );
        registry.register("refusals", "Peers that were turned away, by reason", self.refused.clone());
        registry.register("messages", "Messages archived (in) and delivered (out)", self.messages.clone());
        registry.register("message_bytes", "Bytes of their bodies", self.message_bytes.clone());
        registry.register("events", "Events recorded, by kind", self.events.clone());
        registry.register("store_errors", "Failed transactions of the store", self.store_errors.clone());
        registry.register("commit_jobs", "Messages and changes in one transaction", self.commit_jobs.clone());
        registry.register_with_unit(
            "commit",
            "How long one transaction takes",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        let gauges = &self.gauges;
        for (name, help, gauge) in [
            ("devices_registered", "Devices that are registered and not revoked", &gauges.devices),
            ("devices_online", "Devices that are online", &gauges.online),
            ("classic_clients", "Connections of classic clients", &gauges.classic_clients),
            ("messages_queued", "Messages that wait for devices", &gauges.queued),
            ("store_backlog", "Messages and changes that wait to be written", &gauges.backlog),
            ("store_backlog_bytes", "Bytes of the messages among them", &gauges.backlog_bytes),
            ("uptime_seconds", "For how long the server runs", &gauges.uptime),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    /// A peer is known: `kind` says what it is.
    pub fn connected(&self, kind: &'static str) {
        self.connections.get_or_create(&label("kind", kind)).inc();
    }

    /// A peer was turned away; the reason is one of ours, of which there are few, and never what a peer said.
    pub fn refused(&self, reason: &str) {
        self.refused.get_or_create(&label("reason", reason)).inc();
    }

    /// Messages went this way, with so many bytes in their bodies.
    pub fn messages(&self, direction: Direction, count: u64, bytes: u64) {
        let direction = label("direction", direction.name());
        self.messages.get_or_create(&direction).inc_by(count);
        self.message_bytes.get_or_create(&direction).inc_by(bytes);
    }

    /// How many messages there were, both ways.
    pub fn message_count(&self) -> u64 {
        let of = |direction: Direction| label("direction", direction.name());
        let counts = [Direction::In, Direction::Out].map(|one| self.messages.get_or_create(&of(one)).get());
        counts.iter().sum()
    }

    /// An event is recorded.
    pub fn event(&self, kind: &str) {
        self.events.get_or_create(&label("kind", kind)).inc();
    }

    /// A transaction was committed.
    pub fn committed(&self, jobs: usize, took: Duration) {
        self.commit_jobs.observe(jobs as f64);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// A transaction failed.
    pub fn store_failed(&self) {
        self.store_errors.inc();
    }

    /// The figures as Prometheus reads them.
    pub fn render(&self, now: Snapshot) -> String {
        for (gauge, value) in [
            (&self.gauges.devices, now.devices),
            (&self.gauges.online, now.online),
            (&self.gauges.classic_clients, now.classic_clients),
            (&self.gauges.queued, now.queued),
            (&self.gauges.backlog, now.backlog),
            (&self.gauges.backlog_bytes, now.backlog_bytes),
            (&self.gauges.uptime, now.uptime.as_secs()),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string can't fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

fn label(name: &'static str, value: &str) -> Label {
    [(name, value.to_owned())]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Direction, Metrics, Snapshot};

    #[test]
    fn figures_are_rendered_for_prometheus() {
        let metrics = Metrics::new();
        metrics.connected("control");
        metrics.refused("unknown-key");
        metrics.messages(Direction::In, 3, 48);
        metrics.event("device-connected");
        metrics.committed(64, Duration::from_millis(2));
        metrics.store_failed();
        let text = metrics.render(Snapshot { online: 7, ..Snapshot::default() });
        for line in [
            "holdfast_connections_total{kind=\"control\"} 1",
            "holdfast_refusals_total{reason=\"unknown-key\"} 1",
            "holdfast_messages_total{direction=\"in\"} 3",
            "holdfast_message_bytes_total{direction=\"in\"} 48",
            "holdfast_events_total{kind=\"device-connected\"} 1",
            "holdfast_commit_jobs_bucket{le=\"64.0\"} 1",
            "holdfast_commit_seconds_count 1",
            "holdfast_store_errors_total 1",
            "holdfast_devices_online 7",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
        }
    }
}
