use std::os::unix::fs::PermissionsExt;

use super::*;

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
