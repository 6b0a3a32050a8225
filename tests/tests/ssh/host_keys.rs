//! Host keys that change, and that come only after the device was enrolled.

use std::{fs, io, process::Output};

use holdfast_tests::{
    agent::Agent,
    server::Server,
    sshd::{self, Sshd},
    wait::{self, LONGEST_WAIT},
};

use crate::fleet::{DEVICE, Fleet};

const HOST: &str = "kiosk.fleet";

/// What both ways to the device say: it is refused, and why.
#[track_caller]
fn refused(fleet: &Fleet) -> [String; 2] {
    [fleet.run("ssh", &[HOST, "echo", "in"]), fleet.holdfast_ssh(&[], &["echo", "in"])].map(|output| {
        assert_eq!(output.status.code(), Some(255), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let error = said(&output);
        assert!(error.contains("is not registered, and is refused"), "{error}");
        assert!(error.contains("holdfast accept-host-key kiosk"), "{error}");
        error
    })
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_changed_host_key_is_refused_until_it_is_accepted() -> io::Result<()> {
    let mut fleet = Fleet::start()?;
    assert_eq!(fleet.tell("ssh", &[HOST, "echo", "first"]), "first\n");
    let none = fleet.server.command(&["accept-host-key", DEVICE, "--yes"]);
    assert!(none.status.code() == Some(1) && said(&none).contains("no other host key"), "{none:?}");
    fleet.sshd.kill();
    fleet.sshd.make_host_key()?;
    fleet.sshd.run()?;
    let [error, _] = refused(&fleet);
    assert!(error.matches("SHA256:").count() >= 2, "what is registered, and what was shown: {error}");
    let event = fleet.server.wait_event("host-key-changed", |event| event["device"] == DEVICE);
    assert!(event["detail"]["shown"].as_str().unwrap_or_default().starts_with("ssh-ed25519 "), "{event}");
    let fingerprint = event["detail"]["fingerprint"].as_str().expect("it is told").to_owned();
    assert!(error.contains(&fingerprint), "{error}");

    // The device does not say that it is right, however often it comes back.
    fleet.agent.terminate();
    fleet.agent.run()?;
    fleet.server.wait_online(DEVICE, true);
    refused(&fleet);

    let nobody = fleet.server.command(&["accept-host-key", DEVICE]);
    assert!(nobody.status.code() == Some(2) && said(&nobody).contains(&fingerprint), "{nobody:?}");
    let accepted = fleet.server.tell(&["accept-host-key", HOST, "--yes"]);
    assert!(accepted.contains(&fingerprint) && accepted.contains("in the place of SHA256:"), "{accepted}");
    assert_eq!(fleet.tell("ssh", &[HOST, "echo", "second"]), "second\n");
    let event = fleet.server.wait_event("host-key-accepted", |event| event["device"] == DEVICE);
    assert_eq!(
        (&event["who"], &event["detail"]["fingerprint"]),
        (&sshd::user()?.into(), &fingerprint.into())
    );

    // By its name, beforehand: whoever sets a device up knows its key.
    fleet.sshd.kill();
    fleet.sshd.make_host_key()?;
    fleet.sshd.run()?;
    let file = fs::read_to_string(fleet.sshd.directory().join("ssh_host_ed25519_key.pub"))?;
    let words: Vec<_> = file.split_whitespace().take(2).collect();
    fleet.server.tell(&[&["accept-host-key", DEVICE], words.as_slice()].concat());
    assert_eq!(fleet.tell("ssh", &[HOST, "echo", "third"]), "third\n");
    Ok(())
}

#[test]
fn a_device_that_had_no_host_key_when_it_was_enrolled() -> io::Result<()> {
    let (server, sshd, agent) = (Server::start()?, Sshd::start()?, Agent::new(DEVICE)?);
    let (key, aside) = (sshd.directory().join("ssh_host_ed25519_key.pub"), sshd.directory().join("aside"));
    fs::rename(&key, &aside)?;
    sshd.belong_to(&agent, "")?;
    let enrolled = agent.command(&["enroll", &server.invite(&["--name", DEVICE])], LONGEST_WAIT)?;
    assert!(
        enrolled.status.success() && said(&enrolled).contains("no SSH host key is there"),
        "{enrolled:?}"
    );
    let mut fleet = Fleet::enrolled(server, agent, sshd)?;
    let [error, _] = refused(&fleet);
    assert!(error.contains("registered for kiosk: no host key"), "{error}");
    fleet.server.wait_event("host-key-unknown", |event| event["device"] == DEVICE);
    assert!(fleet.server.events("host-key-changed").is_empty());

    fs::rename(&aside, &key)?;
    fleet.agent.terminate();
    fleet.agent.run()?;
    fleet.server.wait_event("host-key-registered", |event| event["device"] == DEVICE);
    wait::until_true("it is online", || fleet.server.shows_online(DEVICE));
    assert_eq!(fleet.tell("ssh", &[HOST, "echo", "in"]), "in\n");
    Ok(())
}
