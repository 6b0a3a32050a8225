//! Holds the direction in which data and calls run: each module may only use those to its right.
//!
//! The tables below are the rules. A part's lines stand from left to right as ARCHITECTURE.md draws them, so whatever a
//! module may use stands below it, and there can be no circle.

mod source;

use std::path::Path;

use source::Use;

/// A module with all that is inside of it, and the modules of its package that it may use.
struct Module(&'static str, &'static str);

/// A crate or a part of one that only these modules may use.
struct Reserved {
    names: &'static str,
    modules: &'static str,
    why: &'static str,
}

/// A package and its rules.
struct Package {
    directory: &'static str,
    library: &'static str,
    modules: &'static [Module],
    /// Modules that know nothing of the others, and that all may use.
    common: &'static str,
    reserved: &'static [Reserved],
}

const CORE: Package = Package {
    directory: "protocol-core",
    library: "protocol_core",
    modules: &[
        Module("backoff", "code time"),
        Module("session", "window message code timer frame tag time"),
        Module("classic", "time"),
        Module("serial", "time"),
        Module("invitation", "message"),
        Module("provisioning", "message"),
        Module("window", "message"),
        Module("message", "code frame tag"),
        Module("code", ""),
        Module("timer", "time"),
        Module("frame", "tag"),
        Module("tag", ""),
        Module("task", ""),
        Module("time", ""),
        Module("alpn", ""),
        Module("escape", ""),
        Module("h264", ""),
        Module("raw", ""),
        Module("fixed", ""),
        Module("narrow", ""),
    ],
    common: "fixed narrow raw",
    reserved: &[
        Reserved {
            names: "postcard",
            modules: "message invitation provisioning",
            why: "what bodies look like in bytes is known in one place",
        },
        Reserved { names: "nom", modules: "frame", why: "frames are cut in one place" },
        Reserved { names: "std alloc", modules: "", why: "it runs on microcontrollers" },
    ],
};

/// socket -> listener -> connection -> session -> event -> handler -> store -> reply -> session -> socket.
const SERVER: Package = Package {
    directory: "server",
    library: "holdfast_server",
    modules: &[
        Module("main", "cli"),
        Module(
            "cli",
            "serve api::SOCKET api::provisioning api::view video::LastWords http tls config firmware term_password ssh_account host_key",
        ),
        Module("serve", "*"),
        Module(
            "listener",
            "api connection data enrolment host http refusal strangers classic_clients parts store event term_password tls config",
        ),
        Module(
            "api",
            "console passwords rate_limit totp enrolment host http refusal strangers video tasks registry mailbox parts store event tls config firmware ssh_account host_key",
        ),
        Module("console", ""),
        Module("connection", "handler host refusal strangers registry mailbox store event"),
        Module("data", "host refusal strangers tasks store event"),
        Module("enrolment", "host refusal store event"),
        Module("handler", "host registry store event host_key"),
        Module("http", "strangers parts"),
        Module("host", "strangers video tasks registry mailbox classic_clients parts store tls config"),
        Module("refusal", "store event"),
        Module("strangers", ""),
        Module("video", "tasks registry parts store event config"),
        Module("tasks", "registry mailbox parts store event config ssh_account socket_table"),
        Module("registry", "mailbox store"),
        Module("classic_clients", "store"),
        Module("mailbox", "store"),
        Module("logs", "parts store event config"),
        Module("parts", "store event"),
        Module("store", "event id host_key rate_limit"),
        Module("event", "id"),
        Module("term_password", "passwords rate_limit"),
        Module("passwords", ""),
        Module("rate_limit", ""),
        Module("totp", ""),
        Module("tls", "config"),
        Module("firmware", "id"),
        Module("ssh_account", "config"),
        Module("socket_table", ""),
        Module("host_key", ""),
        Module("config", ""),
        Module("id", ""),
        Module("clock", ""),
        Module("files", ""),
        Module("metrics", ""),
        Module("write_timeout", ""),
        Module("byte_stream", ""),
        Module("frames", ""),
        Module("lock", ""),
        Module("tally", ""),
        Module("shutdown", ""),
        Module("span", ""),
    ],
    common: "id clock files metrics write_timeout byte_stream frames lock shutdown span tally",
    reserved: &[
        Reserved {
            names: "rustls tokio_rustls",
            modules: "tls",
            why: "TLS lives in one module, behind a plain stream of bytes",
        },
        Reserved { names: "rcgen", modules: "tls firmware", why: "keys and certificates are made here" },
        Reserved { names: "rusqlite", modules: "store", why: "the store's interface hides its database" },
        Reserved {
            names: "axum",
            modules: "api console listener::http http",
            why: "HTTP ends where a request is understood",
        },
        Reserved {
            names: "tokio::net socket2 std::net::TcpListener std::net::TcpStream std::net::UdpSocket std::os::unix::net",
            modules: "listener tls serve api cli ssh_account",
            why: "devices are reached through the registry, never by a socket",
        },
        Reserved { names: "h264_reader", modules: "video", why: "what cameras show is read in one place" },
        Reserved { names: "argon2", modules: "passwords", why: "passwords are judged in one place" },
        Reserved { names: "clap", modules: "cli config", why: "arguments are understood at the door" },
        Reserved {
            names: "holdfast_agent",
            modules: "",
            why: "agent and server know each other by the protocol only",
        },
    ],
};

