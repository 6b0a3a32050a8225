//! Refusals leave events, and those who are refused can cause them at will: so only some of them are written.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{DeviceId, Store};
use crate::{event::NewEvent, lock::lock, metrics::METRICS, rate_limit::holder};

/// The time in which refusals are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// How many events one network, or one device, causes in it.
const OF_ONE: u32 = 10;
/// How many events all networks, or all devices, together cause in it.
const OF_ALL: u32 = 200;
/// How many networks, or devices, are counted apart. For another one the one that was refused longest ago is forgotten.
const COUNTED: usize = 1_024;

/// What those who were refused have done lately. Strangers use up nothing of what devices may cause.
#[derive(Default)]
pub(super) struct Refusals {
    strangers: Mutex<Counts<IpAddr>>,
    devices: Mutex<Counts<DeviceId>>,
}

struct Counts<K> {
    since: Option<Instant>,
    recorded: u32,
    /// How many were refused so far.
    refused: u64,
    parties: HashMap<K, Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    recorded: u32,
    /// Not written, and not yet told by a later event.
    suppressed: u64,
    /// Which refusal was its last.
    last: u64,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { since: None, recorded: 0, refused: 0, parties: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Counts<K> {
    /// Whether an event is to be written now; and then how many of this party before it were not.
    fn admit(&mut self, party: K, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.recorded = 0;
            self.parties.retain(|_, count| count.suppressed > 0);
            self.parties.values_mut().for_each(|count| count.recorded = 0);
        }
        if self.parties.len() >= COUNTED && !self.parties.contains_key(&party) {
            let oldest = self.parties.iter().min_by_key(|(_, count)| count.last).map(|(party, _)| *party);
            oldest.map(|oldest| self.parties.remove(&oldest));
        }
        let count = self.parties.entry(party).or_default();
        self.refused = self.refused.saturating_add(1);
        count.last = self.refused;
        if count.recorded >= OF_ONE || self.recorded >= OF_ALL {
            count.suppressed = count.suppressed.saturating_add(1);
            return None;
        }
        count.recorded = count.recorded.saturating_add(1);
        self.recorded = self.recorded.saturating_add(1);
        Some(std::mem::take(&mut count.suppressed))
    }
}

fn admit<K: Copy + Eq + Hash>(counts: &Mutex<Counts<K>>, party: K) -> Option<u64> {
    lock(counts).admit(party, Instant::now())
}

impl Store {
    /// Counts that someone was turned away, and gives the event to be recorded of it, if one is: of many refusals of
    /// one party only some are written, and the next event has the number of the others as `suppressed` in its detail.
    ///
    /// A party is `device`, where a key has proved that it is this one, and else the network of the event's address.
    pub fn limit_refusal(&self, device: Option<DeviceId>, event: NewEvent) -> Option<NewEvent> {
        let reason = event.detail.get("reason").and_then(|reason| reason.as_str());
        METRICS.refused(reason.unwrap_or_else(|| event.kind.name()));
        let refusals = &self.shared.refusals;
        let suppressed = match device {
            Some(device) => admit(&refusals.devices, device),
            None => {
                let network = event.address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), holder);
                admit(&refusals.strangers, network)
            }
        };
        match suppressed? {
            0 => Some(event),
            suppressed => Some(event.detail("suppressed", suppressed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Instant};

    use super::{COUNTED, Counts, OF_ALL, OF_ONE, WINDOW, holder};

    #[test]
    fn one_network_is_limited_and_what_was_left_out_is_counted() {
        let mut counts = Counts::default();
        let now = Instant::now();
        let stranger = holder("2001:db8::1".parse().unwrap());
        let neighbour = holder("2001:db8::2".parse().unwrap());
        for _ in 0..OF_ONE {
            assert_eq!(counts.admit(stranger, now), Some(0));
        }
        assert_eq!(counts.admit(neighbour, now), None);
        assert_eq!(counts.admit(stranger, now), None);
        assert_eq!(counts.admit(holder("192.0.2.1".parse().unwrap()), now), Some(0));
        assert_eq!(counts.admit(stranger, now + WINDOW), Some(2));
        assert_eq!(counts.admit(stranger, now + WINDOW), Some(0));
    }

    #[test]
    fn all_networks_together_are_limited_and_the_oldest_forgotten() {
        let mut counts = Counts::default();
        let now = Instant::now();
        let stranger = |number: u32| IpAddr::V4((0x0a00_0000 + number).into());
        let admitted = (0..5_000).filter(|number| counts.admit(stranger(*number), now).is_some());
        assert_eq!(admitted.count(), usize::try_from(OF_ALL).unwrap());
        assert_eq!(counts.parties.len(), COUNTED);

        // Each of them was left out: those that come later are counted apart all the same.
        let later = now + WINDOW;
        assert_eq!(counts.admit(stranger(4_999), later), Some(1));
        for _ in 0..OF_ONE {
            assert_eq!(counts.admit(stranger(5_000), later), Some(0));
        }
        assert_eq!(counts.admit(stranger(5_001), later), Some(0));
        assert_eq!(counts.admit(stranger(0), later), Some(0), "it was forgotten long ago");
        assert_eq!(counts.parties.len(), COUNTED);
    }
}
