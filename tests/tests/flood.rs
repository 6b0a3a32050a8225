//! Peers that cost: slow ones, silent ones, and very many of them. All are bounded, and no device notices.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use holdfast_tests::{
    agent::Agent,
    device::{Device, ENROLMENT, FRAMED, Key, hello},
    server::{BOUND, Server},
    wait::{self, LONGEST_WAIT},
};
use protocol_core::{code::CloseReason, tag::Tag};

/// What a server may be held up by a busy machine beside its own limits.
const SLACK: Duration = Duration::from_secs(5);

/// One second to say who one is.
const IMPATIENT: &str = "[limits]\nopening-timeout = \"1s\"\nunknown-connections = 32\n";

/// Reads until the server ends the connection; gives how long that took.
fn time_to_end(stream: &mut TcpStream) -> io::Result<Duration> {
    let start = Instant::now();
    stream.set_read_timeout(Some(LONGEST_WAIT))?;
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(start.elapsed()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(start.elapsed()),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn whoever_says_nothing_is_soon_gone() -> io::Result<()> {
    let server = Server::configured(IMPATIENT, None)?;
    let agent = Agent::start(&server, "bystander")?;
    // Without TLS; slow before TLS; and slow inside of it, one letter at a time.
    let mut silent = TcpStream::connect(server.address())?;
    let mut slow = TcpStream::connect(server.address())?;
    slow.write_all(b"\x16\x03\x01")?;
    let mut inside = Device::connect(server.address(), FRAMED, &Key::new())?;
    inside.write(b"P")?;
    for stream in [&mut silent, &mut slow] {
        let took = time_to_end(stream)?;
        assert!(took < Duration::from_secs(1) + SLACK, "it took {took:?}");
    }
    let start = Instant::now();
    let drip = [b"I".as_slice(), b"N", b"G", b"HE", b"L", b"O", b"\0", b"\0"];
    for piece in drip.into_iter().cycle().take(100) {
        if inside.write(piece).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(start.elapsed() < Duration::from_secs(1) + SLACK, "it took {:?}", start.elapsed());
    server.wait_event("connection-refused", |event| {
        event["detail"]["text"].as_str().unwrap_or("").contains("in time")
    });
    assert!(server.shows_online(agent.name()));
    Ok(())
}

#[test]
fn a_device_that_goes_silent_is_lost_in_time() -> io::Result<()> {
    let server = Server::start()?;
    let key = Key::enrolled(&server.invite(&["--name", "mute"]))?;
    let mut device = Device::online(server.address(), &key)?;
    let silent = Instant::now();
    server.wait_online("mute", true);
    // It neither speaks nor answers from here on, while its connection stays open.
    server.wait_online("mute", false);
    assert!(silent.elapsed() < BOUND + SLACK, "it took {:?}", silent.elapsed());
    assert_eq!(device.farewell()?.reason, CloseReason::Silent);
    server.wait_event("device-lost", |event| event["device"] == "mute");
    let sessions = server.ask(&["sessions", "mute"]);
    assert_eq!(sessions[0]["reason"], "lost", "{sessions:#?}");
    Ok(())
}

#[test]
fn strangers_do_not_take_the_place_of_devices() -> io::Result<()> {
    let server = Server::configured(IMPATIENT, None)?;
    let mut agent = Agent::start(&server, "bystander")?;
    let strangers: Vec<_> =
        (0..200).map(|_| TcpStream::connect(server.address())).collect::<Result<_, _>>()?;
    // The oldest of them make way: the device that comes then is not shut out.
    agent.kill();
    server.wait_online("bystander", false);
    agent.run()?;
    server.wait_online("bystander", true);
    drop(strangers);
    // Neither do those who shake hands, and then say nothing.
    let key = Key::new();
    let shaken: Vec<_> = [FRAMED, ENROLMENT]
        .into_iter()
        .cycle()
        .take(100)
        .map(|protocol| Device::connect(server.address(), protocol, &key))
        .collect();
    assert!(shaken.iter().any(Result::is_ok), "nobody could shake hands");
    agent.kill();
    server.wait_online("bystander", false);
    agent.run()?;
    server.wait_online("bystander", true);
    agent.send("here");
    wait::until("it is archived", || server.archived("bystander"), |all| all == &["here"]);
    Ok(())
}

#[test]
fn an_enrolment_that_has_to_make_way_leaves_an_event() -> io::Result<()> {
    let server = Server::configured("[limits]\nunknown-connections = 1\n", None)?;
    let mut slow = Device::connect(server.address(), ENROLMENT, &Key::new())?;
    // The server has seen what it wants when it answers.
    slow.write(b"PING")?;
    slow.expect(Tag::PONG)?;
    let newer = TcpStream::connect(server.address())?;
    assert_eq!(slow.receive()?, None);
    server.wait_event("enrolment-refused", |event| event["detail"]["reason"] == "overloaded");
    drop(newer);
    Ok(())
}

#[test]
fn whoever_finds_no_place_leaves_an_event() -> io::Result<()> {
    let server = Server::configured("[limits]\nconnections = 1\n", None)?;
    let mut agent = Agent::start(&server, "bystander")?;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address())?;
        time_to_end(&mut stream)?;
    }
    let refused = server.wait_event("connection-refused", |event| event["detail"]["reason"] == "overloaded");
    assert!(refused["address"] == "127.0.0.1" && refused["device"].is_null(), "{refused:#}");
    assert!(server.events("connection-refused").len() < 20, "not each is written down");
    let logged = server.log().lines().filter(|line| line.contains("connections are open")).count();
    assert!((1..20).contains(&logged), "nor told: {logged}");
    // The place is free when the one who had it is gone.
    agent.terminate();
    agent.run()?;
    server.wait_online("bystander", true);
    Ok(())
}

#[test]
fn garbage_of_thousands_is_bounded() -> io::Result<()> {
    const THREADS: u64 = 4;
    let each = if std::env::var_os("HOLDFAST_SLOW").is_some() { 10_000 } else { 750 };
    let mut server = Server::start()?;
    let agent = Agent::start(&server, "bystander")?;
    let memory_before = server.process().memory();
    let address = server.address();
    let floods: Vec<_> = (0..THREADS)
        .map(|thread| {
            thread::spawn(move || {
                let mut sent = 0;
                for number in 0..each {
                    let Ok(mut stream) = TcpStream::connect(address) else { continue };
                    let garbage: Vec<u8> =
                        (0..64_u64).map(|byte| (byte * 167 + number * 31 + thread) as u8).collect();
                    sent += u64::from(stream.write_all(&garbage).is_ok());
                }
                sent
            })
        })
        .collect();
    let mut lines = 0;
    while !floods.iter().all(thread::JoinHandle::is_finished) {
        agent.send(&format!("line {lines}"));
        lines += 1;
    }
    let sent: u64 = floods.into_iter().map(|flood| flood.join().unwrap_or(0)).sum();
    wait::until(
        "all of the device is archived",
        || server.archived("bystander").len(),
        |count| *count == lines,
    );
    let sessions = server.ask(&["sessions", "bystander"]);
    assert!(sessions.len() == 1 && sessions[0]["ended"].is_null(), "{sessions:#?}");
    // The events of one stranger are limited; what was left out is counted.
    let events = server.events("connection-refused").len();
    assert!((1..=100).contains(&events), "{events} events");
    let grown = server.process().memory().saturating_sub(memory_before);
    assert!(grown < 64 * 1024, "the server has grown by {grown} kB");
    println!("{sent} connections of garbage, {lines} messages beside them, {events} events, {grown} kB more");
    assert_eq!(sent, THREADS * each);
    Ok(())
}

#[test]
fn a_hello_may_come_in_single_bytes() -> io::Result<()> {
    let server = Server::start()?;
    let key = Key::enrolled(&server.invite(&["--name", "torn"]))?;
    let mut device = Device::connect(server.address(), FRAMED, &key)?;
    let opening = [b"PING".as_slice(), &holdfast_tests::device::frame_of(&hello())].concat();
    for byte in opening {
        device.write(&[byte])?;
    }
    device.expect(protocol_core::tag::Tag::WELCOME)?;
    Ok(())
}
