//! A device whose calendar was never set, as that of a board without a battery: nothing waits for the right time.

use std::io;

use holdfast_tests::{agent::Agent, server::Server, wait};
use serde_json::Value;

/// A day after the calendar of computers begins, whatever the time zone.
const NEVER_SET: &str = "@1970-01-02 00:00:00";

/// The time that messages from the device say they were sent at.
fn times(server: &Server) -> Vec<Value> {
    let messages = server.ask(&["messages", "garden"]);
    let from_it = messages.into_iter().filter(|message| message["direction"] == "in");
    from_it.map(|message| message["time"].clone()).collect()
}

#[test]
fn a_device_that_does_not_know_the_time_enrols_connects_and_is_heard() -> io::Result<()> {
    let server = Server::start()?;
    let mut agent = Agent::new("garden")?;
    agent.set_calendar(NEVER_SET)?;
    agent.tell(&["enroll", &server.invite(&["--name", "garden"])]);
    agent.send("before it runs");
    agent.run()?;
    server.wait_online("garden", true);
    agent.send("while it runs");
    let expected = ["before it runs", "while it runs"];
    wait::until("both are archived", || server.archived("garden"), |archived| *archived == expected);
    assert_eq!(
        times(&server),
        [Value::Null, Value::Null],
        "a time that is not known is not told; is faketime installed? (cargo xtask setup)"
    );
    let status: Value = serde_json::from_str(&agent.tell(&["status", "--json"]))?;
    assert_eq!((&status["connected"], &status["since"]), (&true.into(), &0.into()), "{status}");
    server.tell(&["send", "garden", "from the operator"]);
    wait::until("the device has it", || agent.receive(), |received| *received == ["from the operator"]);

    // Its calendar is set: that ends nothing, and from now on times are told.
    agent.set_calendar("+0")?;
    agent.send("it is late");
    wait::until("it is archived", || server.archived("garden").len(), |count| *count == 3);
    assert!(times(&server)[2].as_str().is_some_and(|time| time > "2026"), "{:?}", times(&server));
    assert_eq!(server.events("device-connected").len(), 1, "the session went on");
    Ok(())
}
