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
    let stored = *identity.learn(CURRENT, &told).unwrap();
    assert_eq!(stored, identity.block);
    assert_eq!(addresses(&identity), ["new:1", "new:2", "new:3", "old:1"]);
    {
        let known = identity.provisioning().unwrap();
        assert_eq!((known.name.as_str(), known.certificate), ("mcu", &[1; 300][..]));
        assert_eq!(known.key, PrivateKey([7; 32]));
    }
    assert!(identity.learn(CURRENT, &told).is_none(), "no news");

    assert_eq!(dial(&mut identity), "new:1");
    assert_eq!(dial(&mut identity), "new:2");
    identity.welcomed();
    assert!(identity.learn(CURRENT, &told).is_some());
    assert_eq!(addresses(&identity), ["new:1", "new:2", "new:3", "new:4"]);
}

#[test]
fn keys_are_taken_over_from_the_server_that_holds_them() {
    let mut identity = identity(&["a:1"]);
    assert_eq!(dial(&mut identity), "a:1");
    let rotated = endpoints(NEXT, Pin([3; 32]), &["a:1"]);
    assert!(identity.learn(CURRENT, &rotated).is_none(), "it has shown another key than it names");
    assert!(identity.learn(NEXT, &rotated).is_some());
    let pins = |identity: &Identity| {
        identity.provisioning().map(|known| (known.endpoints.current, known.endpoints.next))
    };
    assert_eq!(pins(&identity), Ok((NEXT, Pin([3; 32]))));
    assert!(
        identity.learn(NEXT, &endpoints(NEXT, CURRENT, &[])).is_none(),
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
    assert!(identity.learn(CURRENT, &endpoints(CURRENT, NEXT, &told)).is_some());
    assert_eq!(addresses(&identity), [&long[0], &long[1], &long[2], &long[4]]);
}
