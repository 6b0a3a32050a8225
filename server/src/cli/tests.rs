use std::path::Path;

use clap::{CommandFactory, Parser};

use super::{Arguments, CliError, Verb};

fn parse(line: &str) -> Arguments {
    Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn shared_options_stand_before_or_after_the_verb() {
    for line in [
        "holdfast --data /d --json devices",
        "holdfast devices --data /d --json",
        "holdfast --json devices --data /d",
        "holdfast --data=/d devices --json",
    ] {
        let arguments = parse(line);
        assert_eq!(arguments.shared.data.as_deref(), Some(Path::new("/d")), "{line}");
        assert!(arguments.shared.json, "{line}");
    }
    let arguments = parse("holdfast --data /d serve --listen 127.0.0.1:1");
    assert_eq!(arguments.shared.data.as_deref(), Some(Path::new("/d")));
    assert!(matches!(arguments.verb, Verb::Serve(overrides) if overrides.listen.is_some()));
}

#[test]
fn every_verb_is_understood() {
    for line in [
        "serve --classic off --http 127.0.0.1:1 --config /c --advertise a:1,b:2 --log debug --log-format json",
        "device a",
        "sessions",
        "sessions a",
        "messages",
        "messages a --follow --since 1h",
        "events -f --since 2026-11-22T08:00:00Z",
        "send a hello --kind x --expires 1h",
        "send a -",
        "send a -1",
        "ping a",
        "enroll --name a --uses 3 --expires 1h --address x:1",
        "enroll --name a --gateway b",
        "enroll --firmware --out /d",
        "enroll --firmware --name a --count 9 --address x:1,y:2 --out /d",
        "revoke a",
        "revoke --operator anna",
        "enroll --operator anna --role viewer --expires 1h --address x:1",
        "login hf1.x",
        "login --context home --again holdfast login hf1.x",
        "contexts",
        "operators",
        "devices --context home",
        "--server fleet.example.org devices",
        "status",
        "stop --wait 0",
        "client localhost",
        "client localhost:1",
        "term-password",
        "completions bash",
    ] {
        parse(&format!("holdfast {line}"));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "",
        "serv",
        "device",
        "send a",
        "messages --since yesterday",
        "enroll --gateway a",
        "enroll --name a --gateway b --uses 2",
        "serve --listen 1",
        "devices --lines",
        "devices --context home --data /d",
        "devices --context home --server x",
        "enroll --operator anna",
        "enroll --role viewer",
        "enroll --operator anna --role boss",
        "enroll --operator anna --role viewer --name a",
        "revoke",
        "revoke a --operator anna",
        "login",
    ] {
        let words = std::iter::once("holdfast").chain(line.split(' ').filter(|word| !word.is_empty()));
        let error = Arguments::try_parse_from(words).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn a_socket_of_somebody_else_is_a_refusal_that_says_who_may() {
    let error = CliError::Denied { socket: "/data/api.sock".into() };
    assert_eq!(error.exit_code(), 5);
    assert!(error.next_step().is_some_and(|step| step.contains("as root")));
    // Whether the server has done what it was asked to is not known then: nobody is told to ask again blindly.
    let error = CliError::Unreachable { server: "/data/api.sock".into(), reason: "it was cut".into() };
    assert_eq!(error.exit_code(), 3);
    assert!(error.next_step().is_some_and(|step| step.contains("holdfast events")));
}

/// Every verb has a sentence of its own and an example.
#[test]
fn every_verb_is_explained() {
    for verb in Arguments::command().get_subcommands() {
        assert!(verb.get_about().is_some(), "{}", verb.get_name());
        let examples = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(examples.contains(&format!("holdfast {}", verb.get_name())), "{}", verb.get_name());
    }
}
