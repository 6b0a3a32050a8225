use protocol_core::code::Role;

use tokio::time::timeout;

use super::*;

const FOR_LONG: i64 = 60_000;

fn key(letter: u8) -> [u8; 32] {
    [letter; 32]
}

async fn line(store: &Store, token: u8, name: &str, role: Option<Role>, millis: i64) {
    let token = NewToken {
        hash: key(token),
        name: Some(name.parse().unwrap()),
        uses: 1,
        expires_at: UnixMillis::now().plus(millis),
        role,
        who: "test".into(),
    };
    store.create_token(token).await.unwrap();
}

async fn log_in(store: &Store, token: u8, letter: u8) -> Result<OperatorRef, EnrolmentRefusal> {
    let enrolment = OperatorEnrolment {
        token_hash: key(token),
        key: key(letter),
        host_name: Some("laptop".to_owned()),
        address: "192.0.2.1".parse().unwrap(),
    };
    store.enrol_operator(enrolment).await.unwrap()
}

async fn whose(store: &Store, letter: u8) -> OperatorKey {
    store.operator_by_key(key(letter), "192.0.2.2".parse().unwrap()).await.unwrap()
}

/// Waits until it is noted from where the first operator was seen.
async fn seen_from(store: &Store) -> String {
    let noted = async {
        loop {
            let row = store.operators().await.unwrap().remove(0);
            if let (Some(_), Some(address)) = (row.last_seen, row.address) {
                return address;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LONGEST_WAIT, noted).await.expect("it is noted that they were seen")
}

#[tokio::test]
async fn a_disk_that_stands_still_shuts_no_operator_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    line(&store, 1, "anna", Some(Role::Viewer), FOR_LONG).await;
    let anna = log_in(&store, 1, b'a').await.unwrap();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (standing, mut stands) = tokio::sync::mpsc::unbounded_channel();
    let stalled = tokio::spawn({
        let store = store.clone();
        async move {
            let wait = std::sync::Mutex::new(wait);
            let stall = move |_: &mut Change<'_>| {
                let _ = standing.send(());
                // Until the other end is dropped.
                let _ = wait.lock().unwrap().recv();
                Ok(())
            };
            store.write(stall).await
        }
    });
    timeout(LONGEST_WAIT, stands.recv()).await.unwrap();
    for _ in 0..100 {
        let known = timeout(LONGEST_WAIT, whose(&store, b'a')).await.expect("nobody waits for the disk");
        assert_eq!(known, OperatorKey::Known(anna.clone()));
    }
    assert!(store.backlog().0 <= 1, "one note waits at most");
    assert_eq!(store.operators().await.unwrap()[0].last_seen, None);
    drop(go_on);
    stalled.await.unwrap().unwrap();
    assert_eq!(seen_from(&store).await, "192.0.2.2");
}

#[tokio::test]
async fn a_role_of_a_newer_version_may_nothing_and_hides_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for (token, name) in [(1, "anna"), (2, "otto")] {
        line(&store, token, name, Some(Role::Viewer), FOR_LONG).await;
        log_in(&store, token, token).await.unwrap();
    }
    let change = |change: &mut Change<'_>| {
        change.connection.execute_batch(
            "PRAGMA ignore_check_constraints = ON;
                UPDATE operators SET role = 'auditor' WHERE name = 'anna'",
        )?;
        Ok(())
    };
    store.write(change).await.unwrap();
    let roles: Vec<_> = store.operators().await.unwrap().into_iter().map(|row| row.role).collect();
    assert_eq!(roles, [Role::Other(0), Role::Viewer]);
    assert!(matches!(whose(&store, 1).await, OperatorKey::Known(anna) if anna.role == Role::Other(0)));
}

#[tokio::test]
async fn an_operator_is_known_by_a_key_until_they_are_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    line(&store, 1, "anna", Some(Role::Viewer), FOR_LONG).await;
    assert_eq!(whose(&store, b'a').await, OperatorKey::Unknown);
    let anna = log_in(&store, 1, b'a').await.unwrap();
    assert_eq!((anna.name.as_str(), anna.role), ("anna", Role::Viewer));
    assert_eq!(log_in(&store, 1, b'a').await.unwrap(), anna, "the answer may have been lost");
    assert_eq!(log_in(&store, 1, b'b').await.unwrap_err(), EnrolmentRefusal::UsedUp);
    assert_eq!(whose(&store, b'a').await, OperatorKey::Known(anna.clone()));
    assert_eq!(seen_from(&store).await, "192.0.2.2");

    line(&store, 2, "anna", Some(Role::Admin), FOR_LONG).await;
    let taken = EnrolmentRefusal::OperatorTaken("anna".parse().unwrap());
    assert_eq!(log_in(&store, 2, b'c').await.unwrap_err(), taken);
    let revoked = store.revoke_operator("anna", "test").await.unwrap();
    assert_eq!(
        revoked,
        Some(RevokedOperator {
            operator: anna.clone(),
            keys: vec![key(b'a')],
            logins: vec![],
            access_tokens: vec![]
        })
    );
    assert_eq!(whose(&store, b'a').await, OperatorKey::Revoked(anna));
    assert_eq!(log_in(&store, 2, b'a').await.unwrap_err(), EnrolmentRefusal::KeyRevoked);
    assert_eq!(store.revoke_operator("nobody", "test").await.unwrap(), None);
    assert_eq!(
        log_in(&store, 2, b'c').await.unwrap_err(),
        EnrolmentRefusal::Expired,
        "a line that was made before gives nothing back"
    );

    // The same person with a new key, and the new role; the old key stays what it is.
    line(&store, 3, "anna", Some(Role::Admin), FOR_LONG).await;
    let back = log_in(&store, 3, b'c').await.unwrap();
    assert_eq!(back.role, Role::Admin);
    assert_eq!(whose(&store, b'c').await, OperatorKey::Known(back));
    assert!(matches!(whose(&store, b'a').await, OperatorKey::Revoked(_)));
}

