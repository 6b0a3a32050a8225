//! The original protocol from raw sockets, on the real server (`docs/protocol.md`, Classic).

mod server;

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use holdfast_tests::{binaries, terminal::Terminal, wait::until_true};
use serde_json::{Value, json};
use server::{Server, ask, expect, expect_close, expect_silence};

/// A gap that no busy machine makes by chance within a text.
const LONG_GAP: &str = "500ms";
/// Longer than it.
const PAUSE: Duration = Duration::from_millis(1_200);

#[test]
fn the_handshake_comes_first() -> io::Result<()> {
    let server = Server::start("2ms")?;
    for first in [&b"MESG hello"[..], b"PONG", b"ping", b"TERM", b"\r\n", b"\0\0\0\0"] {
        let mut stream = server.connect()?;
        stream.write_all(first)?;
        expect_close(stream);
    }
    let mut stream = server.connect()?;
    for byte in b"PING" {
        stream.write_all(&[*byte])?;
        thread::sleep(Duration::from_millis(20));
    }
    expect(&mut stream, b"PONG")?;
    ask(&mut stream, b"PING", b"PONG")?;
    ask(&mut stream, b"PINGMESG both in one", b"PONGMESG both in one")?;
    expect_silence(&mut stream, PAUSE)?;
    assert_eq!(server.texts(), [b"both in one"]);
    assert_eq!(server.reasons("connection-refused"), ["not-classic"; 6]);
    drop(stream);
    until_true("the session has ended", || server.sessions() == ["closed"]);
    server.greet()?;
    Ok(())
}

#[test]
fn texts_come_back_as_they_were_sent() -> io::Result<()> {
    let server = Server::start(LONG_GAP)?;
    let mut stream = server.greet()?;
    let long: Vec<u8> = (0..60_000_u32).map(|at| b"0123456789\nabcdef"[at as usize % 17]).collect();
    let texts = [
        &b"hello"[..],
        b"",
        b"two\nlines\r\n",
        b"\n",
        "größe \u{1f980}".as_bytes(),
        b"\xff\xfe no UTF-8 \0",
        b"MESG PING TERM",
        &long,
        b" leading and trailing ",
    ];
    for text in texts {
        let message = [b"MESG ", text].concat();
        ask(&mut stream, &message, &message)?;
    }
    ask(&mut stream, b"MESG", b"MESG")?;
    stream.write_all(b"MESG first")?;
    ask(&mut stream, b"MESG second", b"MESG firstMESG second")?;
    stream.write_all(b"MESG last words")?;
    stream.shutdown(Shutdown::Write)?;
    expect(&mut stream, b"MESG last words")?;
    expect_close(stream);
    let mut expected: Vec<_> = texts.iter().map(|text| text.to_vec()).collect();
    expected.extend([&b""[..], b"firstMESG second", b"last words"].map(<[u8]>::to_vec));
    assert_eq!(server.texts(), expected);
    Ok(())
}

#[test]
fn each_byte_may_come_in_its_own_packet() -> io::Result<()> {
    let server = Server::start(LONG_GAP)?;
    let mut stream = server.greet()?;
    for message in ["MESG one byte\neach", "MESG", "MESG ", "PING"] {
        for byte in message.as_bytes() {
            stream.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(3));
        }
        expect(&mut stream, message.replace("PING", "PONG").as_bytes())?;
    }
    // A torn tag waits longer than a gap; what is no tag gets no answer.
    stream.write_all(b"ME")?;
    thread::sleep(PAUSE);
    ask(&mut stream, b"SG torn", b"MESG torn")?;
    for unknown in [&b"HELP"[..], b"MESGno space", b"mesg hello", b"PWOK", b"\n"] {
        stream.write_all(unknown)?;
        expect_silence(&mut stream, PAUSE)?;
    }
    ask(&mut stream, b"MESG on", b"MESG on")?;
    assert_eq!(server.texts(), [&b"one byte\neach"[..], b"", b"", b"torn", b"on"]);
    Ok(())
}

