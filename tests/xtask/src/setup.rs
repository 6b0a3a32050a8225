//! `cargo xtask setup`: installs what the other commands need and says what it does.

use std::path::{Path, PathBuf};

use crate::shell::{Error, Result, Shell, target};
use crate::web;

/// Install what is missing: Debian packages, parts of the Rust toolchain, cargo-deny, Schemathesis, the cross compiler
///
/// What is there already is left alone, so a second run does nothing. Debian packages need root; without it, the
/// command that installs them is printed.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask setup --dry-run    say what is missing, install nothing")]
pub(crate) struct Arguments {
    /// Say what is missing and install nothing; fails if something is
    #[arg(long)]
    dry_run: bool,
}

/// Something that other commands need from outside of this repository.
struct Tool {
    name: &'static str,
    why: &'static str,
    present: fn() -> bool,
    source: Source,
}

/// Where a tool comes from.
enum Source {
    /// A Debian package.
    Debian(&'static str),
    /// What this function installs; the words say what that is.
    Own(&'static str, fn() -> Result),
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "qemu-user",
        why: "dist runs the agents for other machines on this one",
        present: || qemu("arm").is_some() && qemu("aarch64").is_some(),
        source: Source::Debian("qemu-user"),
    },
    Tool {
        name: "qemu-system-arm",
        why: "tests run firmware on an emulated microcontroller",
        present: || Shell::new("qemu-system-arm", "--version").succeeds(),
        source: Source::Debian("qemu-system-arm"),
    },
    Tool {
        name: "faketime",
        why: "a test runs an agent whose calendar stands at 1970",
        present: || Shell::new("faketime", "--version").succeeds(),
        source: Source::Debian("faketime"),
    },
    Tool {
        name: "OpenSSH",
        why: "tests and the demo reach devices by real ssh, scp and sftp",
        present: || Path::new("/usr/sbin/sshd").exists() && Shell::new("ssh", "-V").succeeds(),
        source: Source::Debian("openssh-client openssh-server"),
    },
    Tool {
        name: "sudo",
        why: "tests have an account refused that may use it",
        present: || Shell::new("sudo", "--version").succeeds(),
        source: Source::Debian("sudo"),
    },
    Tool {
        name: "rsync",
        why: "tests copy files by it",
        present: || Shell::new("rsync", "--version").succeeds(),
        source: Source::Debian("rsync"),
    },
    Tool {
        name: "curl",
        why: "tests meet the console as a browser does",
        present: || Shell::new("curl", "--version").succeeds(),
        source: Source::Debian("curl"),
    },
    Tool {
        name: "ffmpeg",
        why: "tests and the demo have it draw a test camera's pictures, and tests look at what is recorded of it",
        present: || ["ffmpeg", "ffprobe"].iter().all(|name| Shell::new(name, "-version").succeeds()),
        source: Source::Debian("ffmpeg"),
    },
    Tool {
        name: "GStreamer's RTSP server",
        why: "a test looks through a camera in the network",
        present: || {
            let script = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst; \
                          Gst.init(None); assert all(map(Gst.ElementFactory.find, ['x264enc', 'rtph264pay']))";
            Shell::new("/usr/bin/python3", "-c").argument(script).succeeds()
        },
        source: Source::Debian(
            "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly python3-gi",
        ),
    },
    Tool {
        name: "Node",
        why: "the console is built by it (20.19 or newer)",
        present: || Shell::new("npm", "--version").succeeds(),
        source: Source::Debian("nodejs npm"),
    },
    Tool {
        name: "Chromium",
        why: "tests meet the console in a real browser",
        present: || web::chromium().exists(),
        source: Source::Debian("chromium"),
    },
    Tool {
        name: "Ansible",
        why: "a test has it manage a device",
        present: || Shell::new("ansible", "--version").succeeds(),
        source: Source::Debian("ansible-core"),
    },
    Tool {
        name: "valgrind",
        why: "the tests count instructions",
        present: || Shell::new("valgrind", "--version").succeeds(),
        source: Source::Debian("valgrind"),
    },
    Tool {
        name: "python3-venv",
        why: "the cross compiler and Schemathesis are installed from PyPI into virtual environments",
        present: || {
            (cross_compiler_present() && schemathesis_present())
                || Shell::new("python3", "-c").argument("import ensurepip, venv").succeeds()
        },
        source: Source::Debian("python3-venv"),
    },
    Tool {
        name: "rustfmt, clippy, rust-src",
        why: "formatting, lints, and std built for boards that rustup has none for",
        present: || missing_from_rustup("component", COMPONENTS).is_empty(),
        source: Source::Own("rustup component add", || add_by_rustup("component", COMPONENTS)),
    },
    Tool {
        name: "bare-metal targets",
        why: "protocol-core and firmware are built for microcontrollers",
        present: || missing_from_rustup("target", MICROCONTROLLERS).is_empty(),
        source: Source::Own("rustup target add", || add_by_rustup("target", MICROCONTROLLERS)),
    },
    Tool {
        name: "cargo-deny",
        why: "licences, sources and duplicates of dependencies",
        present: || Shell::cargo("deny --version").succeeds(),
        source: Source::Own("cargo install, a few minutes", || {
            Shell::cargo("install --locked cargo-deny --version 0.20.2").run()
        }),
    },
    Tool {
        name: "Schemathesis",
        why: "a test asks the API all that docs/openapi.json describes",
        present: schemathesis_present,
        source: Source::Own("from PyPI, into target/", install_schemathesis),
    },
    Tool {
        name: "cross compiler",
        why: "dist links static binaries for all boards",
        present: cross_compiler_present,
        source: Source::Own("cargo-zigbuild and ziglang from PyPI, into target/", install_cross_compiler),
    },
];

/// What only `cargo xtask test --slow` needs.
const SLOW_TOOLS: &[Tool] = &[
    Tool {
        name: "qemu-system-x86",
        why: "a slow test has a machine with a USB camera",
        present: || {
            Shell::new("qemu-system-x86_64", "--version").succeeds()
                && Shell::new("busybox", "true").succeeds()
        },
        source: Source::Debian("qemu-system-x86 busybox-static"),
    },
    Tool {
        name: "Debian's kernel",
        why: "that machine runs it, with its driver of a camera that there is not",
        present: || kernel().join("boot").exists(),
        source: Source::Own("from Debian, into target/", download_kernel),
    },
];

const COMPONENTS: &[&str] = &["clippy", "rust-src", "rustfmt"];

/// What firmware is built for: Cortex-M0, M3 and M7, and ESP32-C3.
const MICROCONTROLLERS: &[&str] =
    &["thumbv6m-none-eabi", "thumbv7m-none-eabi", "thumbv7em-none-eabihf", "riscv32imc-unknown-none-elf"];

/// The microcontrollers that `protocol-core` is checked for: Cortex-M0, Cortex-M3 and ESP32-C3.
pub(crate) const BARE_METAL: &[&str] =
    &["thumbv6m-none-eabi", "thumbv7m-none-eabi", "riscv32imc-unknown-none-elf"];

/// `cargo xtask setup`.
///
/// # Errors
/// Something is missing and could not be installed, or may not be (`--dry-run`).
pub(crate) fn run(arguments: &Arguments) -> Result {
    let missing = missing(TOOLS);
    if arguments.dry_run {
        return if missing.is_empty() {
            Ok(())
        } else {
            Err(Error::Told(format!(
                "{} of the tools are missing; `cargo xtask setup` installs them",
                missing.len()
            )))
        };
    }
    install(&missing)
}

/// Installs whatever is missing; the first step of `cargo xtask test`.
///
/// # Errors
/// Something could not be installed.
pub(crate) fn ensure() -> Result {
    install(&missing(TOOLS))
}

/// The same for what only slow tests need.
///
/// # Errors
/// Something could not be installed.
pub(crate) fn ensure_slow() -> Result {
    install(&missing(SLOW_TOOLS))
}

/// Installs those of these tools that are missing, by their names.
///
/// # Errors
/// Something could not be installed.
pub(crate) fn ensure_only(names: &[&str]) -> Result {
    let named = TOOLS.iter().filter(|tool| names.contains(&tool.name));
    install(&named.filter(|tool| !(tool.present)()).collect::<Vec<_>>())
}

/// The name of qemu's user emulator for `architecture`, if it is installed.
pub(crate) fn qemu(architecture: &str) -> Option<String> {
    [format!("qemu-{architecture}"), format!("qemu-{architecture}-static")]
        .into_iter()
        .find(|name| Shell::new(name, "--version").succeeds())
}

/// The directory of programs of the virtual environment that holds the cross compiler.
pub(crate) fn cross_compiler() -> PathBuf {
    target().join("zig").join("bin")
}

fn missing(tools: &'static [Tool]) -> Vec<&'static Tool> {
    let (present, missing): (Vec<_>, Vec<_>) = tools.iter().partition(|tool| (tool.present)());
    for tool in present {
        println!("  present  {}", tool.name);
    }
    for tool in &missing {
        println!("  MISSING  {}: {}", tool.name, tool.why);
    }
    missing
}

fn install(missing: &[&Tool]) -> Result {
    let packages: Vec<_> = missing
        .iter()
        .filter_map(|tool| if let Source::Debian(package) = tool.source { Some(package) } else { None })
        .collect();
    if !packages.is_empty() {
        install_packages(&packages.join(" "))?;
    }
    for tool in missing {
        if let Source::Own(how, install) = tool.source {
            println!("installing {} ({how})", tool.name);
            install()?;
        }
    }
    match missing.iter().find(|tool| !(tool.present)()) {
        Some(tool) => {
            Err(Error::Told(format!("{} was installed, but is not found; is it on PATH?", tool.name)))
        }
        None => Ok(()),
    }
}

fn install_packages(packages: &str) -> Result {
    let install = format!("install --yes --no-install-recommends {packages}");
    let (_, user) = Shell::new("id", "-u").output()?;
    if user.trim() != "0" {
        return Err(Error::Told(format!(
            "Debian packages are missing, and only root can install them; run: sudo apt-get {install}"
        )));
    }
    println!("installing {packages} (Debian packages)");
    let quietly =
        |arguments| Shell::new("apt-get", arguments).environment("DEBIAN_FRONTEND", "noninteractive");
    quietly("update --quiet --quiet").run()?;
    quietly(&format!("--quiet --quiet {install}")).run()
}

/// Those of `names` that `rustup {kind} list` does not show as installed.
fn missing_from_rustup(kind: &str, names: &'static [&'static str]) -> Vec<&'static str> {
    let installed = match Shell::new("rustup", kind).argument("list").argument("--installed").output() {
        Ok((true, text)) => text,
        _ => String::new(),
    };
    let has = |name: &str| installed.lines().any(|line| line.starts_with(name));
    names.iter().copied().filter(|name| !has(name)).collect()
}

