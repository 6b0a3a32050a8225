//! The console as a browser meets it: over TLS by both versions of HTTP, and on the loopback address. curl is the browser.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};

use holdfast_tests::{
    device::{Device, Key},
    process::Process,
    server::Server,
    tls, wait,
};
use serde_json::Value;

const PASSWORD: &str = "correct horse battery";

/// A browser with its cookies.
struct Browser {
    root: String,
    jar: tempfile::NamedTempFile,
    options: &'static [&'static str],
}

impl Browser {
    fn over_tls(server: &Server, version: &'static [&'static str]) -> io::Result<Self> {
        let root = format!("https://localhost:{}", server.address().port());
        Ok(Self { root, jar: tempfile::NamedTempFile::new()?, options: version })
    }

    fn on_loopback(server: &Server) -> io::Result<Self> {
        let root = format!("http://{}", server.http());
        Ok(Self { root, jar: tempfile::NamedTempFile::new()?, options: &["--http1.1"] })
    }

    fn arguments(&self, path: &str, more: &[&str]) -> Vec<String> {
        let jar = self.jar.path().display().to_string();
        // Which certificate is shown is looked at elsewhere.
        let own =
            ["--silent", "--show-error", "--insecure", "--max-time", "30", "--include", "--cookie", &jar];
        let mut arguments: Vec<String> =
            own.iter().chain(self.options).chain(more).map(|&text| text.into()).collect();
        arguments.extend(["--cookie-jar".to_owned(), jar, format!("{}{path}", self.root)]);
        arguments
    }

    /// What comes, with its head, by lines that end as ours do.
    #[track_caller]
    fn curl(&self, path: &str, more: &[&str]) -> String {
        let Output { status, stdout, stderr } =
            Command::new("curl").args(self.arguments(path, more)).output().expect("curl is there");
        assert!(status.success(), "{path}: {status}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).replace('\r', "")
    }

    #[track_caller]
    fn post(&self, path: &str, body: &str) -> String {
        let origin = format!("Origin: {}", self.root);
        self.curl(path, &["--header", &origin, "--json", body])
    }

    /// Follows a stream until the process is dropped, or the stream ends.
    fn follow(&self, path: &str, log: &Path) -> io::Result<Process> {
        let arguments = self.arguments(path, &["--no-buffer", "--max-time", "600"]);
        Process::start(Path::new("curl"), &arguments, log)
    }
}

/// The token of a new one-time login.
#[track_caller]
fn one_time_login(server: &Server, name: &str, role: &str) -> String {
    let printed = server.tell(&["user", "add", name, "--role", role]);
    let link = printed.lines().next().unwrap_or_default();
    assert!(link.starts_with("https://"), "{printed}");
    link.rsplit_once("/#/first/").expect("it is a link of the console").1.to_owned()
}

