//! Several at once.

use std::{env, io};

use agent_embedded::board::ResetReason;
use holdfast_tests::{
    machine::Machine,
    scene::{assert_answers, counts, network, texts, wait_counts},
};

use crate::{assert_one_session, wait_told};

#[test]
fn microcontrollers_run_beside_each_other() -> io::Result<()> {
    let count = if env::var_os("HOLDFAST_SLOW").is_some() { 20 } else { 4 };
    let (_proxy, server) = network()?;
    let names = texts("board", count).into_iter().map(|name| name.replace(' ', "-"));
    let mut machines = Vec::new();
    for name in names {
        let mut machine = Machine::provisioned(&server, &name)?;
        machine.run()?;
        machines.push((name, machine));
    }
    for (name, machine) in &machines {
        machine.wait_console(&[&format!("online as {name}")]);
        wait_told(&server, name, ResetReason::PowerOn);
    }
    for (name, _) in &machines {
        wait_counts(&server, name, 2);
        assert_answers(&server, name, &[format!("for {name}")]);
    }
    for (name, _) in &machines {
        assert_eq!(counts(&server, name).len(), 1, "{name} was not reset");
        server.wait_online(name, true);
        assert_one_session(&server, name);
    }
    Ok(())
}
