//! What people do with a device: each by the program that they know, and without a question.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use holdfast_tests::{process, sshd, wait::LONGEST_WAIT};

use crate::fleet::{DEVICE, Fleet};

const HOST: &str = "kiosk.fleet";

#[test]
fn a_command_on_a_device() -> io::Result<()> {
    let fleet = Fleet::start()?;
    let output = fleet.holdfast_ssh(&[], &["echo", "here", "$((1", "+", "2));", "exit", "7"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here 3\n", "{output:?} {}", fleet.agent.log());
    assert_eq!(output.status.code(), Some(7), "what the command ends with is told");
    let tasks = fleet.ended();
    assert_eq!(tasks.len(), 1);
    let task = &tasks[0];
    assert_eq!(
        (&task["state"], &task["kind"], &task["device"]),
        (&"done".into(), &"ssh".into(), &DEVICE.into())
    );
    assert_eq!(task["who"], sshd::user()?);
    assert!(task["bytes_in"].as_u64() > Some(1_000) && task["bytes_out"].as_u64() > Some(1_000), "{task}");
    let shown = fleet.server.tell(&["task", "show", &task["id"].to_string()]);
    assert!(shown.contains("done") && shown.contains("asked for by"), "{shown}");
    for kind in ["task-requested", "task-running", "task-done"] {
        assert_eq!(fleet.server.events(kind).len(), 1, "{kind}");
    }
    Ok(())
}

#[test]
fn files_by_scp_sftp_and_rsync() -> io::Result<()> {
    carry_files(&Fleet::start()?)
}

/// Files go there and back by all three.
pub(crate) fn carry_files(fleet: &Fleet) -> io::Result<()> {
    let (here, there, back) = (fleet.file("here"), fleet.file("there"), fleet.file("back"));
    let bytes: Vec<u8> =
        (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&here, &bytes)?;
    let remote = |path: &Path| format!("{HOST}:{}", path.display());
    fleet.tell("scp", &["-q", &here.display().to_string(), &remote(&there)]);
    assert!(fs::read(&there)? == bytes);
    fleet.tell("scp", &["-q", &remote(&there), &back.display().to_string()]);
    assert!(fs::read(&back)? == bytes);

    let batch = fleet.file("batch");
    fs::write(&batch, format!("get {} {}\nrm {0}\n", there.display(), fleet.file("got").display()))?;
    fleet.tell("sftp", &["-q", "-b", &batch.display().to_string(), HOST]);
    assert!(fs::read(fleet.file("got"))? == bytes && !there.exists());

    let shell = format!("ssh -F {}", fleet.config().display());
    let copied = process::run(
        Path::new("rsync"),
        ["--checksum", "-e", &shell, &here.display().to_string(), &remote(&there)],
        LONGEST_WAIT,
    )?;
    assert!(copied.status.success(), "{copied:?}");
    assert!(fs::read(&there)? == bytes);
    let tasks = fleet.ended();
    assert!(tasks.iter().all(|task| task["state"] == "done"), "{tasks:#?}");
    assert!(tasks.iter().any(|task| task["bytes_out"].as_u64() > Some(3_000_000)), "{tasks:#?}");
    Ok(())
}

/// As with any other host: the device keeps a repository, which is cloned, and pushed to.
#[test]
fn a_repository_of_git_on_a_device() -> io::Result<()> {
    share_repository(&Fleet::start()?)
}

/// A repository there is cloned, and pushed to.
pub(crate) fn share_repository(fleet: &Fleet) -> io::Result<()> {
    let git = |directory: &Path, arguments: &[&str]| -> io::Result<()> {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=Ada",
                "-c",
                "user.email=ada@example.org",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(arguments)
            .current_dir(directory)
            .env("GIT_SSH_COMMAND", format!("ssh -F '{}'", fleet.config().display()))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .output()?;
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        Ok(())
    };
    let before = fleet.tasks().len();
    let (here, there, again) = (fleet.file("own"), fleet.file("there.git"), fleet.file("again"));
    fs::create_dir_all(&here)?;
    git(&here, &["init", "--quiet", "--bare", &there.display().to_string()])?;
    let remote = format!("{HOST}:{}", there.display());
    git(&here, &["clone", "--quiet", &remote, "."])?;
    fs::write(here.join("notes"), "what was seen\n")?;
    git(&here, &["add", "notes"])?;
    git(&here, &["commit", "--quiet", "--message", "Notes"])?;
    git(&here, &["push", "--quiet", "origin", "HEAD:main"])?;
    git(&here, &["clone", "--quiet", &remote, &again.display().to_string()])?;
    assert_eq!(fs::read_to_string(again.join("notes"))?, "what was seen\n");
    let tasks = fleet.ended();
    assert!(tasks.len() == before + 3 && tasks.iter().all(|task| task["state"] == "done"), "{tasks:#?}");
    Ok(())
}

#[test]
fn one_connection_for_many_sessions_and_a_tunnel() -> io::Result<()> {
    share_connection(&Fleet::start()?)
}

/// Sessions share a connection, and a tunnel goes through it.
pub(crate) fn share_connection(fleet: &Fleet) -> io::Result<()> {
    let before = fleet.tasks().len();
    let control = fleet.file("control").display().to_string();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let socks = listener.local_addr()?.port().to_string();
    drop(listener);
    let path = format!("ControlPath={control}");
    fleet.tell(
        "ssh",
        &["-o", &path, "-o", "ControlMaster=yes", "-o", "ControlPersist=yes", "-D", &socks, "-fN", HOST],
    );
    for number in 0..3 {
        let printed = fleet.tell("ssh", &["-o", &path, HOST, "echo", &number.to_string()]);
        assert_eq!(printed, format!("{number}\n"));
    }
    assert_eq!(fleet.tasks().len(), before + 1, "all of them share the master's connection");
    assert_eq!(through_socks(&socks)?, "what stands behind the device");
    fleet.tell("ssh", &["-o", &path, "-O", "exit", HOST]);
    fleet.ended();
    Ok(())
}

/// What a server says that is reached by SOCKS 5 on this port.
fn through_socks(port: &str) -> io::Result<String> {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let target = server.local_addr()?;
    let serving = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = server.accept()?;
        stream.write_all(b"what stands behind the device")?;
        stream.shutdown(Shutdown::Both)
    });
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(LONGEST_WAIT))?;
    stream.write_all(&[5, 1, 0])?;
    stream.read_exact(&mut [0; 2])?;
    let [high, low] = target.port().to_be_bytes();
    stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low])?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer[..2], [5, 0], "the device connects");
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    serving.join().expect("the server does not panic")?;
    Ok(said)
}