const AGENT: Package = Package {
    directory: "agent-linux",
    library: "holdfast_agent",
    modules: &[
        Module("main", "cli"),
        Module("cli", "run local_client enrol agent tasks store outbox inbox queue identity state config"),
        Module(
            "run",
            "connection serial local agent tasks dial store queue facts tls identity state config backoff",
        ),
        Module("connection", "agent tasks feed store outbox inbox queue pipe status identity"),
        Module("serial", "agent dial pipe tls identity config backoff"),
        Module("local_client", "outbox queue"),
        Module("local", "agent feed store outbox queue pipe"),
        Module("enrol", "dial store queue facts tls identity state config"),
        Module("agent", "tasks store facts state config"),
        Module("tasks", "dial tls identity state config"),
        Module("feed", "store queue pipe"),
        Module("store", "outbox inbox queue state config"),
        Module("outbox", "queue state config"),
        Module("inbox", "queue state config"),
        Module("facts", "config"),
        Module("config", "queue"),
        Module("pipe", "queue"),
        Module("queue", ""),
        Module("dial", "tls"),
        Module("status", ""),
        Module("tls", ""),
        Module("identity", "state"),
        Module("state", ""),
        Module("backoff", ""),
        Module("clock", ""),
    ],
    common: "clock",
    reserved: &[
        Reserved {
            names: "rustls tokio_rustls",
            modules: "tls",
            why: "TLS lives in one module, behind a plain stream of bytes",
        },
        Reserved { names: "rcgen", modules: "identity tls", why: "keys and certificates are made here" },
        Reserved { names: "rusqlite", modules: "outbox inbox queue", why: "what waits is kept in one place" },
        Reserved { names: "clap", modules: "cli", why: "arguments are understood at the door" },
        Reserved {
            names: "holdfast_server",
            modules: "",
            why: "agent and server know each other by the protocol only",
        },
    ],
};

const EMBEDDED: Package = Package {
    directory: "agent-embedded",
    library: "agent_embedded",
    modules: &[
        Module("run", "connection application security watchdog board agent"),
        Module("application", "connection security outbox"),
        Module("connection", "agent outbox"),
        Module("tls", "identity security board"),
        Module("security", "board"),
        Module("identity", ""),
        Module("line", "board"),
        Module("watchdog", "board"),
        Module("agent", "inbox outbox uptime"),
        Module("inbox", ""),
        Module("outbox", ""),
        Module("uptime", ""),
        Module("board", ""),
    ],
    common: "",
    reserved: &[
        Reserved {
            names: "embedded_tls p256",
            modules: "tls",
            why: "most devices' firmware has no TLS in it",
        },
        Reserved { names: "std alloc", modules: "", why: "it runs on microcontrollers" },
    ],
};

