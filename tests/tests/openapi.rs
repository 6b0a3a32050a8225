//! The API is what `docs/openapi.json` says. Schemathesis makes requests out of that, sensible ones and senseless ones,
//! and looks at each answer: no failure of the server, no status and no body that is not described.

use std::{env, fs, io, path::PathBuf, process::Command};

use holdfast_tests::server::Server;
use serde_json::Value;

/// What the run ends: the server, or the rights by which it asks. The tests of the API ask these.
const LEFT_OUT: &[&str] = &["/stop", "/keys/rotate", "/operators/{name}/revoke", "/devices/{name}/ssh"];

/// How long it goes on making up requests, in seconds.
const TIME_LIMIT: &str = "45";

/// Where `cargo xtask setup` has put it.
fn schemathesis() -> PathBuf {
    let test = env::current_exe().expect("a running program has a path");
    let mut directories = test.ancestors().map(|directory| directory.join("schemathesis/bin/schemathesis"));
    directories
        .find(|program| program.exists())
        .expect("expected Schemathesis: cargo xtask setup installs it")
}

/// The description, but for what never ends (streams) and what ends the run.
fn description() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let text = fs::read_to_string(path).expect("it is checked in");
    let mut description: Value = serde_json::from_str(&text).expect("it is JSON");
    let paths = description["paths"].as_object_mut().expect("it has paths");
    paths.retain(|path, _| !LEFT_OUT.contains(&path.as_str()));
    for operation in paths.values_mut().flat_map(|path| path.as_object_mut().unwrap().values_mut()) {
        let parameters = operation["parameters"].as_array_mut().expect("it has parameters, or none");
        parameters.retain(|parameter| parameter["name"] != "follow");
        for response in operation["responses"].as_object_mut().unwrap().values_mut() {
            if let Some(content) = response.get_mut("content").and_then(Value::as_object_mut) {
                content.remove("text/event-stream");
            }
        }
    }
    description
}

#[test]
fn the_api_is_as_it_is_described() -> io::Result<()> {
    let server = Server::with_http("")?;
    server.tell(&["user", "add", "tester", "--role", "admin"]);
    let token = server.tell(&["token", "add", "schemathesis", "--operator", "tester"]);
    let directory = tempfile::tempdir()?;
    let described = directory.path().join("openapi.json");
    fs::write(&described, description().to_string())?;
    let checks =
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let mut run = Command::new(schemathesis());
    run.args(["run", "--url", &format!("http://{}/api/v1", server.http())])
        .args(["--header", &format!("Authorization: Bearer {}", token.trim())])
        .args(["--checks", checks, "--phases", "examples,coverage,fuzzing"])
        .args(["--max-time", TIME_LIMIT, "--max-examples", "20", "--generation-deterministic"])
        .args(["--request-timeout", "30", "--no-color"])
        .arg(&described)
        .current_dir(directory.path());
    let output = run.output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("passed"), "it has asked something: {printed}");
    // All of this was nothing to the server.
    assert_eq!(server.tell(&["status", "--json"]).lines().count(), 1);
    assert!(server.events("part-failed").is_empty());
    Ok(())
}
