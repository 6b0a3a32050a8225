//! Browsers: how they log in, what holds them to their own page, and how it all ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{LONGEST_WAIT, api_of};
use crate::{
    api::{Api, WebApi, browser::hash},
    event::{EventKind, NewEvent},
    parts::PartKind,
    store::{
        FirstLogin, NewSession, NewTask, RandomId, TaskChange, TaskState, UnixMillis,
        tests::{enrolled, key_of},
    },
    strangers::Strangers,
    totp,
};

const PASSWORD: &str = "correct horse battery";

/// A server that browsers of this machine can reach.
struct Web {
    _directory: TempDir,
    api: Arc<Api>,
    address: SocketAddr,
}

/// An answer: its status, its head, and its JSON.
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The cookie that it gives, as a request shows it.
    fn cookie(&self) -> String {
        self.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }
}

impl Web {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let api = api_of(directory.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let web = WebApi::over_loopback(Arc::clone(&api), Router::new());
        tokio::spawn(async move {
            let (strangers, places) = (Strangers::new(8), Arc::new(Semaphore::new(64)));
            while let Ok((stream, address)) = listener.accept().await {
                let (web, stranger) = (web.clone(), strangers.enter());
                let place = Arc::clone(&places).acquire_owned().await.unwrap();
                tokio::spawn(async move { web.serve(stream, address, stranger, place).await });
            }
        });
        Self { _directory: directory, api, address }
    }

    fn origin(&self) -> String {
        format!("Origin: http://{}\r\n", self.address)
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(LONGEST_WAIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or_default() }
    }

    /// Asks as our own page, with this cookie.
    async fn post(&self, path: &str, cookie: &str, body: Value) -> Answer {
        self.ask("POST", path, &format!("{}Cookie: {cookie}\r\n", self.origin()), &body).await
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        self.ask("GET", path, &format!("Cookie: {cookie}\r\n"), &Value::Null).await
    }

    async fn login(&self, name: &str, password: &str, code: Option<&str>) -> Answer {
        let mut body = json!({"name": name, "password": password});
        if let Some(code) = code {
            body["code"] = code.into();
        }
        self.post("/login", "x=y", body).await
    }

    /// A new operator who has used their one-time login: gives the cookie.
    async fn user(&self, name: &str, role: &str) -> String {
        let login = FirstLogin { hash: hash(name), expires_at: UnixMillis::now().plus(60_000) };
        let role = crate::store::parse_role(role).unwrap();
        let store = &self.api.host.store;
        store.add_operator(name.parse().unwrap(), role, login, "test".into()).await.unwrap().unwrap();
        let answer = self.post("/login/first", "", json!({"token": name, "password": PASSWORD})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.cookie()
    }

    async fn follow(&self, path: &str, cookie: &str) -> Lines<BufReader<TcpStream>> {
        self.follow_with(path, &format!("Cookie: {cookie}")).await
    }

    async fn follow_with(&self, path: &str, header: &str) -> Lines<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "GET /api/v1{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{header}\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        BufReader::new(stream).lines()
    }
}

/// The next line of a stream that begins so; none if the stream ends.
async fn line(lines: &mut Lines<BufReader<TcpStream>>, start: &str) -> Option<String> {
    loop {
        let line = timeout(LONGEST_WAIT, lines.next_line()).await.expect("something comes").ok()??;
        if let Some(rest) = line.strip_prefix(start) {
            return Some(rest.to_owned());
        }
    }
}