const PACKAGES: &[&Package] = &[&CORE, &SERVER, &AGENT, &EMBEDDED];

/// What each package may depend on outside of its tests; for the core that is all, for the others what the workspace has itself.
const DEPENDENCIES: &[(&str, &str)] = &[
    ("protocol-core", "cobs crc heapless nom postcard serde serde_bytes thiserror"),
    ("server", "protocol-core"),
    ("agent-linux", "protocol-core"),
    (
        "agent-embedded",
        "embassy-futures embedded-io-async embedded-tls heapless p256 protocol-core thiserror",
    ),
];

const OURS: &str = "protocol-core holdfast holdfast-agent agent-embedded holdfast-tests xtask";

fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Whether `path` is `name` or lies inside of it.
fn inside(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Whether `path` is one of `names` or lies inside of one of them; they are separated by spaces.
fn inside_any(path: &str, names: &str) -> bool {
    names.split(' ').filter(|name| !name.is_empty()).any(|name| inside(path, name))
}

/// The rule that says most exactly what `module` may use, and the rules that stand below it.
fn rule<'a>(package: &'a Package, module: &str) -> Option<(&'a Module, &'a [Module])> {
    let rules = package.modules.iter().enumerate().filter(|(_, rule)| inside(module, rule.0));
    rules.max_by_key(|(_, rule)| rule.0.len()).map(|(index, rule)| (rule, &package.modules[index + 1..]))
}

/// A sentence that says which rule `used` breaks, if it breaks one.
fn broken(package: &Package, used: &Use) -> Option<String> {
    let Use { file, line, module, path } = used;
    let place = format!("{}:{line}: `{module}` uses `{path}`", file.display());
    let Some(target) = path.strip_prefix("crate::") else {
        let Reserved { modules, why, .. } = package
            .reserved
            .iter()
            .find(|reserved| inside_any(path, reserved.names) && !inside_any(module, reserved.modules))?;
        return Some(format!("{place}, which is reserved for {}: {why}", list(modules)));
    };
    let top = |path: &str| path.split("::").next().unwrap_or_default().to_owned();
    // `lib.rs` names the parts; within a part anything goes.
    if module.is_empty() || top(module) == top(target) {
        return None;
    }
    let (Module(name, may_use), below) = rule(package, module)?;
    let allowed = match *may_use {
        "*" => below.iter().any(|Module(other, _)| inside(target, other)),
        some => inside_any(target, some) || inside_any(target, package.common),
    };
    (!allowed).then(|| format!("{place}, but `{name}` may only use {}", list(may_use)))
}

/// `names` for people.
fn list(names: &str) -> String {
    match names {
        "" => String::from("nothing"),
        "*" => String::from("what stands below it"),
        some => some.replace(' ', ", "),
    }
}

#[test]
fn calls_run_to_the_right() {
    let mut sentences = Vec::new();
    for package in PACKAGES {
        let uses = source::uses(root(), package.directory, package.library).expect("the sources can be read");
        sentences.extend(uses.iter().filter_map(|used| broken(package, used)));
    }
    assert!(
        sentences.is_empty(),
        "rules of tests/tests/architecture/main.rs are broken:\n{}",
        sentences.join("\n")
    );
}

#[test]
fn every_permission_is_used() {
    let mut idle = Vec::new();
    for package in PACKAGES {
        let uses = source::uses(root(), package.directory, package.library).expect("the sources can be read");
        let is_used = |module: &str, names: &str| {
            uses.iter().any(|used| {
                let path = used.path.strip_prefix("crate::").unwrap_or(&used.path);
                inside(&used.module, module) && inside_any(path, names)
            })
        };
        for Module(name, may_use) in package.modules {
            let used = may_use.split(' ').filter(|used| !matches!(*used, "" | "*"));
            let unused = used.filter(|used| !is_used(name, used));
            idle.extend(unused.map(|used| format!("{}: `{name}` does not use {used}", package.directory)));
        }
        for Reserved { names, modules, .. } in package.reserved {
            let unused = modules.split(' ').filter(|module| !module.is_empty() && !is_used(module, names));
            idle.extend(unused.map(|name| format!("{}: `{name}` does not use {names}", package.directory)));
        }
    }
    let idle = idle.join("\n");
    assert!(idle.is_empty(), "the tables allow what nobody does, take it out:\n{idle}");
}

