mod documents;
mod rights;
mod web;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::UnixStream,
    sync::Mutex,
    task::JoinHandle,
    time::timeout,
};

use super::{
    Addresses, Api, ApiListener, Logins, REQUESTS, Revocations, SOCKET, STRANGERS, SharedFleet, SocketError,
    serve,
};
use crate::{
    classic_clients::{ClassicClient, ClassicClients},
    config::{Config, Overrides},
    event::{EventKind, NewEvent},
    host::Host,
    shutdown::Shutdown,
    store::{
        DeviceId, NewSession, Store, UnixMillis,
        tests::{enrolled, key_of},
    },
    tls::Keys,
};

/// Far longer than anything here takes.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// How long the server waits for a client that takes nothing.
const CLIENT_TIMEOUT: Duration = Duration::from_millis(500);

/// The API of a server with this data directory, of which nothing else runs.
pub(crate) fn api_of(data: &Path) -> Arc<Api> {
    let overrides = Overrides { advertise: vec!["fleet.example.org:1".to_owned()], ..Overrides::default() };
    let config = Config::load(data, &overrides).unwrap();
    let keys = Keys::load_or_create(&data.join("keys")).unwrap();
    let store = Store::open(data).unwrap();
    Arc::new(Api {
        host: Arc::new(Host::new(&config, store, &keys, config.advertise.clone())),
        addresses: Addresses { listen: config.listen, classic: config.classic, http: None },
        guessed: false,
        started: UnixMillis::now(),
        keys: Keys::directory(data),
        rotation: Mutex::default(),
        shutdown: Shutdown::default(),
        time_limit: CLIENT_TIMEOUT,
        places: super::Places::default(),
        revocations: Revocations::default(),
        logins: Logins::default(),
        fleet: SharedFleet::default(),
    })
}

struct Server {
    directory: TempDir,
    api: Arc<Api>,
    serving: JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let api = api_of(directory.path());
        let listener = ApiListener::bind(directory.path()).unwrap();
        let serving = tokio::spawn(serve(listener, Arc::clone(&api)));
        Self { directory, api, serving }
    }

    fn data(&self) -> &Path {
        self.directory.path()
    }

    /// A device of this name, registered.
    async fn enrol(&self, name: &str) -> DeviceId {
        enrolled(&self.api.host.store, name, key_of(name)).await
    }

    /// Asks, and gives the status and the JSON of the answer.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(stream).await
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.data().join(SOCKET)).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, &Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("POST", path, &body).await
    }

    async fn follow(&self, path: &str, headers: &str) -> Follower {
        let mut stream = self.connect().await;
        let request = format!("GET /api/v1{path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Follower { lines: BufReader::new(stream).lines() }
    }

    async fn record(&self, detail: i64) {
        let event = NewEvent::new(EventKind::ServerStarted).detail("n", detail);
        self.api.host.store.record(event).await.unwrap();
    }
}

/// A stream of server-sent events. (The sizes of HTTP's chunks are lines that are passed over.)
struct Follower {
    lines: Lines<BufReader<UnixStream>>,
}

impl Follower {
    /// The next entry's id and data; none at the end of the stream.
    async fn next(&mut self) -> Option<(i64, Value)> {
        let mut id = None;
        loop {
            let line =
                timeout(LONGEST_WAIT, self.lines.next_line()).await.expect("something comes").ok()??;
            if let Some(text) = line.strip_prefix("id: ") {
                id = Some(text.parse().unwrap());
            } else if let Some(data) = line.strip_prefix("data: ") {
                // What was cut off is none.
                return Some((id?, serde_json::from_str(data).ok()?));
            }
        }
    }
}

