//! `holdfast client` as a person uses it: on a terminal, and fed by a pipe.

use std::{
    io::{self, Write},
    net::TcpListener,
    process::{Command, Output, Stdio},
    thread,
};

use holdfast_tests::{binaries, original::Original, terminal::Terminal};

const PASSWORD: &str = "open sesame";

fn client_on_a_terminal(server: &Original) -> io::Result<Terminal> {
    Terminal::start(&binaries::holdfast(), &["client", &server.address().to_string()])
}

/// Runs the client with these lines on its standard input.
fn client_in_a_pipe(server: &str, input: &[u8]) -> io::Result<Output> {
    let mut child = Command::new(binaries::holdfast())
        .args(["client", server])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A client that has ended before it read all of its input is judged by its output.
        let _ = stdin.write_all(input);
    }
    child.wait_with_output()
}

#[test]
fn a_person_sends_texts_and_stops_the_original_server() -> io::Result<()> {
    let server = Original::start(PASSWORD)?;
    let mut terminal = client_on_a_terminal(&server)?;
    for text in ["hello", "größe \u{1f980}", "PING", ""] {
        terminal.expect("command or message: ");
        terminal.type_line(text)?;
        // Once as it is typed, once as it comes back.
        terminal.expect(text);
        terminal.expect(text);
    }
    for (password, meaning) in [("wrong", "PWNO"), ("", "PWNO"), (PASSWORD, "PWOK")] {
        terminal.expect("command or message: ");
        terminal.type_line("terminate")?;
        terminal.expect("password: ");
        assert!(!terminal.shows_typing()?);
        terminal.type_line(password)?;
        terminal.expect(meaning);
    }
    assert!(terminal.wait()?.success());
    assert!(server.is_closed());
    assert!(!terminal.everything().contains(PASSWORD), "the password is hidden: {}", terminal.everything());
    assert_eq!(server.log(), ["hello", "größe \u{1f980}", "PING", ""].map(|text| text.as_bytes().to_vec()));
    Ok(())
}

#[test]
fn the_end_of_input_closes_the_client_only() -> io::Result<()> {
    let server = Original::start(PASSWORD)?;
    for at_the_password in [false, true] {
        let mut terminal = client_on_a_terminal(&server)?;
        terminal.expect("command or message: ");
        if at_the_password {
            terminal.type_line("terminate")?;
            terminal.expect("password: ");
        }
        terminal.type_keys("\x04")?;
        assert!(terminal.wait()?.success(), "{}", terminal.everything());
    }
    assert!(!server.is_closed());
    let output = client_in_a_pipe(&server.address().to_string(), b"still there\n")?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "still there\n");
    Ok(())
}

#[test]
fn ctrl_c_at_the_password_leaves_the_terminal_as_it_was() -> io::Result<()> {
    let server = Original::start(PASSWORD)?;
    let mut terminal = client_on_a_terminal(&server)?;
    terminal.expect("command or message: ");
    assert!(terminal.shows_typing()?);
    terminal.type_line("terminate")?;
    terminal.expect("password: ");
    terminal.type_keys("open\x03")?;
    assert_eq!(terminal.wait()?.code(), Some(130));
    assert!(terminal.shows_typing()?);
    assert!(!server.is_closed());
    Ok(())
}

#[test]
fn lines_may_come_from_a_pipe() -> io::Result<()> {
    let server = Original::start(PASSWORD)?;
    let input = format!("one\n\ntwo\r\nthrée\nterminate\nwrong\nterminate\n{PASSWORD}\nnever sent\n");
    let output = client_in_a_pipe(&server.address().to_string(), input.as_bytes())?;
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[..4], ["one", "", "two", "thrée"]);
    assert!(lines[4].starts_with("PWNO") && lines[5].starts_with("PWOK"), "{shown}");
    assert_eq!(lines.len(), 6);
    assert!(server.is_closed());
    let messages = server.messages();
    assert_eq!(messages.first().map(Vec::as_slice), Some(&b"PING"[..]));
    assert_eq!(messages.last(), Some(&format!("TERM {PASSWORD}").into_bytes()), "one write, no line end");
    Ok(())
}

#[test]
fn a_malformed_answer_and_a_cut_echo_are_told() -> io::Result<()> {
    let server = Original::start(PASSWORD)?;
    let long = "x".repeat(1_500);
    let output = client_in_a_pipe(&server.address().to_string(), format!("{long}\nshort\n").as_bytes())?;
    assert!(output.status.success(), "{output:?}");
    // The original takes 1,024 bytes at most for one message.
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}\nshort\n", &long[..1_019]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not what was sent"), "{output:?}");

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        for answer in [&b"PONG"[..], b"PWIV", b"\x1b]0;title\x07"] {
            io::Read::read(&mut stream, &mut [0; 1024])?;
            stream.write_all(answer)?;
        }
        Ok(())
    });
    let output = client_in_a_pipe(&address.to_string(), b"terminate\npassword\nhello\n")?;
    server.join().expect("the server has not panicked")?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.starts_with("PWIV: malformed") && shown.contains("\\u{1b}]0;title\\u{7}"), "{shown}");
    Ok(())
}

#[test]
fn a_server_that_is_not_there_or_does_not_answer_is_told() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let silent = client_in_a_pipe(&address, b"hello\n")?;
    assert_eq!(silent.status.code(), Some(3), "{silent:?}");
    let error = String::from_utf8_lossy(&silent.stderr).into_owned();
    assert!(error.contains("within 10 s") && error.contains(&address), "{error}");
    drop(listener);
    let absent = client_in_a_pipe(&address, b"hello\n")?;
    assert_eq!(absent.status.code(), Some(3), "{absent:?}");
    assert!(String::from_utf8_lossy(&absent.stderr).contains("can't reach"), "{absent:?}");
    assert_eq!(client_in_a_pipe("", b"")?.status.code(), Some(2));
    Ok(())
}
