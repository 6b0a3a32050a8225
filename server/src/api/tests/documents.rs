//! What `docs/api.md` says of errors is so.

use std::{collections::BTreeSet, fs, path::Path};

use axum::http::StatusCode;

/// The statuses that this module answers with, by their names in its source.
const STATUSES: &[(&str, StatusCode)] = &[
    ("BAD_REQUEST", StatusCode::BAD_REQUEST),
    ("UNAUTHORIZED", StatusCode::UNAUTHORIZED),
    ("FORBIDDEN", StatusCode::FORBIDDEN),
    ("NOT_FOUND", StatusCode::NOT_FOUND),
    ("METHOD_NOT_ALLOWED", StatusCode::METHOD_NOT_ALLOWED),
    ("REQUEST_TIMEOUT", StatusCode::REQUEST_TIMEOUT),
    ("CONFLICT", StatusCode::CONFLICT),
    ("PAYLOAD_TOO_LARGE", StatusCode::PAYLOAD_TOO_LARGE),
    ("TOO_MANY_REQUESTS", StatusCode::TOO_MANY_REQUESTS),
    ("UPGRADE_REQUIRED", StatusCode::UPGRADE_REQUIRED),
    ("INTERNAL_SERVER_ERROR", StatusCode::INTERNAL_SERVER_ERROR),
    ("BAD_GATEWAY", StatusCode::BAD_GATEWAY),
    ("SERVICE_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE),
    ("GATEWAY_TIMEOUT", StatusCode::GATEWAY_TIMEOUT),
    ("INSUFFICIENT_STORAGE", StatusCode::INSUFFICIENT_STORAGE),
];

/// Each error that the source can give: the name of its status, and its code.
fn in_source() -> BTreeSet<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let source = fs::read_to_string(path).unwrap();
        for after in source.split("StatusCode::").skip(1) {
            let Some((status, rest)) = after.split_once(',') else { continue };
            let code = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
            // What stands behind another call is no error.
            if let Some((code, _)) = code.filter(|_| !status.contains(')')) {
                found.insert((status.to_owned(), code.to_owned()));
            }
        }
    }
    found
}

#[test]
fn every_error_stands_in_the_document_and_no_other() {
    let document = include_str!("../../../../docs/api.md");
    let (_, errors) = document.split_once("## Errors").unwrap();
    let (errors, _) = errors.split_once("\n## ").unwrap();
    // Of a row: its statuses, and its codes, which stand at the beginning of a part, in quotes.
    let rows = errors.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let statuses: BTreeSet<u16> =
            cells.next()?.split(", ").filter_map(|status| status.parse().ok()).collect();
        let codes: BTreeSet<&str> = cells.next()?.split('`').skip(1).step_by(2).collect();
        (!statuses.is_empty()).then_some((statuses, codes))
    });
    let rows: Vec<_> = rows.collect();
    let found = in_source();
    assert!(found.len() > 30, "the source is read as it is written: {found:?}");
    for (name, code) in &found {
        let status = STATUSES.iter().find(|(of, _)| of == name);
        let (_, status) = status.unwrap_or_else(|| panic!("{name} is new: say here what it is"));
        let is_told = rows
            .iter()
            .any(|(statuses, codes)| statuses.contains(&status.as_u16()) && codes.contains(code.as_str()));
        assert!(is_told, "{status}: {code} does not stand in docs/api.md");
    }
    for (statuses, codes) in &rows {
        for code in codes {
            let is_given = found.iter().any(|(name, given)| {
                given == code
                    && STATUSES.iter().any(|(of, status)| of == name && statuses.contains(&status.as_u16()))
            });
            assert!(is_given, "{statuses:?}: {code} is never given");
        }
    }
}
