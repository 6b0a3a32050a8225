//! Devices that are wired to a gateway.

use super::*;

async fn wire(store: &Store, name: &str, gateway: &str) -> Result<DeviceRef, StoreError> {
    store.enrol_wired(name.parse().unwrap(), gateway, "operator").await.map(|enrolled| enrolled.device)
}

#[tokio::test]
async fn a_wired_device_is_known_by_its_gateway_and_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let gateway = DeviceRef { id: device(&store, "pi", 1).await, name: "pi".to_owned() };
    device(&store, "other", 2).await;
    let known = wire(&store, "barometer", "pi").await.unwrap();
    assert_eq!(wire(&store, "barometer", "pi").await.unwrap(), known, "asked twice, it is the same");
    let status = |key, name| store.wired_device(hash(key), name);
    assert_eq!(
        status(1, "barometer").await.unwrap(),
        WiredStatus::Known { device: known.clone(), gateway: gateway.clone() }
    );
    assert!(matches!(status(2, "barometer").await.unwrap(), WiredStatus::NotWired { .. }));
    assert!(matches!(status(1, "nobody").await.unwrap(), WiredStatus::NotWired { .. }));
    assert!(matches!(status(1, "other").await.unwrap(), WiredStatus::NotWired { .. }));
    assert_eq!(status(3, "barometer").await.unwrap(), WiredStatus::UnknownGateway);
    let row = store.device("barometer").await.unwrap().unwrap();
    assert_eq!((row.gateway.as_deref(), row.key), (Some("pi"), None));
    let enrolled = store.events(EventFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!((enrolled.kind.as_str(), enrolled.device.as_deref()), ("device-enrolled", Some("barometer")));
    assert_eq!((enrolled.who.as_deref(), &enrolled.detail["gateway"]), (Some("operator"), &"pi".into()));

    let revoked = store.revoke("barometer", "operator").await.unwrap();
    assert_eq!((revoked.gateway.as_deref(), revoked.wired.len()), (Some("pi"), 0));
    let status_now = status(1, "barometer").await.unwrap();
    assert_eq!(status_now, WiredStatus::Revoked { device: known.clone(), gateway });
    assert_eq!(wire(&store, "barometer", "other").await.unwrap().id, known.id, "it moves, with its history");
    let revoked = store.revoke("other", "operator").await.unwrap();
    assert_eq!(revoked.wired, [known]);
    assert!(matches!(status(2, "barometer").await.unwrap(), WiredStatus::RevokedGateway(_)));
}

#[tokio::test]
async fn a_name_and_a_gateway_must_be_fit_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for (name, key) in [("pi", 1), ("other", 2), ("gone", 3)] {
        device(&store, name, key).await;
    }
    store.revoke("gone", "operator").await.unwrap();
    store.classic_client(HOME).await.unwrap();
    wire(&store, "barometer", "pi").await.unwrap();
    assert!(matches!(wire(&store, "a", "nobody").await, Err(StoreError::NoSuchDevice)));
    assert!(matches!(wire(&store, "a", "gone").await, Err(StoreError::GatewayRevoked(_))));
    let sensor = Provisioned { name: "sensor".parse().unwrap(), key: hash(7) };
    store.provision(vec![sensor], "operator").await.unwrap();
    for (name, words) in [
        (HOME.to_string().as_str(), "can't be a gateway: it is a classic client"),
        ("barometer", "\"barometer\" can't be a gateway: it is wired"),
        ("sensor", "\"sensor\" can't be a gateway: it is a microcontroller itself"),
    ] {
        let error = wire(&store, "a", name).await.unwrap_err();
        assert!(
            matches!(error, StoreError::NoGateway { .. }) && error.to_string().contains(words),
            "{error}"
        );
    }
    assert!(matches!(wire(&store, "pi", "pi").await, Err(StoreError::NameTaken(_))));
    assert!(matches!(wire(&store, "other", "pi").await, Err(StoreError::NameTaken(_))));
    let moved = wire(&store, "barometer", "other").await.unwrap_err();
    assert_eq!(moved.to_string(), "\"barometer\" is enrolled for another gateway: \"pi\"");
}

#[tokio::test]
async fn what_had_a_key_can_be_wired_and_the_other_way_round() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let kind = async || store.device("board").await.unwrap().unwrap().kind;
    device(&store, "pi", 1).await;
    let board = device(&store, "board", 2).await;
    store.revoke("board", "operator").await.unwrap();
    assert_eq!(wire(&store, "board", "pi").await.unwrap().id, board);
    assert!(matches!(store.device_by_key(hash(2)).await.unwrap(), KeyStatus::Revoked(_)), "its key stays so");
    assert_eq!(store.device("board").await.unwrap().unwrap().key, None);
    assert_eq!(kind().await, DeviceKind::Wired);

    store.revoke("board", "operator").await.unwrap();
    let firmware = Provisioned { name: "board".parse().unwrap(), key: hash(5) };
    store.provision(vec![firmware], "operator").await.unwrap();
    assert_eq!(kind().await, DeviceKind::Firmware);

    assert_eq!(store.revoke("board", "operator").await.unwrap().kind, DeviceKind::Firmware);
    assert_eq!(device(&store, "board", 4).await, board);
    assert_eq!(kind().await, DeviceKind::Agent);
    assert!(matches!(store.wired_device(hash(1), "board").await.unwrap(), WiredStatus::NotWired { .. }));
    assert!(matches!(store.device_by_key(hash(4)).await.unwrap(), KeyStatus::Known(_)));
}

/// Else they would be wired to what can't speak for them, and nothing would say so.
#[tokio::test]
async fn a_gateway_stays_one_while_devices_are_wired_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi", 1).await;
    device(&store, "other", 2).await;
    wire(&store, "barometer", "pi").await.unwrap();
    store.revoke("pi", "operator").await.unwrap();
    let firmware = || vec![Provisioned { name: "pi".parse().unwrap(), key: hash(5) }];
    for refused in [
        store.provision(firmware(), "operator").await.unwrap_err(),
        wire(&store, "pi", "other").await.unwrap_err(),
    ] {
        assert!(matches!(refused, StoreError::IsGateway { .. }), "{refused}");
        assert!(refused.to_string().contains("gateway of barometer"), "{refused}");
    }
    let row = store.device("pi").await.unwrap().unwrap();
    assert!(row.revoked_at.is_some() && row.kind == DeviceKind::Agent, "nothing has changed");
    assert_eq!(device(&store, "pi", 3).await, pi, "as an agent it comes back");

    store.revoke("pi", "operator").await.unwrap();
    store.revoke("barometer", "operator").await.unwrap();
    store.provision(firmware(), "operator").await.unwrap();
    let moved = wire(&store, "barometer", "other").await.unwrap();
    assert_eq!(moved.name, "barometer");
}

/// It checks no key, so it is not waited for when one is to be changed.
#[tokio::test]
async fn a_wired_device_is_told_no_keys() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    device(&store, "pi", 1).await;
    wire(&store, "barometer", "pi").await.unwrap();
    let since = UnixMillis::now().plus(60_000);
    store.tell_keys(ToldKeys { current: hash(8), next: hash(9) }).await.unwrap();
    store
        .write(move |change| {
            let later = "UPDATE meta SET value = ? WHERE key = 'keys-told-since'";
            Ok(change.connection.execute(later, [since])?)
        })
        .await
        .unwrap();
    assert_eq!(store.untold_devices().await.unwrap(), ["pi"]);
}
