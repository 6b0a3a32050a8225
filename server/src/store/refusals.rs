//! Refusals leave events, and strangers can cause them at will: so only some of them are written.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Store, StoreError};
use crate::{event::NewEvent, metrics::METRICS};

/// The time in which refusals are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// How many events one network causes in it.
const OF_ONE: u32 = 10;
/// How many events all networks together cause in it.
const OF_ALL: u32 = 200;
/// How many networks are counted apart; those beyond count as one.
const NETWORKS: usize = 1_024;

/// What the strangers have done lately.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    since: Option<Instant>,
    recorded: u32,
    networks: HashMap<IpAddr, Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    recorded: u32,
    /// Not written, and not yet told by a later event.
    suppressed: u64,
}

impl Refusals {
    /// Whether an event is to be written now; and then how many before it were not.
    fn admit(&self, address: Option<IpAddr>, now: Instant) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut *counts;
        if counts.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            counts.since = Some(now);
            counts.recorded = 0;
            counts.networks.retain(|_, count| count.suppressed > 0);
            counts.networks.values_mut().for_each(|count| count.recorded = 0);
        }
        let mut network = address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), network);
        if counts.networks.len() >= NETWORKS && !counts.networks.contains_key(&network) {
            network = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        }
        let count = counts.networks.entry(network).or_default();
        if count.recorded >= OF_ONE || counts.recorded >= OF_ALL {
            count.suppressed = count.suppressed.saturating_add(1);
            return None;
        }
        count.recorded = count.recorded.saturating_add(1);
        counts.recorded = counts.recorded.saturating_add(1);
        Some(std::mem::take(&mut count.suppressed))
    }
}

/// What one party can choose its addresses from: of IPv6 the first 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

impl Store {
    /// Records that someone was turned away. Of many refusals from one network, or from all, only some are written;
    /// the next event of that network has the number of the others as `suppressed` in its detail.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn record_refusal(&self, mut event: NewEvent) -> Result<(), StoreError> {
        let reason = event.detail.get("reason").and_then(|reason| reason.as_str());
        METRICS.refused(reason.unwrap_or_else(|| event.kind.name()));
        match self.shared.refusals.admit(event.address, Instant::now()) {
            None => return Ok(()),
            Some(0) => {}
            Some(suppressed) => event = event.detail("suppressed", suppressed),
        }
        self.record(event).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Instant};

    use super::{OF_ALL, OF_ONE, Refusals, WINDOW};

    #[test]
    fn one_network_is_limited_and_what_was_left_out_is_counted() {
        let refusals = Refusals::default();
        let now = Instant::now();
        let stranger: Option<IpAddr> = Some("2001:db8::1".parse().unwrap());
        let neighbour = Some("2001:db8::2".parse().unwrap());
        for _ in 0..OF_ONE {
            assert_eq!(refusals.admit(stranger, now), Some(0));
        }
        assert_eq!(refusals.admit(neighbour, now), None);
        assert_eq!(refusals.admit(stranger, now), None);
        assert_eq!(refusals.admit(Some("192.0.2.1".parse().unwrap()), now), Some(0));
        assert_eq!(refusals.admit(stranger, now + WINDOW), Some(2));
        assert_eq!(refusals.admit(stranger, now + WINDOW), Some(0));
    }

    #[test]
    fn all_networks_together_are_limited() {
        let refusals = Refusals::default();
        let now = Instant::now();
        let admitted = (0..5_000_u32).filter(|number| {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            refusals.admit(Some(address), now).is_some()
        });
        assert_eq!(admitted.count(), usize::try_from(OF_ALL).unwrap());
    }
}
