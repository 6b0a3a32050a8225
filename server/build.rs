//! Embeds the console, if `cargo xtask web` has built it: the files of `web/dist`. A build without them has a page that
//! says how to build it.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hasher as _},
    io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let dist = Path::new("web").join("dist");
    // Without a build this file is looked at instead, which `cargo xtask web` touches: a path that is not there would
    // have this run each time.
    let watched = if dist.exists() { dist.as_path() } else { Path::new("build.rs") };
    println!("cargo::rerun-if-changed={}", watched.display());
    let mut files = Vec::new();
    if dist.join("index.html").exists() {
        collect(&dist, &mut files)?;
    }
    files.sort();
    let mut table = String::from("&[\n");
    for file in files.iter().filter(|file| !is_compressed(file)) {
        table.push_str(&entry(&dist, file)?);
    }
    table.push(']');
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("console.rs"), table)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => collect(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

/// Whether it stands beside the same file without compression.
fn is_compressed(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "br" || extension == "gz")
}

/// A file as the program has it: `Asset` of `src/console/assets.rs`.
fn entry(dist: &Path, file: &Path) -> io::Result<String> {
    let path = file.strip_prefix(dist).unwrap_or(file);
    let path =
        path.to_str().ok_or_else(|| io::Error::other("a file of web/dist has a name that is no text"))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(file)?);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let mut text = String::new();
    // Vite names what is in `assets` by its content.
    let is_immutable = path.starts_with("assets/");
    let _ = writeln!(
        text,
        "Asset {{ path: {path:?}, media_type: {:?}, is_immutable: {is_immutable}, tag: {tag:?}, plain: {}, brotli: {}, gzip: {} }},",
        media_type(path),
        bytes(file)?,
        compressed(file, "br")?,
        compressed(file, "gz")?,
    );
    Ok(text)
}

fn bytes(file: &Path) -> io::Result<String> {
    Ok(format!("include_bytes!({:?})", fs::canonicalize(file)?))
}

fn compressed(file: &Path, extension: &str) -> io::Result<String> {
    let mut name = OsString::from(file);
    name.push(format!(".{extension}"));
    let file = PathBuf::from(name);
    Ok(if file.exists() { format!("Some({})", bytes(&file)?) } else { String::from("None") })
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}
