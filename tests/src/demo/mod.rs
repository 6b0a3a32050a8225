//! The demo: a server, two agents and a microcontroller on this machine, messages both ways, and what to try next.

mod cameras;
mod parts;
mod screen;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use parts::{Agent, Microcontroller, Parts, Server};
use screen::{Live, bold, dim};

use crate::sshd::Sshd;

/// The devices of the demo.
const DEVICES: [&str; 2] = ["garden", "garage"];

/// What is said: by the devices, and to them.
const SAID: [(&str, &str); 3] =
    [("garden", "the gate is open"), ("garage", "temperature 21.5"), ("garden", "the gate is closed again")];
const TOLD: [(&str, &str); 2] = [("garden", "water the roses"), ("garage", "switch off the light")];

/// The microcontroller, and what it is asked: it answers with the same.
const BOARD: &str = "barometer";
const ASKED: &str = "how is the weather?";

/// Where the demo finds and keeps what.
#[derive(Debug)]
pub struct Places {
    /// The directory of `holdfast` and `holdfast-agent`.
    pub programs: PathBuf,
    /// The image of the microcontroller's firmware, if there is to be one.
    pub firmware: Option<PathBuf>,
    /// The directory of all that the demo writes; what an earlier one left there is removed.
    pub demo: PathBuf,
}

/// Shows the demo, and stays until a signal comes; `once`: checks what it shows instead, and ends.
///
/// # Errors
/// What does not work, in words for whoever sees Holdfast for the first time.
pub fn run(places: &Places, once: bool) -> io::Result<()> {
    let _lock = take_place(&places.demo)?;
    let signals = parts::Signals::watch()?;
    writeln!(io::stdout(), "{}\n", bold("Holdfast: one server and its devices, on this machine"))?;

    let parts = Parts { places };
    let server = parts.start_server()?;
    let login = server.first_login()?;
    writeln!(io::stdout(), "  console   {}", bold(&login))?;
    writeln!(
        io::stdout(),
        "            {}",
        dim("good for once: choose a password there; you are admin, if you log in again")
    )?;
    let mut agents = Vec::new();
    let sshd = parts.start_sshd(DEVICES[0])?;
    for name in DEVICES {
        agents.push(parts.enrol(&server, name, sshd.as_ref().filter(|_| name == DEVICES[0]))?);
    }
    writeln!(
        io::stdout(),
        "  devices   {} enrolled, each by one line; running, and online",
        DEVICES.join(" and ")
    )?;
    let board = places.firmware.as_ref().map(|image| parts.provision(&server, image)).transpose()?;
    let has_cameras = cameras::are_possible();
    if has_cameras {
        let there = "a test picture on each device: in the console, at a device's page, under Video";
        writeln!(io::stdout(), "  cameras   {there}")?;
    }
    talk(&server, &agents, board.as_ref())?;

    let data = shown(&server.data);
    writeln!(io::stdout(), "\n{}", dim(&format!("$ holdfast devices --data {data}")))?;
    write!(io::stdout(), "{}", server.tell(&["devices"])?)?;
    writeln!(io::stdout(), "\n{}", dim(&format!("$ holdfast messages --data {data}")))?;
    write!(io::stdout(), "{}", server.tell(&["messages"])?)?;
    writeln!(io::stdout())?;
    if once {
        check(&server, &agents, board.as_ref())?;
        check_console(&login)?;
        sshd.as_ref().map(|sshd| check_ssh(&server, sshd)).transpose()?;
        if has_cameras {
            DEVICES.iter().try_for_each(|name| cameras::check(&server, &places.demo, name))?;
        }
        end(server, agents)?;
        writeln!(io::stdout(), "the demo works")?;
        return Ok(());
    }
    invite_to_try(places, &server, &agents, board.as_ref(), sshd.as_ref())?;
    if has_cameras {
        cameras::invite(&shown(&places.programs.join("holdfast")))?;
    }
    writeln!(io::stdout(), "\n{}", bold("The devices now (Ctrl-C ends everything):"))?;
    let mut live = Live::default();
    while !signals.came_within(std::time::Duration::from_secs(1)) {
        // Whoever tries `holdfast stop` sees what then comes of it.
        live.show(&server.tell(&["devices"]).unwrap_or_else(|error| format!("{error}\n")))?;
    }
    writeln!(io::stdout(), "\nending everything…")?;
    end(server, agents)?;
    writeln!(io::stdout(), "all has ended; {} may be removed", shown(&places.demo))?;
    Ok(())
}

/// Makes sure that this demo is the only one, and that it starts from nothing.
fn take_place(demo: &Path) -> io::Result<fs::File> {
    fs::create_dir_all(demo)?;
    let lock = fs::File::create(demo.join("lock"))?;
    if lock.try_lock().is_err() {
        return Err(io::Error::other(format!(
            "another demo runs in {}: end it by Ctrl-C in its terminal first",
            shown(demo)
        )));
    }
    for entry in fs::read_dir(demo)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if !path.ends_with("lock") {
            fs::remove_file(path)?;
        }
    }
    Ok(lock)
}