#[test]
fn every_module_has_a_rule_and_every_rule_a_module() {
    for package in PACKAGES {
        let modules = source::modules(root(), package.directory).expect("the sources can be read");
        for module in &modules {
            let has_rule = rule(package, module).is_some();
            assert!(has_rule, "{}: module `{module}` has no line in the table: add one", package.directory);
        }
        for Module(name, _) in package.modules {
            let exists = modules.iter().any(|module| module == name);
            assert!(
                exists,
                "{}: the table has a line for `{name}`, which is no module: take it out",
                package.directory
            );
        }
    }
}

#[test]
fn the_map_names_every_module() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the map can be read");
    for package in [&CORE, &SERVER, &AGENT] {
        let title = format!("| in `{}/src` |", package.directory);
        let table = map.split_once(&title).expect("each package has its table").1;
        let table = table.split("\n\n").next().unwrap_or_default();
        for module in source::modules(root(), package.directory).expect("the sources can be read") {
            let named = [format!("`{module}.rs`"), format!("`{module}/`")];
            let is_named = module.contains("::") || named.iter().any(|name| table.contains(name.as_str()));
            assert!(is_named, "ARCHITECTURE.md: the table of {} does not name `{module}`", package.directory);
        }
    }
}

#[test]
fn whatever_a_module_may_use_stands_below_it() {
    for package in PACKAGES {
        for Module(name, may_use) in package.modules {
            let (_, below) = rule(package, name).expect("it is in the table");
            for used in may_use.split(' ').filter(|used| !matches!(*used, "" | "*")) {
                let is_below = below.iter().any(|Module(other, _)| inside(used, other));
                assert!(
                    is_below,
                    "{}: `{name}` may use `{used}`, which must stand below it",
                    package.directory
                );
            }
        }
    }
}

#[test]
fn packages_depend_to_the_right() {
    for (package, allowed) in DEPENDENCIES {
        let manifest = std::fs::read_to_string(root().join(package).join("Cargo.toml"))
            .expect("the manifest can be read");
        for name in dependencies(&manifest) {
            let judged = *package == "protocol-core" || OURS.split(' ').any(|ours| ours == name);
            assert!(
                !judged || allowed.split(' ').any(|allowed| allowed == name),
                "{package}/Cargo.toml: it depends on `{name}`, but may only depend on {}",
                list(allowed)
            );
        }
    }
}

/// The names in all sections of dependencies that a build without tests has.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut within = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            within = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
        } else if within && let Some(end) = line.find(['.', '=', ' ']) {
            names.push(&line[..end]);
        }
    }
    names
}

#[test]
fn a_broken_rule_is_told_in_a_sentence() {
    let used = |module: &str, path: &str| Use {
        file: "server/src/x.rs".into(),
        line: 7,
        module: module.into(),
        path: path.into(),
    };
    let told = |module, path| broken(&SERVER, &used(module, path));
    assert_eq!(
        told("handler::message", "crate::listener::framed").as_deref(),
        Some(
            "server/src/x.rs:7: `handler::message` uses `crate::listener::framed`, but `handler` may only use \
             host, registry, store, event, host_key"
        )
    );
    assert_eq!(
        told("handler::message", "tokio::net::TcpStream").as_deref(),
        Some(
            "server/src/x.rs:7: `handler::message` uses `tokio::net::TcpStream`, which is reserved for \
             listener, tls, serve, api, cli, ssh_account: devices are reached through the registry, never by a socket"
        )
    );
    assert_eq!(told("handler::message", "crate::store::MessageId"), None);
    assert_eq!(told("handler::message", "crate::handler::facts"), None);
    assert_eq!(told("handler::message", "std::net::SocketAddr"), None);
}