/// The status and the JSON of what comes, to its end.
async fn answer(mut stream: UnixStream) -> (u16, Value) {
    let mut answer = String::new();
    timeout(LONGEST_WAIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let server = Server::start();
    assert_eq!(code(&server.get("/nothing").await), (404, "no-such-path"));
    assert_eq!(code(&server.ask("DELETE", "/status", &Value::Null).await), (405, "wrong-method"));
    assert_eq!(code(&server.get("/devices/nobody").await), (404, "no-such-device"));
    assert_eq!(code(&server.get("/messages?device=nobody").await), (404, "no-such-device"));
    assert_eq!(code(&server.get("/messages?devise=a").await), (400, "bad-request"));
    assert_eq!(code(&server.get("/messages?limit=0").await), (400, "bad-request"));
    assert_eq!(code(&server.get("/events?since=yesterday").await), (400, "bad-request"));
    assert_eq!(code(&server.get("/devices/%ff").await), (400, "bad-request"));
    for negative in [
        "/sessions?after=-1",
        "/messages?after=-1",
        "/events?after=-1&follow=true",
        "/tasks?before=0",
        "/messages?before=7&follow=true",
    ] {
        let refused = server.get(negative).await;
        assert_eq!(code(&refused), (400, "bad-request"), "{negative}: {refused:?}");
    }
    let unknown_field = server.post("/tokens", json!({ "names": "a" })).await;
    assert_eq!(unknown_field.0, 422, "{unknown_field:?}");
    server.enrol("a").await;
    for (path, list) in [
        ("/tokens", json!(["a", 1, 60])),
        ("/tokens", json!([])),
        ("/devices/a/messages", json!(["text", "x"])),
        ("/devices/a/ping", json!([])),
        ("/stop", json!([])),
    ] {
        let refused = server.post(path, list).await;
        assert!([400, 422].contains(&refused.0), "{path}: {refused:?}");
        assert!(
            refused.1["error"]["message"].as_str().unwrap().contains("expected an object"),
            "{refused:?}"
        );
    }
    assert!(!server.api.shutdown.is_requested());
    let large = json!({ "body": "x".repeat(600_000) });
    assert_eq!(server.post("/devices/a/messages", large).await.0, 413);
}

#[tokio::test]
async fn status_tells_where_and_how_many() {
    let server = Server::start();
    server.enrol("a").await;
    let (status, answer) = server.get("/status").await;
    assert_eq!(status, 200);
    assert_eq!(answer["devices"], 1);
    assert_eq!(answer["online"], 0);
    assert_eq!(answer["listen"], "0.0.0.0:55223");
    assert_eq!(answer["pid"], std::process::id());
}

#[tokio::test]
async fn a_token_makes_a_line_and_an_event() {
    let server = Server::start();
    let (status, answer) = server.post("/tokens", json!({ "name": "house", "uses": 3 })).await;
    assert_eq!(status, 201, "{answer}");
    let line = answer["line"].as_str().unwrap();
    assert!(line.starts_with("holdfast-agent enroll hf1."), "{line}");
    assert_eq!(answer["addresses"], json!(["fleet.example.org:1"]));
    let (_, events) = server.get("/events").await;
    let event = &events["items"][0];
    assert_eq!(event["kind"], "token-created");
    assert!(event["who"].is_string(), "{event}");
    assert_eq!(
        event["detail"]["expires_at"], answer["expires"],
        "times are for people, in the log files, too"
    );

    let (_, answer) = server.post("/tokens", json!({ "addresses": ["other.example.org:5"] })).await;
    assert_eq!(answer["addresses"], json!(["other.example.org:5"]));
    server.enrol("taken").await;
    assert_eq!(code(&server.post("/tokens", json!({ "name": "taken" })).await), (409, "name-taken"));
    for bad in [
        json!({ "name": "No Name" }),
        json!({ "uses": 0 }),
        json!({ "expires_seconds": 0 }),
        json!({ "addresses": ["nowhere"] }),
        json!({ "addresses": ["a:1", "b:1", "c:1", "d:1", "e:1"] }),
    ] {
        assert_eq!(code(&server.post("/tokens", bad.clone()).await), (400, "bad-request"), "{bad}");
    }
}

#[tokio::test]
async fn a_wired_device_is_enrolled_for_its_gateway() {
    let server = Server::start();
    server.enrol("pi").await;
    let wired = json!({ "name": "barometer", "gateway": "pi" });
    let (status, answer) = server.post("/devices", wired.clone()).await;
    assert_eq!((status, &answer["name"], &answer["gateway"]), (201, &json!("barometer"), &json!("pi")));
    let config = answer["config"].as_str().unwrap();
    assert!(config.starts_with("[[serial]]\n") && config.ends_with("device = \"barometer\"\n"), "{config}");
    assert_eq!(answer["repeat"], false);
    let (status, again) = server.post("/devices", wired.clone()).await;
    assert_eq!((status, &again["repeat"], &again["config"]), (200, &json!(true), &answer["config"]));
    let (_, device) = server.get("/devices/barometer").await;
    let shown = (&device["kind"], &device["gateway"], &device["key"]);
    assert_eq!(shown, (&json!("wired"), &json!("pi"), &Value::Null));
    server.enrol("other").await;
    for (bad, expected) in [
        (json!({ "name": "barometer" }), (422, "bad-request")),
        (json!({ "name": "No Name", "gateway": "pi" }), (400, "bad-request")),
        (json!({ "name": "a", "gateway": "nobody" }), (404, "no-such-device")),
        (json!({ "name": "a", "gateway": "barometer" }), (409, "no-gateway")),
        (json!({ "name": "pi", "gateway": "pi" }), (400, "bad-request")),
        (json!({ "name": "other", "gateway": "pi" }), (409, "name-taken")),
        (json!({ "name": "barometer", "gateway": "other" }), (409, "name-taken")),
    ] {
        assert_eq!(code(&server.post("/devices", bad.clone()).await), expected, "{bad}");
    }
    let (_, answer) = server.post("/devices/pi/revoke", Value::Null).await;
    assert_eq!(answer["wired"], json!(["barometer"]));
    assert_eq!(code(&server.post("/devices", wired).await), (403, "revoked"));
    let (_, answer) = server.post("/devices/barometer/revoke", Value::Null).await;
    assert_eq!((&answer["kind"], &answer["gateway"]), (&json!("wired"), &json!("pi")));
}

#[tokio::test]
async fn devices_whose_keys_are_made_are_registered_together() {
    let server = Server::start();
    server.enrol("a").await;
    let (status, told) = server.get("/provisioning").await;
    assert_eq!(
        (status, &told["addresses"], &told["guessed"]),
        (200, &json!(["fleet.example.org:1"]), &json!(false))
    );
    let ask =
        |devices: Value| json!({ "current": told["current"], "next": told["next"], "devices": devices });
    let key = |digit: &str| digit.repeat(64);
    let two = json!([{ "name": "b", "key": key("b") }, { "name": "c", "key": key("c") }]);
    let (status, answer) = server.post("/provisioning", ask(two.clone())).await;
    assert_eq!((status, &answer["devices"]), (201, &json!(2)));
    assert_eq!(server.post("/provisioning", ask(two.clone())).await.0, 201, "an answer may be lost");
    assert_eq!(server.get("/devices/b").await.1["key"], key("b"));

    let one = |name: &str, key: String| ask(json!([{ "name": name, "key": key }]));
    let later = json!([{ "name": "d", "key": key("d") }, { "name": "a", "key": key("e") }]);
    for (bad, expected) in [
        (ask(later), (409, "name-taken")),
        (
            ask(json!([{ "name": "d", "key": key("1") }, { "name": "d", "key": key("2") }])),
            (409, "name-taken"),
        ),
        (one("d", key("b")), (409, "key-known")),
        (one("No Name", key("d")), (400, "bad-request")),
        (one("d", "d".to_owned()), (400, "bad-request")),
        (ask(json!([])), (400, "bad-request")),
        (json!({ "current": key("0"), "next": told["next"], "devices": two }), (409, "keys-changed")),
        (json!({ "devices": two }), (422, "bad-request")),
    ] {
        assert_eq!(code(&server.post("/provisioning", bad.clone()).await), expected, "{bad}");
    }
    assert_eq!(server.get("/devices/d").await.0, 404, "all of them or none");
    server.post("/devices/b/revoke", Value::Null).await;
    assert_eq!(code(&server.post("/provisioning", one("b", key("b"))).await), (409, "key-known"));
    assert_eq!(server.post("/provisioning", one("b", key("f"))).await.0, 201, "it comes back with a new key");
}

#[tokio::test]
async fn messages_are_kept_for_a_device_that_is_offline() {
    let server = Server::start();
    server.enrol("a").await;
    for body in
        [json!({ "body": "hello", "expires_seconds": 60 }), json!({ "body_base64": "/wA=", "kind": "raw" })]
    {
        let (status, answer) = server.post("/devices/a/messages", body).await;
        assert_eq!((status, &answer["online"]), (201, &json!(false)), "{answer}");
    }
    let (_, messages) = server.get("/messages?device=a").await;
    let items = messages["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["body"], "hello");
    assert_eq!(items[0]["state"], "waiting");
    assert_eq!(items[1]["body_base64"], "/wA=");
    assert_eq!(items[1]["kind"], "raw");
    let (_, device) = server.get("/devices/a").await;
    assert_eq!((&device["queued"], &device["online"]), (&json!(2), &json!(false)));
    let (_, events) = server.get("/events?device=a").await;
    let sent = events["items"].as_array().unwrap().iter().filter(|event| event["kind"] == "message-sent");
    assert_eq!(sent.count(), 2);

    for (bad, expected) in [
        (json!({}), (400, "bad-request")),
        (json!({ "body": "a", "body_base64": "" }), (400, "bad-request")),
        (json!({ "body_base64": "!" }), (400, "bad-request")),
        (json!({ "body": "a", "kind": "A b" }), (400, "bad-request")),
        (json!({ "body": "a", "expires_seconds": 0 }), (400, "bad-request")),
        (json!({ "body": "x".repeat(16_384) }), (413, "too-large")),
    ] {
        assert_eq!(code(&server.post("/devices/a/messages", bad).await), expected);
    }
    assert_eq!(code(&server.post("/devices/a/ping", json!({})).await), (409, "offline"));
}

#[tokio::test]
async fn a_revoked_device_gets_nothing() {
    let server = Server::start();
    server.enrol("a").await;
    assert_eq!(server.post("/devices/a/revoke", json!({ "why": "lost" })).await.0, 400);
    for body in [json!({}), Value::Null] {
        let (status, answer) = server.post("/devices/a/revoke", body).await;
        assert_eq!((status, &answer["was_online"]), (200, &json!(false)));
    }
    assert_eq!(code(&server.post("/devices/a/messages", json!({ "body": "x" })).await), (403, "revoked"));
    let (_, device) = server.get("/devices/a").await;
    assert!(device["revoked"].is_string());
    assert_eq!(server.get("/status").await.1["devices"], 0);
}

#[tokio::test]
async fn a_classic_client_is_present_while_it_is_connected() {
    let server = Server::start();
    let store = &server.api.host.store;
    let address = "192.0.2.7".parse().unwrap();
    let device = store.classic_client(address).await.unwrap();
    let session = NewSession { device: device.id, address, boot: None, longest_message: None };
    let session = store.start_session(session).await.unwrap();
    let clients: &Arc<ClassicClients> = &server.api.host.classic_clients;
    let client = ClassicClient { device: device.id, session, address, since: UnixMillis::now() };
    let presence = clients.enter(client);
    let (_, shown) = server.get("/devices/192.0.2.7").await;
    assert_eq!(
        (&shown["kind"], &shown["online"], &shown["address"]),
        (&json!("classic"), &json!(true), &json!("192.0.2.7"))
    );
    drop(presence);
    let (_, shown) = server.get("/devices/192.0.2.7").await;
    assert_eq!(shown["online"], false);
    let refused = server.post("/devices/192.0.2.7/messages", json!({ "body": "x" })).await;
    assert_eq!(code(&refused), (409, "classic"));
    let (_, sessions) = server.get("/sessions?device=192.0.2.7").await;
    assert_eq!(sessions["items"][0]["address"], "192.0.2.7");
}

#[tokio::test]
async fn pages_follow_on_each_other() {
    let server = Server::start();
    for number in 0..5 {
        server.record(number).await;
    }
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let (_, page) = server.get(&format!("/events?limit=2&after={after}")).await;
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|event| event["detail"]["n"].as_i64().unwrap()),
        );
        match page["next"].as_i64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    for (path, expected) in [
        ("/events?limit=2&before=9007199254740991", (json!([4, 5]), json!(4))),
        ("/events?limit=2&before=4", (json!([2, 3]), json!(2))),
        ("/events?limit=2&before=3", (json!([1, 2]), Value::Null)),
        ("/events?limit=2&before=1", (json!([]), Value::Null)),
        ("/events?limit=2&before=5&after=2", (json!([3, 4]), Value::Null)),
    ] {
        let (_, page) = server.get(path).await;
        let ids: Vec<_> = page["items"].as_array().unwrap().iter().map(|event| &event["id"]).collect();
        assert_eq!((json!(ids), page["next"].clone()), expected, "{path}");
    }
    let (_, none) = server.get("/events?since=2999-01-01T00:00:00Z").await;
    assert_eq!(none["items"], json!([]));
}