#[tokio::test]
async fn a_one_time_login_sets_the_password_once() {
    let web = Web::start().await;
    let cookie = web.user("anna", "operator").await;
    let me = web.get("/me", &cookie).await;
    assert_eq!((me.status, &me.body["name"], &me.body["role"]), (200, &json!("anna"), &json!("operator")));
    let again =
        web.post("/login/first", "", json!({"token": "anna", "password": "another one, as long"})).await;
    assert_eq!((again.status, again.code()), (401, "wrong-login"));
    let login = FirstLogin { hash: hash("second"), expires_at: UnixMillis::now().plus(60_000) };
    web.api.host.store.offer_login("anna", login, "test".into()).await.unwrap().unwrap();
    let short = web.post("/login/first", "", json!({"token": "second", "password": "short"})).await;
    assert_eq!((short.status, short.code()), (400, "bad-password"));
    assert_eq!(web.login("anna", PASSWORD, None).await.status, 200, "the password before stands until then");
    let done =
        web.post("/login/first", "", json!({"token": "second", "password": "another one, as long"})).await;
    assert_eq!(done.status, 200);
    assert_eq!(
        web.get("/me", &cookie).await.code(),
        "not-logged-in",
        "what was logged in by the one before has ended"
    );
    assert_eq!(web.login("anna", PASSWORD, None).await.code(), "wrong-login");
}

#[tokio::test]
async fn a_web_socket_is_for_our_page_alone() {
    let web = Web::start().await;
    let cookie = web.user("anna", "viewer").await;
    enrolled(&web.api.host.store, "porch", key_of("porch")).await;
    let upgrade =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (origin, status, code) in [
        (String::new(), 403, "wrong-origin"),
        ("Origin: http://evil.example\r\n".to_owned(), 403, "wrong-origin"),
        (web.origin(), 409, "offline"),
    ] {
        let headers = format!("{origin}{upgrade}Cookie: {cookie}\r\n");
        let answer = web.ask("GET", "/devices/porch/cameras/door/units", &headers, &Value::Null).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{headers}");
    }
    // Another port of this machine is the same site to a browser, and sends our cookie.
    for (site, status, code) in [
        ("cross-site", 403, "wrong-origin"),
        ("same-site", 403, "wrong-origin"),
        ("same-origin", 409, "offline"),
        ("none", 409, "offline"),
    ] {
        let headers = format!("Sec-Fetch-Site: {site}\r\nCookie: {cookie}\r\n");
        let answer = web.ask("GET", "/devices/porch/cameras/door/live.mp4", &headers, &Value::Null).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{site}");
    }
    let cameras = web.get("/devices/porch/cameras", &cookie).await;
    assert_eq!((cameras.status, &cameras.body["items"]), (200, &json!([])));
}

#[tokio::test]
async fn the_cookie_is_for_our_page_alone() {
    let web = Web::start().await;
    web.user("anna", "admin").await;
    let answer = web.login("anna", PASSWORD, None).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(
        cookie.starts_with("holdfast-0=") && cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"),
        "{cookie}"
    );
    let cookie = answer.cookie();
    for (headers, code) in [
        (String::new(), "wrong-origin"),
        ("Origin: http://evil.example\r\n".to_owned(), "wrong-origin"),
        ("Origin: null\r\n".to_owned(), "wrong-origin"),
        (format!("Origin: https://{}\r\n", web.address), "wrong-origin"),
        (web.origin(), ""),
    ] {
        let headers = format!("{headers}Cookie: {cookie}\r\n");
        let answer = web.ask("POST", "/tokens", &headers, &json!({})).await;
        assert_eq!(
            (answer.status, answer.code()),
            if code.is_empty() { (201, "") } else { (403, code) },
            "{headers}"
        );
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let login = web.ask("POST", "/login", "", &json!({"name": "anna", "password": PASSWORD})).await;
    assert_eq!(login.code(), "wrong-origin", "nobody is logged in by somebody else's page");
    let out = web.post("/logout", &cookie, json!({})).await;
    assert!(out.header("set-cookie").unwrap().ends_with("; Max-Age=0"), "{}", out.head);
    assert_eq!(web.get("/me", &cookie).await.status, 401);
}

#[tokio::test]
async fn who_tries_many_passwords_waits_and_others_do_not() {
    let web = Web::start().await;
    web.user("anna", "viewer").await;
    let mut answers = Vec::new();
    for number in 0..6 {
        let name = if number % 2 == 0 { "anna" } else { "nobody" };
        answers.push(web.login(name, "a wrong password", None).await);
    }
    assert!(answers[..5].iter().all(|answer| answer.status == 401 && answer.code() == "wrong-login"));
    let last = &answers[5];
    assert_eq!((last.status, last.code()), (429, "too-many-logins"));
    let wait: u64 = last.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=11).contains(&wait), "{wait}");
    let page = timeout(Duration::from_secs(5), web.get("/me", "")).await.expect("others are answered");
    assert_eq!(page.status, 401);
    let events = web.api.host.store.events(crate::store::EventFilter::default()).await.unwrap();
    let refused: Vec<_> = events.iter().filter(|event| event.kind == "login-refused").collect();
    assert!(
        !refused.is_empty() && refused.iter().all(|event| !format!("{event:?}").contains("a wrong password"))
    );
}

