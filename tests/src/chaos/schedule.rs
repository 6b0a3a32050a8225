//! Which fault comes when: the same seed gives the same faults.

use std::time::Duration;

use crate::{
    proxy::{Break, Network},
    random::Random,
};

/// So long faults come, one after the other, and side by side.
const STORM: Duration = Duration::from_secs(10);

/// So long there are none between two storms: all must come right again.
const CALM: Duration = Duration::from_secs(9);

/// The place of the server among all that can be broken.
const SERVER: usize = 0;

/// What is broken, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// When it begins, after the start.
    pub(super) at: Duration,
    /// What it is.
    pub(super) kind: Kind,
    /// When it ends, after the start; what is broken at once has no time to end.
    pub(super) until: Duration,
}

/// A kind of fault. Devices are named by their place in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server loses its power (-9).
    ServerKilled,
    /// The server is asked to stop, drains, and comes back.
    ServerStopped,
    /// The server is held up (SIGSTOP).
    ServerFrozen,
    /// An agent loses its power (-9).
    AgentKilled(usize),
    /// An agent is held up (SIGSTOP).
    AgentFrozen(usize),
    /// The network of an agent refuses or stalls.
    Network(usize, Network),
    /// The connection of an agent breaks.
    Broken(usize, Break),
}

impl Kind {
    /// What it is called in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ServerKilled => "server killed",
            Self::ServerStopped => "server drained",
            Self::ServerFrozen => "server frozen",
            Self::AgentKilled(_) => "agent killed",
            Self::AgentFrozen(_) => "agent frozen",
            Self::Network(_, Network::Stalled) => "network stalled",
            Self::Network(..) => "network refusing",
            Self::Broken(_, Break::Cut) => "connection cut",
            Self::Broken(..) => "connection half-open",
        }
    }

    /// What can't be broken in two ways at once: the server, an agent's process, an agent's network.
    fn place(self) -> usize {
        match self {
            Self::ServerKilled | Self::ServerStopped | Self::ServerFrozen => SERVER,
            Self::AgentKilled(agent) | Self::AgentFrozen(agent) => 1 + 2 * agent,
            Self::Network(agent, _) | Self::Broken(agent, _) => 2 + 2 * agent,
        }
    }

    /// Whether it lasts; else it is done at once.
    fn lasts(self) -> bool {
        !matches!(self, Self::Broken(..))
    }
}

/// All faults of a run of this length, in their order.
pub(super) fn schedule(seed: u64, length: Duration, agents: usize) -> Vec<Fault> {
    let mut random = Random::new(seed);
    let mut faults = Vec::new();
    let mut free_from = vec![Duration::ZERO; 1 + 2 * agents];
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_millis(random.between(30, 220));
        let into_cycle = Duration::from_millis((at.as_millis() % (STORM + CALM).as_millis()) as u64);
        if into_cycle >= STORM {
            at += STORM + CALM - into_cycle;
            continue;
        }
        if at >= length {
            return faults;
        }
        let kind = random_kind(&mut random, agents);
        let storm_end = (at - into_cycle + STORM).min(length);
        // Most are short; some are longer than it takes to be noticed.
        let lasting = match random.between(0, 3) {
            0 => random.between(2_500, 6_500),
            _ => random.between(50, 1_000),
        };
        let until = if kind.lasts() { (at + Duration::from_millis(lasting)).min(storm_end) } else { at };
        if let Some(free_from) = free_from.get_mut(kind.place())
            && *free_from <= at
        {
            *free_from = until + Duration::from_millis(50);
            faults.push(Fault { at, kind, until });
        }
    }
}

fn random_kind(random: &mut Random, agents: usize) -> Kind {
    let agent = random.between(0, agents as u64 - 1) as usize;
    match random.between(0, 19) {
        0 => Kind::ServerKilled,
        1 => Kind::ServerStopped,
        2 => Kind::ServerFrozen,
        3..=6 => Kind::AgentKilled(agent),
        7..=9 => Kind::AgentFrozen(agent),
        10 | 11 => Kind::Network(agent, Network::Refusing),
        12 | 13 => Kind::Network(agent, Network::Stalled),
        14..=16 => Kind::Broken(agent, Break::Cut),
        17 | 18 => Kind::Broken(agent, Break::HalfOpenAtServer),
        _ => Kind::Broken(agent, Break::HalfOpenAtDevice),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_faults_again() {
        let length = Duration::from_secs(60);
        assert_eq!(schedule(7, length, 3), schedule(7, length, 3));
        assert_ne!(schedule(7, length, 3), schedule(8, length, 3));
    }

    #[test]
    fn every_kind_comes_and_nothing_is_broken_twice_at_once() {
        let faults = schedule(1, Duration::from_secs(200), 3);
        let kinds: HashSet<_> = faults.iter().map(|fault| fault.kind.name()).collect();
        assert_eq!(kinds.len(), 9, "{kinds:?}");
        for (index, fault) in faults.iter().enumerate() {
            assert!(fault.at <= fault.until && fault.until - fault.at < Duration::from_secs(7));
            let later = faults[index + 1..].iter().find(|later| later.kind.place() == fault.kind.place());
            assert!(later.is_none_or(|later| later.at > fault.until), "{fault:?} {later:?}");
        }
        assert!(faults.len() > 300, "{}", faults.len());
    }

    #[test]
    fn between_storms_all_is_well() {
        for fault in schedule(3, Duration::from_secs(120), 3) {
            let into = fault.at.as_millis() % (STORM + CALM).as_millis();
            assert!(into < STORM.as_millis(), "{fault:?}");
        }
    }
}
