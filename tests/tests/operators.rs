//! Operators elsewhere: they log in once, and work over TLS with the rights of their role, for as long as they have them.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use holdfast_tests::{
    agent::Agent,
    device::{API, Device, Key},
    laptop::Laptop,
    process::{self, Process},
    server::Server,
    wait::{self, LONGEST_WAIT},
};
use serde_json::Value;

/// A new line, as `holdfast enroll` prints it.
#[track_caller]
fn line(server: &Server, arguments: &[&str]) -> String {
    server.tell(&[&["enroll"], arguments].concat()).trim().to_owned()
}

/// Waits until a program has printed this, so often.
#[track_caller]
fn wait_printed(process: &Process, what: &str, count: usize) {
    wait::until(
        &format!("{what} is printed {count} times"),
        || process.printed(),
        |printed| printed.matches(what).count() >= count,
    );
}

#[test]
fn an_operator_works_from_elsewhere() -> io::Result<()> {
    let server = Server::start()?;
    let agent = Agent::start(&server, "greenhouse")?;
    let laptop = Laptop::logged_in(&server, "anna", "operator")?;
    let devices = laptop.ask(&["devices"]);
    assert_eq!((&devices[0]["name"], &devices[0]["online"]), (&"greenhouse".into(), &true.into()));
    assert!(laptop.tell(&["ping", "greenhouse"]).contains("answered in"));

    let events = laptop.start(&["events", "--follow", "--json"])?;
    wait_printed(&events, "operator-enrolled", 1);
    laptop.tell(&["send", "greenhouse", "open the window"]);
    wait_printed(&events, "message-sent", 1);
    agent.send("it is open");
    let is_there = |messages: &Vec<Value>| messages.iter().any(|message| message["body"] == "it is open");
    wait::until("the answer is there", || laptop.ask(&["messages", "greenhouse"]), is_there);
    let sent = server.wait_event("message-sent", |_| true);
    assert_eq!(
        (&sent["who"], &sent["address"], &sent["device"]),
        (&"anna".into(), &"127.0.0.1".into(), &"greenhouse".into())
    );

    let operators = laptop.ask(&["operators"]);
    let anna = &operators[0];
    assert_eq!(
        (&anna["name"], &anna["role"], &anna["address"]),
        (&"anna".into(), &"operator".into(), &"127.0.0.1".into())
    );
    assert!(anna["last_seen"].is_string(), "{anna}");
    laptop.refused(&["revoke", "greenhouse"], 5, &["operator", "may not", "ask an admin"]);
    laptop.refused(&["rotate-key"], 5, &["may not"]);
    laptop.refused(&["term-password", "--context", "127.0.0.1"], 2, &["the server's own machine"]);
    Ok(())
}

#[test]
fn whoever_logs_out_leaves_no_key_behind() -> io::Result<()> {
    let server = Server::start()?;
    let laptop = Laptop::logged_in(&server, "anna", "viewer")?;
    let name = laptop.ask(&["contexts"])[0]["name"].as_str().unwrap_or_default().to_owned();
    laptop.refused(&["logout", "home"], 4, &["no context \"home\"", "holdfast contexts"]);
    laptop.refused(&["logout", "../home"], 2, &["a context's name"]);
    let printed = laptop.tell(&["logout"]);
    assert!(printed.contains(&name) && printed.contains("revoke --operator anna"), "{printed}");
    assert_eq!(fs::read_dir(laptop.contexts())?.count(), 0, "neither the key nor anything else is left");
    assert_eq!(laptop.ask(&["contexts"]), [Value::Null; 0]);
    laptop.refused(&["devices"], 3, &["no server runs"]);
    laptop.refused(&["logout"], 4, &["no server elsewhere"]);
    assert_eq!(server.ask(&["operators"])[0]["name"], "anna", "the server goes on knowing her");

    // One that is damaged, and one that was only begun, are removed as well.
    for file in ["home.toml", "home.begun"] {
        fs::write(laptop.contexts().join(file), "no key")?;
        assert_eq!(laptop.ask(&["logout", "home"]), [serde_json::json!({"name": "home"})]);
        assert_eq!(fs::read_dir(laptop.contexts())?.count(), 0);
    }
    Ok(())
}

