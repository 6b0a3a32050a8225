use std::{format, string::ToString, vec::Vec};

use protocol_core::provisioning::PrivateKey;

use super::*;

const CURRENT: Pin = Pin([1; 32]);
const NEXT: Pin = Pin([2; 32]);

fn endpoints<'a>(current: Pin, next: Pin, addresses: &[&'a str]) -> Endpoints<'a> {
    let addresses = addresses.iter().map(|address| Text::new(address).unwrap()).collect();
    Endpoints { current, next, addresses }
}

fn block(addresses: &[&str]) -> [u8; LENGTH] {
    let endpoints = endpoints(CURRENT, NEXT, addresses);
    let name = Text::new("mcu").unwrap();
    let mut block = [0; LENGTH];
    Provisioning { name, key: PrivateKey([7; 32]), certificate: &[1; 300], endpoints }
        .encode(&mut block)
        .unwrap();
    block
}

/// An identity of a device whose flash holds these addresses.
fn identity(addresses: &[&str]) -> Identity {
    let mut identity = Identity::new();
    identity.block = block(addresses);
    identity
}

/// What it writes to its flash at this second of its life.
fn stored(identity: &mut Identity, second: u32) -> Option<[u8; LENGTH]> {
    let mut written = None;
    identity.store(Instant::from_micros(0).after(Duration::from_secs(second)), |block| {
        written = Some(*block);
        Ok::<_, ()>(())
    });
    written
}

/// Has it learn this: gives whether that was news.
fn learn(identity: &mut Identity, shown: Pin, told: &Endpoints<'_>) -> bool {
    identity.learn(shown, told);
    let block = identity.block;
    stored(identity, 0).inspect(|stored| assert_eq!(*stored, block)).is_some()
}

fn dial(identity: &mut Identity) -> std::string::String {
    identity.dial(|_| panic!("it knows who it is")).unwrap().to_string()
}

fn addresses(identity: &Identity) -> Vec<&str> {
    let addresses = identity.provisioning().unwrap().endpoints.addresses;
    addresses.iter().map(|address| address.as_str()).collect()
}

#[test]
fn addresses_are_tried_in_turn_and_the_best_first() {
    let mut identity = identity(&["a:1", "b:2", "c:3"]);
    let tried: Vec<_> = (0..5).map(|_| dial(&mut identity)).collect();
    assert_eq!(tried, ["a:1", "b:2", "c:3", "a:1", "b:2"]);
    identity.welcomed();
    assert_eq!(dial(&mut identity), "a:1");
    assert_eq!(dial(&mut identity), "b:2");
}

#[test]
fn a_block_is_looked_for_until_it_is_there() {
    let mut identity = Identity::new();
    assert_eq!(identity.dial(|_| ()), Err(ProvisioningError::Missing));
    assert_eq!(identity.dial(|flash| flash[3] = 1), Err(ProvisioningError::Damaged));
    assert_eq!(identity.dial(|flash| *flash = block(&["a:1"])).unwrap(), "a:1");
    assert_eq!(dial(&mut identity), "a:1");
    assert!(!format!("{identity:?}").contains("7, 7"), "{identity:?}");

    let mut identity = Identity::new();
    assert_eq!(identity.dial(|flash| *flash = block(&[])).unwrap(), "", "no transport knows a way there");
}

#[test]
fn an_address_that_works_is_kept_until_another_does() {
    let mut identity = identity(&["old:1"]);
    assert_eq!(dial(&mut identity), "old:1");
    identity.welcomed();
    let told = endpoints(CURRENT, NEXT, &["new:1", "new:2", "new:3", "new:4"]);
    assert!(learn(&mut identity, CURRENT, &told));
    assert_eq!(addresses(&identity), ["new:1", "new:2", "new:3", "old:1"]);
    {
        let known = identity.provisioning().unwrap();
        assert_eq!((known.name.as_str(), known.certificate), ("mcu", &[1; 300][..]));
        assert_eq!(known.key, PrivateKey([7; 32]));
    }
    assert!(!learn(&mut identity, CURRENT, &told), "no news");

    assert_eq!(dial(&mut identity), "new:1");
    assert_eq!(dial(&mut identity), "new:2");
    identity.welcomed();
    assert!(learn(&mut identity, CURRENT, &told));
    assert_eq!(addresses(&identity), ["new:1", "new:2", "new:3", "new:4"]);
}

