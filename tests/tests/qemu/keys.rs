//! The server's keys and its address change, and a microcontroller still knows them after a reset.

use std::io;

use holdfast_tests::{
    machine::{Machine, from_within},
    proxy::Proxy,
    scene::{BOARD, wait_counts},
    server::Server,
    wait,
};
use protocol_core::provisioning::Provisioning;

use crate::assert_one_session;

/// Restarts the server; it tells devices from then on that it is found here.
fn move_to(server: &mut Server, proxy: &Proxy) -> io::Result<()> {
    server.terminate();
    server.configure(&format!("advertise = ['{}']\n", from_within(proxy.address())))?;
    server.run()
}

/// Takes the server's next key into use, from its next start on; gives the pin of the key after it.
fn rotate(server: &Server) -> String {
    let answer = &server.ask(&["rotate-key"])[0];
    answer["next"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the machine has stored that the server is found here first, and what its next key is.
#[track_caller]
fn wait_stored(machine: &Machine, proxy: &Proxy, next: &str) {
    let address = from_within(proxy.address()).to_string();
    let holds_both = |block: &Vec<u8>| {
        Provisioning::decode(block).is_ok_and(|block| {
            let first = block.endpoints.addresses.first();
            first.is_some_and(|first| first.as_str() == address) && block.endpoints.next.to_string() == next
        })
    };
    wait::until("the block is changed", || machine.changed().unwrap_or_default(), holds_both);
}

#[test]
fn changed_keys_and_addresses_outlive_a_reset() -> io::Result<()> {
    let (old, new) = (Proxy::start()?, Proxy::start()?);
    let mut server = Server::start()?;
    old.lead_to(server.address());
    new.lead_to(server.address());
    move_to(&mut server, &old)?;
    let mut machine = Machine::provisioned(&server, BOARD)?;
    machine.run()?;
    server.wait_online(BOARD, true);
    assert!(machine.changed().is_err(), "what is no news is not stored");

    let next = rotate(&server);
    move_to(&mut server, &new)?;
    wait_stored(&machine, &new, &next);

    // What was provisioned leads nowhere now, and trusts two keys of which the server shows neither.
    machine.kill();
    drop(old);
    assert_ne!(rotate(&server), next);
    move_to(&mut server, &new)?;
    machine.run()?;
    wait_counts(&server, BOARD, 2);
    server.tell(&["send", BOARD, "--kind", "reset", ""]);
    machine.wait_console(&["started", "started", "Software", "online as"]);
    wait_counts(&server, BOARD, 2);
    assert_one_session(&server, BOARD);
    Ok(())
}
