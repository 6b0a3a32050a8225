//! Who the device is, and where it finds which server: its provisioning block, as it stands now.

#[cfg(test)]
mod tests;

use heapless::String;
use protocol_core::{
    message::{Endpoints, MAX_ADDRESSES, Pin, Text},
    provisioning::{LENGTH, Provisioning, ProvisioningError},
    time::{Duration, Instant},
};

/// A `host:port`.
pub type Address = String<128>;

/// The device's provisioning block, in RAM, and where in its addresses the device stands.
///
/// The best address is tried first; after each attempt that was not welcomed comes the next, and behind the last the
/// first again.
pub struct Identity {
    block: [u8; LENGTH],
    /// The flash does not hold the block as it is.
    is_changed: bool,
    purse: Purse,
    /// Which address is tried next; how many there are is not looked at here.
    next: usize,
    /// The address that was tried last.
    tried: Address,
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Identity").field("provisioning", &self.provisioning()).finish_non_exhaustive()
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// Nobody yet.
    pub const fn new() -> Self {
        Self { block: [0xff; LENGTH], is_changed: false, purse: Purse::new(), next: 0, tried: Address::new() }
    }

    /// Who the device is.
    ///
    /// # Errors
    /// [`ProvisioningError`]: it does not know.
    pub fn provisioning(&self) -> Result<Provisioning<'_>, ProvisioningError> {
        Provisioning::decode(&self.block)
    }

    /// The address to try next, if the block has one. Where there is no block that can be used, `read` fills in
    /// what the flash holds now: somebody may have written it meanwhile.
    ///
    /// # Errors
    /// [`ProvisioningError`]: the device does not know who it is.
    pub fn dial(&mut self, read: impl FnOnce(&mut [u8; LENGTH])) -> Result<Address, ProvisioningError> {
        if self.provisioning().is_err() {
            read(&mut self.block);
        }
        let addresses = Provisioning::decode(&self.block)?.endpoints.addresses;
        let address = addresses.get(self.next).or_else(|| addresses.first());
        let at = if self.next < addresses.len() { self.next } else { 0 };
        self.tried = address.and_then(|address| address.as_str().try_into().ok()).unwrap_or_default();
        self.next = at.saturating_add(1);
        Ok(self.tried.clone())
    }

    /// The server welcomed the device over the address that was tried last: the next attempt begins with the best one.
    pub const fn welcomed(&mut self) {
        self.next = 0;
    }

    /// Takes over what a server says of its keys and addresses, whom the device reached over the address that it tried
    /// last, and who has shown the key `shown`.
    ///
    /// That address stays the last one, if it is not among those that were told: whether they lead to the server, only
    /// a connection over one of them can show. What names another key than `shown` would lock the device out.
    pub fn learn(&mut self, shown: Pin, told: &Endpoints<'_>) {
        if told.current != shown || told.addresses.is_empty() {
            return;
        }
        let mut addresses = told.addresses.clone();
        let works =
            Text::new(&self.tried).filter(|works| !works.as_str().is_empty() && !addresses.contains(works));
        if let Some(works) = works {
            addresses.truncate(MAX_ADDRESSES.saturating_sub(1));
            _ = addresses.push(works);
        }
        if let Some(block) = self.with(Endpoints { addresses, ..*told }) {
            self.block = block;
            self.is_changed = true;
        }
    }

    /// Has the block written to the flash by `write`, if that holds another one and bears it now. What it does not bear,
    /// or what fails, is tried again at a later call, with the block as it is then.
    ///
    /// Until then a reset has the device know what it knew before. Call it often: a server whose key changes once more
    /// while such a device is off locks it out.
    pub fn store<E>(&mut self, now: Instant, write: impl FnOnce(&[u8; LENGTH]) -> Result<(), E>) {
        if self.is_changed && self.purse.take(now) {
            self.is_changed = write(&self.block).is_err();
        }
    }

    /// The block with these endpoints instead of its own; nothing if it has them already.
    fn with(&self, endpoints: Endpoints<'_>) -> Option<[u8; LENGTH]> {
        let known = self.provisioning().ok()?;
        if known.endpoints == endpoints {
            return None;
        }
        let mut block = [0; LENGTH];
        let Provisioning { name, key, certificate, .. } = known;
        Provisioning { name, key, certificate, endpoints }.encode(&mut block)?;
        Some(block)
    }
}

/// Writes that the flash bears: it wears out after some ten thousand, and a server can say something new each second. One
/// comes in each hour, and up to [`Purse::MOST`] are kept, so that nobody who changes a server's keys or addresses by
/// hand has to wait.
struct Purse {
    /// Of the hours in which writes came in, those of the writes that were done or not kept.
    spent: Instant,
}

impl Purse {
    const HOUR: Duration = Duration::from_secs(60 * 60);

    /// How many it holds at most, in hours.
    const MOST: Duration = Duration::from_secs(8 * 60 * 60);

    /// How many it holds when the device starts, in hours: few, since it can be made to reset. New addresses, and two
    /// new keys.
    const FIRST: Duration = Duration::from_secs(3 * 60 * 60);

    const fn new() -> Self {
        Self { spent: Instant::from_micros(0) }
    }

    /// Takes a write out, if there is one. The clock begins with the device.
    fn take(&mut self, now: Instant) -> bool {
        let come = now.after(Self::FIRST);
        let spent = self.spent.max(come.before(Self::MOST)).after(Self::HOUR);
        let is_there = spent <= come;
        if is_there {
            self.spent = spent;
        }
        is_there
    }
}
