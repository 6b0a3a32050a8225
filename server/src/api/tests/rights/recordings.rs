//! Recordings: for those to whom the device showed the camera.

use std::sync::Arc;

use super::{ROLES, Server, ask, ask_with};
use crate::{api::router, store::NewRecording};

#[tokio::test]
async fn what_a_device_showed_to_some_only_nobody_else_sees_later() {
    let server = Server::start();
    let device = server.enrol("pi").await;
    let mut ids = Vec::new();
    for role in ROLES {
        let (camera, file) = ("door".to_owned(), format!("{role}.mp4"));
        let new = NewRecording { device, camera, file, role, who: "test".into(), width: 64, height: 48 };
        ids.push(server.api.host.store.begin_recording(new).await.unwrap().0);
    }
    let routes = router(Arc::clone(&server.api));
    for (place, role) in ROLES.into_iter().enumerate() {
        let peer = server.remote(server.operator(&format!("a-{role}"), role).await).await;
        for list in ["/recordings", "/recordings?device=pi"] {
            let (_, _, listed) = ask_with(&routes, &peer, "", "GET", list, "").await;
            let rows = listed["items"].as_array().unwrap();
            let seen: Vec<_> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
            assert_eq!(seen, ids[..=place], "{role}: {list}");
        }
        for (least, id) in ids.iter().enumerate() {
            for what in ["", "/file.mp4"] {
                let path = format!("/recordings/{id}{what}");
                let (status, code) = ask(&routes, &peer, "GET", &path, "").await;
                let is_refused = (status, code.as_str()) == (403, "denied");
                assert_eq!(is_refused, least > place, "{role}: {path}: {status} {code}");
            }
        }
    }
}
