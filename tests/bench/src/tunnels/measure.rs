//! One measurement of one tunnel, in a process of its own: prints what came as JSON.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read, Write},
    net::SocketAddr,
    process::{Command, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use holdfast_tests::{
    process::Process,
    sshd::{self, Sshd},
};

use super::{
    client::Stream,
    handshake,
    peers::{Running, Site, Target, Tunnel},
    service::{Wish, give, take},
};
use crate::{
    compare::Figures,
    error::{Error, Result},
    process::{self, Usage, clocks_of_trees, free_port, usage_of_trees},
};

/// How many bytes are carried each way.
const BULK: u64 = 512 << 20;

/// The same by ssh.
const BULK_BY_SSH: u64 = 512 << 20;

/// How many sessions are begun, one after the other.
const SESSIONS: u32 = 50;

/// How many sessions are idle at a time, and on how many devices.
const IDLE: (usize, usize) = (200, 4);

/// How many echoes are waited for while a transfer fills the link.
const ECHOES: u32 = 60;

/// The time between two of them.
const PAUSE: Duration = Duration::from_millis(50);

/// How long things are left alone until they are as they will be.
const SETTLE: Duration = Duration::from_secs(3);

/// How many bytes are read and written at once.
const ROOM: usize = 256 * 1024;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Measure {
    /// Bytes each way, without ssh.
    Bytes,
    /// Bytes each way by ssh.
    Ssh,
    /// How long it takes until the first byte is there.
    FirstByte,
    /// Echoes while a transfer from the device fills the link.
    Echo,
    /// The server's memory for idle sessions.
    Idle,
    /// How long `ssh DEVICE true` takes.
    Login,
}

impl Measure {
    /// The value of `--measure`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Ssh => "ssh",
            Self::FirstByte => "first-byte",
            Self::Echo => "echo",
            Self::Idle => "idle",
            Self::Login => "login",
        }
    }

    const fn is_by_ssh(self) -> bool {
        matches!(self, Self::Ssh | Self::Login)
    }
}

/// One measurement of one tunnel: prints what came as JSON
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which tunnel
    #[arg(long)]
    tunnel: Tunnel,
    /// What is measured
    #[arg(long)]
    measure: Measure,
    #[command(flatten)]
    site: Site,
}

