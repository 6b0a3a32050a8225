//! Every request there is, by everyone there is.

mod recordings;
mod sight;

use std::{collections::BTreeSet, sync::Arc};

use axum::Router;
use protocol_core::{code::Role, message::Pin};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::timeout,
};

use super::{LONGEST_WAIT, Server};
use crate::{
    api::{
        browser::{Browser, Entrance, hash, web_routes},
        peer::{Peer, Remote},
        router,
        routes::{doors, routes},
    },
    http::{self, Patience},
    store::{DeviceId, FirstLogin, NewLogin, NewTask, NewToken, OperatorEnrolment, RandomId, UnixMillis},
    strangers::Strangers,
};

/// The least role that may ask this; `STOP` comes last, as the server answers nothing more behind it.
const TABLE: &[(Role, &str, &str, &str)] = &[
    (Role::Viewer, "GET", "/openapi.json", ""),
    (Role::Viewer, "GET", "/status", ""),
    (Role::Viewer, "GET", "/parts", ""),
    (Role::Viewer, "GET", "/metrics", ""),
    (Role::Viewer, "GET", "/provisioning", ""),
    (Role::Viewer, "GET", "/operators", ""),
    (Role::Viewer, "GET", "/devices", ""),
    (Role::Viewer, "GET", "/devices/{name}", ""),
    (Role::Viewer, "GET", "/devices/{name}/host-key", ""),
    (Role::Viewer, "GET", "/tasks", ""),
    (Role::Viewer, "GET", "/tasks/{id}", ""),
    (Role::Viewer, "GET", "/devices/{name}/cameras", ""),
    (Role::Viewer, "GET", "/devices/{name}/cameras/{camera}/units", ""),
    (Role::Viewer, "GET", "/devices/{name}/cameras/{camera}/live.mp4", ""),
    (Role::Viewer, "GET", "/viewers", ""),
    (Role::Viewer, "GET", "/recordings", ""),
    (Role::Viewer, "GET", "/recordings/{id}", ""),
    (Role::Viewer, "GET", "/recordings/{id}/file.mp4", ""),
    (Role::Viewer, "GET", "/sessions", ""),
    (Role::Viewer, "GET", "/messages", ""),
    (Role::Viewer, "GET", "/events", ""),
    (Role::Viewer, "GET", "/me", ""),
    (Role::Viewer, "GET", "/logins", ""),
    (Role::Admin, "GET", "/operators/{name}/tokens", ""),
    (Role::Admin, "POST", "/operators/{name}/tokens", r#"{"name":"backup"}"#),
    (Role::Admin, "POST", "/operators/{name}/tokens/{token}/revoke", "{}"),
    (Role::Viewer, "POST", "/me/password", r#"{"current":"","new":""}"#),
    (Role::Viewer, "POST", "/me/totp", r#"{"password":""}"#),
    (Role::Viewer, "POST", "/me/totp/confirm", r#"{"code":"1"}"#),
    (Role::Viewer, "POST", "/me/totp/remove", r#"{"password":"","code":"1"}"#),
    (Role::Viewer, "POST", "/logins/{id}/revoke", "{}"),
    (Role::Operator, "POST", "/devices/{name}/messages", r#"{"body":"hello"}"#),
    (Role::Operator, "POST", "/devices/{name}/ping", "{}"),
    (Role::Operator, "POST", "/devices/{name}/ssh", ""),
    (Role::Operator, "POST", "/devices/{name}/host-key", r#"{"kind":"ssh-ed25519","key":"AAAA"}"#),
    (Role::Operator, "POST", "/devices/{name}/tasks", r#"{"kind":"reboot"}"#),
    (Role::Operator, "POST", "/tasks/{id}/stop", "{}"),
    (Role::Operator, "POST", "/devices/{name}/cameras/{camera}/recordings", "{}"),
    (Role::Operator, "POST", "/recordings/{id}/stop", "{}"),
    (Role::Operator, "POST", "/viewers/{id}/stop", "{}"),
    (Role::Admin, "POST", "/recordings/{id}/delete", "{}"),
    (Role::Admin, "POST", "/tokens", r#"{"operator":"eve","role":"admin"}"#),
    (Role::Admin, "POST", "/provisioning", r#"{"current":"","next":"","devices":[]}"#),
    (Role::Admin, "POST", "/ssh-account/keys", r#"{"kind":"ssh-ed25519","key":"AAAA"}"#),
    (Role::Admin, "POST", "/keys/rotate", "{}"),
    (Role::Admin, "POST", "/operators/{name}/revoke", "{}"),
    (Role::Admin, "POST", "/operators", r#"{"name":"eve","role":"admin"}"#),
    (Role::Admin, "POST", "/operators/{name}/login", "{}"),
    (Role::Admin, "POST", "/operators/{name}/role", r#"{"role":"admin"}"#),
    (Role::Admin, "POST", "/devices", r#"{"name":"sensor","gateway":"pi"}"#),
    (
        Role::Admin,
        "POST",
        "/devices/{name}/host-key/accept",
        r#"{"kind":"ssh-ed25519","key":"AAAAC3NzaC1lZDI1NTE5AAAABGdvb2Q="}"#,
    ),
    (Role::Admin, "POST", "/devices/{name}/revoke", "{}"),
    (Role::Viewer, "POST", "/logout", "{}"),
    (Role::Admin, "POST", "/stop", "{}"),
];

const ROLES: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

/// Everyone who may come, and the code of the error that they get where they may not.
struct Someone {
    name: String,
    peer: Peer,
    /// How much they may; none for those who get nowhere.
    role: Option<Role>,
    refusal: &'static str,
    /// What their requests say beside what is asked.
    headers: String,
}

/// The routes by which people ask: browsers have others than those who are known by a key, or by the kernel.
struct Routes {
    plain: Router,
    web: Router,
}

impl Routes {
    fn of(server: &Server) -> Self {
        Self { plain: router(Arc::clone(&server.api)), web: web_routes(&server.api) }
    }

    /// Those that this one gets.
    fn for_peer(&self, peer: &Peer) -> &Router {
        if matches!(peer, Peer::Browser(_)) { &self.web } else { &self.plain }
    }
}

impl Server {
    /// The key of an operator who was let in with this role.
    async fn operator(&self, name: &str, role: Role) -> Pin {
        let mut hash = [0; 32];
        hash[..name.len()].copy_from_slice(name.as_bytes());
        let store = &self.api.host.store;
        let token = NewToken {
            hash,
            name: Some(name.parse().unwrap()),
            uses: 1,
            expires_at: UnixMillis::now().plus(60_000),
            role: Some(role),
            who: "test".into(),
        };
        store.create_token(token).await.unwrap();
        let address = "192.0.2.9".parse().unwrap();
        let enrolment = OperatorEnrolment { token_hash: hash, key: hash, host_name: None, address };
        store.enrol_operator(enrolment).await.unwrap().unwrap();
        Pin(hash)
    }

    /// Whoever holds this key, elsewhere.
    async fn remote(&self, key: Pin) -> Peer {
        let place = Arc::clone(&self.api.host.connections).acquire_owned().await.unwrap();
        Peer::Remote(Arc::new(Remote::new(key, "192.0.2.9:4711".parse().unwrap(), place)))
    }

    /// A browser that is somewhere else.
    pub(super) async fn browser(&self) -> Peer {
        let place = Arc::clone(&self.api.host.connections).acquire_owned().await.unwrap();
        let address = "192.0.2.9:4711".parse().unwrap();
        Peer::Browser(Arc::new(Browser::new(address, Entrance::Tls, Arc::default(), place)))
    }

    /// What the requests of a new operator's browser say.
    async fn logged_in(&self, name: &str, role: Role) -> String {
        let (store, secret) = (&self.api.host.store, format!("secret-of-{name}"));
        let first = FirstLogin { hash: hash(name), expires_at: UnixMillis::now().plus(60_000) };
        store.add_operator(name.parse().unwrap(), role, first, "test".into()).await.unwrap().unwrap();
        let address = "192.0.2.9".parse().unwrap();
        let login = NewLogin { hash: hash(&secret), address, is_secure: true, browser: None };
        store.use_first_login(hash(name), "a hash".to_owned(), login).await.unwrap().unwrap();
        format!("Origin: https://x\r\nCookie: other=1; __Host-holdfast={secret}\r\n")
    }

    async fn everyone(&self) -> Vec<Someone> {
        let own = rustix::process::geteuid().as_raw();
        let local = |name: &str, uid, role, refusal| Someone {
            name: name.to_owned(),
            peer: Peer::Local { uid },
            role,
            refusal,
            headers: String::new(),
        };
        let mut everyone = vec![
            local("root", 0, Some(Role::Admin), ""),
            local("the server's user", own, Some(Role::Admin), ""),
            local("another user", own.wrapping_add(12_345).max(1), None, "denied"),
        ];
        for role in ROLES {
            let peer = self.remote(self.operator(&format!("a-{role}"), role).await).await;
            everyone.push(Someone {
                name: role.to_string(),
                peer,
                role: Some(role),
                refusal: "denied",
                headers: String::new(),
            });
            let revoked = format!("was-{role}");
            let peer = self.remote(self.operator(&revoked, role).await).await;
            self.api.host.store.revoke_operator(&revoked, "test").await.unwrap();
            everyone.push(Someone {
                name: revoked,
                peer,
                role: None,
                refusal: "revoked",
                headers: String::new(),
            });
            let (browser, was_one) = (format!("web-{role}"), format!("was-web-{role}"));
            for (name, refusal) in [(browser, "denied"), (was_one, "not-logged-in")] {
                let headers = self.logged_in(&name, role).await;
                let peer = self.browser().await;
                let role = Some(role).filter(|_| refusal == "denied");
                if role.is_none() {
                    self.api.host.store.revoke_operator(&name, "test").await.unwrap();
                }
                everyone.push(Someone { name, peer, role, refusal, headers });
            }
        }
        let device = self.enrol("pi").await;
        self.task_of(device).await;
        let mut device_key = [0; 32];
        device_key[..2].copy_from_slice(b"pi");
        for (name, key) in [("a stranger", [0xff; 32]), ("a device", device_key)] {
            let peer = self.remote(Pin(key)).await;
            everyone.push(Someone {
                name: name.to_owned(),
                peer,
                role: None,
                refusal: "unknown-key",
                headers: String::new(),
            });
        }
        let cookie =
            self.logged_in("web-anna", Role::Admin).await.replace("https://x", "https://evil.example");
        for (name, headers, refusal) in [
            ("a browser of nobody", "Origin: https://x\r\n".to_owned(), "not-logged-in"),
            (
                "somebody's guess",
                "Origin: https://x\r\nCookie: __Host-holdfast=guess\r\n".to_owned(),
                "not-logged-in",
            ),
            ("somebody else's page", cookie, "wrong-origin"),
        ] {
            everyone.push(Someone {
                name: name.to_owned(),
                peer: self.browser().await,
                role: None,
                refusal,
                headers,
            });
        }
        everyone
    }

    /// What may have been changed.
    async fn contents(&self) -> Vec<Value> {
        let mut contents = Vec::new();
        for path in ["/devices", "/tasks", "/messages"] {
            contents.push(self.get(path).await.1);
        }
        let (_, events) = self.get("/events").await;
        let is_done = |event: &&Value| {
            !["request-denied", "connection-refused"].contains(&event["kind"].as_str().unwrap_or_default())
        };
        contents.extend(events["items"].as_array().unwrap().iter().filter(is_done).cloned());
        contents
    }

    async fn task_of(&self, device: DeviceId) {
        let kind = "reboot".parse().unwrap();
        let (code, boot) = (RandomId(1), RandomId(2));
        let task = NewTask { device, kind, code, boot, who: "test".into(), address: None, operator: None };
        self.api.host.store.begin_task(task).await.unwrap();
    }
}

/// Asks as `peer`; gives the status, and the code of the error if there is one.
async fn ask(routes: &Router, peer: &Peer, method: &str, path: &str, body: &str) -> (u16, String) {
    let (status, code, _) = ask_with(routes, peer, "", method, path, body).await;
    (status, code)
}

/// As [`ask`], with these headers; gives what is answered, too.
async fn ask_with(
    routes: &Router,
    peer: &Peer,
    headers: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String, Value) {
    let (mut ours, theirs) = duplex(64 * 1024);
    let patience = Patience { request: LONGEST_WAIT, answer: LONGEST_WAIT };
    let stranger = Strangers::new(1).enter();
    let conversation = http::converse(Box::new(theirs), peer.clone(), routes.clone(), patience, stranger);
    let asking = async {
        let upgrade =
            if path.ends_with("/ssh") { "Upgrade: holdfast-ssh\r\nConnection: upgrade\r\n" } else { "" };
        let request = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\n{headers}{upgrade}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        ours.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(LONGEST_WAIT, ours.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    };
    let ((), answer) = tokio::join!(conversation, asking);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned(), body)
}

#[test]
fn the_table_has_every_route() {
    let in_table: BTreeSet<_> =
        TABLE.iter().map(|(_, method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    let there: BTreeSet<_> =
        routes().into_iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    assert_eq!(in_table, there, "say in the table who may ask it");
    assert_eq!(in_table.len(), TABLE.len(), "each stands there once");
}

#[tokio::test]
async fn everyone_may_ask_what_their_role_allows_and_nothing_else() {
    let server = Server::start();
    let everyone = server.everyone().await;
    let routes = Routes::of(&server);
    for (least, method, path, body) in TABLE {
        let before = server.contents().await;
        // Those who may not come first: nothing may have changed by what they asked for.
        for allowed in [false, true] {
            for Someone { name, peer, role, refusal, headers } in &everyone {
                // Looking changes nothing: what comes of it no other page sees. And a browser logs out once.
                let is_harmless = *refusal == "wrong-origin" && *method == "GET";
                if is_harmless || (*path == "/logout" && matches!(peer, Peer::Browser(_))) {
                    continue;
                }
                if role.is_some_and(|role| u16::from(role) >= u16::from(*least)) != allowed {
                    continue;
                }
                let routes = routes.for_peer(peer);
                // For one that there is, as for one that there is not: whoever may not learns nothing by it.
                for of in ["nobody", "pi"] {
                    let id = if path.starts_with("/logins") { "999" } else { "1" };
                    let path = path.replace("{name}", of).replace("{id}", id).replace("{token}", "x");
                    let path = path.replace("{camera}", "door");
                    let (status, code, _) = ask_with(routes, peer, headers, method, &path, body).await;
                    let told = format!("{name}: {method} {path}: {status} {code}");
                    match allowed {
                        false => {
                            let expected = if *refusal == "not-logged-in" { 401 } else { 403 };
                            assert_eq!((status, code.as_str()), (expected, *refusal), "{told}");
                        }
                        true => assert!(![401, 403].contains(&status), "{told}"),
                    }
                }
            }
            if !allowed {
                assert_eq!(server.contents().await, before, "{method} {path}");
            }
        }
        assert_eq!(server.api.shutdown.is_requested(), *path == "/stop");
    }
}

/// Follows a live list as `peer`; gives how the answer begins.
async fn follow(routes: &Router, peer: &Peer, path: &str, header: &str) -> String {
    let (mut ours, theirs) = duplex(64 * 1024);
    let patience = Patience { request: LONGEST_WAIT, answer: LONGEST_WAIT };
    let stranger = Strangers::new(1).enter();
    let conversation = http::converse(Box::new(theirs), peer.clone(), routes.clone(), patience, stranger);
    let beginning = async {
        let request = format!("GET /api/v1{path} HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        ours.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The first entry ends so, and an error is at its end then.
        while !answer.ends_with(b"\n\n\r\n") && ours.read_buf(&mut answer).await.unwrap() > 0 {}
        String::from_utf8(answer).unwrap()
    };
    let talk = async {
        let mut beginning = std::pin::pin!(beginning);
        tokio::select! {
            beginning = &mut beginning => return beginning,
            () = conversation => {}
        }
        beginning.await
    };
    timeout(LONGEST_WAIT, talk).await.expect("something is answered")
}

#[tokio::test]
async fn every_live_stream_is_for_those_who_may_look() {
    let server = Server::start();
    let everyone = server.everyone().await;
    let routes = Routes::of(&server);
    server.post("/devices/pi/messages", json!({ "body": "hello" })).await;
    let accept = "Accept: text/event-stream\r\n";
    for list in
        ["/messages", "/events", "/tasks", "/parts", "/devices", "/messages?device=pi", "/events?device=pi"]
    {
        let separator = if list.contains('?') { '&' } else { '?' };
        for (path, header) in [(format!("{list}{separator}follow=true"), ""), (list.to_owned(), accept)] {
            for Someone { name, peer, role, refusal, headers } in &everyone {
                // As above: what comes of it no other page sees.
                if *refusal == "wrong-origin" {
                    continue;
                }
                let answer = follow(routes.for_peer(peer), peer, &path, &format!("{headers}{header}")).await;
                let told = format!("{name}: {path}: {answer}");
                match role {
                    Some(_) => {
                        assert!(answer.starts_with("HTTP/1.1 200 "), "{told}");
                        assert!(
                            answer.contains("text/event-stream") && answer.contains("\ndata: {"),
                            "{told}"
                        );
                    }
                    None => {
                        let status = if *refusal == "not-logged-in" { 401 } else { 403 };
                        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
                        assert!(answer.contains(refusal) && !answer.contains("\ndata: "), "{told}");
                    }
                }
            }
        }
    }
}

/// What is answered before it is known who asks.
#[tokio::test]
async fn the_doors_are_for_browsers_and_their_own_page() {
    let there: Vec<_> = doors().iter().map(|door| format!("{} {}", door.method, door.path)).collect();
    assert_eq!(there, ["POST /login", "POST /login/first"], "another one is another way in");
    let server = Server::start();
    let everyone = server.everyone().await;
    let routes = Routes::of(&server);
    for (path, body) in [
        ("/login", r#"{"name":"nobody","password":"a guess of somebody"}"#),
        ("/login/first", r#"{"token":"a guess","password":"a guess of somebody"}"#),
    ] {
        for Someone { name, peer, refusal, headers, .. } in &everyone {
            let (status, code, _) = ask_with(routes.for_peer(peer), peer, headers, "POST", path, body).await;
            let told = format!("{name}: {path}: {status} {code}");
            match (peer, *refusal) {
                (Peer::Browser(_), "wrong-origin") => {
                    assert_eq!((status, code.as_str()), (403, "wrong-origin"), "{told}");
                }
                // All of them are at one address, which may not try for ever.
                (Peer::Browser(_), _) => {
                    assert!(["wrong-login", "too-many-logins"].contains(&code.as_str()), "{told}");
                }
                _ => assert!([403, 404].contains(&status), "{told}"),
            }
        }
    }
}

#[tokio::test]
async fn who_is_not_known_learns_nothing_of_what_there_is() {
    let server = Server::start();
    let routes = router(Arc::clone(&server.api));
    let stranger = server.remote(Pin([0xff; 32])).await;
    for (method, path) in
        [("GET", "/nothing"), ("DELETE", "/status"), ("GET", "/devices?x=y"), ("POST", "/tokens")]
    {
        let answer = ask(&routes, &stranger, method, path, "").await;
        assert_eq!(answer, (403, "unknown-key".to_owned()), "{method} {path}");
    }
    let (_, events) = server.get("/events").await;
    let refused = &events["items"][0];
    assert_eq!(
        (&refused["kind"], &refused["address"], &refused["detail"]["reason"]),
        (&json!("connection-refused"), &json!("192.0.2.9"), &json!("unknown-key"))
    );
}

#[tokio::test]
async fn what_operators_do_is_written_down_with_their_name_and_address() {
    let server = Server::start();
    server.enrol("pi").await;
    let routes = router(Arc::clone(&server.api));
    let admin = server.remote(server.operator("anna", Role::Admin).await).await;
    for (path, body) in [
        ("/devices/pi/messages", r#"{"body":"hello"}"#),
        ("/devices/pi/host-key", r#"{"kind":"ssh-ed25519","key":"AAAA"}"#),
        ("/devices/pi/host-key/accept", r#"{"kind":"ssh-ed25519","key":"AAAAC3NzaC1lZDI1NTE5AAAABGdvb2Q="}"#),
        ("/tokens", r#"{"operator":"eve","role":"viewer"}"#),
        ("/devices", r#"{"name":"sensor","gateway":"pi"}"#),
        ("/devices/pi/revoke", "{}"),
        ("/keys/rotate", r#"{"force":true}"#),
    ] {
        let (status, code) = ask(&routes, &admin, "POST", path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {code}");
    }
    let (_, events) = server.get("/events").await;
    for kind in [
        "message-sent",
        "host-key-unknown",
        "host-key-accepted",
        "token-created",
        "device-enrolled",
        "device-revoked",
        "key-rotated",
    ] {
        let done = |event: &&Value| event["kind"] == kind && event["who"] == "anna";
        let event = events["items"].as_array().unwrap().iter().find(done);
        assert_eq!(event.map(|event| &event["address"]), Some(&json!("192.0.2.9")), "{kind}: {events:#}");
    }
    let (_, operators) = server.get("/operators").await;
    let anna = &operators["items"][0];
    assert_eq!(
        (&anna["name"], &anna["role"], &anna["address"]),
        (&json!("anna"), &json!("admin"), &json!("192.0.2.9"))
    );
    assert!(anna["last_seen"].is_string(), "{anna}");
}

#[tokio::test]
async fn lines_for_operators_are_for_nobody_else() {
    let server = Server::start();
    for (bad, expected) in [
        (json!({ "operator": "anna" }), 400),
        (json!({ "operator": "anna", "role": "boss" }), 400),
        (json!({ "operator": "An Na", "role": "viewer" }), 400),
        (json!({ "operator": "anna", "role": "viewer", "uses": 2 }), 400),
        (json!({ "operator": "anna", "role": "viewer", "name": "pi" }), 400),
        (json!({ "role": "viewer" }), 400),
    ] {
        assert_eq!(server.post("/tokens", bad.clone()).await.0, expected, "{bad}");
    }
    let (status, answer) = server.post("/tokens", json!({ "operator": "anna", "role": "viewer" })).await;
    assert_eq!(status, 201);
    assert!(answer["line"].as_str().unwrap().starts_with("holdfast login hf1."), "{answer}");
    server.operator("anna", Role::Viewer).await;
    let again = server.post("/tokens", json!({ "operator": "anna", "role": "admin" })).await;
    assert_eq!((again.0, &again.1["error"]["code"]), (409, &json!("name-taken")));
    assert_eq!(server.post("/operators/nobody/revoke", json!({})).await.0, 404);
    let (status, answer) = server.post("/operators/anna/revoke", json!({})).await;
    assert_eq!((status, &answer["role"]), (200, &json!("viewer")));
    assert_eq!(server.post("/tokens", json!({ "operator": "anna", "role": "admin" })).await.0, 201);
}
