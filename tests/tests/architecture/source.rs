//! Which names a source file uses: just enough of Rust's syntax to find paths, their places and their modules.
//!
//! Comments, strings and items under `#[cfg(test)]` are passed over; so are files called `tests.rs` and directories called `tests`.

use std::path::{Path, PathBuf};

/// A path that a module uses, such as `crate::store::DeviceId` or `rustls::ServerConfig`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// The file, relative to the root of the repository.
    pub(crate) file: PathBuf,
    /// The line, from 1 up.
    pub(crate) line: usize,
    /// The module that the file is, such as `handler::message`; empty for `lib.rs`.
    pub(crate) module: String,
    /// What is used: `crate::` and the path from there if it is in the same package, else the path as written.
    pub(crate) path: String,
}

/// Every path that the sources under `root/package/src` use. `library` is the name by which `main.rs` uses its own package.
///
/// # Errors
/// A file could not be read.
pub(crate) fn uses(root: &Path, package: &str, library: &str) -> std::io::Result<Vec<Use>> {
    let source = root.join(package).join("src");
    let mut uses = Vec::new();
    for file in files(&source)? {
        let text = std::fs::read_to_string(&file)?;
        let module = module_of(file.strip_prefix(&source).unwrap_or(&file));
        let file = file.strip_prefix(root).unwrap_or(&file);
        uses.extend(uses_in(&text, &module, library).into_iter().map(|(line, path)| Use {
            file: file.to_owned(),
            line,
            module: module.clone(),
            path,
        }));
    }
    Ok(uses)
}

/// The names of all modules under `root/package/src`, in order; `main` for `main.rs`, nothing for `lib.rs`.
///
/// # Errors
/// A directory could not be read.
pub(crate) fn modules(root: &Path, package: &str) -> std::io::Result<Vec<String>> {
    let source = root.join(package).join("src");
    let files = files(&source)?;
    let modules = files.iter().map(|file| module_of(file.strip_prefix(&source).unwrap_or(file)));
    Ok(modules.filter(|module| !module.is_empty()).collect())
}

fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("tests") => {}
            _ if path.is_dir() => found.extend(files(&path)?),
            _ if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

/// `handler/message.rs` is `handler::message`, `handler/mod.rs` is `handler`.
fn module_of(file: &Path) -> String {
    let path = file.with_extension("");
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    match names.as_slice() {
        [rest @ .., last] if last == "mod" || (rest.is_empty() && last == "lib") => rest.join("::"),
        all => all.join("::"),
    }
}

fn uses_in(text: &str, module: &str, library: &str) -> Vec<(usize, String)> {
    let tokens = without_tests(tokens(text));
    let mut uses = Vec::new();
    let mut module: Vec<&str> = module.split("::").filter(|name| !name.is_empty()).collect();
    // The depths of brackets at which the modules that are written within this file end.
    let mut inner = Vec::new();
    let mut depth = 0_usize;
    let mut index = 0;
    while let Some((line, token)) = tokens.get(index) {
        let next = |ahead: usize| tokens.get(index + ahead).map_or("", |(_, token)| token.as_str());
        if is_word(token) && next(1) == "::" {
            let mut paths = Vec::new();
            index = collect(&tokens, index, *line, String::new(), &mut paths);
            uses.extend(
                paths
                    .into_iter()
                    .filter_map(|(line, path)| Some((line, from_crate(&path, &module, library)?))),
            );
            continue;
        }
        match token.as_str() {
            "mod" if next(2) == "{" => {
                module.push(next(1));
                inner.push(depth);
            }
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inner.pop_if(|begin| *begin == depth).is_some() {
                    module.pop();
                }
            }
            _ => {}
        }
        index += 1;
    }
    uses
}

/// Adds the paths of the use tree that begins at `index`; returns the index behind it.
fn collect(
    tokens: &[(usize, String)],
    index: usize,
    line: usize,
    before: String,
    paths: &mut Vec<(usize, String)>,
) -> usize {
    let join = |name: &str| if before.is_empty() { name.to_owned() } else { format!("{before}::{name}") };
    let token = |index: usize| tokens.get(index).map_or("", |(_, token)| token.as_str());
    match token(index) {
        "{" => {
            let mut next = index + 1;
            while !matches!(token(next), "}" | "") {
                let line = tokens[next].0;
                next = match token(next) {
                    "," => next + 1,
                    _ => collect(tokens, next, line, before.clone(), paths),
                };
            }
            next + 1
        }
        name if is_word(name)
            && token(index + 1) == "::"
            && (is_word(token(index + 2)) || token(index + 2) == "{" || token(index + 2) == "*") =>
        {
            collect(tokens, index + 2, line, join(name), paths)
        }
        name => {
            // `use a::{self}` is `use a`.
            paths.push((line, if name == "self" { before } else { join(name) }));
            // `use a::b as c`: the new name is no path.
            if token(index + 1) == "as" { index + 3 } else { index + 1 }
        }
    }
}

/// The path from `crate` if it leads into the same package, as written if it leads elsewhere, and nothing if it stays in the module.
fn from_crate(path: &str, module: &[&str], library: &str) -> Option<String> {
    let mut names: Vec<&str> = path.split("::").collect();
    match names[0] {
        "self" | "Self" => return None,
        "super" => {
            let above = names.iter().take_while(|name| **name == "super").count();
            let mut full = module.to_vec();
            full.truncate(full.len().saturating_sub(above));
            full.extend(names.drain(above..));
            names = full;
            names.insert(0, "crate");
        }
        first if first == library => names[0] = "crate",
        _ => {}
    }
    Some(names.join("::"))
}