#[track_caller]
fn log_in(browser: &Browser, server: &Server, name: &str, role: &str) {
    let token = one_time_login(server, name, role);
    let body = format!(r#"{{"token":"{token}","password":"{PASSWORD}"}}"#);
    let answer = browser.post("/api/v1/login/first", &body);
    assert!(answer.contains(&format!(r#"{{"name":"{name}","role":"{role}"}}"#)), "{answer}");
}

#[test]
fn over_tls_by_both_versions_of_http() -> io::Result<()> {
    let server = Server::start()?;
    // It is said behind that the server is ready.
    wait::until("the command is named", || server.log(), |log| log.contains("user add NAME --role admin"));
    for (number, (version, status)) in
        [(&["--http2"][..], "HTTP/2 200"), (&["--http1.1"], "HTTP/1.1 200"), (&["--no-alpn"], "HTTP/1.1 200")]
            .into_iter()
            .enumerate()
    {
        let browser = Browser::over_tls(&server, version)?;
        let page = browser.curl("/devices/some-device", &[]);
        assert!(page.starts_with(status), "{page}");
        assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{page}");
        assert!(browser.curl("/api/v1/devices", &[]).contains("not-logged-in"));
        let name = format!("anna-{number}");
        let token = one_time_login(&server, &name, "viewer");
        let body = format!(r#"{{"token":"{token}","password":"{PASSWORD}"}}"#);
        let answer = browser.post("/api/v1/login/first", &body);
        let cookie = answer.lines().find(|line| line.starts_with("set-cookie: ")).unwrap_or_default();
        assert!(
            cookie.starts_with("set-cookie: __Host-holdfast=")
                && cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/; Secure"),
            "{answer}"
        );
        assert!(browser.curl("/api/v1/me", &[]).contains(&name));
        let stolen =
            browser.curl("/api/v1/me/totp", &["--header", "Origin: https://evil.example", "--json", "{}"]);
        assert!(stolen.contains("wrong-origin"), "{stolen}");
        assert!(browser.post("/api/v1/tokens", "{}").contains("denied"), "a viewer may look only");
        assert!(browser.post("/api/v1/logout", "{}").starts_with(status));
        assert!(browser.curl("/api/v1/me", &[]).contains("not-logged-in"));
    }
    Ok(())
}

#[test]
fn on_loopback_for_names_of_this_machine_only() -> io::Result<()> {
    let mut server = Server::with_http("")?;
    let browser = Browser::on_loopback(&server)?;
    log_in(&browser, &server, "anna", "admin");
    assert!(browser.curl("/api/v1/me", &[]).contains(r#""role":"admin""#));
    assert!(browser.curl("/metrics", &[]).contains("holdfast_devices_online"));
    assert!(browser.curl("/api/v1/metrics", &[]).contains("holdfast_devices_online"));
    for path in ["/", "/api/v1/me", "/metrics"] {
        let answer = browser.curl(path, &["--header", "Host: evil.example"]);
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("wrong-host"), "{path}: {answer}");
    }
    // Who can log in was said to be missing at the first start, and is not at the next.
    server.terminate();
    server.run()?;
    server.tell(&["status"]);
    assert_eq!(server.log().matches("no admin can log in").count(), 1);
    Ok(())
}

#[test]
fn devices_come_and_go_before_the_eyes_of_one_who_looks_until_they_may_no_more() -> io::Result<()> {
    let server = Server::start()?;
    let browser = Browser::over_tls(&server, &["--http2"])?;
    log_in(&browser, &server, "anna", "operator");
    let log = server.data().with_file_name("stream.log");
    let mut stream = browser.follow("/api/v1/devices?follow=true", &log)?;
    let shows = |what: &str| {
        wait::until(&format!("{what} is shown"), || stream.printed(), |printed| printed.contains(what));
    };
    shows("event: ready");
    let key = Key::enrolled(&server.invite(&["--name", "greenhouse"]))?;
    shows(r#""name":"greenhouse""#);
    let session = Device::online(server.address(), &key)?;
    shows(r#""online":true"#);
    drop(session);
    wait::until(
        "it is shown offline",
        || stream.printed(),
        |printed| {
            let last = printed
                .lines()
                .filter_map(|line| line.strip_prefix("data: "))
                .next_back()
                .unwrap_or_default();
            serde_json::from_str::<Value>(last).is_ok_and(|device| device["online"] == false)
        },
    );
    server.tell(&["user", "revoke", "anna"]);
    wait::until("the stream ends", || stream.ended(), Option::is_some);
    assert!(browser.curl("/api/v1/me", &[]).contains("not-logged-in"));
    Ok(())
}

/// The certificate that is shown for `localhost`.
fn shown(address: SocketAddr) -> String {
    let url = format!("https://localhost:{}/", address.port());
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--write-out", "%{certs}", "--output", "/dev/null", &url])
        .output();
    String::from_utf8_lossy(&output.expect("curl is there").stdout).into_owned()
}

#[test]
fn a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let write = || -> io::Result<()> {
        let (text, private) = tls::certificate("localhost");
        fs::write(&certificate, text)?;
        fs::write(&key, private)
    };
    write()?;
    let more = format!("tls-cert = {certificate:?}\ntls-key = {key:?}\n");
    let server = Server::configured(&more, None)?;
    let first = shown(server.address());
    fs::write(&key, "broken")?;
    server.wait_event("certificate-refused", |_| true);
    assert_eq!(shown(server.address()), first);
    write()?;
    server.wait_event("certificate-changed", |_| true);
    assert_ne!(shown(server.address()), first);
    Ok(())
}
