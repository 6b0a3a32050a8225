//! How often somebody may try something: some attempts at once, and one more now and then.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many of those who try are remembered. While all of them wait for attempts, new ones get none.
const MAX_REMEMBERED: usize = 10_000;

/// When each one who has made attempts will have all of theirs again.
#[derive(Debug)]
pub struct RateLimit<K> {
    attempts: u32,
    refill: Duration,
    full: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> RateLimit<K> {
    /// So many attempts at once, and then one each time that this is over.
    pub fn new(attempts: u32, refill: Duration) -> Self {
        Self { attempts, refill, full: Mutex::default() }
    }

    /// Takes one attempt of theirs.
    ///
    /// # Errors
    /// They have none left: it is worth asking again after so long.
    pub fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut remembered = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED && !remembered.contains_key(&key) {
            remembered.retain(|_, full| *full > now);
            if remembered.len() >= MAX_REMEMBERED {
                return Err(self.refill);
            }
        }
        let full = remembered.get(&key).map_or(now, |full| now.max(*full)) + self.refill;
        match full.checked_duration_since(now + self.refill * self.attempts) {
            None | Some(Duration::ZERO) => {
                remembered.insert(key, full);
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }

    /// Gives them all of their attempts again.
    pub fn forgive(&self, key: &K) {
        self.full.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Who an address belongs to: with IPv6 one holder has all addresses of a /64 network.
pub fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
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
        limit.forgive(&address);
        assert!(limit.take(address, start + seconds(200)).is_ok());
    }

    #[test]
    fn an_ipv6_network_and_a_mapped_address_are_one_holder() {
        let address = |net, last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, last, last));
        assert_eq!(holder(address(1, 1)), holder(address(1, 19)));
        assert_ne!(holder(address(1, 1)), holder(address(2, 1)));
        let plain = IpAddr::from([192, 0, 2, 1]);
        let mapped = IpAddr::from(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201));
        assert_eq!(holder(plain), holder(mapped));
    }

    #[test]
    fn the_table_is_bounded() {
        let limit = limit();
        let start = Instant::now();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..MAX_REMEMBERED as u32 {
            assert!(limit.take(address(number), start).is_ok());
        }
        assert!(limit.take(address(u32::MAX), start).is_err());
        assert!(limit.take(address(1), start).is_ok(), "who is remembered is served");
        assert!(limit.take(address(u32::MAX), start + seconds(11)).is_ok(), "who has rested is forgotten");
        assert_eq!(limit.full.lock().unwrap().len(), 2);
    }
}
