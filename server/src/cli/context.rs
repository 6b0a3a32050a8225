//! Contexts: the servers elsewhere that this user has logged in to; and which server a command is for.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use protocol_core::message::{Enrolled, Pin};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DEFAULT_DATA, Shared, error::CliError};
use crate::{
    api::{SOCKET, view::Time},
    files, firmware,
    tls::ClientKey,
};

/// The ending of a context's file.
const FILE: &str = ".toml";

/// The ending of the file of a login that was begun.
pub(super) const BEGUN: &str = ".begun";

/// A server elsewhere, and the key by which it knows this user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Context {
    /// What it is called here: the name of its file.
    #[serde(skip)]
    pub(super) name: String,
    /// What the server calls this user.
    pub(super) operator: String,
    /// When it was made.
    pub(super) made: Time,
    /// The pin of the server's key, or
    #[serde(with = "digits")]
    pub(super) current: Pin,
    /// that of the one that comes after it.
    #[serde(with = "digits")]
    pub(super) next: Pin,
    /// Where the server was reached, `host:port`, best first.
    pub(super) addresses: Vec<String>,
    /// Where it says that it can be reached. They take the place of `addresses` when one of them has served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<String>,
    /// What the server lets this user do, as it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<String>,
    /// This user's key.
    pub(super) key: ClientKey,
}

impl Context {
    /// What an answer to a login gives, if that went to `addresses`.
    pub(super) fn new(name: &str, enrolled: &Enrolled<'_>, addresses: Vec<String>, key: ClientKey) -> Self {
        let endpoints = &enrolled.endpoints;
        let mut context = Self {
            name: name.to_owned(),
            operator: enrolled.name.as_str().to_owned(),
            made: Time::now(),
            current: endpoints.current,
            next: endpoints.next,
            addresses,
            candidates: Vec::new(),
            role: None,
            key,
        };
        let said = endpoints.addresses.iter().map(|address| address.as_str().to_owned()).collect();
        context.learn(endpoints.current, endpoints.next, said);
        context
    }

    /// Where to try to reach the server, in turn.
    pub(super) fn targets(&self) -> Vec<String> {
        let others = self.addresses.iter().filter(|address| !self.candidates.contains(address));
        self.candidates.iter().chain(others).cloned().collect()
    }

    /// The server, for people.
    pub(super) fn server(&self) -> &str {
        self.addresses.first().map_or("nowhere", String::as_str)
    }

    /// Notes that this address has served.
    pub(super) fn reached(&mut self, address: &str) {
        if self.candidates.iter().any(|candidate| candidate == address) {
            self.addresses = std::mem::take(&mut self.candidates);
        }
    }

    /// Takes over by which keys, and where, the server says that it is found.
    pub(super) fn learn(&mut self, current: Pin, next: Pin, addresses: Vec<String>) {
        (self.current, self.next) = (current, next);
        self.candidates = if addresses == self.addresses { Vec::new() } else { addresses };
    }

    /// Whether this is the server at `host` or `host:port`.
    fn is_at(&self, server: &str) -> bool {
        self.targets().iter().any(|address| {
            address == server || address.rsplit_once(':').is_some_and(|(host, _)| host == server)
        })
    }
}

/// Where contexts are kept.
#[derive(Clone, Debug)]
pub(super) struct Contexts(PathBuf);

impl Contexts {
    /// Those of this user.
    pub(super) fn of_user() -> Result<Self, CliError> {
        let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
        let missing = || CliError::failed("this user has no home directory: set HOME or XDG_CONFIG_HOME");
        Ok(Self(config.or_else(home).ok_or_else(missing)?.join("holdfast/contexts")))
    }