/// Followers that are cut again and again, while events are recorded, see each event once and in order.
#[tokio::test]
async fn a_stream_that_is_cut_goes_on_without_gap_or_double() {
    const EVENTS: i64 = 200;
    let server = Server::start();
    let recording = async {
        for number in 0..EVENTS {
            server.record(number).await;
        }
    };
    let following = async {
        let (mut seen, mut last) = (Vec::new(), None);
        while seen.len() < EVENTS as usize {
            let resume = last.map_or_else(String::new, |last: i64| format!("Last-Event-ID: {last}\r\n"));
            let headers = format!("Accept: text/event-stream\r\n{resume}");
            let mut follower = server.follow("/events?limit=7", &headers).await;
            // Cut after a while, not always in the same place.
            for _ in 0..seen.len() % 40 + 10 {
                if seen.len() == EVENTS as usize {
                    break;
                }
                let (id, event) = follower.next().await.expect("it goes on");
                seen.push(event["detail"]["n"].as_i64().unwrap());
                last = Some(id);
            }
        }
        seen
    };
    let ((), seen) = tokio::join!(recording, following);
    assert_eq!(seen, (0..EVENTS).collect::<Vec<_>>());
}

/// A follower that takes nothing is cut, costs the server nothing meanwhile, and goes on where it was.
#[tokio::test]
async fn a_follower_that_takes_nothing_is_cut_and_goes_on() {
    const EVENTS: i64 = 100;
    let server = Server::start();
    server.record(0).await;
    // Each follower holds the API.
    let before = Arc::strong_count(&server.api);
    let mut follower = server.follow("/events?follow=true", "").await;
    let (mut last, first) = follower.next().await.unwrap();
    let mut seen = vec![first["detail"]["n"].as_i64().unwrap()];
    for number in 1..EVENTS {
        // More in all than sockets and HTTP keep on the way.
        let event =
            NewEvent::new(EventKind::ServerStarted).detail("n", number).detail("text", "x".repeat(50_000));
        server.api.host.store.record(event).await.unwrap();
    }
    let cut = async {
        while Arc::strong_count(&server.api) > before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONGEST_WAIT, cut).await.expect("it is cut");
    let mut cuts = 0;
    while seen.len() < EVENTS as usize {
        match follower.next().await {
            Some((id, event)) => {
                seen.push(event["detail"]["n"].as_i64().unwrap());
                last = id;
            }
            None => {
                cuts += 1;
                assert!(cuts < 10, "a reader that takes what comes is cut again and again");
                follower = server.follow("/events?follow=true", &format!("Last-Event-ID: {last}\r\n")).await;
            }
        }
    }
    assert!(cuts > 0, "it was not cut");
    assert_eq!(seen, (0..EVENTS).collect::<Vec<_>>());
}

