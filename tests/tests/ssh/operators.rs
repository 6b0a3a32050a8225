//! Sessions of operators elsewhere: by their rights, under their names, and no longer than they have them.

use std::{fs, io, path::Path, process::Output};

use holdfast_tests::{
    laptop::Laptop,
    process::{self, Process},
    wait::{self, LONGEST_WAIT},
};

use crate::fleet::{DEVICE, Fleet};

/// What ssh is told on the laptop, written to a file there.
fn ssh_config(fleet: &Fleet, laptop: &Laptop) -> io::Result<String> {
    let path = laptop.contexts().with_file_name("ssh_config");
    let config = laptop.tell(&["ssh-config"]);
    assert!(config.contains("--context '127.0.0.1'") && !config.contains("--data"), "{config}");
    fs::write(&path, config + &fleet.identity())?;
    Ok(path.display().to_string())
}

/// What `env` is told so that OpenSSH's own programs run there.
fn arguments(laptop: &Laptop, config: &str, command: &[&str]) -> Vec<String> {
    let mut arguments = laptop.arguments(&[]);
    // In the place of `holdfast`.
    arguments.pop();
    arguments.extend(["ssh", "-F", config].map(str::to_owned));
    arguments.extend(command.iter().map(|word| (*word).to_owned()));
    arguments
}

fn ssh(laptop: &Laptop, config: &str, command: &[&str]) -> io::Result<Output> {
    process::run(Path::new("env"), arguments(laptop, config, command), LONGEST_WAIT)
}

#[test]
fn a_session_from_elsewhere_ends_with_the_rights_to_it() -> io::Result<()> {
    let fleet = Fleet::start()?;
    let laptop = Laptop::logged_in(&fleet.server, "anna", "operator")?;
    let key = fleet.sshd.key().display().to_string();
    let direct =
        laptop.run(&["ssh", DEVICE, "--", "-F", "none", "-i", &key, "-o", "BatchMode=yes", "echo", "direct"]);
    assert_eq!(String::from_utf8_lossy(&direct.stdout), "direct\n", "{direct:?} {}", fleet.server.log());
    // More in one piece than one record of TLS, and than what is on the way at a time.
    let config = ssh_config(&fleet, &laptop)?;
    let large = ssh(&laptop, &config, &["kiosk.fleet", "head -c 3000000 /dev/zero"])?;
    assert!(large.status.success() && large.stdout.len() == 3_000_000, "{:?}", large.stderr);
    let task = &fleet.ended()[0];
    assert_eq!((&task["who"], &task["address"]), (&"anna".into(), &"127.0.0.1".into()));

    let log = laptop.contexts().with_file_name("log");
    let session = arguments(&laptop, &config, &["kiosk.fleet", "sleep 1000"]);
    let mut stopped = Process::start(Path::new("env"), session, &log)?;
    fleet.wait_running(1);
    let id = fleet.tasks().last().expect("it runs")["id"].to_string();
    let stop = laptop.run(&["task", "stop", &id]);
    assert!(stop.status.success(), "{stop:?}");
    assert_eq!(stopped.wait(LONGEST_WAIT).code(), Some(255));
    assert!(stopped.printed().contains("the session has ended: stopped by anna"), "{}", stopped.printed());
    let reason = fleet.ended().pop().expect("there was one")["reason"].take();
    assert_eq!(reason, "stopped by anna", "from where is for admins, in an event");
    let asked = || {
        let events = fleet.server.ask(&["events", DEVICE]);
        events.into_iter().filter(|event| event["kind"] == "stop-requested").collect::<Vec<_>>()
    };
    let asked = wait::until("it is written down who stopped it", asked, |events| !events.is_empty());
    assert_eq!((&asked[0]["who"], &asked[0]["address"]), (&"anna".into(), &"127.0.0.1".into()), "{asked:?}");
    let again = fleet.server.command(&["task", "stop", &id]);
    let error = String::from_utf8_lossy(&again.stderr);
    assert!(error.contains(&format!("task {id} has ended already; `holdfast task show {id}`")), "{error}");

    let session = arguments(&laptop, &config, &["kiosk.fleet", "echo ready; sleep 1000"]);
    let mut session = Process::start(Path::new("env"), session, &log)?;
    fleet.wait_running(1);
    fleet.server.tell(&["revoke", "--operator", "anna"]);
    assert_eq!(session.wait(LONGEST_WAIT).code(), Some(255), "{}", session.printed());
    assert!(session.printed().contains("the rights of anna were taken away"), "{}", session.printed());
    let tasks = fleet.ended();
    assert_eq!(tasks.last().map(|task| &task["reason"]), Some(&"the rights of anna were taken away".into()));
    let again = ssh(&laptop, &config, &["kiosk.fleet", "true"])?;
    let error = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.code() == Some(255) && error.contains("rights of anna"), "{error}");
    Ok(())
}

#[test]
fn a_device_sees_the_role_of_the_one_who_asks() -> io::Result<()> {
    let fleet = Fleet::configured("allow = ['admin']\n")?;
    for (name, role, expected) in [("otto", "operator", 255), ("ada", "admin", 0)] {
        let laptop = Laptop::logged_in(&fleet.server, name, role)?;
        let config = ssh_config(&fleet, &laptop)?;
        let output = ssh(&laptop, &config, &["kiosk.fleet", "true"])?;
        assert_eq!(output.status.code(), Some(expected), "{role}: {output:?}");
    }
    let refused = fleet.server.wait_event("task-refused", |event| event["device"] == DEVICE);
    assert!(refused["detail"]["reason"].is_string(), "{refused}");
    Ok(())
}
