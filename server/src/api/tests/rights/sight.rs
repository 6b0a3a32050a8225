//! Where people are, and by what they come in, is for admins and for themselves: who looks on need not know which account is
//! worth an attack.

use super::*;
use crate::{
    event::{EventKind, NewEvent, Who},
    store::NewRecording,
};

/// What this one is answered.
async fn read(routes: &Router, peer: &Peer, headers: &str, path: &str) -> Vec<Value> {
    let (_, _, body) = ask_with(routes, peer, headers, "GET", path, "").await;
    body["items"].as_array().unwrap().clone()
}

/// What is known of this operator: something that they did, a login that was refused, a task, and a recording.
async fn did_things(server: &Server, device: DeviceId, name: &str) {
    let (store, address) = (&server.api.host.store, Some("192.0.2.9".parse().unwrap()));
    for kind in [EventKind::MessageSent, EventKind::LoginRefused] {
        let event = NewEvent::new(kind).who(Who { name: name.to_owned(), address });
        store.record(event.detail("operator", name).detail("reason", "a reason")).await.unwrap();
    }
    let (kind, code, boot) = ("reboot".parse().unwrap(), RandomId(name.len() as u64), RandomId(2));
    let task = NewTask { device, kind, code, boot, who: name.to_owned(), address, operator: None };
    store.begin_task(task).await.unwrap();
    let (camera, file, who) =
        ("door".to_owned(), format!("{name}.mp4"), Who { name: name.to_owned(), address });
    let recording = NewRecording { device, camera, file, role: Role::Viewer, who, width: 64, height: 48 };
    store.begin_recording(recording).await.unwrap();
}

#[tokio::test]
async fn whoever_is_no_admin_is_told_of_themselves_only_where_they_are() {
    let server = Server::start();
    let device = server.enrol("pi").await;
    let (routes, browser) = (Routes::of(&server).web, server.browser().await);
    let mut cookies = Vec::new();
    for (name, role) in [("anna", Role::Admin), ("boris", Role::Viewer)] {
        cookies.push(server.logged_in(name, role).await);
        did_things(&server, device, name).await;
    }
    let stranger = NewEvent::new(EventKind::LoginRefused).address("192.0.2.10".parse().unwrap());
    server.api.host.store.record(stranger.detail("operator", "anna")).await.unwrap();
    for (cookie, sees_all) in cookies.iter().zip([true, false]) {
        let is_open = |whose: &Value| sees_all || whose == "boris";
        let events = read(&routes, &browser, cookie, "/events").await;
        let mut first = 0;
        for event in &events {
            let is_refusal = event["kind"] == "login-refused";
            let whose = if is_refusal { &event["detail"]["operator"] } else { &event["who"] };
            let was_there = ["logged-in", "message-sent", "login-refused", "task-requested"]
                .iter()
                .any(|kind| event["kind"] == *kind);
            if was_there {
                assert_eq!(event["address"].is_string(), is_open(whose), "{event}");
            }
            if is_refusal && event["who"].is_string() {
                assert_eq!(event["detail"]["reason"].is_string(), is_open(whose), "{event}");
            }
            if event["kind"] == "message-sent" && event["who"] == "anna" {
                assert!(event["detail"]["reason"].is_string(), "what is done is for all to see: {event}");
                first = event["id"].as_i64().unwrap();
            }
        }
        for list in ["/tasks", "/recordings"] {
            let rows = read(&routes, &browser, cookie, list).await;
            assert!(rows.iter().any(|row| row["who"] == "anna"), "{rows:?}");
            for row in rows {
                assert_eq!(row["address"].is_string(), is_open(&row["who"]), "{list}: {row}");
            }
        }
        for operator in read(&routes, &browser, cookie, "/operators").await {
            assert_eq!(operator["address"].is_string(), is_open(&operator["name"]), "{operator}");
        }
        // And so it is in streams, which begin here with what is anna's.
        for path in [format!("/events?follow=true&after={}", first - 1), "/tasks?follow=true".to_owned()] {
            let answer = follow(&routes, &browser, &path, cookie).await;
            let told = answer.lines().find_map(|line| line.strip_prefix("data: "));
            let told: Value = serde_json::from_str(told.unwrap()).unwrap();
            assert_eq!((&told["who"], told["address"].is_string()), (&json!("anna"), sees_all), "{told}");
        }
    }
}