#[test]
fn keys_are_taken_over_from_the_server_that_holds_them() {
    let mut identity = identity(&["a:1"]);
    assert_eq!(dial(&mut identity), "a:1");
    let rotated = endpoints(NEXT, Pin([3; 32]), &["a:1"]);
    assert!(!learn(&mut identity, CURRENT, &rotated), "it has shown another key than it names");
    assert!(learn(&mut identity, NEXT, &rotated));
    let pins = |identity: &Identity| {
        identity.provisioning().map(|known| (known.endpoints.current, known.endpoints.next))
    };
    assert_eq!(pins(&identity), Ok((NEXT, Pin([3; 32]))));
    assert!(
        !learn(&mut identity, NEXT, &endpoints(NEXT, CURRENT, &[])),
        "a server says at least one address"
    );
}

#[test]
fn the_longest_addresses_fit() {
    let long: Vec<_> =
        (0..5).map(|letter| std::string::String::from_utf8(std::vec![b'a' + letter; 128]).unwrap()).collect();
    let mut identity = identity(&[&long[4]]);
    assert_eq!(dial(&mut identity), long[4]);
    let told: Vec<_> = long[..4].iter().map(|address| address.as_str()).collect();
    assert!(learn(&mut identity, CURRENT, &endpoints(CURRENT, NEXT, &told)));
    assert_eq!(addresses(&identity), [&long[0], &long[1], &long[2], &long[4]]);
}

const HOUR: u32 = 60 * 60;

#[test]
fn a_server_that_says_something_new_each_second_does_not_wear_the_flash_out() {
    let mut identity = identity(&["a:1"]);
    assert_eq!(dial(&mut identity), "a:1");
    let mut writes = Vec::new();
    for second in 0..=2 * HOUR + 1 {
        let news = if second % 2 == 0 { "b:1" } else { "c:1" };
        identity.learn(CURRENT, &endpoints(CURRENT, NEXT, &[news]));
        writes.extend(stored(&mut identity, second).map(|_| second));
    }
    assert_eq!(writes, [0, 1, 2, HOUR, 2 * HOUR]);

    // The last word is not lost.
    assert!(stored(&mut identity, 3 * HOUR - 1).is_none());
    let written = stored(&mut identity, 3 * HOUR).expect("it is written later");
    assert_eq!(addresses(&identity), ["c:1", "a:1"]);
    assert_eq!(written, identity.block);
    assert!(stored(&mut identity, 99 * HOUR).is_none(), "once");
}

#[test]
fn a_device_that_was_left_alone_bears_eight_writes_at_once() {
    let mut identity = identity(&["a:1"]);
    for start in [1_000 * HOUR, 1_008 * HOUR] {
        let mut writes = 0;
        for pin in 10..30 {
            identity.learn(CURRENT, &endpoints(CURRENT, Pin([pin; 32]), &["a:1"]));
            writes += usize::from(stored(&mut identity, start).is_some());
        }
        assert_eq!(writes, 8);
    }
}

#[test]
fn a_write_that_fails_is_tried_again() {
    let mut identity = identity(&["a:1"]);
    identity.learn(CURRENT, &endpoints(CURRENT, Pin([3; 32]), &["a:1"]));
    let mut failed = 0;
    for _ in 0..9 {
        identity.store(Instant::from_micros(0), |_| {
            failed += 1;
            Err(())
        });
    }
    assert_eq!(failed, 3, "an attempt wears as a write does");
    assert_eq!(stored(&mut identity, HOUR), Some(identity.block));
    assert!(stored(&mut identity, 99 * HOUR).is_none(), "once");
}