fn add_by_rustup(kind: &str, names: &'static [&'static str]) -> Result {
    let names = missing_from_rustup(kind, names).join(" ");
    Shell::new("rustup", &format!("{kind} add {names}")).run()
}

fn schemathesis_present() -> bool {
    Shell::new(target().join("schemathesis/bin/schemathesis"), "--version").succeeds()
}

fn install_schemathesis() -> Result {
    let environment = target().join("schemathesis");
    Shell::new("python3", "-m venv --clear").argument(&environment).run()?;
    Shell::new(environment.join("bin/pip"), "install --quiet schemathesis==4.32.5").run()
}

fn cross_compiler_present() -> bool {
    cross_compiler().join("cargo-zigbuild").exists()
        && Shell::new(cross_compiler().join("python"), "-m ziglang version").succeeds()
}

fn install_cross_compiler() -> Result {
    let environment = target().join("zig");
    Shell::new("python3", "-m venv --clear").argument(&environment).run()?;
    Shell::new(cross_compiler().join("pip"), "install --quiet cargo-zigbuild==0.24.0 ziglang==0.17.1").run()
}

/// Where the tests find Debian's kernel and its modules.
fn kernel() -> PathBuf {
    target().join("debian-kernel")
}

fn download_kernel() -> Result {
    let folder = kernel();
    let script = "mkdir -p \"$1\" && cd \"$1\" && rm -f *.deb && \
         apt-get -qq download $(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \\(linux-image-.*\\)/\\1/p' | head -n 1) && \
         dpkg -x *.deb . && rm *.deb";
    Shell::new("sh", "-c").argument(script).argument("sh").argument(&folder).run()
}