#[tokio::test]
async fn a_second_factor_is_asked_for_once_it_is_confirmed() {
    let web = Web::start().await;
    let cookie = web.user("anna", "viewer").await;
    let offered = web.post("/me/totp", &cookie, json!({"password": "not mine, I think"})).await;
    assert_eq!((offered.status, offered.code()), (403, "wrong-password"));
    let offered = web.post("/me/totp", &cookie, json!({"password": PASSWORD})).await;
    assert!(offered.body["uri"].as_str().unwrap().starts_with("otpauth://totp/Holdfast"), "{}", offered.body);
    assert_eq!(web.login("anna", PASSWORD, None).await.status, 200, "it is not on yet");
    let id = web.api.host.store.candidate("anna").await.unwrap().unwrap().operator.id;
    let secret = web.api.host.store.offered_totp(id).await.unwrap().unwrap();
    let code = |offset: i64| totp::code(&secret, (UnixMillis::now().0 + offset) as u64 / 30_000);
    let wrong = web.post("/me/totp/confirm", &cookie, json!({"code": "12345"})).await;
    assert_eq!((wrong.status, wrong.code()), (400, "wrong-code"));
    let now = code(0);
    assert_eq!(web.post("/me/totp/confirm", &cookie, json!({"code": now})).await.body["totp"], json!(true));
    assert_eq!(web.login("anna", PASSWORD, None).await.code(), "code-needed");
    assert_eq!(
        web.login("anna", PASSWORD, Some(&now)).await.code(),
        "wrong-login",
        "a code is good for once"
    );
    assert_eq!(web.login("anna", PASSWORD, Some(&code(30_000))).await.status, 200);
    let remove = async |password: &str, code: &str| {
        web.post("/me/totp/remove", &cookie, json!({"password": password, "code": code})).await
    };
    let removed = remove("not mine, I think", "123456").await;
    assert_eq!((removed.status, removed.code()), (403, "wrong-password"));
    let removed = remove(PASSWORD, &now).await;
    assert_eq!((removed.status, removed.code()), (400, "wrong-code"), "it was used");
    for _ in 0..3 {
        remove(PASSWORD, "123456").await;
    }
    assert_eq!(remove(PASSWORD, "123456").await.code(), "too-many-logins", "nobody tries all codes");
}

#[tokio::test]
async fn logins_are_seen_and_ended_and_a_new_role_is_in_force_at_once() {
    let web = Web::start().await;
    let (anna, boris) = (web.user("anna", "admin").await, web.user("boris", "admin").await);
    let own = web.get("/logins", &boris).await;
    assert_eq!(
        (own.body["items"].as_array().unwrap().len(), &own.body["items"][0]["current"]),
        (1, &json!(true))
    );
    let role = web.post("/operators/boris/role", &anna, json!({"role": "viewer"})).await;
    assert_eq!(role.body, json!({"name": "boris", "role": "viewer", "before": "admin"}));
    assert_eq!(web.post("/tokens", &boris, json!({})).await.code(), "denied");
    assert_eq!(web.get("/logins?operator=anna", &boris).await.code(), "denied");
    let seen = web.get("/logins?operator=boris", &anna).await;
    let id = &seen.body["items"][0]["id"];
    let other = web.get("/logins", &anna).await.body["items"][0]["id"].clone();
    assert_eq!(web.post(&format!("/logins/{other}/revoke"), &boris, json!({})).await.code(), "no-such-login");
    let mut stream = web.follow("/events?follow=true", &boris).await;
    line(&mut stream, "data: ").await.unwrap();
    assert_eq!(web.post(&format!("/logins/{id}/revoke"), &anna, json!({})).await.status, 200);
    while line(&mut stream, "data: ").await.is_some() {}
    assert_eq!(web.get("/me", &boris).await.code(), "not-logged-in");
    let operators = web.get("/operators", &anna).await;
    assert_eq!(operators.body["items"][0]["password"], json!(true));
}

