//! Chaos: everything breaks at random while messages flow, and all promises must hold.

mod fleet;
mod presence;
mod schedule;
mod traffic;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant, SystemTime},
};

use fleet::{Fleet, StopAtEnd};
use presence::{BACK, SLACK, Seen, Truth};
use schedule::Fault;
use traffic::{Ordered, Sent};

use crate::{
    server::BOUND,
    wait::{self, LONGEST_WAIT},
};

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For how long faults come.
    pub length: Duration,
    /// Which faults.
    pub seed: u64,
    /// How many devices there are.
    pub agents: usize,
}

/// What was done, and what came of it.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    faults: BTreeMap<&'static str, u64>,
    up: u64,
    down: u64,
    uncertain: u64,
    sessions: u32,
    seen: Seen,
    /// Every promise that was broken; none if all held.
    pub broken: Vec<String>,
    /// Where the logs of all programs were put aside, if a promise was broken.
    logs: Option<PathBuf>,
}

/// Breaks everything as planned, and looks whether all held.
///
/// # Errors
/// The programs can't be started or asked: nothing is known then.
pub fn run(plan: Plan) -> io::Result<Report> {
    let names: Vec<_> = (1..=plan.agents).map(|number| format!("device-{number}")).collect();
    let truth = Truth::new(plan.agents);
    let mut fleet = Fleet::start(&names, truth.clone())?;
    let api = fleet.server.api();
    let commands: Vec<_> = fleet.members.iter().map(|member| member.agent.commands()).collect();
    let (traffic_ends, watch_ends) = (AtomicBool::new(false), AtomicBool::new(false));
    let seed_of = |index: usize| plan.seed.wrapping_add(1_000 + index as u64);

    thread::scope(|scope| {
        let _watch_ends = StopAtEnd(&watch_ends);
        let traffic_end = StopAtEnd(&traffic_ends);
        scope.spawn(|| presence::watch(&api, &names, &truth, &watch_ends));
        let up: Vec<_> = names
            .iter()
            .zip(&commands)
            .enumerate()
            .map(|(index, (name, commands))| {
                let ends = &traffic_ends;
                scope.spawn(move || traffic::send_up(name, commands, seed_of(index), ends))
            })
            .collect();
        let down = scope.spawn(|| traffic::send_down(&api, &names, plan.seed.wrapping_add(1), &traffic_ends));

        let faults = schedule::schedule(plan.seed, plan.length, plan.agents);
        let counts = break_all(&mut fleet, plan.length, &faults)?;
        drop(traffic_end);
        let mut sent: Vec<Sent> = up.into_iter().map(|up| up.join().unwrap_or_default()).collect();
        let ordered = down.join().unwrap_or_default();
        for (index, ((name, commands), sent)) in names.iter().zip(&commands).zip(&mut sent).enumerate() {
            traffic::finish(name, commands, seed_of(index), sent)?;
        }
        let mut broken = come_right(&fleet, &names, &sent);
        broken.extend(account(&fleet, &names, &sent, &ordered));
        // From here on nobody is there to be shown.
        truth.server_is(false);
        let sessions = shut_down(&mut fleet, &mut broken)?;
        let seen = truth.seen();
        broken.extend(seen.violations.iter().cloned());
        let logs = if broken.is_empty() { None } else { Some(fleet.keep_logs()?) };
        let sum = |count: fn(&Ordered) -> usize| ordered.iter().map(|one| count(one) as u64).sum();
        Ok(Report {
            plan,
            faults: counts,
            up: sent.iter().map(|sent| sent.by_socket + sent.by_command).sum(),
            down: sum(|ordered| ordered.certain.len()),
            uncertain: sum(|ordered| ordered.uncertain.len()),
            sessions,
            seen,
            broken,
            logs,
        })
    })
}

/// Does what the schedule says, when it says so. Gives how many faults of which kind there were.
fn break_all(
    fleet: &mut Fleet,
    length: Duration,
    faults: &[Fault],
) -> io::Result<BTreeMap<&'static str, u64>> {
    let mut counts = BTreeMap::new();
    let mut ends: Vec<(Duration, Fault)> = Vec::new();
    let mut begins = faults.iter().copied().peekable();
    let start = Instant::now();
    loop {
        ends.sort_by_key(|(at, _)| *at);
        let next_end = ends.first().map(|(at, _)| *at);
        let next_begin = begins.peek().map(|fault| fault.at);
        let next = next_end.into_iter().chain(next_begin).min().unwrap_or(length);
        // No condition is waited for: the time of the next fault comes from the seed.
        thread::sleep(next.saturating_sub(start.elapsed()));
        if next_end == Some(next) {
            let (_, fault) = ends.remove(0);
            fleet.end(fault)?;
        } else if let Some(fault) = begins.next() {
            fleet.begin(fault);
            *counts.entry(fault.kind.name()).or_default() += 1;
            let total: u64 = counts.values().sum();
            if total.is_multiple_of(50) {
                println!("{:>5} s: {total} faults, so far", start.elapsed().as_secs());
            }
            ends.push((fault.until, fault));
        } else {
            return Ok(counts);
        }
    }
}

