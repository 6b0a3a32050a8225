//! What is looked at before the server listens: its database, its keys, and where devices will find it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
};

use protocol_core::message::{MAX_ADDRESSES, Text};

use crate::{
    config::Config,
    event::{EventKind, NewEvent},
    store::{Store, StoreError, ToldKeys},
    tls::{self, Certificate, CertificateError, KeyError, Keys},
};

use super::ServeError;

/// What is said of keys without a database: an operator may want it so, but not unknowingly.
const MISSING_DATABASE: &str = "there are keys, but no database: it begins anew, without any device; if that is not wanted, stop and restore it from a backup";

/// Opens the store in the data directory; a database that is missing beside its keys is an event in the new one.
pub(super) async fn open_store(data: &Path) -> Result<Store, StoreError> {
    let is_missing = !Keys::is_current_missing(&Keys::directory(data)) && !data.join("holdfast.db").exists();
    let directory = data.to_owned();
    let store = tokio::task::spawn_blocking(move || Store::open(&directory))
        .await
        .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))?;
    if is_missing {
        tracing::warn!("{MISSING_DATABASE}");
        store.record(NewEvent::new(EventKind::StoreMissing).detail("text", MISSING_DATABASE)).await?;
    }
    Ok(store)
}

/// What is said where the key in use is missing, and devices trust another that is there.
const MISSING_KEY: &str =
    "the key in use was missing: the next one, which the devices trust as well, was taken into use";

/// Reads the server's keys, and makes them where no device knows any yet. Where the key in use is missing, the next one
/// takes its place if devices were told it.
pub(super) async fn load_keys(store: &Store, directory: &Path) -> Result<Keys, ServeError> {
    if Keys::is_current_missing(directory) {
        let devices = store.counts().await?.devices;
        if devices > 0 {
            if !is_next_trusted(store, directory).await? {
                return Err(KeyError::Lost { directory: directory.to_owned(), devices }.into());
            }
            Keys::rotate(directory)?;
            tracing::warn!("{MISSING_KEY}");
            store.record(NewEvent::new(EventKind::KeyMissing).detail("text", MISSING_KEY)).await?;
        }
    }
    let keys = Keys::load_or_create(directory)?;
    store.tell_keys(ToldKeys { current: keys.current_pin().0, next: keys.next_pin().0 }).await?;
    Ok(keys)
}

/// Whether the next key is there, and one that devices were told.
async fn is_next_trusted(store: &Store, directory: &Path) -> Result<bool, ServeError> {
    let next = match Keys::load_next_pin(directory) {
        Ok(next) => next.0,
        Err(KeyError::Missing(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let told = store.told_keys().await?;
    Ok(told.is_some_and(|told| [told.current, told.next].contains(&next)))
}

/// What browsers are shown: the operator's certificate, else one that is made for all names that the server knows of itself.
pub(super) fn certificate(
    config: &Config,
    addresses: &[String],
) -> Result<Arc<Certificate>, CertificateError> {
    match &config.certificate {
        Some(files) => Certificate::load(files.clone()),
        None => Certificate::own(&Keys::directory(&config.data), &tls::hosts(addresses, config.listen.ip())),
    }
}

/// Where devices find the server: as configured, else this machine's own address.
pub(super) fn advertised(config: &Config, listening: SocketAddr) -> Vec<String> {
    if !config.advertise.is_empty() {
        return config.advertise.clone();
    }
    let address = if listening.ip().is_unspecified() { own_address(listening.port()) } else { listening };
    let mut addresses = vec![address.to_string()];
    addresses.retain(|address| Text::<128>::new(address).is_some());
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// The address that this machine would go out by; nothing is sent to find it.
fn own_address(port: u16) -> SocketAddr {
    let probe = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address for documentation (RFC 5737): a route is looked up, no more.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    let address: io::Result<SocketAddr> = probe();
    SocketAddr::new(address.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip()), port)
}
