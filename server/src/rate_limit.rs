//! How often somebody may try something: some attempts at once, and one more now and then.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::lock::lock;

/// How many of those who try are remembered. While all of them wait for attempts, the one who has rested the longest is
/// forgotten for a new one: whoever comes from very many places keeps nobody out by it.
const MAX_REMEMBERED: usize = 10_000;

/// When each one who has made attempts will have all of theirs again.
#[derive(Debug)]
pub struct RateLimit<K> {
    attempts: u32,
    refill: Duration,
    full: Mutex<HashMap<K, Instant>>,
}

impl<K: Clone + Eq + Hash> RateLimit<K> {
    /// So many attempts at once, and then one each time that this is over.
    pub fn new(attempts: u32, refill: Duration) -> Self {
        Self { attempts, refill, full: Mutex::default() }
    }

    /// Takes one attempt of theirs.
    ///
    /// # Errors
    /// They have none left: it is worth asking again after so long.
    pub fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut remembered = lock(&self.full);
        if remembered.len() >= MAX_REMEMBERED && !remembered.contains_key(&key) {
            remembered.retain(|_, full| *full > now);
            let rested = remembered.iter().min_by_key(|(_, full)| **full).map(|(key, _)| key.clone());
            if let Some(rested) = rested.filter(|_| remembered.len() >= MAX_REMEMBERED) {
                remembered.remove(&rested);
            }
        }
        let full = self.after_one(remembered.get(&key), now)?;
        remembered.insert(key, full);
        Ok(())
    }

    /// Whether they have an attempt left; it is not taken.
    ///
    /// # Errors
    /// As [`RateLimit::take`].
    pub fn check(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let remembered = lock(&self.full);
        self.after_one(remembered.get(key), now).map(drop)
    }

    /// When they will have all of their attempts again, after one more; or how long they have to wait for that.
    fn after_one(&self, full: Option<&Instant>, now: Instant) -> Result<Instant, Duration> {
        let full = full.map_or(now, |full| now.max(*full)) + self.refill;
        match full.checked_duration_since(now + self.refill * self.attempts) {
            None | Some(Duration::ZERO) => Ok(full),
            Some(wait) => Err(wait),
        }
    }

    /// Gives one attempt back that they have taken: it was a good one.
    pub fn give_back(&self, key: &K) {
        let mut remembered = lock(&self.full);
        if let Some(full) = remembered.get_mut(key) {
            *full = full.checked_sub(self.refill).unwrap_or(*full);
        }
    }
}

/// Who an address belongs to: with IPv6 one holder has all addresses of a /64 network.
pub fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// The part of the network that an address is in, where one party may have much of it: with IPv6 the /48, which is what
/// a site is given. None with IPv4, of which few have much.
pub fn wide_network(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() >> 80 << 80).into()),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn limit() -> RateLimit<IpAddr> {
        RateLimit::new(5, seconds(10))
    }

    #[test]
    fn five_attempts_at_once_then_one_each_ten_seconds() {
        let limit = limit();
        let address = IpAddr::from([192, 0, 2, 1]);
        let start = Instant::now();
        let allowed = (0..20).filter(|_| limit.take(address, start).is_ok()).count();
        assert_eq!(allowed, 5);
        assert!(limit.take(IpAddr::from([192, 0, 2, 2]), start).is_ok(), "another has attempts of its own");
        assert_eq!(limit.take(address, start + seconds(9)), Err(seconds(1)));
        assert!(limit.take(address, start + seconds(10)).is_ok());
        assert!(limit.take(address, start + seconds(19)).is_err());
        assert!(limit.take(address, start + seconds(20)).is_ok());
        let rested = (0..20).filter(|_| limit.take(address, start + seconds(200)).is_ok()).count();
        assert_eq!(rested, 5, "never more than five at once");
        assert_eq!(limit.check(&address, start + seconds(200)), Err(seconds(10)));
        limit.give_back(&address);
        assert!(limit.check(&address, start + seconds(200)).is_ok(), "looking takes nothing");
        assert!(limit.take(address, start + seconds(200)).is_ok());
        assert!(limit.take(address, start + seconds(200)).is_err(), "one was given back, and no more");
    }

    #[test]
    fn an_ipv6_network_and_a_mapped_address_are_one_holder() {
        let address = |net, last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, last, last));
        assert_eq!(holder(address(1, 1)), holder(address(1, 19)));
        assert_ne!(holder(address(1, 1)), holder(address(2, 1)));
        let plain = IpAddr::from([192, 0, 2, 1]);
        let mapped = IpAddr::from(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201));
        assert_eq!(holder(plain), holder(mapped));
        assert_eq!((wide_network(plain), wide_network(mapped)), (None, None));
        assert_eq!(wide_network(address(1, 1)), wide_network(address(2, 7)));
        assert_ne!(wide_network(address(1, 1)), wide_network("2001:db8:1::1".parse().unwrap()));
    }

    #[test]
    fn the_table_is_bounded() {
        let limit = limit();
        let start = Instant::now();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..MAX_REMEMBERED as u32 {
            assert!(limit.take(address(number), start).is_ok());
        }
        assert!(limit.take(address(1), start).is_ok(), "who is remembered is served");
        assert!(limit.take(address(u32::MAX), start).is_ok(), "and a newcomer, too");
        assert_eq!(limit.full.lock().unwrap().len(), MAX_REMEMBERED);
        assert!(
            limit.take(address(u32::MAX - 1), start + seconds(11)).is_ok(),
            "who has rested is forgotten"
        );
        assert_eq!(limit.full.lock().unwrap().len(), 2);
    }
}