/// `holdfast-bench tunnel`.
///
/// # Errors
/// Something can't be started, or does not do as it should.
pub(crate) fn run(arguments: &Arguments) -> Result {
    let Arguments { tunnel, measure, site } = arguments;
    // Nothing of an earlier run is left; if it can't go, what follows says so.
    let _ = fs::remove_dir_all(&site.directory);
    fs::create_dir_all(&site.directory).map_err(Error::file(&site.directory))?;
    if *tunnel == Tunnel::Handshake {
        println!("{}", serde_json::to_string(&handshake::measure(SESSIONS, PAUSE)?)?);
        return Ok(());
    }
    let end = End::start(site, measure.is_by_ssh())?;
    let devices = if *measure == Measure::Idle { IDLE.1 } else { 1 };
    let running = site.start(*tunnel, &end.target()?, devices)?;
    let figures = match (measure, &end) {
        (Measure::Bytes, _) => bytes(&running)?,
        (Measure::FirstByte, _) => first_byte(&running)?,
        (Measure::Echo, _) => echo(&running)?,
        (Measure::Idle, _) => idle(&running)?,
        (Measure::Ssh, End::Sshd(sshd)) => bytes_by_ssh(&running, sshd)?,
        (Measure::Login, End::Sshd(sshd)) => login(&running, sshd)?,
        (Measure::Ssh | Measure::Login, End::Service(..)) => Figures::new(),
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// What the tunnel leads to.
enum End {
    Service(#[expect(dead_code, reason = "it ends with this")] Process, SocketAddr),
    Sshd(Sshd),
}

impl End {
    fn start(site: &Site, is_ssh: bool) -> Result<Self> {
        if is_ssh {
            return Ok(Self::Sshd(Sshd::start()?));
        }
        let address = SocketAddr::new(site.device_address, free_port()?.port());
        let mut service = site.on_device(&env::current_exe()?);
        service.args(["service", "--listen", &address.to_string()]);
        let service = process::start(&service, &site.directory.join("service.log"), "ready")?;
        Ok(Self::Service(service, address))
    }

    fn target(&self) -> Result<Target> {
        Ok(match self {
            Self::Service(_, address) => {
                let nothing = "/nonexistent";
                let configuration =
                    format!("ssh_directory = '{nothing}'\n[tasks.ssh]\naddress = '{address}'\n");
                Target { address: *address, configuration }
            }
            Self::Sshd(sshd) => {
                Target { address: sshd.address(), configuration: sshd.agent_configuration()? }
            }
        })
    }
}

/// The CPU time of each of some processes.
type Clocks = BTreeMap<u32, Duration>;

/// What both sides have used while something was done.
struct Sides {
    processes: [Vec<u32>; 2],
    before: [Usage; 2],
}

impl Sides {
    fn of(running: &Running) -> Result<Self> {
        let processes = running.processes();
        let [device, server] = &processes;
        let before = [usage_of_trees(device)?, usage_of_trees(server)?];
        Ok(Self { processes, before })
    }

    /// The CPU time that each process of the device's side, and of the server's, has used until now.
    fn clocks(&self) -> [Clocks; 2] {
        let [device, server] = &self.processes;
        // Of the server first: it goes on while this looks.
        let server = clocks_of_trees(server);
        [clocks_of_trees(device), server]
    }

    /// The CPU time of the device's side, and of the server's, in seconds.
    fn cpu(&self) -> Result<[f64; 2]> {
        let mut used = [0.0; 2];
        for ((used, processes), before) in used.iter_mut().zip(&self.processes).zip(&self.before) {
            *used = usage_of_trees(processes)?.cpu.saturating_sub(before.cpu).as_secs_f64();
        }
        Ok(used)
    }
}

/// Notes a bulk transfer.
fn note(figures: &mut Figures, way: &str, count: u64, took: Duration, [device, server]: [f64; 2]) {
    let (megabytes, gigabytes) = (count as f64 / 1e6, count as f64 / 1e9);
    figures.insert(format!("{way}-rate"), megabytes / took.as_secs_f64());
    figures.insert(format!("{way}-device-cpu"), device / gigabytes);
    figures.insert(format!("{way}-server-cpu"), server / gigabytes);
}

fn bytes(running: &Running) -> Result<Figures> {
    let (mut figures, mut room) = (Figures::new(), vec![0; ROOM]);
    let way = first(running)?;
    let mut stream = way.greeted()?;
    let (sides, begun) = (Sides::of(running)?, Instant::now());
    stream.write_all(&Wish::Give(BULK).encode())?;
    take(&mut stream, BULK, &mut room)?;
    note(&mut figures, "from", BULK, begun.elapsed(), sides.cpu()?);
    let mut stream = way.greeted()?;
    let (sides, begun) = (Sides::of(running)?, Instant::now());
    stream.write_all(&Wish::Take(BULK).encode())?;
    give(&mut stream, BULK, &room)?;
    stream.read_exact(&mut [0])?;
    note(&mut figures, "to", BULK, begun.elapsed(), sides.cpu()?);
    Ok(figures)
}

/// ssh, as an operator calls it, to the device.
fn ssh(running: &Running, sshd: &Sshd) -> Result<Command> {
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(&running.ssh_config).arg("-i").arg(sshd.key());
    ssh.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-c", "aes128-gcm@openssh.com"]);
    ssh.args(["-l", &sshd::user()?, "kiosk.fleet"]);
    Ok(ssh)
}

fn bytes_by_ssh(running: &Running, sshd: &Sshd) -> Result<Figures> {
    let (mut figures, mut room) = (Figures::new(), vec![0; ROOM]);
    let missing = || Error::Told("ssh has no standard input or output".to_owned());

    let command = format!("head -c {BULK_BY_SSH} /dev/zero");
    let mut child = ssh(running, sshd)?.arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().ok_or_else(missing)?;
    output.read_exact(&mut [0])?;
    let (sides, begun) = (Sides::of(running)?, Instant::now());
    take(&mut output, BULK_BY_SSH - 1, &mut room)?;
    note(&mut figures, "from", BULK_BY_SSH, begun.elapsed(), sides.cpu()?);
    child.wait()?;

    let command = format!("echo; head -c {BULK_BY_SSH} > /dev/null; echo");
    let mut child = ssh(running, sshd)?.arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().ok_or_else(missing)?;
    let mut input = child.stdin.take().ok_or_else(missing)?;
    output.read_exact(&mut [0])?;
    let (sides, begun) = (Sides::of(running)?, Instant::now());
    give(&mut input, BULK_BY_SSH, &room)?;
    output.read_exact(&mut [0])?;
    note(&mut figures, "to", BULK_BY_SSH, begun.elapsed(), sides.cpu()?);
    drop(input);
    child.wait()?;
    Ok(figures)
}

fn first_byte(running: &Running) -> Result<Figures> {
    let way = first(running)?;
    let (sides, mut times) = (Sides::of(running)?, Vec::new());
    let mut until_then = [Duration::ZERO; 2];
    for _ in 0..SESSIONS {
        let before = sides.clocks();
        let begun = Instant::now();
        let stream = way.connect()?;
        times.push(begun.elapsed());
        for ((sum, now), before) in until_then.iter_mut().zip(sides.clocks()).zip(before) {
            *sum += since(&before, &now);
        }
        drop(stream);
        sleep(PAUSE);
    }
    let each = |used: Duration| used.as_secs_f64() * 1e3 / f64::from(SESSIONS);
    let [device, server] = sides.cpu()?.map(Duration::from_secs_f64).map(each);
    let [first_device, first_server] = until_then.map(each);
    let mut figures = of_times(&mut times);
    for (name, used) in [
        ("first-device-cpu", first_device),
        ("first-server-cpu", first_server),
        ("device-cpu", device),
        ("server-cpu", server),
    ] {
        figures.insert(name.to_owned(), used);
    }
    Ok(figures)
}

/// The CPU time that passed between two looks at the clocks of processes; of those that ended between them, nothing.
fn since(before: &Clocks, now: &Clocks) -> Duration {
    let used = |(id, now): (&u32, &Duration)| now.saturating_sub(before.get(id).copied().unwrap_or_default());
    now.iter().map(used).sum()
}

fn echo(running: &Running) -> Result<Figures> {
    let way = first(running)?;
    let (mut echo, mut bulk) = (way.greeted()?, way.greeted()?);
    echo.write_all(&Wish::Echo.encode())?;
    bulk.write_all(&Wish::Give(u64::MAX).encode())?;
    let counting = count(bulk.try_clone()?);
    sleep(SETTLE);
    let mut times = Vec::new();
    for _ in 0..ECHOES {
        let begun = Instant::now();
        echo.write_all(b"x")?;
        echo.read_exact(&mut [0])?;
        times.push(begun.elapsed());
        sleep(PAUSE);
    }
    if counting.is_finished() {
        return Err(Error::Told("the transfer has ended before its time".to_owned()));
    }
    Ok(of_times(&mut times))
}

/// Reads until there is no more.
fn count(mut stream: Stream) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let _ = take(&mut stream, u64::MAX, &mut vec![0; ROOM]);
    })
}