/// On the server's own machine no process of ours carries what ssh says; it still can.
#[test]
fn ssh_is_passed_the_connection_itself() -> io::Result<()> {
    let fleet = Fleet::start()?;
    // One that does not know of that has the bytes carried, though it is asked in the same words.
    for (options, processes) in [(&[][..], 0), (&["-o", "ProxyUseFdpass=no"][..], 1)] {
        let mut session = Command::new("ssh")
            .arg("-F")
            .arg(fleet.config())
            .args(options)
            .args([HOST, "echo ready; cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        session.stdout.as_mut().expect("it is piped").read_exact(&mut [0; 6])?;
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", session.id()))?;
        assert_eq!(children.split_whitespace().count(), processes, "{children}");
        drop(session.stdin.take());
        assert!(session.wait()?.success());
    }
    let tasks = fleet.ended();
    assert!(tasks.len() == 2 && tasks.iter().all(|task| task["state"] == "done"), "{tasks:#?}");
    Ok(())
}

/// As Ansible or a loop over files has it: the device stays online in one session throughout.
#[test]
fn many_short_sessions_and_a_restart_with_some_open() -> io::Result<()> {
    let mut fleet = Fleet::start()?;
    for _ in 0..6 {
        let config = fleet.config();
        let begin = |_| Command::new("ssh").arg("-F").arg(&config).args([HOST, "true"]).spawn();
        let sessions: Vec<_> = (0..6).map(begin).collect::<io::Result<_>>()?;
        for mut session in sessions {
            assert!(session.wait()?.success());
        }
    }
    assert_eq!(fleet.server.ask(&["sessions", DEVICE]).len(), 1);
    let config = fleet.config();
    let begin = |_| {
        let mut session = Command::new("ssh");
        session.arg("-F").arg(&config).args([HOST, "sleep 1000"]).stderr(Stdio::null()).spawn()
    };
    fleet.ended();
    let mut sessions: Vec<_> = (0..20).map(begin).collect::<io::Result<_>>()?;
    fleet.wait_running(20);
    fleet.server.terminate();
    fleet.server.run()?;
    fleet.server.wait_online(DEVICE, true);
    for session in &mut sessions {
        assert_eq!(session.wait()?.code(), Some(255));
    }
    fleet.ended();
    assert_eq!(fleet.tell("ssh", &[HOST, "echo", "again"]), "again\n");
    assert_eq!(fleet.server.ask(&["sessions", DEVICE]).len(), 2, "{}", fleet.agent.log());
    Ok(())
}

#[test]
fn ansible_finds_a_device_as_any_other_host() -> io::Result<()> {
    ask_by_ansible(&Fleet::start()?)
}

/// Ansible's own question is answered.
pub(crate) fn ask_by_ansible(fleet: &Fleet) -> io::Result<()> {
    let options = format!("ansible_ssh_common_args='-F {}'", fleet.config().display());
    let inventory = fleet.file("inventory");
    fs::write(&inventory, format!("{HOST} {options} ansible_python_interpreter=/usr/bin/python3\n"))?;
    let output = Command::new("ansible")
        .args(["--inventory"])
        .arg(&inventory)
        .args(["--module-name", "ping", "all"])
        // Its connection would stay for a minute.
        .env("ANSIBLE_SSH_ARGS", "-o ControlMaster=no")
        .env("ANSIBLE_HOME", fleet.file("ansible"))
        .env("ANSIBLE_LOCAL_TEMP", fleet.file("ansible-here"))
        .env("ANSIBLE_REMOTE_TEMP", fleet.file("ansible-there"))
        .stdin(Stdio::null())
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("\"ping\": \"pong\""), "{output:?}");
    assert!(fleet.ended().iter().all(|task| task["state"] == "done"));
    Ok(())
}
