//! On a serial line, with an agent as the gateway.

use std::{io, time::Instant};

use agent_embedded::board::ResetReason;
use holdfast_tests::{
    scene::{
        BOARD, GATEWAY, OnWire, archived, assert_answers, assert_gateway_undisturbed, counts, texts,
        wait_counts,
    },
    serial_line::garbage,
    server::Server,
    wait,
};
use rustix::process::Signal;

use crate::{assert_offline_in_time, assert_one_session, assert_outlives, assert_said_farewell, wait_told};

/// Nothing is archived but what the firmware says.
#[track_caller]
fn assert_nothing_else(server: &Server) {
    let right: usize = ["count", "answer"].iter().map(|kind| archived(server, BOARD, kind).len()).sum();
    assert_eq!(server.archived(BOARD).len(), right, "nothing else is archived");
}

#[test]
fn a_wired_microcontroller_is_a_device_like_any_other() -> io::Result<()> {
    let scene = OnWire::start()?;
    let OnWire { server, .. } = &scene;
    wait_told(server, BOARD, ResetReason::PowerOn);
    let gateway = server.device(BOARD).map(|device| device["gateway"].clone());
    assert_eq!(gateway, Some(GATEWAY.into()));
    wait_counts(&scene.server, BOARD, 2);
    assert_answers(server, BOARD, &texts("set", 3));
    assert_eq!(counts(&scene.server, BOARD).len(), 1);

    server.tell(&["send", BOARD, "--kind", "reset", ""]);
    wait::until("it counts anew", || counts(&scene.server, BOARD).len(), |starts| *starts == 2);
    wait_told(server, BOARD, ResetReason::Software);
    wait_counts(&scene.server, BOARD, 1);
    assert_eq!(counts(&scene.server, BOARD).len(), 2, "it was reset once");
    assert_said_farewell(server, BOARD);
    assert_one_session(server, BOARD);
    assert_gateway_undisturbed(&scene.server);
    Ok(())
}

#[test]
fn presence_is_true_however_a_wired_microcontroller_stops() -> io::Result<()> {
    let mut scene = OnWire::start()?;
    wait_counts(&scene.server, BOARD, 1);
    scene.machine.process().signal(Signal::STOP);
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    scene.machine.process().signal(Signal::CONT);
    wait_counts(&scene.server, BOARD, 2);
    assert_eq!(counts(&scene.server, BOARD).len(), 1, "it was not reset");

    scene.machine.kill();
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    scene.machine.run()?;
    wait_counts(&scene.server, BOARD, 2);
    assert_eq!(counts(&scene.server, BOARD).len(), 2);

    scene.line.unplug()?;
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    scene.line.plug()?;
    wait_counts(&scene.server, BOARD, 2);
    assert_eq!(counts(&scene.server, BOARD).len(), 2, "it was not reset");
    assert_one_session(&scene.server, BOARD);
    assert_gateway_undisturbed(&scene.server);
    Ok(())
}

#[test]
fn a_wired_microcontroller_outlives_its_gateway_and_its_server() -> io::Result<()> {
    let mut scene = OnWire::start()?;
    wait_counts(&scene.server, BOARD, 1);
    scene.agent.kill();
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    scene.agent.run()?;
    wait_counts(&scene.server, BOARD, 2);
    assert_outlives(&mut scene.server, BOARD)
}

/// Bytes are damaged, lost and inserted, each way, all the time.
#[test]
fn a_noisy_line_costs_a_microcontroller_time_and_nothing_else() -> io::Result<()> {
    let scene = OnWire::start()?;
    let OnWire { server, line, .. } = &scene;
    for seed in 1..=3 {
        line.set_noise(seed, 400 >> seed);
        wait_counts(&scene.server, BOARD, 4);
        assert_answers(server, BOARD, &texts(&format!("with seed {seed}: set"), 2));
        assert_ne!(line.hit(), [0, 0], "the noise of seed {seed} hit nothing");
    }
    // Hardly a packet comes through: the session ends, and the link with it.
    line.set_noise(4, 6);
    server.wait_online(BOARD, false);
    assert_ne!(line.hit(), [0, 0]);
    line.set_noise(0, 0);
    wait_counts(&scene.server, BOARD, 2);
    assert_eq!(counts(&scene.server, BOARD).len(), 1, "it was not reset");
    assert_nothing_else(server);
    assert_one_session(server, BOARD);
    assert_gateway_undisturbed(&scene.server);
    Ok(())
}

/// The power is cut while a part of a packet stands on the line.
#[test]
fn a_power_cut_in_the_middle_of_a_packet_is_a_new_start() -> io::Result<()> {
    let mut scene = OnWire::start()?;
    wait_counts(&scene.server, BOARD, 1);
    for round in 1..=3 {
        scene.line.break_off(10 * round);
        scene.line.wait_broken_off();
        scene.machine.kill();
        scene.line.mend();
        scene.machine.run()?;
        wait_counts(&scene.server, BOARD, 2);
        assert_eq!(counts(&scene.server, BOARD).len(), round + 1, "one start for each power cut");
    }
    assert_nothing_else(&scene.server);
    assert_one_session(&scene.server, BOARD);
    assert_gateway_undisturbed(&scene.server);
    Ok(())
}

/// Either end hears nothing but garbage for a while, as with a speed that is not the other's.
#[test]
fn a_wrong_speed_and_garbage_are_got_over_without_a_reset() -> io::Result<()> {
    let scene = OnWire::start()?;
    let OnWire { server, line, .. } = &scene;
    wait_counts(server, BOARD, 1);
    line.set_noise(1, 1);
    server.wait_online(BOARD, false);
    wait::until("both ends have heard much of it", || line.hit(), |hit| hit.iter().all(|hit| *hit > 200));
    line.set_noise(0, 0);
    server.wait_online(BOARD, true);
    wait_counts(server, BOARD, 2);
    for part in garbage(4_000).chunks(500) {
        line.write(part);
        line.insert(part);
        wait_counts(server, BOARD, 1);
    }
    assert_eq!(counts(server, BOARD).len(), 1, "it was not reset");
    assert_nothing_else(server);
    assert_one_session(server, BOARD);
    assert_gateway_undisturbed(server);
    Ok(())
}
