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
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // What cargo tells the program that it runs would make the build scripts of dependencies run again.
        let told = env::vars_os().map(|(name, _)| name).filter(|name| {
            name.to_str().is_some_and(|name| {
                ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start))
            })
        });
        told.for_each(|name| {
            build.env_remove(name);
        });
        let built = build
            .args(["build", "--quiet", "--workspace", "--bins", "--locked", "--profile", profile])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo can be run");
        assert!(built.success(), "the programs can't be built");
        directory
    })
}
