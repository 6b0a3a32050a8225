use protocol_core::code::Role;

use super::*;

const HOUR: i64 = 3_600_000;

/// Logs the operator in by a new one-time login, from there; gives by what the login is known.
async fn log_in(store: &Store, seed: u8, address: IpAddr, is_secure: bool) -> SecretHash {
    let first = FirstLogin { hash: hash(seed), expires_at: UnixMillis::now().plus(60_000) };
    if seed == 1 {
        let added = store.add_operator("anna".parse().unwrap(), Role::Viewer, first, "test".into()).await;
        added.unwrap().unwrap();
        let login = NewLogin { hash: hash(seed), address, is_secure, browser: None };
        store.use_first_login(hash(seed), "a hash".to_owned(), login).await.unwrap().unwrap();
    } else {
        let candidate = store.candidate("anna").await.unwrap().unwrap();
        let login = NewLogin { hash: hash(seed), address, is_secure, browser: None };
        store.begin_login(candidate, None, login).await.unwrap().unwrap();
    }
    hash(seed)
}

/// As if so much time had passed since logins were used.
async fn rest(store: &Store, millis: i64) {
    let update = "UPDATE logins SET last_seen = last_seen - ?";
    store.write(move |change| Ok(change.connection.execute(update, [millis])?)).await.unwrap();
}

#[tokio::test]
async fn a_login_without_tls_ends_when_it_was_not_used_for_an_hour() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let secure = log_in(&store, 1, HOME, true).await;
    let plain = log_in(&store, 2, IpAddr::V4(Ipv4Addr::LOCALHOST), false).await;
    let is_good = async |hash: SecretHash, is_secure: bool| {
        store.operator_by_login(hash, is_secure, HOME).await.unwrap().is_some()
    };
    assert!(!is_good(plain, true).await && !is_good(secure, false).await, "only the way it came");
    rest(&store, HOUR / 2).await;
    let logins = store.logins(Some("anna")).await.unwrap();
    assert_eq!(logins.len(), 2);
    rest(&store, HOUR / 2).await;
    assert!(!is_good(plain, false).await && is_good(secure, true).await);
    assert_eq!(store.logins(None).await.unwrap().len(), 1);
    // Whoever logs in next takes away what has ended.
    let third = log_in(&store, 3, HOME, true).await;
    let count = store.read(|connection| {
        Ok(connection.query_row("SELECT count(*) FROM logins", (), |row| row.get::<_, i64>(0))?)
    });
    assert_eq!(count.await.unwrap(), 2);
    assert!(is_good(third, true).await);
}

#[tokio::test]
async fn an_operator_is_known_from_where_they_are_logged_in() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (office, phone) = (HOME, "2001:db8::7".parse().unwrap());
    log_in(&store, 1, office, true).await;
    let second = log_in(&store, 2, phone, true).await;
    let known = async || {
        let mut addresses = store.candidate("anna").await.unwrap().unwrap().addresses;
        addresses.sort();
        addresses
    };
    assert_eq!(known().await, [HOME.to_string(), "2001:db8::7".to_owned()]);
    rest(&store, 25 * HOUR).await;
    assert_eq!(known().await, ["2001:db8::7"], "where they were last");
    assert!(store.end_login(second, "test".into()).await.unwrap());
    assert_eq!(known().await, ["2001:db8::7"]);
}

#[tokio::test]
async fn a_second_factor_is_the_one_that_was_offered_last() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    log_in(&store, 1, HOME, true).await;
    let anna = store.candidate("anna").await.unwrap().unwrap().operator.id;
    let set = async |secret: Option<&[u8]>| {
        let confirmed = secret.map(|secret| (secret.to_vec(), 1));
        store.set_totp(anna, confirmed, "anna".into()).await.unwrap()
    };
    assert!(!set(None).await, "there is none");
    for secret in [b"first", b"other"] {
        store.offer_totp(anna, secret.to_vec()).await.unwrap();
    }
    assert!(!set(Some(b"first")).await, "it was shown in another window, and is out of date");
    assert!(set(Some(b"other")).await);
    assert!(!set(Some(b"other")).await, "it is offered once");
    assert!(set(None).await);
    let changes = event_kinds(&store).await.into_iter().filter(|kind| kind == "second-factor-changed");
    assert_eq!(changes.count(), 2);
}