#[test]
fn a_viewer_looks_and_an_admin_may_do_everything() -> io::Result<()> {
    let mut server = Server::start()?;
    let _agent = Agent::start(&server, "greenhouse")?;
    let viewer = Laptop::logged_in(&server, "vera", "viewer")?;
    for look in ["devices", "sessions", "messages", "events", "tasks", "operators", "status"] {
        viewer.tell(&[look]);
    }
    viewer.tell(&["device", "greenhouse"]);
    for refused in [
        &["send", "greenhouse", "x"][..],
        &["ping", "greenhouse"],
        &["proxy", "greenhouse"],
        &["reboot", "greenhouse"],
        &["task", "stop", "1"],
        &["enroll"],
        &["enroll", "--operator", "eve", "--role", "admin"],
        &["revoke", "greenhouse"],
        &["revoke", "--operator", "vera"],
        &["rotate-key"],
        &["stop"],
    ] {
        let code = if refused == ["task", "stop", "1"] { 4 } else { 5 };
        viewer.refused(refused, code, &[]);
    }
    assert!(server.events("message-sent").is_empty() && server.events("task-requested").is_empty());
    let denied = server.wait_event("request-denied", |event| event["detail"]["action"] == "reboot");
    let who = (&denied["who"], &denied["address"], &denied["detail"]["object"]);
    assert_eq!(who, (&"vera".into(), &"127.0.0.1".into(), &"greenhouse".into()));

    let admin = Laptop::logged_in(&server, "ada", "admin")?;
    let made = admin.tell(&["enroll", "--operator", "otto", "--role", "viewer"]);
    let otto = Laptop::new()?;
    otto.tell(&["login", made.trim()]);
    admin.tell(&["revoke", "--operator", "otto"]);
    otto.refused(&["devices"], 5, &["rights of otto", "holdfast login"]);
    admin.tell(&["revoke", "greenhouse"]);
    assert_eq!(server.wait_event("device-revoked", |_| true)["who"], "ada");
    admin.tell(&["stop"]);
    assert!(server.process().wait(LONGEST_WAIT).success());
    admin.refused(&["devices"], 3, &["can't be reached"]);
    Ok(())
}

#[test]
fn who_is_revoked_is_cut_off_at_once() -> io::Result<()> {
    let server = Server::start()?;
    let laptop = Laptop::logged_in(&server, "anna", "viewer")?;
    let other = Laptop::logged_in(&server, "otto", "viewer")?;
    let mut events = laptop.start(&["events", "--follow"])?;
    let mut messages = laptop.start(&["messages", "--follow"])?;
    let others = other.start(&["events", "--follow"])?;
    wait_printed(&events, "operator-enrolled", 2);
    wait_printed(&others, "operator-enrolled", 2);
    let printed = server.tell(&["revoke", "--operator", "anna"]);
    assert!(printed.contains("holdfast enroll --operator anna --role viewer"), "{printed}");
    for stream in [&mut events, &mut messages] {
        assert_eq!(stream.wait(LONGEST_WAIT).code(), Some(5), "{}", stream.printed());
    }
    assert!(events.printed().contains("the rights of anna were taken away"), "{}", events.printed());
    laptop.refused(&["devices"], 5, &["rights of anna", "holdfast login --again"]);
    laptop.refused(&["send", "greenhouse", &"x".repeat(100_000)], 5, &["rights of anna"]);
    let refused = server.wait_event("connection-refused", |event| event["detail"]["reason"] == "revoked");
    assert_eq!(refused["address"], "127.0.0.1");
    // The others' goes on.
    wait_printed(&others, "operator-revoked", 1);
    let shown = server.tell(&["operators"]);
    assert!(shown.contains("revoked"), "{shown}");

    // The same person comes back with a new key, and another role.
    let again = line(&server, &["--operator", "anna", "--role", "operator"]);
    laptop.refused(&["login", &again], 1, &["there is a context", "--again"]);
    laptop.tell(&["login", "--again", &again]);
    assert_eq!(laptop.ask(&["operators"])[0]["role"], "operator");
    Ok(())
}

