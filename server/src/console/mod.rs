//! The console: what browsers are given beside the API, and the headers that hold them to it.

mod assets;
mod headers;
#[cfg(test)]
mod tests;

use axum::{
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

pub use headers::protect;

use assets::{ASSETS, Asset, Encoding};

/// What a build without the console shows.
const UNBUILT: &str = include_str!("unbuilt.html");

/// Answers whatever is no request of the API: with a file of the console, or with the page that is all of its pages.
pub async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if ![Method::GET, Method::HEAD].contains(&method) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    answer(ASSETS, uri.path(), &headers)
}

fn answer(assets: &'static [Asset], path: &str, headers: &HeaderMap) -> Response {
    let path = path.trim_start_matches('/');
    let find =
        |path: &str| assets.binary_search_by(|asset| asset.path.cmp(path)).ok().and_then(|at| assets.get(at));
    match (find(path), find("index.html")) {
        (Some(asset), _) => give(asset, headers),
        // What a page of an older build asks for is gone; it is no page.
        (None, Some(_)) if path.starts_with("assets/") => {
            (StatusCode::NOT_FOUND, "it is not there\n").into_response()
        }
        (None, Some(index)) => give(index, headers),
        (None, None) => {
            let fields =
                [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
            (fields, UNBUILT).into_response()
        }
    }
}

fn give(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let keep = if asset.is_immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    let about = [(header::CACHE_CONTROL, keep), (header::ETAG, asset.tag), (header::VARY, "accept-encoding")];
    if has(headers, header::IF_NONE_MATCH, |tag| tag == asset.tag || tag == "*") {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    let takes =
        |name: &str| has(headers, header::ACCEPT_ENCODING, |coding| coding.eq_ignore_ascii_case(name));
    let (encoding, bytes) = asset.best(takes);
    let mut response = (about, [(header::CONTENT_TYPE, asset.media_type)], bytes).into_response();
    if encoding != Encoding::Identity {
        response.headers_mut().insert(header::CONTENT_ENCODING, encoding.value());
    }
    response
}

/// Whether one of the values of this header, without their weights, is such a one. A weight of zero says that it is not.
fn has(headers: &HeaderMap, name: header::HeaderName, is_such: impl Fn(&str) -> bool) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| {
        let (value, weight) = value.split_once(';').unwrap_or((value, ""));
        let is_refused = weight.trim().strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0_f32));
        !is_refused && is_such(value.trim().trim_start_matches("W/"))
    })
}
