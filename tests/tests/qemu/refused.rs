//! Servers that are not the right one, devices that are not wanted, and blocks that are none.

use std::io;

use holdfast_tests::{
    machine::Machine,
    scene::{BOARD, OnNetwork, counts, network, wait_counts},
};

#[test]
fn a_server_with_another_key_is_refused() -> io::Result<()> {
    let (_, theirs) = network()?;
    let (proxy, server) = network()?;
    let mut machine = Machine::provisioned(&server, BOARD)?;
    proxy.lead_to(theirs.address());
    machine.run()?;
    let refusal = "the server's key is not the one that this device was told";
    machine.wait_console(&[refusal, "connecting", refusal]);
    assert!(theirs.ask(&["sessions"]).is_empty() && !machine.console().contains("online as"));

    // It goes on trying, and finds the right one.
    proxy.lead_to(server.address());
    server.wait_online(BOARD, true);
    machine.wait_console(&[&format!("online as {BOARD}")]);
    wait_counts(&server, BOARD, 1);
    Ok(())
}

#[test]
fn a_revoked_microcontroller_is_told_so() -> io::Result<()> {
    let OnNetwork { proxy: _proxy, server, mut machine } = OnNetwork::start()?;
    wait_counts(&server, BOARD, 1);
    server.tell(&["revoke", BOARD]);
    let refusal =
        "the server ended the connection: revoked; on the server, run `holdfast enroll --firmware --name";
    machine.wait_console(&["online as", refusal]);
    server.wait_online(BOARD, false);
    let archived = counts(&server, BOARD);

    // Neither does it come in anew.
    machine.kill();
    machine.run()?;
    machine.wait_console(&[refusal, "started", "connecting", refusal]);
    assert_eq!(machine.console().matches("online as").count(), 1, "{}", machine.console());
    server.wait_event("connection-refused", |event| {
        event["device"] == BOARD && event["detail"]["reason"] == "revoked"
    });
    assert_eq!(counts(&server, BOARD), archived, "nothing more of it is archived");
    Ok(())
}

#[test]
fn a_block_that_is_missing_or_damaged_is_told_and_tried_again() -> io::Result<()> {
    let (_proxy, server) = network()?;
    let mut machine = Machine::provisioned(&server, BOARD)?;
    let block = machine.flashed()?;
    let mut damaged = block.clone();
    damaged[100] ^= 1;
    let states = [
        (vec![0xff; block.len()], "no provisioning block: this flash is empty"),
        (damaged, "the provisioning block is damaged"),
    ];
    for (block, words) in states {
        machine.flash(&block)?;
        machine.run()?;
        machine.wait_console(&["started", words, "next attempt in", words]);
        assert!(!machine.console().contains("online as"));
        machine.kill();
    }
    machine.flash(&block)?;
    machine.run()?;
    server.wait_online(BOARD, true);
    Ok(())
}

#[test]
fn a_server_whose_name_nobody_knows_is_told_and_tried_again() -> io::Result<()> {
    let (_proxy, server) = network()?;
    let mut machine = Machine::provisioned(&server, BOARD)?;
    // No host has a name that ends so (RFC 6761). Who has no DNS at all does not know it either.
    machine.provision(&server, "lost", &["--address", "server.invalid:55223"])?;
    machine.run()?;
    let connecting = "connecting to server.invalid:55223";
    let unknown = "no way to the server: NotFound, no host of that name was found";
    machine.wait_console(&["started", connecting, unknown, "next attempt in", connecting]);
    Ok(())
}