#[test]
fn a_text_ends_at_its_cap() -> io::Result<()> {
    let server = Server::start("2ms")?;
    let mut stream = server.greet()?;
    let message = [&b"MESG "[..], &vec![b'x'; 100_000]].concat();
    let (echo, _) = message.split_at(5 + 65_536);
    ask(&mut stream, &message, echo)?;
    expect_close(stream);
    assert_eq!(server.texts(), [&echo[5..]]);
    until_true("the session has ended", || server.sessions() == ["protocol-error"]);
    Ok(())
}

#[test]
fn without_a_gap_one_read_is_one_message() -> io::Result<()> {
    let server = Server::start("0s")?;
    let mut stream = server.greet()?;
    for number in 0..200 {
        let message = format!("MESG {number}\n").into_bytes();
        ask(&mut stream, &message, &message)?;
    }
    assert_eq!(server.texts().len(), 200);
    Ok(())
}

#[test]
fn two_hundred_clients_at_once() -> io::Result<()> {
    const CLIENTS: usize = 200;
    const TEXTS: usize = 20;
    let server = Server::start("2ms")?;
    let mut streams = (0..CLIENTS).map(|_| server.greet()).collect::<io::Result<Vec<_>>>()?;
    assert_eq!(server.sessions().len(), CLIENTS);
    thread::scope(|scope| {
        let talks: Vec<_> = streams
            .iter_mut()
            .enumerate()
            .map(|(client, stream)| scope.spawn(move || talk(stream, client, TEXTS)))
            .collect();
        talks.into_iter().try_for_each(|talk| talk.join().expect("no client panics"))
    })?;
    let texts = server.texts();
    assert_eq!(texts.len(), CLIENTS * TEXTS);
    let mut next: HashMap<String, usize> = HashMap::new();
    for text in texts {
        let text = String::from_utf8(text).expect("as it was sent");
        let (client, number) = text.split_once('\n').expect("as it was sent");
        let expected = next.entry(client.to_owned()).or_default();
        assert_eq!(number, expected.to_string(), "of {client}: each once, in its order");
        *expected += 1;
    }
    assert_eq!(next.len(), CLIENTS);
    drop(streams);
    until_true("all sessions have ended", || server.sessions().iter().all(|reason| reason == "closed"));
    Ok(())
}

fn talk(stream: &mut TcpStream, client: usize, texts: usize) -> io::Result<()> {
    for number in 0..texts {
        let message = format!("MESG client {client}\n{number}").into_bytes();
        ask(stream, &message, &message)?;
    }
    Ok(())
}

#[test]
fn what_was_echoed_survives_a_kill() -> io::Result<()> {
    let mut server = Server::start("2ms")?;
    let mut echoed = Vec::new();
    for round in 0..5_u64 {
        let mut streams = (0..8).map(|_| server.greet()).collect::<io::Result<Vec<_>>>()?;
        thread::scope(|scope| -> io::Result<()> {
            let talks: Vec<_> = streams
                .iter_mut()
                .enumerate()
                .map(|(client, stream)| scope.spawn(move || talk_until_cut(stream, round, client)))
                .collect();
            thread::sleep(Duration::from_millis(100 + 37 * round));
            server.kill_and_restart()?;
            echoed.extend(talks.into_iter().flat_map(|talk| talk.join().expect("no client panics")));
            Ok(())
        })?;
        assert!(server.sessions().iter().all(|reason| reason == "server-died"), "{:?}", server.sessions());
    }
    let mut archived: HashMap<Vec<u8>, usize> = HashMap::new();
    server.texts().into_iter().for_each(|text| *archived.entry(text).or_default() += 1);
    assert!(echoed.len() > 100, "only {} texts were echoed", echoed.len());
    for text in &echoed {
        assert_eq!(archived.get(text), Some(&1), "{}", String::from_utf8_lossy(text));
    }
    println!("{} texts echoed, {} archived, 5 kills", echoed.len(), archived.len());
    Ok(())
}