/// Whoever asks is answered, though many sit there and ask nothing, or half of something.
#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    let server = Server::start();
    server.record(0).await;
    let mut follower = server.follow("/events?follow=true", "").await;
    follower.next().await.unwrap();
    let mut idle = Vec::new();
    for number in 0..REQUESTS + STRANGERS + 10 {
        let mut stream = server.connect().await;
        if number % 2 == 0 {
            stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHo").await.unwrap();
        }
        idle.push(stream);
    }
    assert_eq!(timeout(LONGEST_WAIT, server.get("/status")).await.expect("it is answered").0, 200);
    // Who is being answered does not make way.
    server.record(1).await;
    assert_eq!(follower.next().await.unwrap().1["detail"]["n"], 1);
    // Nor do the others hold up the end.
    server.api.shutdown.request("test");
    timeout(CLIENT_TIMEOUT * 10, server.serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start();
    server.enrol("a").await;
    for path in ["/tokens", "/devices/a/ping"] {
        let mut stream = server.connect().await;
        let request = format!(
            "POST /api/v1{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(code(&answer(stream).await), (408, "too-slow"));
    }
}

#[tokio::test]
async fn messages_are_streamed_as_they_come_and_streams_end_with_the_server() {
    let server = Server::start();
    server.enrol("a").await;
    server.enrol("b").await;
    let mut follower = server.follow("/messages?follow=true&device=a", "").await;
    for (device, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
        server.post(&format!("/devices/{device}/messages"), json!({ "body": body })).await;
    }
    for body in ["1", "3"] {
        assert_eq!(follower.next().await.unwrap().1["body"], body);
    }
    let (status, answer) = server.post("/stop", json!({})).await;
    assert_eq!((status, &answer["pid"]), (202, &json!(std::process::id())));
    assert_eq!(follower.next().await, None);
    timeout(LONGEST_WAIT, server.serving).await.unwrap().unwrap();
    assert!(server.api.shutdown.requested().await.starts_with("holdfast stop, by "));
}

#[tokio::test]
async fn one_server_for_each_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let path = data.join(SOCKET);
    let first = ApiListener::bind(data).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(ApiListener::bind(data), Err(SocketError::InUse(_))));
    drop(first);
    assert!(!path.exists());
    // What a killed server leaves: a socket on which nobody answers.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(ApiListener::bind(data).unwrap());
    fs::write(&path, "not a socket").unwrap();
    assert!(matches!(ApiListener::bind(data), Err(SocketError::Listen { .. })));
}
