//! The agent as a device runs it, from enrolment to messages both ways. `cargo xtask dist --run` gives it the binaries
//! that are shipped, each in its emulator if it is for another machine.

use std::{env, io};

use holdfast_tests::{agent::Agent, server::Server, wait};

/// The most memory that an agent at rest may hold, in kilobytes, unless `HOLDFAST_AGENT_MOST_MEMORY` says it: that of
/// an unoptimised build, or of an emulator.
const MOST_MEMORY: u64 = 64 * 1024;

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

#[test]
fn an_agent_at_rest_is_small() -> io::Result<()> {
    let most = env::var("HOLDFAST_AGENT_MOST_MEMORY").map_or(Ok(MOST_MEMORY), |most| most.parse());
    let most = most.map_err(io::Error::other)?;
    let server = Server::start()?;
    let mut agent = Agent::start(&server, "board")?;
    // All of its parts have worked before it rests.
    agent.send("up");
    wait::until("it is archived", || server.archived("board"), |archived| *archived == ["up"]);
    server.tell(&["send", "board", "down"]);
    wait::until("the device has it", || agent.receive(), |received| *received == ["down"]);
    let memory = wait::until("it is small", || agent.process().memory(), |memory| *memory <= most);
    println!("\nmemory at rest: {memory} kB");
    Ok(())
}