/// Sends texts until the connection breaks, and gives those that were echoed.
fn talk_until_cut(stream: &mut TcpStream, round: u64, client: usize) -> Vec<Vec<u8>> {
    let texts = (0..).map(|number| format!("{round}-{client}-{number}").into_bytes());
    texts
        .take_while(|text| {
            let message = [b"MESG ", &text[..]].concat();
            ask(stream, &message, &message).is_ok()
        })
        .collect()
}

#[test]
fn storms_cost_nothing_and_hurt_nobody() -> io::Result<()> {
    let mut server = Server::start("2ms")?;
    let mut honest = server.greet()?;
    for number in 0..300 {
        let mut stream = server.connect()?;
        match number % 3 {
            // Only an end; garbage and a reset; half of a handshake.
            0 => stream.shutdown(Shutdown::Write)?,
            1 => stream.write_all(&[0xff; 4_000])?,
            _ => stream.write_all(b"PI")?,
        }
    }
    ask(&mut honest, b"MESG still here", b"MESG still here")?;
    let half_open = (0..100).map(|_| server.greet()).collect::<io::Result<Vec<_>>>()?;
    for stream in &half_open {
        stream.shutdown(Shutdown::Write)?;
    }
    let torn = (0..50).map(|_| server.connect()).collect::<io::Result<Vec<_>>>()?;
    for mut stream in &torn {
        stream.write_all(b"PIN")?;
    }
    thread::sleep(PAUSE);
    let before = server.processor_time();
    thread::sleep(Duration::from_secs(3));
    let used = server.processor_time() - before;
    assert!(used < Duration::from_millis(150), "{used:?} of 3 s");
    ask(&mut honest, b"MESG and on", b"MESG and on")?;
    assert_eq!(server.texts(), [&b"still here"[..], b"and on"]);
    let events = server.reasons("connection-refused").len();
    assert!((1..=20).contains(&events), "a storm leaves some events, not one each: {events}");
    Ok(())
}

#[test]
fn a_password_stops_the_server() -> io::Result<()> {
    let mut server = Server::start("20ms")?;
    let mut stream = server.greet()?;
    ask(&mut stream, b"TERM open sesame", b"PWNO")?;
    let set = server.command(&["term-password"], b"open sesame\n")?;
    assert!(set.status.success(), "{set:?}");
    ask(&mut stream, b"TERM wrong", b"PWNO")?;
    stream.write_all(b"TERM")?;
    expect_silence(&mut stream, Duration::from_secs(1))?;
    ask(&mut stream, b"open sesame", b"PWIV")?;
    ask(&mut stream, b"MESG still here", b"MESG still here")?;
    let mut other = server.greet()?;
    for _ in 0..3 {
        ask(&mut other, b"TERMPASS open sesame\n", b"PWNO")?;
    }
    // Five attempts were made from this address: even the right one is not looked at.
    ask(&mut other, b"TERM open sesame", b"PWNO")?;
    assert_eq!(
        server.reasons("term-refused"),
        ["not-set", "wrong", "wrong", "wrong", "wrong", "too-many-attempts"]
    );
    until_true("the address has an attempt again", || {
        thread::sleep(Duration::from_secs(1));
        term_and_pass(&mut stream).expect("the server answers") == *b"PWOK"
    });
    expect_close(stream);
    expect_close(other);
    assert!(server.wait().success());
    assert_eq!(server.sessions(), ["server-stopped", "server-stopped"]);
    assert_eq!(server.reasons("term-accepted").len(), 1);
    assert_eq!(server.reasons("term-password-set").len(), 1);
    Ok(())
}