#[tokio::test]
async fn lines_are_for_whom_they_were_made() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    line(&store, 1, "anna", Some(Role::Viewer), FOR_LONG).await;
    line(&store, 2, "pi", None, FOR_LONG).await;
    line(&store, 3, "otto", Some(Role::Viewer), -1).await;
    assert_eq!(log_in(&store, 2, b'a').await.unwrap_err(), EnrolmentRefusal::ForDevice);
    assert_eq!(log_in(&store, 3, b'a').await.unwrap_err(), EnrolmentRefusal::Expired);
    assert_eq!(log_in(&store, 4, b'a').await.unwrap_err(), EnrolmentRefusal::UnknownToken);
    let device = |token| {
        let address = "192.0.2.1".parse().unwrap();
        Enrolment { token_hash: key(token), key: key(b'd'), facts: Facts::default(), address }
    };
    let refused = store.enrol(device(1)).await.unwrap().unwrap_err();
    assert_eq!(refused, EnrolmentRefusal::ForOperator);
    assert!(store.enrol(device(2)).await.unwrap().is_ok());
    assert!(log_in(&store, 1, b'a').await.is_ok());
    // A device's key is no operator's.
    assert_eq!(whose(&store, b'd').await, OperatorKey::Unknown);
}

#[tokio::test]
async fn an_operator_with_a_password_gets_a_key_by_a_line_and_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let first = FirstLogin { hash: [1; 32], expires_at: UnixMillis::now().plus(60_000) };
    let name: DeviceName = "anna".parse().unwrap();
    let added = store.add_operator(name.clone(), Role::Viewer, first, "test".into()).await.unwrap().unwrap();
    let again = store.add_operator(name.clone(), Role::Admin, first, "test".into()).await.unwrap();
    assert_eq!(again, Err(EnrolmentRefusal::OperatorTaken(name)));
    let login =
        NewLogin { hash: [2; 32], address: "192.0.2.1".parse().unwrap(), is_secure: true, browser: None };
    store.use_first_login([1; 32], "a hash".to_owned(), login.clone()).await.unwrap().unwrap();
    assert!(store.use_first_login([1; 32], "another".to_owned(), login).await.unwrap().is_none());
    line(&store, 3, "anna", Some(Role::Viewer), FOR_LONG).await;
    store.set_role("anna", Role::Operator, "test".into()).await.unwrap().unwrap();
    assert_eq!(log_in(&store, 3, b'a').await, Err(EnrolmentRefusal::Expired), "of another role");
    line(&store, 5, "anna", Some(Role::Admin), FOR_LONG).await;
    assert!(matches!(log_in(&store, 5, b'a').await, Err(EnrolmentRefusal::OperatorTaken(_))), "a higher one");
    line(&store, 6, "anna", Some(Role::Operator), FOR_LONG).await;
    let keyed = log_in(&store, 6, b'a').await.unwrap();
    assert_eq!((keyed.id, keyed.role), (added.id, Role::Operator));
    line(&store, 4, "anna", Some(Role::Admin), FOR_LONG).await;
    assert!(matches!(log_in(&store, 4, b'b').await, Err(EnrolmentRefusal::OperatorTaken(_))), "one key each");
    let row = store.operator("anna").await.unwrap().unwrap();
    assert!(row.has_password && row.key.is_some());
    let revoked = store.revoke_operator("anna", "test").await.unwrap().unwrap();
    assert_eq!((revoked.keys.len(), revoked.logins.as_slice()), (1, &[[2; 32]][..]));
    let row = store.operator("anna").await.unwrap().unwrap();
    assert!(!row.has_password && row.revoked_at.is_some());
    assert!(store.operator_by_login([2; 32], true, "192.0.2.1".parse().unwrap()).await.unwrap().is_none());
}
