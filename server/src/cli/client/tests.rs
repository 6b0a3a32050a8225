use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use super::*;

fn address(text: &str) -> Result<(String, u16), String> {
    text.parse().map(|ServerAddress { host, port }| (host, port))
}

#[test]
fn the_port_is_optional_and_ipv6_is_understood() {
    for (text, host, port) in [
        ("host", "host", 55222),
        ("host.example:1", "host.example", 1),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("::1", "::1", 55222),
        ("[::1]", "::1", 55222),
        ("[fe80::1]:9", "fe80::1", 9),
    ] {
        assert_eq!(address(text), Ok((host.to_owned(), port)), "{text}");
    }
    for text in ["", ":1", "host:", "host:65536", "host:name", "[::1]x", "[]:1"] {
        assert!(address(text).is_err(), "{text}");
    }
}

#[test]
fn nothing_a_peer_sends_steers_the_terminal() {
    for (bytes, expected) in [
        (&b"plain text"[..], "plain text"),
        ("r\u{e9}sum\u{e9} \\ \t\u{1f980}".as_bytes(), "r\u{e9}sum\u{e9} \\ \\t\u{1f980}"),
        (b"\x1b[2J\x07\n\r\x7f", "\\u{1b}[2J\\u{7}\\n\\r\\u{7f}"),
        ("\u{9b}31m\u{202e}".as_bytes(), "\\u{9b}31m\\u{202e}"),
        (b"a\xffb", "a\\xffb"),
    ] {
        assert_eq!(printable(bytes), expected);
    }
}

#[test]
fn every_answer_has_a_meaning() {
    assert!(meaning(b"PWOK").contains("closed"));
    assert!(meaning(b"PWNO").contains("wrong"));
    assert!(meaning(b"PWIV").contains("malformed"));
    assert_eq!(meaning(b"WHAT\n"), "expected PWOK, PWNO or PWIV, got WHAT\\n");
}

/// A server that answers each read by what comes next, then closes.
fn answering(answers: &'static [&'static [u8]]) -> ServerAddress {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for answer in answers {
            if stream.read(&mut [0; 1024]).unwrap_or(0) == 0 || stream.write_all(answer).is_err() {
                break;
            }
        }
    });
    address.to_string().parse().unwrap()
}

#[test]
fn an_answer_is_what_comes_until_the_line_goes_quiet() {
    let mut server = Server::connect(&answering(&[b"PONG", b"MESG hello", b"MESG cut", b""])).unwrap();
    assert_eq!(server.ask(b"MESG hello", 10).unwrap(), b"MESG hello");
    assert_eq!(server.ask(b"MESG cut off", 12).unwrap(), b"MESG cut");
    assert!(matches!(server.ask(b"MESG x", 6), Err(ClientError::Closed { .. })));
}

#[test]
fn who_is_no_classic_server_is_named() {
    let error = Server::connect(&answering(&[b"HTTP/1.1 400\r\n"])).err().unwrap();
    assert!(
        matches!(&error, ClientError::NotClassic { answer, .. } if answer == "HTTP/1.1 400\\r\\n"),
        "{error}"
    );
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Server::connect(&unused.to_string().parse().unwrap()).err().unwrap();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}