#[test]
fn a_line_is_good_for_whom_and_as_often_as_it_says() -> io::Result<()> {
    let server = Server::start()?;
    let laptop = Laptop::new()?;
    let used = line(&server, &["--operator", "anna", "--role", "viewer"]);
    laptop.tell(&["login", &used]);
    laptop.refused(&["login", "--context", "second", &used], 5, &["used as often", "new line"]);

    let expired = line(&server, &["--operator", "otto", "--role", "viewer", "--expires", "1s"]);
    let made = Instant::now();
    wait::until_true("its time is over", || made.elapsed() > Duration::from_secs(1));
    laptop.refused(&["login", "--context", "second", &expired], 5, &["expired", "new line"]);

    let of_device = line(&server, &["--name", "greenhouse"]);
    laptop.refused(&["login", "--context", "second", &of_device], 2, &["is a device's"]);
    let bare = of_device.trim_start_matches("holdfast-agent enroll ");
    laptop.refused(&["login", "--context", "second", bare], 5, &["is a device's", "--operator"]);

    let of_operator = line(&server, &["--operator", "eve", "--role", "admin"]);
    let agent = Agent::new("greenhouse")?;
    let bare = of_operator.trim_start_matches("holdfast login ");
    let output = agent.command(&["enroll", bare], LONGEST_WAIT)?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("an operator's") && error.contains("holdfast login"),
        "{error}"
    );
    // Nothing has come of all that, and both lines are as good as before.
    assert_eq!(server.ask(&["operators"]).len(), 1);
    assert!(server.ask(&["devices"]).is_empty());
    agent.tell(&["enroll", &of_device]);
    laptop.tell(&["login", "--context", "second", &of_operator]);
    let kept: Vec<_> = fs::read_dir(laptop.contexts())?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    assert_eq!(kept.len(), 2, "no keys are left that nobody knows: {kept:?}");
    Ok(())
}

#[test]
fn contexts_are_private_and_chosen_by_name_or_server() -> io::Result<()> {
    let (one, two) = (Server::start()?, Server::start()?);
    let laptop = Laptop::new()?;
    laptop.refused(&["devices"], 3, &["holdfast serve"]);
    for (server, name) in [(&one, "one"), (&two, "two")] {
        let line = line(server, &["--operator", "anna", "--role", "admin"]);
        laptop.tell(&["login", "--context", name, &line]);
        let file = laptop.contexts().join(format!("{name}.toml"));
        assert_eq!(fs::metadata(file)?.permissions().mode() & 0o777, 0o600);
    }
    let stores = [&one, &two].map(|server| server.ask(&["status"])[0]["store"].clone());
    let store = |arguments: &[&str]| laptop.ask(&[&["status"], arguments].concat())[0]["store"].clone();
    assert_eq!([store(&["--context", "one"]), store(&["--context", "two"])], stores);
    assert_eq!(store(&["--server", &one.address().to_string()]), stores[0]);
    assert_eq!(store(&[]), stores[1], "the one that was logged in to last");
    assert_eq!(store(&["--data", &one.data().display().to_string()]), stores[0]);
    let mut by_environment = laptop.arguments(&["status", "--json"]);
    by_environment.insert(4, "HOLDFAST_CONTEXT=one".to_owned());
    let output = process::run(Path::new("env"), by_environment, LONGEST_WAIT)?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(status["store"], stores[0]);
    let listed = laptop.ask(&["contexts"]);
    let used = |name: &str| {
        listed.iter().find(|context| context["name"] == name).map(|context| context["used"].clone())
    };
    assert_eq!((used("one"), used("two")), (Some(false.into()), Some(true.into())));
    assert!(listed.iter().all(|context| context["role"] == "admin"), "the servers have said so: {listed:?}");
    assert!(laptop.tell(&["status"]).contains("anna, admin"));
    laptop.refused(&["devices", "--server", "127.0.0.1"], 2, &["one of two, one", "--context"]);
    let secret = laptop.contexts().join("two.toml");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644))?;
    let output = process::run(Path::new("env"), laptop.arguments(&["status"]), LONGEST_WAIT)?;
    let told = String::from_utf8_lossy(&output.stderr).matches("others may read").count();
    assert_eq!(told, 1, "{output:?}");
    laptop.refused(&["devices", "--context", "three"], 4, &["no context", "holdfast contexts"]);
    laptop.refused(&["devices", "--server", "elsewhere"], 4, &["elsewhere"]);
    Ok(())
}

