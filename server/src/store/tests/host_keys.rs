//! Host keys of devices.

use super::*;
use crate::{
    event::{EventKind, NewEvent},
    host_key::HostKey,
};

/// Keys of this type that differ by their last byte.
fn key(kind: &str, last: u8) -> HostKey {
    let length = u32::try_from(kind.len()).unwrap().to_be_bytes();
    let bytes = [&length[..], kind.as_bytes(), &[last]].concat();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    HostKey::new(kind, &base64).unwrap()
}

#[tokio::test]
async fn a_device_tells_its_first_keys_and_an_operator_accepts_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let keys = async || store.device("pi-7").await.unwrap().unwrap().ssh_host_keys;
    let (first, other, rsa) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2), key("ssh-rsa", 3));
    store.register_host_keys(pi, Vec::new()).await.unwrap();
    assert!(keys().await.is_empty());
    store.register_host_keys(pi, vec![first.clone()]).await.unwrap();
    // Whoever is on the device can't say that it is another one now.
    store.register_host_keys(pi, vec![other.clone(), rsa.clone()]).await.unwrap();
    assert_eq!(keys().await, [first.line()]);
    assert_eq!(store.shown_host_key(pi).await.unwrap(), None);

    let shown = NewEvent::new(EventKind::HostKeyChanged).device(pi).who("anna").detail("shown", other.line());
    store.record(shown).await.unwrap();
    let event = store.shown_host_key(pi).await.unwrap().unwrap();
    assert_eq!((event.who.as_deref(), &event.detail["shown"]), (Some("anna"), &other.line().into()));
    assert_eq!(store.accept_host_key(pi, rsa.clone(), "bob".into()).await.unwrap(), None);
    let replaced = store.accept_host_key(pi, other.clone(), "bob".into()).await.unwrap();
    assert_eq!(replaced, Some(first.fingerprint()));
    assert_eq!(keys().await, [rsa.line(), other.line()]);
    let all = store.events(EventFilter::default()).await.unwrap();
    let newest = all.last().unwrap();
    assert_eq!((newest.kind.as_str(), newest.who.as_deref()), ("host-key-accepted", Some("bob")));
    assert_eq!(newest.detail["fingerprint"], other.fingerprint());
    assert_eq!(all.iter().filter(|event| event.kind == "host-key-registered").count(), 1);
}