/// The tokens without those of items that stand under `#[cfg(test)]`.
fn without_tests(tokens: Vec<(usize, String)>) -> Vec<(usize, String)> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut rest = tokens.as_slice();
    while let Some((first, behind)) = rest.split_first() {
        let here = rest.iter().take(ATTRIBUTE.len()).map(|(_, token)| token.as_str());
        if here.eq(ATTRIBUTE) {
            rest = &rest[end_of_item(rest)..];
        } else {
            kept.push(first.clone());
            rest = behind;
        }
    }
    kept
}

/// Where the item that begins here ends: behind its first `;` outside of brackets, or behind the `}` of its body.
fn end_of_item(tokens: &[(usize, String)]) -> usize {
    let mut depth = 0_usize;
    for (index, (_, token)) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(token.as_str(), ";" | "}") {
            return index + 1;
        }
    }
    tokens.len()
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words, `::` and single signs, each with its line; comments, strings, characters and lifetimes are left out.
fn tokens(text: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest) {
            length
        } else if first == '\'' {
            character_or_lifetime(rest)
        } else if is_word(rest) {
            let length = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
            tokens.push((line, rest[..length].to_owned()));
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                tokens.push((line, rest[..length].to_owned()));
            }
            length
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of the block comment at the beginning of `text`; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the string at the beginning of `text`, if there is one: `"…"`, `b"…"`, `r#"…"#` and their like.
fn string(text: &str) -> Option<usize> {
    let prefix = text.len() - text.trim_start_matches(['b', 'c', 'r']).len();
    let hashes = text[prefix..].len() - text[prefix..].trim_start_matches('#').len();
    let body = text[prefix + hashes..].strip_prefix('"')?;
    let raw = text[..prefix].contains('r');
    if prefix > 2 || (hashes > 0 && !raw) {
        return None;
    }
    let begin = text.len() - body.len();
    let length = if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        body.find(&end).map(|at| at + end.len())
    } else {
        end_of_quoted(body, '"')
    };
    Some(begin + length.unwrap_or(body.len()))
}

/// The length up to and with the closing `quote`, where a backslash takes the next character with it.
fn end_of_quoted(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, next) in body.char_indices() {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if next == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// `'a'` is passed over whole; of the lifetime `'a` only the quote and the name.
fn character_or_lifetime(text: &str) -> usize {
    let mut next = text[1..].chars();
    match (next.next(), next.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => 1 + end_of_quoted(&text[1..], '\'').unwrap_or(0),
        _ => text[1..]
            .find(|next: char| !next.is_alphanumeric() && next != '_')
            .map_or(text.len(), |at| at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, module: &str) -> Vec<(usize, String)> {
        uses_in(text, module, "own_library")
    }

    fn paths(text: &str, module: &str) -> Vec<String> {
        found(text, module).into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let text = "use crate::{\n    a::{B, c::D as E},\n    f::{self},\n    g::*,\n};\nuse rustls::pki_types as types;\n";
        let expected = [
            (2, "crate::a::B"),
            (2, "crate::a::c::D"),
            (3, "crate::f"),
            (4, "crate::g::*"),
            (6, "rustls::pki_types"),
        ];
        assert_eq!(found(text, "x"), expected.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn paths_within_code_are_found() {
        let text =
            "fn f<'a>(x: &'a crate::a::B) -> Vec<u8> { tokio::select! { _ = crate::c::d::<u8>(':') => {} } }";
        assert_eq!(paths(text, "x"), ["crate::a::B", "tokio::select", "crate::c::d"]);
    }

    #[test]
    fn paths_from_elsewhere_are_led_back_to_the_crate() {
        let text =
            "use super::other; use super::super::top; use self::own; fn main() { own_library::cli::run(); }";
        assert_eq!(paths(text, "a::b"), ["crate::a::other", "crate::top", "crate::cli::run"]);
    }

    #[test]
    fn modules_within_a_file_are_known() {
        let text = "mod inner { use super::own; fn f() { super::super::beside(); } } use super::beside;";
        assert_eq!(paths(text, "a::b"), ["crate::a::b::own", "crate::a::beside", "crate::a::beside"]);
    }

    #[test]
    fn comments_strings_and_tests_are_passed_over() {
        let text = "/// [`crate::no`]\n/* crate::no /* crate::no */ */ const A: &str = \"crate::no \\\" crate::no\";\n\
                    const B: &str = r#\"crate::no\"#; const C: char = '\"'; const D: u8 = b'\\'';\n\
                    #[cfg(test)]\nmod tests { use crate::no; fn f() { crate::no::g() } }\n#[cfg(test)]\nuse crate::no;\n\
                    use crate::yes;";
        assert_eq!(found(text, "x"), [(8, String::from("crate::yes"))]);
    }

    #[test]
    fn files_are_modules() {
        for (file, module) in [
            ("lib.rs", ""),
            ("main.rs", "main"),
            ("handler/mod.rs", "handler"),
            ("handler/message.rs", "handler::message"),
        ] {
            assert_eq!(module_of(Path::new(file)), module);
        }
    }
}