#[test]
fn another_server_is_not_taken_for_it() -> io::Result<()> {
    let (server, other) = (Server::start()?, Server::start()?);
    let laptop = Laptop::logged_in(&server, "anna", "admin")?;
    let file = laptop.contexts().join("127.0.0.1.toml");
    let context = fs::read_to_string(&file)?;
    let there = other.address().to_string();
    fs::write(&file, context.replace(&server.address().to_string(), &there))?;
    laptop.refused(&["devices"], 5, &["not trusted", "log in anew"]);
    assert!(other.events("operator-enrolled").is_empty());

    // Nor does a server take whom another one knows.
    let pin = |server: &Server, which: &str| {
        let answer = server.api().get("/provisioning").expect("the server tells");
        answer[which].as_str().unwrap_or_default().to_owned()
    };
    let mut context = fs::read_to_string(&file)?;
    for which in ["current", "next"] {
        context = context.replace(&pin(&server, which), &pin(&other, which));
    }
    fs::write(&file, context)?;
    laptop.refused(&["devices"], 5, &["no operator's", "holdfast enroll --operator"]);
    let refused = other.wait_event("connection-refused", |event| event["detail"]["reason"] == "unknown-key");
    assert_eq!(refused["address"], "127.0.0.1");
    Ok(())
}

#[test]
fn keys_of_the_server_change_without_a_new_login() -> io::Result<()> {
    let mut server = Server::start()?;
    let laptop = Laptop::logged_in(&server, "anna", "admin")?;
    for _ in 0..3 {
        let answer = &laptop.ask(&["rotate-key"])[0];
        server.terminate();
        server.run()?;
        assert_eq!(laptop.ask(&["status"])[0]["pin"], answer["current"]);
        let context = fs::read_to_string(laptop.contexts().join("127.0.0.1.toml"))?;
        assert!(context.contains(&format!("next = {}", answer["next"])), "{context}");
    }
    Ok(())
}

#[test]
fn strangers_are_answered_and_keep_nobody_out() -> io::Result<()> {
    let server = Server::configured("[limits]\nunknown-connections = 8\nopening-timeout = \"2s\"\n", None)?;
    let laptop = Laptop::logged_in(&server, "anna", "viewer")?;
    let request = b"GET /api/v1/devices HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stranger = Device::connect(server.address(), API, &Key::new())?;
    stranger.write(request)?;
    let answer = stranger.read_to_end()?;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("\"unknown-key\""), "{answer}");
    assert!(!answer.to_lowercase().contains("holdfast-keys"), "{answer}");

    let mut idle = Vec::new();
    for number in 0..20 {
        let mut stranger = Device::connect(server.address(), API, &Key::new())?;
        if number % 2 == 0 {
            stranger.write(&request[..20])?;
        }
        idle.push(stranger);
    }
    laptop.tell(&["devices"]);
    // None of them is waited for for long, either.
    for stranger in &mut idle {
        let answer = stranger.read_to_end().unwrap_or_default();
        assert!(answer.is_empty(), "{answer}");
    }
    laptop.tell(&["devices"]);
    Ok(())
}
