//! The operators' command line, with the real programs.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use holdfast_tests::{
    agent::Agent,
    binaries, process,
    server::Server,
    terminal::Terminal,
    wait::{self, LONGEST_WAIT},
};
use serde_json::{Value, json};

/// What a device might say to take over an operator's terminal.
const HOSTILE: &str = "\u{1b}[2Jgone\r\nfake  online\t\u{202e}txt\\n";

/// The same, as it is shown.
const HARMLESS: &str = "\\u{1b}[2Jgone\\r\\nfake  online\\t\\u{202e}txt\\\\n";

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `holdfast` with these arguments, and its exit code and what it says on standard error.
fn refused(server: &Server, arguments: &[&str]) -> (Option<i32>, String) {
    let output = server.command(arguments);
    assert_eq!(stdout(&output), "", "{arguments:?} fails and prints something all the same");
    (output.status.code(), stderr(&output))
}

/// `holdfast` on this server, with pipes.
fn piped(server: &Server, arguments: &[&str]) -> io::Result<Child> {
    Command::new(binaries::holdfast())
        .args(arguments)
        .env("HOLDFAST_DATA", server.data())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Waits for the end of a program that is about to end.
fn ended(child: &mut Child) -> Option<i32> {
    let status = wait::find(LONGEST_WAIT, || child.try_wait().expect("a child can be waited for"));
    if status.is_none() {
        // It is the test's, and must not outlive it.
        let _ = child.kill();
    }
    status.expect("it ends in time").code()
}

#[test]
fn a_fleet_of_one_from_the_first_line_to_the_last() -> io::Result<()> {
    let mut server = Server::start()?;
    assert!(stderr(&server.command(&["devices"])).contains("holdfast enroll"), "the next step is named");

    let enrolled = server.command(&["enroll", "--name", "greenhouse"]);
    let line = stdout(&enrolled);
    assert!(line.starts_with("holdfast-agent enroll hf1.") && line.lines().count() == 1, "{line}");
    assert!(stderr(&enrolled).contains("one device"), "{}", stderr(&enrolled));
    let mut agent = Agent::new("greenhouse")?;
    agent.tell(&["enroll", line.trim().trim_start_matches("holdfast-agent enroll ")]);
    agent.run()?;
    server.wait_online("greenhouse", true);

    let table = server.tell(&["devices"]);
    let [headings, row] = table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
    assert!(headings.starts_with("NAME        STATE"), "{table}");
    assert!(row.starts_with("greenhouse  online "), "{table}");
    assert!(!table.contains('\u{1b}'), "no colours in a pipe: {table:?}");
    assert!(server.tell(&["device", "greenhouse"]).contains("127.0.0.1"));
    assert!(server.tell(&["ping", "greenhouse"]).contains(" ms"));
    assert!(server.ask(&["ping", "greenhouse"])[0]["round_trip_ms"].as_f64() > Some(0.0));

    agent.send("it is warm");
    server.tell(&["send", "greenhouse", "open the window"]);
    wait::until("it has the message", || agent.receive(), |received| *received == ["open the window"]);
    wait::until("it is archived", || server.archived("greenhouse"), |archived| *archived == ["it is warm"]);
    wait::until(
        "the server knows that it was delivered",
        || server.ask(&["messages", "greenhouse"]),
        |messages| messages.iter().any(|message| message["state"] == "delivered"),
    );
    let shown = server.tell(&["messages"]);
    assert!(shown.contains("greenhouse < text  it is warm"), "{shown}");
    assert!(shown.contains("greenhouse > text  open the window"), "{shown}");

    assert!(server.tell(&["revoke", "greenhouse"]).contains("disconnected"));
    server.wait_online("greenhouse", false);
    assert!(server.tell(&["devices"]).contains("greenhouse  revoked"));
    let sessions = server.ask(&["sessions", "greenhouse"]);
    wait::until(
        "its session has ended",
        || server.ask(&["sessions", "greenhouse"]),
        |sessions| sessions.iter().all(|session| session["ended"].is_string()),
    );
    assert!(!sessions.is_empty());
    let (code, said) = refused(&server, &["send", "greenhouse", "too late"]);
    assert_eq!(code, Some(5), "{said}");

    assert!(server.tell(&["status"]).contains("0 of 0 online"));
    assert!(server.tell(&["stop"]).starts_with("the server has stopped"));
    // It has: nobody needs to wait.
    assert!(server.process().ended().is_some_and(|status| status.success()));
    let (code, said) = refused(&server, &["status"]);
    assert_eq!(code, Some(3));
    assert!(said.contains("holdfast serve --data"), "{said}");
    Ok(())
}

#[test]
fn options_that_all_share_stand_anywhere_and_in_the_environment() -> io::Result<()> {
    let server = Server::start()?;
    let data = server.data().to_str().expect("a path of UTF-8");
    for arguments in [
        ["--data", data, "--json", "status"],
        ["status", "--data", data, "--json"],
        ["--json", "status", "--data", data],
    ] {
        let output = process::run(&binaries::holdfast(), arguments, LONGEST_WAIT)?;
        let status: Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert_eq!(status["devices"], 0, "{arguments:?}");
    }
    let output = piped(&server, &["status", "--json"])?.wait_with_output()?;
    assert_eq!(output.status.code(), Some(0), "HOLDFAST_DATA is read: {}", stderr(&output));
    Ok(())
}

#[test]
fn people_are_shown_their_own_time_and_programs_utc() -> io::Result<()> {
    let server = Server::start()?;
    let show = |arguments: &[&str]| -> io::Result<String> {
        let mut command = Command::new(binaries::holdfast());
        command.args(arguments).arg("--data").arg(server.data()).env("TZ", "HERE-3");
        Ok(stdout(&command.output()?))
    };
    let shown = show(&["events"])?;
    assert!(shown.contains(" HERE  server-started"), "{shown}");
    let event: Value = serde_json::from_str(show(&["events", "--json"])?.lines().next().expect("an event"))?;
    assert!(event["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{event}");
    Ok(())
}

#[test]
fn errors_say_what_to_do_and_have_their_codes() -> io::Result<()> {
    let server = Server::start()?;
    server.tell(&["enroll", "--name", "a"]);
    for (arguments, expected, said) in [
        (&["device", "nobody"][..], 4, "holdfast devices"),
        (&["send", "nobody", "x"], 4, "holdfast devices"),
        (&["ping", "nobody"], 4, "no device"),
        (&["revoke", "nobody"], 4, "no device \"nobody\""),
        (&["messages", "nobody"], 4, "no device"),
        (&["enroll", "--name", "Not A Name"], 2, "lower-case"),
        (&["enroll", "--uses", "0"], 2, "uses"),
        (&["messages", "--since", "yesterday"], 2, "1h"),
        (&["frobnicate"], 2, "--help"),
        (&["--json", "client", "localhost"], 2, "has no JSON"),
        (&["completions", "bash", "--json"], 2, "has no JSON"),
    ] {
        let (code, text) = refused(&server, arguments);
        assert_eq!(code, Some(expected), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    let output = server.command(&["device", "nobody", "--json"]);
    let error: Value = serde_json::from_slice(&output.stderr).expect("errors are JSON, too");
    assert_eq!(error["error"]["code"], "no-such-device");

    let data = server.data().to_str().expect("a path of UTF-8");
    let second = ["serve", "--data", data, "--listen", "127.0.0.1:0", "--classic", "off", "--http", "off"];
    let second = process::run(&binaries::holdfast(), second, LONGEST_WAIT)?;
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("in use by another holdfast server"), "{}", stderr(&second));
    Ok(())
}

/// Each by the command that let it in before.
#[test]
fn a_revoked_device_is_let_in_again_as_it_was_enrolled() -> io::Result<()> {
    let server = Server::start()?;
    let _pi = Agent::enrolled(&server, "pi")?;
    server.tell(&["enroll", "--name", "barometer", "--gateway", "pi"]);
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("blocks");
    let out = out.to_str().expect("a path of UTF-8");
    server.tell(&["enroll", "--firmware", "--name", "sensor", "--out", out]);
    for (name, kind, again) in [
        ("barometer", "wired to pi", "`holdfast enroll --name barometer --gateway pi` lets it in again"),
        (
            "sensor",
            "firmware",
            "`holdfast enroll --firmware --name sensor [--address HOST:PORT] --out DIR` lets it in again",
        ),
        ("pi", "agent", "`holdfast enroll --name pi` lets it in again"),
    ] {
        let shown = server.tell(&["device", name]);
        assert!(
            shown.lines().any(|line| line
                .split_once(' ')
                .is_some_and(|(fact, value)| { fact == "kind" && value.trim() == kind })),
            "{shown}"
        );
        let told = server.tell(&["revoke", name]);
        assert!(told.contains(again), "{told}");
        for verb in [&["send", name, "x"][..], &["ping", name]] {
            let (code, told) = refused(&server, verb);
            assert!(code == Some(5) && told.contains(again), "{verb:?}: {told}");
        }
    }
    Ok(())
}

#[test]
fn what_can_be_a_gateway_and_what_is_enrolled_twice_is_told() -> io::Result<()> {
    let server = Server::start()?;
    let (_pi, _other) = (Agent::enrolled(&server, "pi")?, Agent::enrolled(&server, "other")?);
    let directory = tempfile::tempdir()?;
    let out = directory.path().to_str().expect("a path of UTF-8");
    server.tell(&["enroll", "--firmware", "--name", "sensor", "--out", out]);
    let wire = ["enroll", "--name", "barometer", "--gateway", "pi"];
    let first = server.command(&wire);
    assert!(stderr(&first).contains("barometer is registered."), "{}", stderr(&first));
    let second = server.command(&wire);
    assert_eq!((second.status.code(), stdout(&second)), (Some(0), stdout(&first)));
    assert!(stderr(&second).contains("registered for pi already, and nothing has changed"));
    assert_eq!(server.ask(&wire)[0]["repeat"], true);
    for (name, gateway, said) in [
        ("barometer", "other", "enrolled for another gateway: \"pi\"; to move it, revoke it first"),
        ("thermometer", "sensor", "\"sensor\" can't be a gateway: it is a microcontroller itself"),
        ("thermometer", "barometer", "\"barometer\" can't be a gateway: it is wired to another device"),
        ("other", "pi", "there is a device \"other\" already"),
    ] {
        let (code, text) = refused(&server, &["enroll", "--name", name, "--gateway", gateway]);
        assert!(code == Some(1) && text.contains(said), "{name} for {gateway}: {text}");
    }
    Ok(())
}

#[test]
fn what_devices_say_is_escaped_for_people_and_whole_in_json() -> io::Result<()> {
    let server = Server::start()?;
    let agent = Agent::start(&server, "a")?;
    agent.send(HOSTILE);
    wait::until("it is archived", || server.archived("a"), |archived| *archived == [HOSTILE]);
    let shown = server.tell(&["messages"]);
    assert!(shown.trim_end().ends_with(HARMLESS), "{shown:?}");
    assert_eq!(shown.lines().count(), 1);
    assert_eq!(server.ask(&["messages"])[0]["body"], HOSTILE);

    // The same on a terminal, which has colours.
    let data = server.data().to_str().expect("a path of UTF-8");
    let mut terminal = Terminal::start(&binaries::holdfast(), &["messages", "--data", data])?;
    assert!(terminal.wait()?.success());
    let shown = terminal.everything();
    assert!(shown.contains(HARMLESS), "{shown:?}");
    assert!(shown.contains("\u{1b}[2m"), "{shown:?}");
    assert!(!shown.contains("\u{1b}[2J"), "{shown:?}");
    Ok(())
}

#[test]
fn messages_from_standard_input_and_of_any_bytes() -> io::Result<()> {
    let server = Server::start()?;
    let _agent = Agent::enrolled(&server, "a")?;
    for (arguments, input) in [
        (&["send", "a", "-"][..], &b"two\nlines\n"[..]),
        (&["send", "a", "-", "--kind", "raw", "--expires", "1h"], &[0xff, 0, b'\n']),
        (&["send", "a", "-1"], b""),
    ] {
        let mut child = piped(&server, arguments)?;
        child.stdin.take().expect("it has a pipe").write_all(input)?;
        assert_eq!(ended(&mut child), Some(0), "{arguments:?}");
    }
    let messages = server.ask(&["messages", "a"]);
    assert_eq!(messages[0]["body"], "two\nlines\n");
    assert_eq!((&messages[1]["body_base64"], &messages[1]["kind"]), (&json!("/wAK"), &json!("raw")));
    assert!(messages[1]["expires"].is_string());
    assert_eq!(messages[2]["body"], "-1");
    assert!(
        server.tell(&["messages"]).contains("raw [waiting]  \\xff\\u{0}\\n"),
        "{}",
        server.tell(&["messages"])
    );
    assert!(server.ask(&["messages", "--since", "1h"]).len() == 3);
    assert!(server.ask(&["messages", "--since", "2999-01-01T00:00:00Z"]).is_empty());
    assert_eq!(server.ask(&["devices"])[0]["queued"], 3);
    Ok(())
}

#[test]
fn following_shows_what_comes_at_once_and_ends_quietly() -> io::Result<()> {
    let server = Server::start()?;
    let _agent = Agent::enrolled(&server, "a")?;
    server.tell(&["send", "a", "before"]);
    let mut child = piped(&server, &["messages", "--follow", "--json"])?;
    let mut lines = BufReader::new(child.stdout.take().expect("it has a pipe")).lines();
    let mut next = || -> io::Result<Value> {
        let line = lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
        serde_json::from_str(&line).map_err(io::Error::other)
    };
    assert_eq!(next()?["body"], "before");
    for text in ["one", "two"] {
        let sent = Instant::now();
        server.tell(&["send", "a", text]);
        assert_eq!(next()?["body"], text);
        assert!(sent.elapsed() < Duration::from_secs(5), "it took {:?}", sent.elapsed());
    }
    // Whoever read has had enough: as with `head`, that is no error.
    drop(lines);
    server.tell(&["send", "a", "three"]);
    assert_eq!(ended(&mut child), Some(0));
    let mut said = String::new();
    child.stderr.take().expect("it has a pipe").read_to_string(&mut said)?;
    assert_eq!(said, "");
    Ok(())
}

#[test]
fn following_ends_with_the_server() -> io::Result<()> {
    let mut server = Server::start()?;
    let mut child = piped(&server, &["events", "--follow"])?;
    let mut lines = BufReader::new(child.stdout.take().expect("it has a pipe")).lines();
    assert!(lines.next().expect("the server has started")?.contains("server-started"));
    server.terminate();
    assert_eq!(ended(&mut child), Some(3));
    Ok(())
}

/// A server that is told everything by its environment. Each variable that is documented is read.
#[test]
fn the_environment_is_read() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("server.toml");
    std::fs::write(&config, "[keep-alive]\nprofile = \"lan\"\n")?;
    let data = directory.path().join("data");
    let mut server = Command::new(binaries::holdfast())
        .arg("serve")
        .env("HOLDFAST_DATA", &data)
        .env("HOLDFAST_LISTEN", "127.0.0.1:0")
        .env("HOLDFAST_CLASSIC", "127.0.0.1:0")
        .env("HOLDFAST_HTTP", "127.0.0.1:0")
        .env("HOLDFAST_ADVERTISE", "one.example.org:1,two.example.org:2")
        .env("HOLDFAST_LOG", "holdfast_server=info")
        .env("HOLDFAST_LOG_FORMAT", "text")
        .env("HOLDFAST_CONFIG", &config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut log = BufReader::new(server.stderr.take().expect("it has a pipe")).lines();
    let ready =
        log.find(|line| line.as_ref().is_ok_and(|line| line.contains("ready"))).expect("it is ready")?;
    assert!(!ready.starts_with('{') && ready.contains("INFO"), "HOLDFAST_LOG_FORMAT: {ready}");

    let ask = |arguments: &[&str]| -> io::Result<Value> {
        let mut all = vec!["--json", "--data", data.to_str().expect("a path of UTF-8")];
        all.extend(arguments);
        let output = process::run(&binaries::holdfast(), all, LONGEST_WAIT)?;
        serde_json::from_slice(&output.stdout).map_err(io::Error::other)
    };
    let status = ask(&["status"])?;
    for (name, default) in [("listen", ":55223"), ("classic", ":55222"), ("http", ":55280")] {
        let address = status[name].as_str().unwrap_or_default();
        assert!(address.starts_with("127.0.0.1:") && !address.ends_with(default), "{name}: {address}");
    }
    assert_eq!(ask(&["enroll"])?["addresses"], json!(["one.example.org:1", "two.example.org:2"]));

    let http: SocketAddr = status["http"].as_str().and_then(|http| http.parse().ok()).expect("an address");
    let metrics = get(http, "/metrics")?;
    assert!(metrics.contains("holdfast_events_total{kind=\"server-started\"} 1"), "{metrics}");
    assert!(get(http, "/healthz")?.starts_with("HTTP/1.1 200"));

    ask(&["stop"])?;
    assert_eq!(ended(&mut server), Some(0));
    Ok(())
}

fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LONGEST_WAIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn what_can_not_be_served_is_an_error_that_names_it() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data").display().to_string();
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let unknown = directory.path().join("server.toml");
    std::fs::write(&unknown, "listne = '127.0.0.1:0'\n")?;
    let unknown = unknown.display().to_string();
    for (arguments, code, said) in [
        (["--listen", "127.0.0.1:0", "--http", &address], 1, &*address),
        (["--listen", &address, "--http", "off"], 1, &*address),
        (["--listen", "127.0.0.1:0", "--config", &unknown], 2, "listne"),
        (["--listen", "127.0.0.1:0", "--config", "/nonexistent.toml"], 2, "/nonexistent.toml"),
        (["--listen", "127.0.0.1:0", "--log", "a=b=c"], 2, "a=b=c"),
    ] {
        let mut all = vec!["serve", "--classic", "off", "--data", &data];
        all.extend(arguments);
        let output = process::run(&binaries::holdfast(), &all, LONGEST_WAIT)?;
        assert_eq!(output.status.code(), Some(code), "{all:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{all:?}: {}", stderr(&output));
    }
    Ok(())
}

#[test]
fn a_killed_server_starts_again_on_its_socket() -> io::Result<()> {
    let mut server = Server::start()?;
    server.kill();
    assert!(server.data().join("api.sock").exists());
    let (code, _) = refused(&server, &["devices"]);
    assert_eq!(code, Some(3));
    server.run()?;
    assert_eq!(server.ask(&["status"])[0]["devices"], 0);
    Ok(())
}

#[test]
fn completions_and_help_are_there() -> io::Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let output = process::run(&binaries::holdfast(), ["completions", shell], LONGEST_WAIT)?;
        assert!(stdout(&output).contains("term-password"), "{shell}");
    }
    let output = process::run(&binaries::holdfast(), ["send", "--help"], LONGEST_WAIT)?;
    assert!(stdout(&output).contains("holdfast send greenhouse"), "{}", stdout(&output));
    let version = process::run(&binaries::holdfast(), ["--version"], LONGEST_WAIT)?;
    assert!(stdout(&version).starts_with("holdfast "));
    Ok(())
}

#[test]
fn a_stop_that_is_not_waited_for_comes_all_the_same() -> io::Result<()> {
    let mut server = Server::start()?;
    assert_eq!(server.tell(&["stop", "--wait", "0"]), "the server stops\n");
    assert!(server.process().wait(LONGEST_WAIT).success());
    assert!(!server.data().join("api.sock").exists());
    Ok(())
}