#[tokio::test]
async fn who_knows_one_password_does_not_guess_others_by_it() {
    let web = Web::start().await;
    web.user("anna", "admin").await;
    web.user("boris", "viewer").await;
    for _ in 0..4 {
        assert_eq!(web.login("anna", "a wrong password", None).await.code(), "wrong-login");
    }
    assert_eq!(web.login("boris", PASSWORD, None).await.status, 200);
    assert_eq!(web.login("anna", "a wrong password", None).await.code(), "wrong-login");
    assert_eq!(web.login("anna", "a wrong password", None).await.code(), "too-many-logins");
}

/// The rest of a request may come long after its head, and after its sender was revoked or given another role.
#[tokio::test]
async fn what_was_begun_with_rights_is_not_done_without_them() {
    let web = Web::start().await;
    let anna = web.user("anna", "admin").await;
    for (name, how) in [("boris", "/operators/boris/revoke"), ("carla", "/operators/carla/role")] {
        let cookie = web.user(name, "admin").await;
        let body = json!({"name": format!("friend-of-{name}"), "role": "admin"}).to_string();
        let mut stream = TcpStream::connect(web.address).await.unwrap();
        let head = format!(
            "POST /api/v1/operators HTTP/1.1\r\nHost: {}\r\n{}Cookie: {cookie}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{{",
            web.address,
            web.origin(),
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It is known who asks, and waited for the rest.
        let id = web.api.host.store.candidate(name).await.unwrap().unwrap().operator.id;
        timeout(LONGEST_WAIT, async {
            while web.api.places.taken_by(id) == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        let body_of = if how.ends_with("role") { json!({"role": "viewer"}) } else { json!({}) };
        assert_eq!(web.post(how, &anna, body_of).await.status, 200);
        stream.write_all(&body.as_bytes()[1..]).await.unwrap();
        let mut answer = String::new();
        timeout(LONGEST_WAIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.contains("rights-changed"), "{name}: {answer}");
        assert!(web.api.host.store.operator(&format!("friend-of-{name}")).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_program_asks_by_a_token_in_its_operators_name() {
    let web = Web::start().await;
    let cookie = web.user("anna", "operator").await;
    enrolled(&web.api.host.store, "pi", key_of("pi")).await;
    let made = web.post("/operators/anna/tokens", &cookie, json!({"name": "backup"})).await;
    assert_eq!((made.status, &made.body["role"]), (201, &json!("operator")), "{}", made.body);
    let token = made.body["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("holdfast_"), "{token}");
    let again = web.post("/operators/anna/tokens", &cookie, json!({"name": "backup"})).await;
    assert_eq!((again.status, again.code()), (409, "name-taken"));
    let ask = async |method: &str, path: &str, body: Value| {
        web.ask(method, path, &format!("Authorization: Bearer {token}\r\n"), &body).await
    };
    assert_eq!(ask("GET", "/me", Value::Null).await.body["name"], json!("anna"));
    let sent = ask("POST", "/devices/pi/messages", json!({"body": "hello"})).await;
    assert_eq!(sent.status, 201, "without the header Origin: {}", sent.body);
    let denied = ask("POST", "/tokens", json!({})).await;
    assert_eq!((denied.status, denied.code()), (403, "denied"), "its operator may not, either");
    for (path, body) in [
        ("/operators/anna/tokens", json!({"name": "another"})),
        ("/me/password", json!({"current": PASSWORD, "new": "another one, as long"})),
    ] {
        assert_eq!(ask("POST", path, body).await.code(), "denied", "{path}: that is for people");
    }
    let other = web.user("boris", "operator").await;
    assert_eq!(web.get("/operators/anna/tokens", &other).await.code(), "denied");
    let listed = web.get("/operators/anna/tokens", &cookie).await;
    assert_eq!(listed.body["items"][0]["name"], json!("backup"));
    assert!(!listed.body.to_string().contains(&token));
    let events = web.api.host.store.events(crate::store::EventFilter::default()).await.unwrap();
    let sent = events.iter().find(|event| event.kind == "message-sent").unwrap();
    assert_eq!(sent.who.as_deref(), Some("anna/backup"), "the audit trail tells which token it was");
    let mut stream = web.follow_with("/events?follow=true", &format!("Authorization: Bearer {token}")).await;
    line(&mut stream, "data: ").await.unwrap();
    assert_eq!(web.post("/operators/anna/tokens/backup/revoke", &cookie, json!({})).await.status, 200);
    while line(&mut stream, "data: ").await.is_some() {}
    let refused = ask("GET", "/me", Value::Null).await;
    assert_eq!((refused.status, refused.code()), (401, "wrong-token"));
}

/// A panic in the real server's terms: the part is one of a running server, and whoever looks on sees it.
#[tokio::test]
async fn a_part_that_fails_is_seen_and_the_others_go_on() {
    let web = Web::start().await;
    let cookie = web.user("anna", "viewer").await;
    let parts = Arc::clone(&web.api.host.parts);
    let fails = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&fails);
    let supervised = tokio::spawn(async move {
        let run = || {
            let fails = Arc::clone(&fails);
            async move {
                fails.notified().await;
                panic!("wanted by a test");
            }
        };
        parts.supervise("a timer", PartKind::Timer, run).await
    });
    let mut stream = web.follow("/parts?follow=true", &cookie).await;
    for is_told in [false, true] {
        if is_told {
            told.notify_one();
        }
        loop {
            let parts: Value = serde_json::from_str(&line(&mut stream, "data: ").await.unwrap()).unwrap();
            assert!(parts["figures"]["memory_bytes"].as_f64().unwrap() > 0.0, "{parts}");
            let part = parts["parts"].as_array().unwrap().iter().find(|part| part["name"] == "a timer");
            let Some(part) = part else { continue };
            if !is_told {
                assert_eq!((&part["state"], &part["restarts"]), (&json!("running"), &json!(0)));
                break;
            }
            if part["restarts"] == 1 {
                assert_eq!(part["reason"], json!("wanted by a test"));
                break;
            }
        }
    }
    assert_eq!(web.get("/me", &cookie).await.status, 200, "all else goes on");
    // It is written down behind that it is shown.
    let written = async {
        loop {
            let events = web.api.host.store.events(crate::store::EventFilter::default()).await.unwrap();
            match events.into_iter().find(|event| event.kind == "part-failed") {
                Some(failed) => break failed,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let failed = timeout(LONGEST_WAIT, written).await.expect("it is an event");
    assert_eq!((&failed.detail["part"], &failed.detail["restarts"]), (&json!("a timer"), &json!(1)));
    supervised.abort();
}

#[tokio::test]
async fn what_a_revoked_operator_has_open_ends() {
    let web = Web::start().await;
    let (anna, boris) = (web.user("anna", "admin").await, web.user("boris", "viewer").await);
    let mut streams =
        [web.follow("/events?follow=true", &boris).await, web.follow("/devices?follow=true", &boris).await];
    for stream in &mut streams {
        line(stream, "HTTP/1.1 200").await.unwrap();
    }
    assert_eq!(web.post("/operators/boris/revoke", &anna, json!({})).await.status, 200);
    for stream in &mut streams {
        while line(stream, "").await.is_some() {}
    }
    assert_eq!(web.login("boris", PASSWORD, None).await.code(), "wrong-login");
}

#[tokio::test]
async fn a_changed_password_ends_other_logins() {
    let web = Web::start().await;
    let first = web.user("anna", "viewer").await;
    let second = web.login("anna", PASSWORD, None).await.cookie();
    let new = "another one, as long";
    let wrong = web.post("/me/password", &second, json!({"current": "not this", "new": new})).await;
    assert_eq!((wrong.status, wrong.code()), (403, "wrong-password"));
    assert_eq!(web.post("/me/password", &second, json!({"current": PASSWORD, "new": new})).await.status, 200);
    assert_eq!(web.get("/me", &second).await.status, 200);
    assert_eq!(web.get("/me", &first).await.code(), "not-logged-in");
    assert_eq!(web.login("anna", new, None).await.status, 200);
}

#[tokio::test]
async fn devices_are_streamed_all_and_then_as_they_change() {
    let web = Web::start().await;
    let cookie = web.user("anna", "viewer").await;
    let store = &web.api.host.store;
    for name in ["a", "b"] {
        enrolled(store, name, key_of(name)).await;
    }
    let mut stream = web.follow("/devices?follow=true", &cookie).await;
    let mut names = Vec::new();
    loop {
        let event = line(&mut stream, "event: ").await.unwrap();
        let data: Value = serde_json::from_str(&line(&mut stream, "data: ").await.unwrap()).unwrap();
        if event == "ready" {
            break;
        }
        names.push(data["name"].as_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["a", "b"]);
    let device = enrolled(store, "c", key_of("c")).await;
    let data: Value = serde_json::from_str(&line(&mut stream, "data: ").await.unwrap()).unwrap();
    assert_eq!((&data["name"], &data["online"]), (&json!("c"), &json!(false)));
    let address = "192.0.2.77".parse().unwrap();
    store.start_session(NewSession { device, address, boot: None, longest_message: None }).await.unwrap();
    let data: Value = serde_json::from_str(&line(&mut stream, "data: ").await.unwrap()).unwrap();
    assert_eq!((&data["name"], &data["address"]), (&json!("c"), &json!("192.0.2.77")));
    store.record(NewEvent::new(EventKind::ServerStarted)).await.unwrap();
    let more = timeout(Duration::from_secs(3), line(&mut stream, "data: ")).await;
    assert!(more.is_err(), "what is no news is not told: {more:?}");
    drop(stream);
    // What the onlookers shared goes with the last of them.
    timeout(LONGEST_WAIT, async {
        while web.api.fleet.lock().await.upgrade().is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn tasks_are_streamed_until_they_end() {
    let web = Web::start().await;
    let cookie = web.user("anna", "viewer").await;
    let store = &web.api.host.store;
    let device = enrolled(store, "a", key_of("a")).await;
    let mut stream = web.follow("/tasks?follow=true&device=a", &cookie).await;
    assert_eq!(line(&mut stream, "event: ").await.as_deref(), Some("ready"));
    let code = RandomId(1);
    let task = NewTask {
        device,
        kind: "reboot".parse().unwrap(),
        code,
        boot: RandomId(2),
        who: "test".into(),
        address: None,
        operator: None,
    };
    let id = store.begin_task(task).await.unwrap();
    for state in ["requested", "failed"] {
        assert_eq!(line(&mut stream, "event: ").await.as_deref(), Some("task"));
        let task: Value = serde_json::from_str(&line(&mut stream, "data: ").await.unwrap()).unwrap();
        assert_eq!((&task["id"], &task["state"]), (&json!(id.0), &json!(state)));
        if state == "requested" {
            assert_eq!(web.get("/devices/a", &cookie).await.body["tasks"], json!(1));
            let state = TaskState::Failed;
            store.change_task(TaskChange { code, state, reason: None, output: None }).await.unwrap();
        }
    }
}
