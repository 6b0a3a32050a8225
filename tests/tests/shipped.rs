//! The agent as a device runs it, from enrolment to messages both ways. `cargo xtask dist --run` gives it the binaries
//! for ARM boards, each in its emulator.

use std::io;

use holdfast_tests::{agent::Agent, server::Server, wait};

#[test]
fn an_agent_is_enrolled_heard_and_spoken_to() -> io::Result<()> {
    let server = Server::start()?;
    let mut agent = Agent::enrolled(&server, "board")?;
    agent.send("before it runs");
    agent.run()?;
    server.wait_online("board", true);
    agent.send("while it runs");
    let expected = ["before it runs", "while it runs"];
    wait::until("both are archived", || server.archived("board"), |archived| *archived == expected);

    server.tell(&["send", "board", "from the operator"]);
    wait::until("the device has it", || agent.receive(), |received| *received == ["from the operator"]);

    // What was echoed is not sent again by the next run.
    agent.terminate();
    server.wait_online("board", false);
    agent.run()?;
    server.wait_online("board", true);
    agent.send("again");
    let expected = ["before it runs", "while it runs", "again"];
    wait::until("it is archived", || server.archived("board"), |archived| *archived == expected);
    Ok(())
}
