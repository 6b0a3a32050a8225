//! Tokens, names and keys.

use super::*;

async fn enrol(store: &Store, token: u8, key: u8) -> Result<Enrolled, EnrolmentRefusal> {
    store.enrol(enrolment(token, key)).await.unwrap()
}

#[tokio::test]
async fn a_token_gives_its_name_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    token(&store, 1, Some("pi-7"), 1).await;
    let first = enrol(&store, 1, 1).await.unwrap();
    assert_eq!((first.name.as_str(), first.repeat), ("pi-7", false));
    // The answer was lost: the same key asks again, and uses nothing up.
    let again = enrol(&store, 1, 1).await.unwrap();
    assert_eq!((again.device, again.repeat), (first.device, true));
    assert_eq!(enrol(&store, 1, 2).await, Err(EnrolmentRefusal::UsedUp));
    assert_eq!(enrol(&store, 9, 3).await, Err(EnrolmentRefusal::UnknownToken));
    token(&store, 2, Some("pi-7"), 1).await;
    assert_eq!(enrol(&store, 2, 4).await, Err(EnrolmentRefusal::NameTaken("pi-7".parse().unwrap())));
    let row = store.device("pi-7").await.unwrap().unwrap();
    assert_eq!(row.key, Some("01".repeat(32)));
    assert_eq!(row.host_name.as_deref(), Some("Board.local"));
    assert_eq!(event_kinds(&store).await, ["token-created", "device-enrolled", "token-created"]);
}

#[tokio::test]
async fn a_token_for_several_numbers_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    device(&store, "board-2", 100).await;
    token(&store, 1, Some("board"), 3).await;
    let mut names = Vec::new();
    for key in 1..=3 {
        names.push(enrol(&store, 1, key).await.unwrap().name.to_string());
    }
    assert_eq!(names, ["board-1", "board-3", "board-4"]);
    assert_eq!(enrol(&store, 1, 4).await, Err(EnrolmentRefusal::UsedUp));
    assert_eq!(enrol(&store, 1, 2).await.unwrap().name.as_str(), "board-3");
}

#[tokio::test]
async fn without_a_name_the_host_name_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    token(&store, 1, None, 3).await;
    let mut names = Vec::new();
    for key in 1..=3 {
        names.push(enrol(&store, 1, key).await.unwrap().name.to_string());
    }
    assert_eq!(names, ["board", "board-2", "board-3"]);
}

#[tokio::test]
async fn a_token_expires_but_a_lost_answer_is_given_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    token(&store, 1, Some("pi"), 5).await;
    let first = enrol(&store, 1, 1).await.unwrap();
    store
        .write(|change| Ok(change.connection.execute("UPDATE tokens SET expires_at = 1", ())?))
        .await
        .unwrap();
    assert_eq!(enrol(&store, 1, 2).await, Err(EnrolmentRefusal::Expired));
    assert_eq!(enrol(&store, 1, 1).await.unwrap().name, first.name);
}

#[tokio::test]
async fn two_at_once_do_not_both_get_the_last_use() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    token(&store, 1, Some("pi-7"), 1).await;
    let (one, two) = tokio::join!(enrol(&store, 1, 1), enrol(&store, 1, 2));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
}

#[tokio::test]
async fn a_revoked_key_is_known_as_such_and_its_name_can_get_a_new_key() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    assert!(matches!(store.device_by_key(hash(1)).await.unwrap(), KeyStatus::Known(known) if known.id == pi));
    assert_eq!(store.device_by_key(hash(2)).await.unwrap(), KeyStatus::Unknown);
    store.revoke("pi-7", "operator").await.unwrap();
    store.revoke("pi-7", "operator").await.unwrap();
    assert!(
        matches!(store.device_by_key(hash(1)).await.unwrap(), KeyStatus::Revoked(known) if known.id == pi)
    );
    token(&store, 2, Some("pi-7"), 1).await;
    assert_eq!(enrol(&store, 2, 1).await, Err(EnrolmentRefusal::KeyRevoked));
    // New keys on the same board: the same device, with its history.
    assert_eq!(enrol(&store, 2, 2).await.unwrap().device, pi);
    assert!(matches!(store.device_by_key(hash(1)).await.unwrap(), KeyStatus::Revoked(_)));
    assert!(matches!(store.device_by_key(hash(2)).await.unwrap(), KeyStatus::Known(_)));
    assert_eq!(store.device("pi-7").await.unwrap().unwrap().revoked_at, None);
    let revocations = event_kinds(&store).await.iter().filter(|kind| *kind == "device-revoked").count();
    assert_eq!(revocations, 1);
    assert!(matches!(store.revoke("nobody", "operator").await, Err(StoreError::NoSuchDevice)));
}

#[tokio::test]
async fn a_known_key_needs_no_second_registration() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    token(&store, 2, Some("other"), 1).await;
    let again = enrol(&store, 2, 1).await.unwrap();
    assert_eq!((again.device, again.name.as_str(), again.repeat), (pi, "pi-7", true));
    assert_eq!(enrol(&store, 2, 5).await.unwrap().name.as_str(), "other");
}

#[tokio::test]
async fn classic_clients_are_known_by_their_address() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
    let (first, second) = tokio::join!(store.classic_client(HOME), store.classic_client(mapped));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((&first, first.name.as_str()), (&second, "192.0.2.7"));
    assert_eq!(store.device("192.0.2.7").await.unwrap().unwrap().kind, DeviceKind::Classic);
    assert!(matches!(store.revoke("192.0.2.7", "operator").await, Err(StoreError::Classic)));
}

#[tokio::test]
async fn facts_and_status_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let facts = Facts {
        host_name: Some("pi".to_owned()),
        version: Some("1.2".to_owned()),
        ssh_user: None,
        ssh_host_keys: Some(vec!["ssh-ed25519 AAAA".to_owned()]),
    };
    store.set_facts(pi, facts).await.unwrap();
    // What a device says of itself at each connection has no keys: those that were registered stay.
    store.set_facts(pi, Facts { version: Some("1.3".to_owned()), ..Facts::default() }).await.unwrap();
    let status = serde_json::json!({ "temperature": 48.5 });
    store.set_status(pi, status.as_object().unwrap().clone()).await.unwrap();
    let row = store.device("pi-7").await.unwrap().unwrap();
    assert_eq!((row.version.as_deref(), row.ssh_host_keys.len()), (Some("1.3"), 1));
    assert_eq!(row.status.as_ref().unwrap()["temperature"], 48.5);
}