    /// The file of this name, among those of contexts.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The context of this name, if there is one.
    pub(super) fn find(&self, name: &str) -> Result<Option<Context>, CliError> {
        check_name(name)?;
        let path = self.file(&format!("{name}{FILE}"));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CliError::failed(format!("{}: {error}", path.display()))),
        };
        let damaged = |error: toml::de::Error| {
            let what = error.message().to_owned();
            CliError::failed(format!(
                "{} is damaged ({what}): log in again with --context {name} --again",
                path.display()
            ))
        };
        let context: Context = toml::from_str(&text).map_err(damaged)?;
        Ok(Some(Context { name: name.to_owned(), ..context }))
    }

    /// All of them, the newest first; one that is damaged is an error.
    pub(super) fn all(&self) -> Result<Vec<Context>, CliError> {
        let (contexts, damaged) = self.readable()?;
        damaged.into_iter().next().map_or(Ok(contexts), Err)
    }

    /// All that can be read, the newest first; and what is wrong with the others.
    pub(super) fn readable(&self) -> Result<(Vec<Context>, Vec<CliError>), CliError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            Err(error) => return Err(CliError::failed(format!("{}: {error}", self.0.display()))),
        };
        let (mut contexts, mut damaged) = (Vec::new(), Vec::new());
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(FILE));
            if let Some(name) = name.filter(|name| check_name(name).is_ok()) {
                match self.find(name) {
                    Ok(context) => contexts.extend(context),
                    Err(error) => damaged.push(error),
                }
            }
        }
        contexts.sort_by(|one, other| (other.made, &one.name).cmp(&(one.made, &other.name)));
        Ok((contexts, damaged))
    }

    /// Writes a context down.
    pub(super) fn write(&self, context: &Context) -> Result<(), CliError> {
        self.write_file(&format!("{}{FILE}", context.name), context)
    }

    /// Writes a file among those of contexts.
    pub(super) fn write_file(&self, name: &str, value: &impl Serialize) -> Result<(), CliError> {
        let path = self.file(name);
        let failed = |error: &dyn std::fmt::Display| CliError::failed(format!("{}: {error}", path.display()));
        let text = toml::to_string(value).map_err(|error| failed(&error))?;
        files::create_private_directory(&self.0).map_err(|error| failed(&error))?;
        files::replace_private(&path, text.as_bytes()).map_err(|error| failed(&error))
    }

    /// Removes the context of this name, and what is left of a login that was not finished.
    pub(super) fn remove(&self, name: &str) -> Result<(), CliError> {
        check_name(name)?;
        let mut was_there = false;
        for ending in [FILE, BEGUN] {
            let path = self.file(&format!("{name}{ending}"));
            match fs::remove_file(&path) {
                Ok(()) => was_there = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(CliError::failed(format!("{}: {error}", path.display()))),
            }
        }
        let missing = || CliError::NoContext(format!("there is no context {name:?}"));
        was_there.then_some(()).ok_or_else(missing)
    }

    /// Writes down what was learned of a context's server, unless the user has logged in anew meanwhile.
    pub(super) fn update(&self, context: &Context) -> Result<(), CliError> {
        match self.find(&context.name)? {
            Some(kept) if kept.key == context.key && kept != *context => self.write(context),
            _ => Ok(()),
        }
    }

    /// The context of this name.
    fn named(&self, name: &str) -> Result<Context, CliError> {
        let missing = || CliError::NoContext(format!("there is no context {name:?}"));
        self.find(name)?.ok_or_else(missing)
    }

    /// The context of the server at this address.
    fn at(&self, server: &str) -> Result<Context, CliError> {
        let (all, damaged) = self.readable()?;
        let mut found: Vec<_> = all.into_iter().filter(|context| context.is_at(server)).collect();
        match (found.pop(), damaged.into_iter().next()) {
            (Some(only), _) if found.is_empty() => Ok(only),
            (Some(last), _) => {
                let names = found.iter().chain([&last]).map(|context| context.name.as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                Err(CliError::Usage(format!(
                    "there are several contexts of a server at {server:?}: choose one of {names} by --context"
                )))
            }
            // It may be that of this server.
            (None, Some(damaged)) => Err(damaged),
            (None, None) => {
                Err(CliError::NoContext(format!("there is no context of a server at {server:?}")))
            }
        }
    }

    /// Tells once, where a context is used, that its key is no secret.
    fn warn(&self, context: &Context) {
        let path = self.file(&format!("{}{FILE}", context.name));
        if files::others_may_read(&path) {
            eprintln!("holdfast: others may read the key in {0}: chmod 600 {0}", path.display());
        }
    }
}

/// A name that is a file's, too.
pub(super) fn check_name(name: &str) -> Result<(), CliError> {
    let is_good = (1..=100).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b".-_".contains(&letter));
    let expected = || {
        CliError::Usage(format!(
            "expected a context's name of letters, digits, dots, hyphens and underscores, found {name:?}"
        ))
    };
    is_good.then_some(()).ok_or_else(expected)
}

/// Which server a command is for.
pub(super) enum Choice {
    /// The one on this data directory.
    Local(PathBuf),
    /// One elsewhere.
    Elsewhere(Box<Context>),
}

