//! Many sessions at once, with one device and with many: `HOLDFAST_SLOW=1` has as many as a fleet may.

use std::{
    env, fs,
    io::{self, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use holdfast_tests::{agent::Agent, server::Server, sshd::Sshd, wait};

use crate::fleet::{DEVICE, Fleet};

/// How long very many sessions may take to begin, on a machine that is busy.
const LONGEST_BEGIN: Duration = Duration::from_secs(300);

/// So many, or more where there is time for that.
fn count(common: usize, slow: usize) -> usize {
    if env::var_os("HOLDFAST_SLOW").is_some() { slow } else { common }
}

/// Has a session with each of these hosts, so many of which begin together, until all of them run at once; then each has
/// to answer, and to end well.
pub(crate) fn all_at_once(fleet: &Fleet, hosts: &[String], together: usize) -> io::Result<()> {
    let (before, config) = (fleet.ended().len(), fleet.config());
    let begin = |number: usize, host: &str| {
        Command::new("ssh")
            .arg("-F")
            .arg(&config)
            .args([host, "read x; echo", &format!("{number}-$x")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    };
    let start = Instant::now();
    let mut sessions: Vec<Child> = Vec::new();
    for group in hosts.chunks(together) {
        for host in group {
            sessions.push(begin(sessions.len(), host)?);
        }
        let tasks = || fleet.server.api().list("/tasks?open=true").unwrap_or_default();
        let running = || tasks().iter().filter(|task| task["state"] == "running").count();
        let all_run = wait::find(LONGEST_BEGIN, || (running() == sessions.len()).then_some(()));
        assert!(all_run.is_some(), "{} of {} run: {:#?}", running(), sessions.len(), fleet.tasks());
    }
    println!("{} sessions run after {:?}", hosts.len(), start.elapsed());
    for session in &mut sessions {
        session.stdin.take().expect("it is piped").write_all(b"word\n")?;
    }
    for (number, session) in sessions.into_iter().enumerate() {
        let output = session.wait_with_output()?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{number}-word\n"));
    }
    println!("and have ended after {:?}", start.elapsed());
    let tasks = fleet.ended();
    let are_done = tasks.iter().all(|task| task["state"] == "done");
    assert!(tasks.len() == before + hosts.len() && are_done, "{tasks:#?}");
    Ok(())
}

#[test]
fn many_sessions_with_one_device() -> io::Result<()> {
    let fleet = Fleet::start()?;
    let hosts = vec![format!("{DEVICE}.fleet"); count(20, 50)];
    all_at_once(&fleet, &hosts, hosts.len())?;
    wait::until("no process is left", || fleet.task_processes(), Vec::is_empty);
    assert_eq!(fleet.server.ask(&["sessions", DEVICE]).len(), 1, "the device was online throughout");
    Ok(())
}

#[test]
fn a_session_with_each_of_many_devices() -> io::Result<()> {
    // All of them run on this one machine, which has not two seconds for each of them while so many sessions begin.
    let server = Server::configured("keep-alive.interval = \"30s\"\nkeep-alive.timeout = \"60s\"\n", None)?;
    let fleet = Fleet::of(server, Sshd::start()?, "")?;
    let mut agents = Vec::new();
    for number in 1..count(4, 200) {
        let name = format!("kiosk-{number}");
        let mut agent = Agent::new(&name)?;
        let own = fleet.sshd.agent_configuration()?;
        let (outside, table) = own.split_once("\n\n").unwrap_or((&own, ""));
        agent.configure_all(&format!("{outside}\n[connection]\ntimeout_seconds = 60\n{table}"))?;
        agent.tell(&["enroll", &fleet.server.invite(&["--name", &name])]);
        agent.run()?;
        agents.push(agent);
    }
    let names: Vec<_> = agents.iter().map(Agent::name).chain([DEVICE]).collect();
    let devices = || fleet.server.api().list("/devices").expect("the server tells");
    wait::until("all are online, and have said who logs in there", devices, |devices| {
        devices.iter().filter(|device| device["online"] == true && device["ssh_user"].is_string()).count()
            == names.len()
    });
    fs::write(fleet.config(), fleet.server.tell(&["ssh-config"]) + &fleet.identity())?;
    let hosts: Vec<_> = names.iter().map(|name| format!("{name}.fleet")).collect();
    // They share the machine with all devices, which it takes a while to shake so many hands for.
    all_at_once(&fleet, &hosts, 20)?;
    for name in names {
        assert_eq!(fleet.server.ask(&["sessions", name]).len(), 1, "{name} was online throughout");
    }
    Ok(())
}
