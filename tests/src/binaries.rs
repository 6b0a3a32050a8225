//! The programs of this workspace, as they are built beside the tests.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// `holdfast`: the server, and its operators' command line.
pub fn holdfast() -> PathBuf {
    directory().join("holdfast")
}

/// `holdfast-agent`: the one that `HOLDFAST_AGENT` names, which may be for another machine in an emulator, else ours.
pub fn agent() -> PathBuf {
    env::var_os("HOLDFAST_AGENT").map_or_else(|| directory().join("holdfast-agent"), PathBuf::from)
}

/// `relay`: the relay of SSH sessions as a process of its own.
pub fn relay() -> PathBuf {
    directory().join("relay")
}

/// Where the programs are, built once for each run of a test program: they are never older than the tests.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        // target/PROFILE/deps/TEST, or target/PROFILE/PROGRAM
        let test = env::current_exe().expect("a running program has a path");
        let mut directory = test.parent().expect("a program stands in a directory");
        if directory.ends_with("deps") {
            directory = directory.parent().unwrap_or(directory);
        }
        let directory = directory.to_owned();
        let profile = match directory.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let built = cargo_build().args(["--workspace", "--bins", "--profile", profile]).status();
        assert!(built.expect("cargo can be run").success(), "the programs can't be built");
        directory
    })
}

/// `cargo build`, as a person would run it in `tests/`.
fn cargo_build() -> Command {
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo tells the program that it runs would make the build scripts of dependencies run again.
    let told = env::vars_os().map(|(name, _)| name).filter(|name| {
        name.to_str()
            .is_some_and(|name| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start)))
    });
    told.for_each(|name| {
        build.env_remove(name);
    });
    build.args(["build", "--quiet", "--locked"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    build
}

/// A binary of the reference board's firmware, by its name: built once for each run of a test program, as it is flashed.
///
/// # Panics
/// It can't be built.
pub fn firmware(name: &str) -> PathBuf {
    const TRIPLE: &str = "thumbv7m-none-eabi";
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the repository");
        let target =
            root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())).join("hardware");
        let mut build = cargo_build();
        build.arg("--release").arg("--manifest-path").arg(root.join("hardware/Cargo.toml"));
        build.args(["--package", "qemu-lm3s6965", "--target", TRIPLE, "--target-dir"]).arg(&target);
        let built = build.status().expect("cargo can be run");
        assert!(built.success(), "the firmware can't be built; `cargo xtask setup` installs what that takes");
        target.join(TRIPLE).join("release")
    });
    directory.join(name)
}