/// Sends messages both ways, and waits until each is where it belongs.
fn talk(server: &Server, agents: &[Agent], board: Option<&Microcontroller>) -> io::Result<()> {
    let agent = |name: &str| agents.iter().find(|agent| agent.name == name);
    for (name, text) in SAID {
        if let Some(agent) = agent(name) {
            agent.tell(&["send", text])?;
            writeln!(io::stdout(), "  message   {name} {} server   {text:?}", dim("→"))?;
        }
    }
    for (name, text) in TOLD {
        server.tell(&["send", name, text])?;
        writeln!(io::stdout(), "  message   server {} {name}   {text:?}", dim("→"))?;
    }
    if board.is_some() {
        server.tell(&["send", BOARD, ASKED])?;
        writeln!(io::stdout(), "  message   server {} {BOARD}   {ASKED:?}, which it answers", dim("→"))?;
    }
    let texts = SAID.iter().chain(&TOLD).map(|(_, text)| (*text, 1));
    let asked = board.map(|_| (ASKED, 2));
    server.wait_all_through(&texts.chain(asked).collect::<Vec<_>>())
}

/// Checks that the console answers where it is said to be.
fn check_console(login: &str) -> io::Result<()> {
    let (page, _) = login.split_once("#/first/").unwrap_or((login, ""));
    let mut curl = Command::new("curl");
    let answer = curl.args(["--silent", "--show-error", "--insecure", "--max-time", "10", page]).output()?;
    let page = String::from_utf8_lossy(&answer.stdout);
    match answer.status.success() && page.contains("Holdfast") {
        true => Ok(()),
        false => Err(io::Error::other(format!("expected the console at {login}, found {page}"))),
    }
}

/// Checks what was shown.
fn check(server: &Server, agents: &[Agent], board: Option<&Microcontroller>) -> io::Result<()> {
    let expect = |what: &str, holds: bool| match holds {
        true => Ok(()),
        false => Err(io::Error::other(format!("expected {what}"))),
    };
    let devices = server.tell(&["devices", "--json"])?;
    let online = devices.lines().filter(|line| line.contains("\"online\":true")).count();
    let count = DEVICES.len() + board.iter().count();
    expect(&format!("{count} devices online, found {devices}"), online == count)?;
    let messages = server.tell(&["messages"])?;
    for (_, text) in SAID.iter().chain(&TOLD) {
        let times = messages.matches(text).count();
        expect(&format!("{text:?} once, found it {times} times in {messages}"), times == 1)?;
    }
    for agent in agents {
        let received = agent.tell(&["receive"])?;
        let told: Vec<_> =
            TOLD.iter().filter(|(name, _)| *name == agent.name).map(|(_, text)| *text).collect();
        expect(&format!("{told:?} at {}, found {received:?}", agent.name), received.lines().eq(told))?;
    }
    Ok(())
}

/// Checks that a command runs on the first device by ssh.
fn check_ssh(server: &Server, sshd: &Sshd) -> io::Result<()> {
    let key = shown(&sshd.key());
    let said = server.tell(&["ssh", DEVICES[0], "--", "-F", "none", "-i", &key, "echo", "here"])?;
    match said.trim() {
        "here" => Ok(()),
        _ => Err(io::Error::other(format!("expected \"here\" from ssh, found {said:?}"))),
    }
}

fn end(server: Server, agents: Vec<Agent>) -> io::Result<()> {
    agents.into_iter().try_for_each(Agent::end)?;
    server.end()
}

fn invite_to_try(
    places: &Places,
    server: &Server,
    agents: &[Agent],
    board: Option<&Microcontroller>,
    sshd: Option<&Sshd>,
) -> io::Result<()> {
    let program = |name: &str| shown(&places.programs.join(name));
    let (holdfast, holdfast_agent) = (program("holdfast"), program("holdfast-agent"));
    let garden = agents.iter().find(|agent| agent.name == DEVICES[0]);
    let state = garden.map(|agent| shown(&agent.state)).unwrap_or_default();
    writeln!(io::stdout(), "{}\n", bold("Try next, in another terminal, from this folder:"))?;
    writeln!(io::stdout(), "  export HOLDFAST_DATA={} HOLDFAST_STATE={state}", shown(&server.data))?;
    for verb in ["messages --follow", "events --follow", "send garden 'good night'", "ping garage"] {
        writeln!(io::stdout(), "  {holdfast} {verb}")?;
    }
    for verb in ["send 'someone is at the door'", "receive"] {
        writeln!(io::stdout(), "  {holdfast_agent} {verb}")?;
    }
    if let Some(garden) = garden {
        println!(
            "  kill -STOP {}   {}",
            garden.id(),
            dim("# garden hangs: offline within 40 s; -CONT: online again")
        );
    }
    if let Some(board) = board {
        println!(
            "  {holdfast} send {BOARD} --kind reset ''   {}",
            dim(&format!("# it starts anew; its console is {}", shown(&board.console)))
        );
    }
    if let Some(classic) = server.classic {
        writeln!(
            io::stdout(),
            "  {holdfast} client {classic}   {}",
            dim("# the original protocol; it is stopped by a password: term-password")
        )?;
    }
    if let Some(sshd) = sshd {
        let key = shown(&sshd.key());
        writeln!(
            io::stdout(),
            "  {holdfast} ssh garden -- -i {key}   {}",
            dim("# a shell on garden, which is this machine")
        )?;
    }
    Ok(())
}

/// A path as a person writes it: relative to where they are, if it is below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
