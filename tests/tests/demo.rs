//! `cargo xtask demo`, as a visitor sees it on a terminal.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use holdfast_tests::{api::Api, binaries, terminal::Terminal, wait};

fn program() -> PathBuf {
    binaries::holdfast().with_file_name("demo")
}

fn start(directory: &Path) -> io::Result<(Terminal, Vec<u32>)> {
    let directory = directory.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    let firmware = binaries::firmware("ethernet");
    let firmware = firmware.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    let mut terminal = Terminal::start(&program(), &["--firmware", firmware, directory])?;
    let shown = terminal.expect("(Ctrl-C ends everything):");
    // Once with what has happened, and then live.
    for device in ["barometer", "garden", "barometer", "garden"] {
        terminal.expect(device);
    }
    let server = Api::of(&Path::new(directory).join("server")).get("/status")?["pid"].as_u64();
    let agent =
        shown.split("kill -STOP ").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let processes = [server.and_then(|id| u32::try_from(id).ok()), agent].into_iter().flatten().collect();
    Ok((terminal, processes))
}

#[track_caller]
fn wait_gone(processes: &[u32]) {
    assert_eq!(processes.len(), 2, "the server and an agent");
    let gone = |process: &u32| {
        let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // Who was killed together with its parent may wait to be noticed by whoever takes orphans in.
        state.is_empty() || state.contains(") Z ")
    };
    wait::until_true("nothing is left", || processes.iter().all(gone));
}

#[test]
fn ctrl_c_ends_everything_and_a_second_demo_works() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let (mut terminal, processes) = start(directory.path())?;
    // A second one beside it says so, and disturbs nothing.
    let mut second = Terminal::start(&program(), &[&directory.path().display().to_string()])?;
    second.expect("another demo runs");
    assert!(!second.wait()?.success());
    terminal.type_keys("\x03")?;
    terminal.expect("all has ended");
    assert!(terminal.wait()?.success());
    wait_gone(&processes);

    // Killed without warning, it leaves no process behind, and nothing that disturbs the next.
    let (terminal, processes) = start(directory.path())?;
    drop(terminal);
    wait_gone(&processes);
    let (mut terminal, processes) = start(directory.path())?;
    terminal.type_keys("\x03")?;
    terminal.expect("all has ended");
    assert!(terminal.wait()?.success());
    wait_gone(&processes);
    Ok(())
}
