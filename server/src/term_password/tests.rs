use std::os::unix::fs::PermissionsExt;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn five_attempts_at_once_then_one_each_ten_seconds() {
    let mut limit = RateLimit::default();
    let address = IpAddr::from([192, 0, 2, 1]);
    let start = Instant::now();
    let allowed = (0..20).filter(|_| limit.allow(address, start)).count();
    assert_eq!(allowed, 5);
    assert!(limit.allow(IpAddr::from([192, 0, 2, 2]), start), "another address has its own attempts");
    assert!(!limit.allow(address, start + seconds(9)));
    assert!(limit.allow(address, start + seconds(10)));
    assert!(!limit.allow(address, start + seconds(19)));
    assert!(limit.allow(address, start + seconds(20)));
    let rested = (0..20).filter(|_| limit.allow(address, start + seconds(200))).count();
    assert_eq!(rested, 5, "never more than five at once");
}

#[test]
fn an_ipv6_network_and_a_mapped_address_are_one_holder() {
    let mut limit = RateLimit::default();
    let now = Instant::now();
    let allowed = (1..20_u16)
        .filter(|last| limit.allow(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, *last, *last).into(), now))
        .count();
    assert_eq!(allowed, 5);
    assert!(limit.allow(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1).into(), now));
    let plain = IpAddr::from([192, 0, 2, 1]);
    let mapped = IpAddr::from(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201));
    assert_eq!(holder(plain), holder(mapped));
}

#[test]
fn the_table_of_addresses_is_bounded() {
    let mut limit = RateLimit::default();
    let start = Instant::now();
    let address = |number: u32| IpAddr::from(number.to_be_bytes());
    for number in 0..MAX_ADDRESSES as u32 {
        assert!(limit.allow(address(number), start));
    }
    assert!(!limit.allow(address(u32::MAX), start));
    assert!(limit.allow(address(1), start), "who is remembered is served");
    assert!(limit.allow(address(u32::MAX), start + seconds(11)), "who has rested is forgotten");
    assert_eq!(limit.full.len(), 2);
}

#[tokio::test]
async fn a_password_is_in_force_as_soon_as_it_is_set() {
    let data = tempfile::tempdir().unwrap();
    let attempts = TermPassword::new(data.path());
    let address = |last| IpAddr::from([192, 0, 2, last]);
    assert_eq!(attempts.attempt(address(1), b"sesame").await.unwrap(), Verdict::NotSet);
    assert!(!attempts.was_set());
    set(data.path(), b"sesame").unwrap();
    assert!(attempts.was_set());
    assert!(!attempts.was_set());
    assert_eq!(attempts.attempt(address(1), b"sesame").await.unwrap(), Verdict::Accepted);
    assert_eq!(attempts.attempt(address(1), b"sesame\n").await.unwrap(), Verdict::Wrong);
    assert_eq!(attempts.attempt(address(1), b"").await.unwrap(), Verdict::Wrong);
    set(data.path(), b"\xff\0other").unwrap();
    assert_eq!(attempts.attempt(address(1), b"sesame").await.unwrap(), Verdict::Wrong);
    assert_eq!(attempts.attempt(address(1), b"\xff\0other").await.unwrap(), Verdict::Limited);
    assert_eq!(attempts.attempt(address(2), b"\xff\0other").await.unwrap(), Verdict::Accepted);
}

#[tokio::test]
async fn a_damaged_file_lets_nobody_in() {
    let data = tempfile::tempdir().unwrap();
    let attempts = TermPassword::new(data.path());
    for content in ["", "sesame", "$argon2id$v=19"] {
        fs::write(data.path().join(FILE), content).unwrap();
        let address = IpAddr::from([192, 0, 2, 1]);
        let error = attempts.attempt(address, content.as_bytes()).await.unwrap_err();
        assert!(matches!(error, TermPasswordError::NoHash { .. }), "{error}");
    }
}

#[test]
fn the_file_is_private_and_is_replaced_as_a_whole() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    set(&data, b"one").unwrap();
    let first = fs::read(data.join(FILE)).unwrap();
    set(&data, b"one").unwrap();
    assert_ne!(first, fs::read(data.join(FILE)).unwrap(), "each hash has its own salt");
    assert!(first.starts_with(b"$argon2id$"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join(FILE))), (0o700, 0o600));
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn what_is_no_password_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    assert!(matches!(set(data.path(), b"").unwrap_err(), TermPasswordError::Empty));
    let long = [b'x'; MAX_PASSWORD + 1];
    assert!(matches!(set(data.path(), &long).unwrap_err(), TermPasswordError::TooLong));
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    set(data.path(), &long[1..]).unwrap();
}
