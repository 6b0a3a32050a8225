//! Firmware that fails, and firmware that has nothing to do.

use std::{io, time::Instant};

use agent_embedded::board::ResetReason;
use holdfast_tests::{
    machine::Machine,
    scene::{BOARD, OnNetwork, counts, network, wait_counts},
    wait,
};

use crate::wait_told;

/// What fails is reset by the watchdog, and says why.
#[test]
fn firmware_that_hangs_or_panics_is_reset() -> io::Result<()> {
    let (_proxy, server) = network()?;
    let mut machine = Machine::provisioned_with("faulty", &server, BOARD)?;
    machine.run()?;
    wait_told(&server, BOARD, ResetReason::PowerOn);
    wait_counts(&server, BOARD, 1);
    let faults = [("hang", ResetReason::Watchdog), ("panic", ResetReason::Panic)];
    for (starts, (fault, reason)) in (2..).zip(faults) {
        server.tell(&["send", BOARD, "--kind", "fault", fault]);
        wait::until("it counts anew", || counts(&server, BOARD).len(), |count| *count == starts);
        wait_told(&server, BOARD, reason);
        machine.wait_console(&[
            "online as",
            &format!("started, firmware {}: {reason:?}", env!("CARGO_PKG_VERSION")),
        ]);
    }
    wait_counts(&server, BOARD, 2);
    assert_eq!(counts(&server, BOARD).len(), 3, "it was reset once for each fault");
    Ok(())
}

/// A processor that sleeps takes nothing of the host's; one that waits busily would take all of a core.
#[test]
fn idle_firmware_sleeps() -> io::Result<()> {
    let OnNetwork { proxy: _proxy, server, mut machine } = OnNetwork::start()?;
    wait_counts(&server, BOARD, 1);
    let (begun, before) = (Instant::now(), machine.process().processor_time());
    wait_counts(&server, BOARD, 5);
    let used = machine.process().processor_time() - before;
    assert!(used * 5 < begun.elapsed(), "{used:?} of {:?}", begun.elapsed());
    Ok(())
}
