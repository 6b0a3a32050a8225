//! On a serial line, with an agent as the gateway.

use std::{io, sync::Arc, time::Instant};

use agent_embedded::board::ResetReason;
use holdfast_tests::{agent::Agent, machine::Machine, serial_line::SerialLine, server::Server, wait};
use rustix::process::Signal;

use crate::{
    BOARD, archived, assert_answers, assert_offline_in_time, assert_one_session, counts, texts, wait_counts,
    wait_told,
};

/// A server, an agent, and a machine that is wired to it.
struct Scene {
    server: Server,
    agent: Agent,
    line: Arc<SerialLine>,
    machine: Machine,
}

impl Scene {
    /// All are there, and the machine is online.
    fn new() -> io::Result<Self> {
        let server = Server::start()?;
        let line = Arc::new(SerialLine::new()?);
        let mut agent = Agent::enrolled(&server, "pi")?;
        server.tell(&["enroll", "--name", BOARD, "--gateway", "pi"]);
        agent.configure(&format!("[[serial]]\npath = '{}'\ndevice = '{BOARD}'\n", line.path().display()))?;
        agent.run()?;
        let mut machine = Machine::wired(&line)?;
        machine.run()?;
        server.wait_online(BOARD, true);
        Ok(Self { server, agent, line, machine })
    }

    /// Waits until `more` numbers more than now are archived.
    #[track_caller]
    fn wait_counts(&self, more: usize) {
        wait_counts(&self.server, BOARD, more);
    }

    /// How often the machine was started, by its numbers, which are complete.
    #[track_caller]
    fn starts(&self) -> usize {
        counts(&self.server, BOARD).len()
    }

    /// The agent's own connection has noticed nothing.
    #[track_caller]
    fn assert_undisturbed(&self) {
        let sessions = self.server.ask(&["sessions", "pi"]);
        assert!(sessions.len() == 1 && sessions[0]["ended"].is_null(), "{sessions:#?}");
    }
}

#[test]
fn a_wired_microcontroller_is_a_device_like_any_other() -> io::Result<()> {
    let scene = Scene::new()?;
    let Scene { server, .. } = &scene;
    wait_told(server, BOARD, ResetReason::PowerOn);
    let gateway = server.device(BOARD).map(|device| device["gateway"].clone());
    assert_eq!(gateway, Some("pi".into()));
    scene.wait_counts(2);
    assert_answers(server, BOARD, &texts("set", 3));
    assert_eq!(scene.starts(), 1);

    server.tell(&["send", BOARD, "--kind", "reset", ""]);
    wait::until("it counts anew", || scene.starts(), |starts| *starts == 2);
    wait_told(server, BOARD, ResetReason::Software);
    scene.wait_counts(1);
    assert_eq!(scene.starts(), 2, "it was reset once");
    assert_one_session(server, BOARD);
    scene.assert_undisturbed();
    Ok(())
}

#[test]
fn presence_is_true_however_a_wired_microcontroller_stops() -> io::Result<()> {
    let mut scene = Scene::new()?;
    scene.wait_counts(1);
    scene.machine.process().signal(Signal::STOP);
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    scene.machine.process().signal(Signal::CONT);
    scene.wait_counts(2);
    assert_eq!(scene.starts(), 1, "it was not reset");

    scene.machine.kill();
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    scene.machine.run()?;
    scene.wait_counts(2);
    assert_eq!(scene.starts(), 2);

    scene.line.unplug()?;
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    scene.line.plug()?;
    scene.wait_counts(2);
    assert_eq!(scene.starts(), 2, "it was not reset");
    assert_one_session(&scene.server, BOARD);
    scene.assert_undisturbed();
    Ok(())
}

#[test]
fn a_wired_microcontroller_outlives_its_gateway_and_its_server() -> io::Result<()> {
    let mut scene = Scene::new()?;
    scene.wait_counts(1);
    scene.agent.kill();
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    scene.agent.run()?;
    scene.wait_counts(2);
    scene.server.terminate();
    scene.server.run()?;
    scene.wait_counts(2);
    scene.server.kill();
    scene.server.run()?;
    scene.wait_counts(2);
    assert_eq!(scene.starts(), 1, "it was not reset");
    assert_one_session(&scene.server, BOARD);
    Ok(())
}

/// Bytes are damaged, lost and inserted, each way, all the time.
#[test]
fn a_noisy_line_costs_a_microcontroller_time_and_nothing_else() -> io::Result<()> {
    let scene = Scene::new()?;
    let Scene { server, line, .. } = &scene;
    for seed in 1..=3 {
        // At the last it is bad enough that some links and sessions end.
        line.set_noise(seed, 400 >> seed);
        scene.wait_counts(4);
        assert_answers(server, BOARD, &texts(&format!("with seed {seed}: set"), 2));
    }
    line.set_noise(0, 0);
    scene.wait_counts(2);
    assert_eq!(scene.starts(), 1, "it was not reset");
    let right = scene.archived_rightly();
    assert_eq!(server.archived(BOARD).len(), right, "nothing else is archived");
    assert_one_session(server, BOARD);
    scene.assert_undisturbed();
    Ok(())
}

impl Scene {
    /// How many numbers and answers are archived.
    fn archived_rightly(&self) -> usize {
        ["count", "answer"].iter().map(|kind| archived(&self.server, BOARD, kind).len()).sum()
    }
}
