use axum::{
    body::to_bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

use super::{Asset, answer, protect, serve};

static FILES: &[Asset] = &[
    Asset {
        path: "assets/index-abc.js",
        media_type: "text/javascript; charset=utf-8",
        is_immutable: true,
        tag: "\"1\"",
        plain: b"plain",
        brotli: Some(b"br"),
        gzip: Some(b"gz"),
    },
    Asset {
        path: "index.html",
        media_type: "text/html; charset=utf-8",
        is_immutable: false,
        tag: "\"2\"",
        plain: b"page",
        brotli: None,
        gzip: None,
    },
];

fn with(name: header::HeaderName, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
}

fn get(path: &str, headers: &HeaderMap) -> Response {
    answer(FILES, path, headers)
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn every_path_that_is_no_file_is_the_page() {
    for path in ["/", "/index.html", "/devices/greenhouse", "/devices/192.0.2.1", "/login"] {
        let response = get(path, &HeaderMap::new());
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        assert_eq!(text(response).await, "page", "{path}");
    }
    assert_eq!(get("/assets/index-older.js", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    let response = serve("POST".parse().unwrap(), "/".parse().unwrap(), HeaderMap::new()).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn files_are_kept_and_come_as_small_as_the_browser_takes_them() {
    let path = "/assets/index-abc.js";
    for (takes, coding, body) in [
        ("gzip, deflate, br, zstd", "br", "br"),
        ("gzip", "gzip", "gz"),
        ("br;q=0, gzip;q=0.5", "gzip", "gz"),
        ("identity", "", "plain"),
    ] {
        let response = get(path, &with(header::ACCEPT_ENCODING, takes));
        assert_eq!(
            response.headers().get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap()),
            coding
        );
        assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert_eq!(text(response).await, body, "{takes}");
    }
    for (known, status) in [("\"1\"", 304), ("W/\"1\", \"7\"", 304), ("\"2\"", 200)] {
        assert_eq!(get(path, &with(header::IF_NONE_MATCH, known)).status(), status, "{known}");
    }
}

#[tokio::test]
async fn without_a_build_a_page_says_how_to_make_one() {
    let page = text(answer(&[], "/devices/x", &HeaderMap::new())).await;
    assert!(page.contains("cargo xtask web"), "{page}");
    assert!(!page.contains("<style") && !page.contains("style="), "the policy forbids it");
}

#[tokio::test]
async fn every_answer_holds_the_browser_to_the_console() {
    let answer = protect(get("/", &HeaderMap::new())).await;
    let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-cache", "what a file says of itself stands");
    assert_eq!(protect(Response::default()).await.headers()[header::CACHE_CONTROL], "no-store");
}
