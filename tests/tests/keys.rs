//! The server's keys: changed without a visit to any device, and never so that devices are locked out unseen.

use std::{fs, io, process::Output};

use holdfast_tests::{agent::Agent, server::Server, wait};
use serde_json::Value;

/// Takes the next key into use; gives the pins of the key in use from the next start on, and of the one after it.
#[track_caller]
fn rotate(server: &Server) -> (Value, Value) {
    let answer = &server.ask(&["rotate-key"])[0];
    (answer["current"].clone(), answer["next"].clone())
}

fn restart(server: &mut Server) -> io::Result<()> {
    server.terminate();
    server.run()
}

/// Waits until the device trusts these two keys, and no others.
#[track_caller]
fn wait_trusted(agent: &Agent, (current, next): &(Value, Value)) {
    let expected = [format!("current = {current}"), format!("next = {next}")];
    wait::until(
        "the device has learned the keys",
        || fs::read_to_string(agent.state().join("identity.toml")).unwrap_or_default(),
        |identity| expected.iter().all(|line| identity.lines().any(|found| found == line)),
    );
}

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(words.iter().all(|word| printed.contains(word)), "expected {words:?}, found {printed}");
}

#[test]
fn keys_change_without_a_visit_again_and_again() -> io::Result<()> {
    let mut server = Server::start()?;
    let agent = Agent::start(&server, "far-away")?;
    let mut before = None;
    for rotation in 1..=2 {
        let keys = rotate(&server);
        assert!(before.is_none_or(|(_, next)| next == keys.0), "the next key is the one in use now");
        restart(&mut server)?;
        server.wait_online("far-away", true);
        assert_eq!(server.ask(&["status"])[0]["pin"], keys.0);
        wait_trusted(&agent, &keys);
        agent.send(&format!("after rotation {rotation}"));
        wait::until("it is archived", || server.archived("far-away").len(), |count| *count == rotation);
        before = Some(keys);
    }
    let events = server.events("key-rotated");
    assert!(events.len() == 2 && events.iter().all(|event| event["who"].is_string()), "{events:?}");
    Ok(())
}

#[test]
fn a_rotation_that_would_lock_devices_out_is_refused() -> io::Result<()> {
    let mut server = Server::start()?;
    let mut agent = Agent::start(&server, "far-away")?;
    let keys = rotate(&server);
    refused(&server.command(&["rotate-key"]), &["has not been restarted", "restart the server", "--force"]);

    // The device does not see the restart: the server that shows the next key has told it nothing.
    agent.terminate();
    restart(&mut server)?;
    refused(&server.command(&["rotate-key"]), &["far-away", "wait until", "revoke", "--force"]);
    assert_eq!(server.events("key-rotated").len(), 1);
    agent.run()?;
    server.wait_online("far-away", true);
    wait_trusted(&agent, &keys);
    assert_eq!(rotate(&server).0, keys.1);

    // Whoever knows what it does may do it all the same.
    server.tell(&["rotate-key", "--force"]);
    assert_eq!(
        server.events("key-rotated").pop().map(|event| event["detail"]["force"].clone()),
        Some(true.into())
    );
    Ok(())
}

#[test]
fn a_lost_key_is_not_made_anew_beside_its_devices() -> io::Result<()> {
    let mut server = Server::start()?;
    let agent = Agent::start(&server, "far-away")?;
    let keys = server.data().join("keys");
    let (current, next) = (keys.join("current.pem"), keys.join("next.pem"));

    // The next key is left, and the device knows it.
    server.terminate();
    fs::remove_file(&current)?;
    let kept = fs::read(&next)?;
    server.run()?;
    assert_eq!(fs::read(&current)?, kept);
    assert_eq!(server.events("key-missing").len(), 1);
    server.wait_online("far-away", true);
    wait::until(
        "the device is told the key after it",
        || server.command(&["rotate-key"]).status.success(),
        |rotated| *rotated,
    );

    // The key in use is not shown by any server yet: the device does not know the one after it.
    server.terminate();
    let lost = fs::read(&current)?;
    let start = ["serve", "--listen", "127.0.0.1:0", "--classic", "off", "--http", "off"];
    for is_next_left in [true, false] {
        fs::remove_file(&current)?;
        let kept = fs::read(&next)?;
        if !is_next_left {
            fs::remove_file(&next)?;
        }
        refused(
            &server.command(&start),
            &["current.pem is missing", "1 registered", "from a backup", "start anew"],
        );
        assert!(!current.exists(), "nothing is made in its place");
        fs::write(&current, &lost)?;
        fs::write(&next, kept)?;
    }
    server.run()?;
    server.wait_online("far-away", true);
    agent.send("all is well");
    wait::until("it is archived", || server.archived("far-away").len(), |count| *count == 1);
    Ok(())
}

#[test]
fn without_devices_a_missing_key_is_made() -> io::Result<()> {
    let mut server = Server::start()?;
    server.terminate();
    fs::remove_file(server.data().join("keys/current.pem"))?;
    server.run()?;
    assert!(server.events("key-missing").is_empty());
    Ok(())
}
