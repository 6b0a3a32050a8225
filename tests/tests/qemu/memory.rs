//! What the firmware brings of its own for the processor.

use std::io;

use holdfast_tests::{machine::Machine, wait::LONGEST_WAIT};

#[test]
fn memory_is_copied_filled_and_compared_as_by_plain_loops() -> io::Result<()> {
    let mut machine = Machine::alone("memory")?;
    machine.run()?;
    let status = machine.process().wait(LONGEST_WAIT);
    machine.wait_console(&["memory is as expected in"]);
    assert!(status.success(), "{status}");
    Ok(())
}