/// Chooses the server: as the arguments say, else as the environment says, else the one on this machine, else the one that
/// was logged in to last.
pub(super) fn choose(shared: &Shared) -> Result<Choice, CliError> {
    let elsewhere = |contexts: Contexts, context: Context| {
        contexts.warn(&context);
        Choice::Elsewhere(Box::new(context))
    };
    let named = |name: &str| {
        let contexts = Contexts::of_user()?;
        let context = contexts.named(name)?;
        Ok(elsewhere(contexts, context))
    };
    if let Some(name) = &shared.context {
        return named(name);
    }
    if let Some(server) = &shared.server {
        let contexts = Contexts::of_user()?;
        let context = contexts.at(server)?;
        return Ok(elsewhere(contexts, context));
    }
    if let Some(data) = &shared.data {
        return Ok(Choice::Local(data.clone()));
    }
    if let Some(name) = variable("HOLDFAST_CONTEXT") {
        return named(&name);
    }
    let data = local(shared);
    // What this user may not see is not theirs to use.
    let is_here = data.join(SOCKET).try_exists().unwrap_or(false);
    if is_here || variable("HOLDFAST_DATA").is_some() {
        return Ok(Choice::Local(data));
    }
    // A user without a home has no contexts.
    let Ok(contexts) = Contexts::of_user() else { return Ok(Choice::Local(data)) };
    let newest = contexts.all()?.into_iter().next();
    Ok(newest.map_or(Choice::Local(data), |context| elsewhere(contexts, context)))
}

/// The data directory of the server on this machine.
pub(super) fn local(shared: &Shared) -> PathBuf {
    let said = shared.data.clone().or_else(|| variable("HOLDFAST_DATA").map(PathBuf::from));
    said.unwrap_or_else(|| Path::new(DEFAULT_DATA).to_owned())
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A pin as 64 hexadecimal digits.
mod digits {
    use super::{Deserialize as _, Deserializer, Pin, Serializer, firmware};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(pin: &Pin, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(pin)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pin, D::Error> {
        let text = String::deserialize(deserializer)?;
        firmware::pin(&text).ok_or_else(|| D::Error::custom("expected a pin of 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(name: &str, made: i64, address: &str) -> Context {
        Context {
            name: name.to_owned(),
            operator: "anna".to_owned(),
            made: Time(crate::id::UnixMillis(made)),
            current: Pin([1; 32]),
            next: Pin([2; 32]),
            addresses: vec![address.to_owned()],
            candidates: Vec::new(),
            role: None,
            key: ClientKey::make().unwrap(),
        }
    }

    #[test]
    fn contexts_are_read_as_they_were_written_the_newest_first() {
        let directory = tempfile::tempdir().unwrap();
        let contexts = Contexts(directory.path().join("contexts"));
        assert!(contexts.all().unwrap().is_empty());
        let (old, new) = (context("old", 1_000, "a.example.org:1"), context("new", 2_000, "[::1]:2"));
        contexts.write(&new).unwrap();
        contexts.write(&old).unwrap();
        fs::write(contexts.file("begun.begun"), "no context").unwrap();
        assert_eq!(contexts.all().unwrap(), [new.clone(), old.clone()]);
        assert!(!files::others_may_read(&contexts.file("old.toml")));
        for (server, expected) in [("a.example.org", &old), ("a.example.org:1", &old), ("[::1]", &new)] {
            assert_eq!(contexts.at(server).unwrap(), *expected);
        }
        for bad in ["a.example.org:2", "b", ""] {
            assert_eq!(contexts.at(bad).unwrap_err().exit_code(), 4);
        }
        let twin = context("twin", 1_000, "a.example.org:7");
        contexts.write(&twin).unwrap();
        let several = contexts.at("a.example.org").unwrap_err();
        assert!(several.to_string().contains("one of old, twin by --context"), "{several}");
        fs::write(contexts.file("bad.toml"), "no context").unwrap();
        assert_eq!(contexts.at("a.example.org:7").unwrap(), twin, "another's damage is not its own");
        assert!(contexts.at("b").unwrap_err().to_string().contains("bad.toml is damaged"));
        assert_eq!(contexts.named("none").unwrap_err().exit_code(), 4);
        assert_eq!(contexts.named("../old").unwrap_err().exit_code(), 2);
        assert!(!format!("{old:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_the_server_says_is_learned_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let contexts = Contexts(directory.path().to_owned());
        let mut context = context("a", 0, "old:1");
        contexts.write(&context).unwrap();
        context.learn(Pin([2; 32]), Pin([3; 32]), vec!["new:1".to_owned()]);
        assert_eq!(context.targets(), ["new:1", "old:1"]);
        context.reached("old:1");
        assert_eq!(context.targets(), ["new:1", "old:1"]);
        context.reached("new:1");
        assert_eq!(context.targets(), ["new:1"]);
        contexts.update(&context).unwrap();
        assert_eq!(contexts.find("a").unwrap(), Some(context.clone()));
        // Not over a new login, and nothing is made where it was taken away.
        let other = Context { key: ClientKey::make().unwrap(), ..context.clone() };
        contexts.update(&other).unwrap();
        assert_eq!(contexts.find("a").unwrap(), Some(context));
        fs::remove_file(contexts.file("a.toml")).unwrap();
        contexts.update(&other).unwrap();
        assert_eq!(contexts.find("a").unwrap(), None);
    }
}