/// Waits until all devices are online and all that was sent is where it belongs. Gives what did not come right.
fn come_right(fleet: &Fleet, names: &[String], sent: &[Sent]) -> Vec<String> {
    let mut broken = Vec::new();
    let right = |name: &String| {
        let device = fleet.server.device(name)?;
        (device["online"] == true && device["queued"] == 0).then_some(())
    };
    for (name, sent) in names.iter().zip(sent) {
        if wait::find(LONGEST_WAIT, || right(name)).is_none() {
            let device = fleet.server.device(name);
            broken.push(format!("{name} is not online with all its messages: {device:?}"));
        }
        let expected = sent.by_socket + sent.by_command;
        let all_there = || (fleet.server.archived(name).len() as u64 >= expected).then_some(());
        if wait::find(LONGEST_WAIT, all_there).is_none() {
            broken.push(format!("{name}: fewer than {expected} messages were archived"));
        }
    }
    broken
}

/// Compares what was sent with what there is, at both ends.
fn account(fleet: &Fleet, names: &[String], sent: &[Sent], ordered: &[Ordered]) -> Vec<String> {
    let mut broken = Vec::new();
    for (((name, sent), ordered), member) in names.iter().zip(sent).zip(ordered).zip(&fleet.members) {
        broken.extend(traffic::check_up(name, sent, &fleet.server.archived(name)));
        broken.extend(traffic::check_down(name, ordered, &member.agent.receive()));
    }
    let open = fleet.server.api().list("/sessions").unwrap_or_default();
    let open = open.iter().filter(|session| session["ended"].is_null()).count();
    if open != names.len() {
        broken.push(format!("{open} sessions are open, of {} devices that are online", names.len()));
    }
    broken
}

/// Ends all in good order: then no session may be open. Gives how many there were.
fn shut_down(fleet: &mut Fleet, broken: &mut Vec<String>) -> io::Result<u32> {
    fleet.members.iter_mut().for_each(|member| member.agent.terminate());
    fleet.server.terminate();
    let database = fleet.server.data().join("holdfast.db");
    let count = |condition: &str| -> rusqlite::Result<u32> {
        let database = rusqlite::Connection::open(&database)?;
        database.query_row(&format!("SELECT count(*) FROM sessions {condition}"), (), |row| row.get(0))
    };
    let open = count("WHERE ended IS NULL OR reason IS NULL").map_err(io::Error::other)?;
    if open > 0 {
        broken.push(format!("{open} sessions have no end although the server has stopped"));
    }
    count("").map_err(io::Error::other)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, faults, seen, .. } = self;
        let total: u64 = faults.values().sum();
        writeln!(
            f,
            "{total} faults in {} s, seed {}, {} devices:",
            plan.length.as_secs(),
            plan.seed,
            plan.agents
        )?;
        for (name, count) in faults {
            writeln!(f, "  {count:>6}  {name}")?;
        }
        writeln!(
            f,
            "{} messages from devices, {} to them ({} sent without an answer), {} sessions",
            self.up, self.down, self.uncertain, self.sessions
        )?;
        writeln!(
            f,
            "presence, looked at {} times: gone and shown online for at most {:.1} s (allowed: {:.1} s and {:.0} s for a busy machine), back and shown offline for at most {:.1} s (allowed: {:.0} s)",
            seen.looks,
            seen.longest_ghost.as_secs_f32(),
            BOUND.as_secs_f32(),
            SLACK.as_secs_f32(),
            seen.longest_absence.as_secs_f32(),
            (BACK + SLACK).as_secs_f32(),
        )?;
        for broken in &self.broken {
            writeln!(f, "BROKEN: {broken}")?;
        }
        if let Some(logs) = &self.logs {
            let first = seen.first_violation.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            let first = first.map_or(0, |at| at.as_secs());
            writeln!(
                f,
                "the logs are in {} (presence was first wrong at {first} s since 1970)",
                logs.display()
            )?;
        }
        if self.broken.is_empty() {
            writeln!(f, "none lost, none twice, no ghost")?;
        }
        Ok(())
    }
}