fn idle(running: &Running) -> Result<Figures> {
    let ways = running.ways.iter().cycle();
    // What is there once it was used does not count.
    let warm = ways.clone().take(IDLE.1).map(|way| way.greeted()).collect::<std::io::Result<Vec<_>>>()?;
    drop(warm);
    sleep(SETTLE);
    let [_, server] = running.processes();
    let before = usage_of_trees(&server)?.memory;
    let sessions = ways.take(IDLE.0).map(|way| way.greeted()).collect::<std::io::Result<Vec<_>>>()?;
    sleep(SETTLE);
    let grown = usage_of_trees(&server)?.memory.saturating_sub(before);
    let bytes = grown as f64 / sessions.len() as f64;
    Ok(Figures::from([("memory".to_owned(), bytes / 1e3)]))
}

fn login(running: &Running, sshd: &Sshd) -> Result<Figures> {
    let mut times = Vec::new();
    for _ in 0..SESSIONS / 5 {
        let begun = Instant::now();
        let status = ssh(running, sshd)?.arg("true").stdin(Stdio::null()).status()?;
        if !status.success() {
            return Err(Error::Told(format!("ssh ended with {status}")));
        }
        times.push(begun.elapsed());
    }
    Ok(of_times(&mut times))
}

/// The way to the first device.
fn first(running: &Running) -> Result<&super::client::Way> {
    running.ways.first().ok_or_else(|| Error::Told("there is no device".to_owned()))
}

/// The median, and what nine of ten stay below, in milliseconds.
pub(crate) fn of_times(times: &mut [Duration]) -> Figures {
    times.sort_unstable();
    let at = |percent: usize| {
        times.get(times.len() * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    Figures::from([("median".to_owned(), at(50)), ("most".to_owned(), at(90))])
}
