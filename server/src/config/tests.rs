use std::{fs, path::Path, time::Duration};

use super::{Config, ConfigError, Endpoint, KeepAlive, LogFormat, Overrides, is_host_and_port};

/// What a file with this text and these overrides come to.
fn load(text: &str, overrides: Overrides) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.toml");
    fs::write(&path, text).unwrap();
    Config::load(Path::new("/data"), &Overrides { config: Some(path), ..overrides })
}

fn default_config() -> Config {
    load("", Overrides::default()).unwrap()
}

#[test]
fn without_a_word_everything_has_its_default() {
    let config = default_config();
    assert_eq!(config.listen.to_string(), "0.0.0.0:55223");
    assert_eq!(config.classic.unwrap().to_string(), "127.0.0.1:55222");
    assert_eq!(config.http.address.unwrap().to_string(), "127.0.0.1:55280");
    assert!(!config.http.explicit);
    assert_eq!(config.keep_alive, KeepAlive::DEFAULT);
    assert_eq!(config.classic_gap, Duration::from_millis(2));
}

/// Every setting stands in the example, commented out, with its default as its value.
#[test]
fn the_example_shows_the_defaults() {
    let example = include_str!("../../server.toml.example");
    let uncommented: String = example
        .lines()
        .filter_map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => Some(setting),
            Some(_) => None,
            None => Some(line),
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let expected = Config {
        advertise: vec!["fleet.example.org:55223".to_owned()],
        http: super::Http { explicit: true, ..default_config().http },
        certificate: Some(super::CertificateFiles {
            certificate: "/etc/letsencrypt/live/fleet.example.org/fullchain.pem".into(),
            key: "/etc/letsencrypt/live/fleet.example.org/privkey.pem".into(),
        }),
        ..default_config()
    };
    assert_eq!(load(&uncommented, Overrides::default()).unwrap(), expected);
    for name in ["max-frame", "window-messages", "opening-timeout", "queued-messages", "keep", "profile"] {
        assert!(uncommented.contains(name), "{name} is missing from the example");
    }
}

#[test]
fn a_certificate_comes_with_its_key() {
    let error = load("tls-cert = '/a.pem'", Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("tls-key") && error.contains("/a.pem"), "{error}");
    let overrides = Overrides { tls_key: Some("/b.pem".into()), ..Overrides::default() };
    let files = load("tls-cert = '/a.pem'", overrides).unwrap().certificate.unwrap();
    assert_eq!((files.certificate, files.key), ("/a.pem".into(), "/b.pem".into()));
}

#[test]
fn the_file_is_read_and_the_overrides_go_before_it() {
    let file = "listen = '127.0.0.1:1'\nclassic = 'off'\nhttp = '127.0.0.1:3'\nlog.format = 'json'\n\
                keep-alive = { profile = 'lan', timeout = '1s' }\nlimits.opening-timeout = '3s'";
    let config = load(file, Overrides::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:1");
    assert_eq!(config.classic, None);
    assert!(config.http.explicit);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.keep_alive, KeepAlive::seconds(5, 1));
    assert_eq!(config.limits.opening_timeout, Duration::from_secs(3));

    let overrides = Overrides {
        listen: Some("127.0.0.1:9".parse().unwrap()),
        http: Some(Endpoint::Off),
        classic: Some("[::1]:8".parse().unwrap()),
        log: Some("debug".to_owned()),
        advertise: vec!["example.org:1".to_owned()],
        ..Overrides::default()
    };
    let config = load(file, overrides).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9");
    assert_eq!(config.http.address, None);
    assert_eq!(config.classic.unwrap().to_string(), "[::1]:8");
    assert_eq!(config.log.filter, "debug");
    assert_eq!(config.advertise, ["example.org:1"]);
}

#[test]
fn what_is_wrong_is_named() {
    for (file, named) in [
        ("lisen = '127.0.0.1:1'", "lisen"),
        ("limits = { max-frames = 1 }", "max-frames"),
        ("keep-alive = { interval = '0' }", "keep-alive.interval"),
        ("keep-alive = { interval = 'soon' }", "soon"),
        ("keep-alive = { profile = 'wan' }", "wan"),
        ("limits = { max-frame = 10 }", "limits.max-frame"),
        ("limits = { window-messages = 25 }", "limits.window-messages"),
        ("limits = { queued-messages = 0 }", "limits.queued-messages"),
        ("classic = 'localhost'", "127.0.0.1"),
        ("listen = 55223", "listen"),
        (
            "ssh = { idle-limit = '1ms' }",
            "server.toml: ssh.idle-limit (0 is none): expected 1s to 365d, found 1ms",
        ),
        ("ssh = { idle-limit = 3 }", "expected a span of time in quotes, such as \"30s\""),
        ("ssh = { time-limit = '0' }", "server.toml: ssh.time-limit: expected 1s to 365d, found 0ms"),
        ("advertise = ['example.org']", "advertise"),
        ("advertise = ['a:1', 'a:2', 'a:3', 'a:4', 'a:5']", "advertise"),
    ] {
        let error = load(file, Overrides::default()).unwrap_err().to_string();
        assert!(error.contains(named), "{file}: {error}");
    }
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let overrides = Overrides { config: Some("/nonexistent/server.toml".into()), ..Overrides::default() };
    let error = Config::load(Path::new("/data"), &overrides).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
}

#[test]
fn hosts_and_ports() {
    for good in ["example.org:1", "10.0.0.1:65535", "[2001:db8::1]:55223"] {
        assert!(is_host_and_port(good), "{good}");
    }
    for bad in ["example.org", ":1", "example.org:", "a:0", "a:70000", "a b:1", "2001:db8::1:5", "[x]:1"] {
        assert!(!is_host_and_port(bad), "{bad}");
    }
}
