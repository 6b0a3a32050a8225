//! The promises of the protocol, on simulated networks: see `holdfast_tests::simulation`.
//!
//! `HOLDFAST_SEED=17` runs that seed alone; `HOLDFAST_SLOW=1` runs many more.

use std::{env, ops::Range};

use holdfast_tests::simulation::{Report, Sabotage, Special, embedded, run};

/// The seeds of each test.
fn seeds() -> Range<u64> {
    if let Ok(seed) = env::var("HOLDFAST_SEED") {
        let seed = seed.parse().expect("HOLDFAST_SEED is a number");
        return seed..seed + 1;
    }
    if env::var_os("HOLDFAST_SLOW").is_some() { 0..3_000 } else { 0..60 }
}

fn promises_hold(special: Special) {
    let mut total = Report::default();
    for seed in seeds() {
        match run(seed, special, None) {
            Ok(report) => {
                total.faults += report.faults;
                total.archived += report.archived;
                total.delivered += report.delivered;
            }
            Err(broken) => panic!(
                "seed {seed}, {special:?}:\n{broken}\nrun it again: HOLDFAST_SEED={seed} cargo test -p holdfast-tests --test simulation"
            ),
        }
    }
    println!("{special:?}: {total:?}");
    assert!(total.faults > 0 && total.archived > 0 && total.delivered > 0, "nothing was simulated");
}

#[test]
fn promises_hold_on_bad_networks() {
    promises_hold(Special::Nothing);
}

#[test]
fn promises_hold_with_a_restored_server() {
    promises_hold(Special::RestoredServer);
}

#[test]
fn promises_hold_with_a_restored_device() {
    promises_hold(Special::RestoredDevice);
}

#[test]
fn promises_hold_with_a_cloned_device() {
    promises_hold(Special::ClonedDevice);
}

#[test]
fn promises_hold_for_a_microcontroller() {
    let mut total = embedded::Report::default();
    for seed in seeds() {
        let report = embedded::run(seed).unwrap_or_else(|broken| {
            panic!("seed {seed}: {broken}\nrun it again: HOLDFAST_SEED={seed} cargo test -p holdfast-tests --test simulation")
        });
        total.faults += report.faults;
        total.resets += report.resets;
        total.told_resets += report.told_resets;
        total.hit += report.hit;
        total.conflicts += report.conflicts;
        total.refused += report.refused;
        total.archived += report.archived;
        total.delivered += report.delivered;
    }
    println!("{total:?}");
    let faults = [total.resets, total.told_resets, total.hit, total.conflicts, total.refused];
    let counts = [faults.as_slice(), &[total.archived, total.delivered]].concat();
    assert!(counts.iter().all(|count| *count > 0), "not all was simulated: {total:?}");
}

/// Each seed of a server that breaks a promise is looked at: some must show it, and say which.
fn is_noticed(sabotage: Sabotage, words: &str) {
    let found = (0..50).find_map(|seed| run(seed, Special::Nothing, Some(sabotage)).err());
    let text = found.expect("no seed shows that a promise is broken").to_string();
    assert!(text.contains(words), "{text}");
}

#[test]
fn an_echo_before_the_commit_is_noticed() {
    is_noticed(Sabotage::EchoBeforeCommit, "echoed and not archived");
}

#[test]
fn a_message_archived_twice_is_noticed() {
    is_noticed(Sabotage::ForgetNumbers, "archived twice");
}

#[test]
fn a_ghost_is_noticed() {
    is_noticed(Sabotage::KeepGhosts, "shows a device that is silent");
}