/// The right password, in the deployed client's form; gives the answer.
fn term_and_pass(stream: &mut TcpStream) -> io::Result<[u8; 4]> {
    stream.write_all(b"TERM")?;
    thread::sleep(PAUSE);
    stream.write_all(b"PASS open sesame")?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_password_is_read_from_a_pipe_and_from_a_terminal() -> io::Result<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start("2ms")?;
    for (input, succeeds) in
        [(&b""[..], false), (b"\n", false), (&[b'x'; 2_000], false), (b"pass word\r\n", true)]
    {
        let output = server.command(&["term-password"], input)?;
        assert_eq!(output.status.success(), succeeds, "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(succeeds || said.contains("was not changed: the new one is "), "{said}");
    }
    let set: Value =
        serde_json::from_slice(&server.command(&["term-password", "--json"], b"other\n")?.stdout)?;
    assert_eq!(set, json!({ "set": true }));
    let refused = server.command(&["term-password", "--json"], b"")?;
    let refused: Value = serde_json::from_slice(&refused.stderr)?;
    assert_eq!(refused["error"]["code"], "failed");
    let set_on_a_terminal = |passwords: [&str; 2]| -> io::Result<i32> {
        let data = data.path().to_str().unwrap_or_default();
        let mut terminal = Terminal::start(&binaries::holdfast(), &["term-password", "--data", data])?;
        for password in passwords {
            terminal.expect(": ");
            assert!(!terminal.shows_typing()?);
            terminal.type_line(password)?;
        }
        let status = terminal.wait()?;
        assert!(!terminal.everything().contains("secret"), "{}", terminal.everything());
        Ok(status.code().unwrap_or(-1))
    };
    let is_set = |data: &Path| data.join("term-password").exists();
    assert_eq!(set_on_a_terminal(["secret", "secrets"])?, 1);
    assert!(!is_set(data.path()));
    assert_eq!(set_on_a_terminal(["secret", "secret"])?, 0);
    assert!(is_set(data.path()));
    Ok(())
}

#[test]
fn operators_see_who_is_there_and_what_was_said() -> io::Result<()> {
    let server = Server::start("2ms")?;
    let (mut first, second) = (server.greet()?, server.greet()?);
    ask(&mut first, b"MESG hello", b"MESG hello")?;
    let shows = |arguments: &[&str]| -> Vec<Value> {
        let output = server.command(arguments, b"").expect("holdfast runs");
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    };
    let device = || shows(&["devices", "--json"]).swap_remove(0);
    assert_eq!(
        (&device()["name"], &device()["kind"], &device()["online"]),
        (&json!("127.0.0.1"), &json!("classic"), &json!(true))
    );
    drop(first);
    until_true("the first session has ended", || server.sessions().contains(&"closed".to_owned()));
    assert_eq!(device()["online"], true, "one connection stands");
    drop(second);
    until_true("the client is shown as gone", || device()["online"] == false);
    let messages = shows(&["messages", "127.0.0.1", "--json"]);
    assert_eq!(messages.len(), 1);
    assert_eq!((&messages[0]["body"], &messages[0]["kind"]), (&json!("hello"), &json!("text")));
    assert_eq!(shows(&["sessions", "127.0.0.1", "--json"]).len(), 2);
    Ok(())
}

#[test]
fn a_person_uses_the_client() -> io::Result<()> {
    let mut server = Server::start("2ms")?;
    assert!(server.command(&["term-password"], b"open sesame")?.status.success());
    let mut terminal = Terminal::start(&binaries::holdfast(), &["client", &server.address().to_string()])?;
    for text in ["hello", "größe", ""] {
        terminal.expect("command or message: ");
        terminal.type_line(text)?;
        terminal.expect(text);
        terminal.expect(text);
    }
    for (password, meaning) in [("wrong", "PWNO"), ("open sesame", "PWOK")] {
        terminal.expect("command or message: ");
        terminal.type_line("terminate")?;
        terminal.expect("password: ");
        terminal.type_line(password)?;
        terminal.expect(meaning);
    }
    assert!(terminal.wait()?.success());
    assert!(!terminal.everything().contains("sesame"), "{}", terminal.everything());
    assert!(server.wait().success());
    assert_eq!(server.texts(), ["hello", "größe", ""].map(|text| text.as_bytes().to_vec()));
    Ok(())
}
