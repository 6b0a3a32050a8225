//! The server, its devices and the network between them, and what can be done to them.

use std::{fs, io, path::PathBuf, sync::atomic::AtomicBool};

use rustix::process::Signal;

use super::{
    presence::Truth,
    schedule::{Fault, Kind},
};
use crate::{
    agent::Agent,
    proxy::{Network, Proxy},
    server::Server,
    wait::LONGEST_WAIT,
};

/// All that is broken, and mended.
pub(super) struct Fleet {
    /// The server.
    pub(super) server: Server,
    /// The devices.
    pub(super) members: Vec<Member>,
    proxy: Proxy,
    truth: Truth,
}

/// A device.
pub(super) struct Member {
    /// Its agent.
    pub(super) agent: Agent,
    runs: bool,
    network: Network,
}

impl Fleet {
    /// A server and its devices, all online.
    ///
    /// # Errors
    /// They can't be started.
    pub(super) fn start(names: &[String], truth: Truth) -> io::Result<Self> {
        let proxy = Proxy::start()?;
        let server = Server::behind(&proxy)?;
        let start = |name: &String| {
            let agent = Agent::start(&server, name)?;
            Ok(Member { agent, runs: true, network: Network::Good })
        };
        let members = names.iter().map(start).collect::<io::Result<Vec<_>>>()?;
        truth.server_is(true);
        (0..names.len()).for_each(|device| truth.device_is(device, true));
        Ok(Self { server, members, proxy, truth })
    }

    /// Begins a fault.
    pub(super) fn begin(&mut self, fault: Fault) {
        match fault.kind {
            Kind::ServerKilled => {
                self.truth.server_is(false);
                self.server.kill();
            }
            Kind::ServerStopped => {
                self.truth.server_is(false);
                self.server.process().signal(Signal::TERM);
            }
            Kind::ServerFrozen => {
                self.truth.server_is(false);
                self.server.process().signal(Signal::STOP);
            }
            Kind::AgentKilled(index) => self.change(index, |member| {
                member.runs = false;
                member.agent.kill();
            }),
            Kind::AgentFrozen(index) => self.change(index, |member| {
                member.runs = false;
                member.agent.process().signal(Signal::STOP);
            }),
            Kind::Network(index, network) => self.set_network(index, network),
            Kind::Broken(index, how) => {
                let owner = self.members.get(index).and_then(|member| member.agent.process_id());
                if let Some(owner) = owner {
                    self.proxy.break_all(owner, how);
                }
                self.change(index, |_| {});
            }
        }
    }

    /// Ends a fault.
    ///
    /// # Errors
    /// What was killed can't be started again.
    pub(super) fn end(&mut self, fault: Fault) -> io::Result<()> {
        match fault.kind {
            Kind::ServerKilled => self.server.run()?,
            Kind::ServerStopped => {
                let status = self.server.process().wait(LONGEST_WAIT);
                if !status.success() {
                    return Err(io::Error::other(format!("the server failed while it drained: {status}")));
                }
                self.server.run()?;
            }
            Kind::ServerFrozen => self.server.process().signal(Signal::CONT),
            Kind::AgentKilled(index) => {
                let Some(member) = self.members.get_mut(index) else { return Ok(()) };
                member.agent.run()?;
                member.runs = true;
                // The network knows devices by their processes.
                let network = member.network;
                self.set_network(index, network);
            }
            Kind::AgentFrozen(index) => self.change(index, |member| {
                member.agent.process().signal(Signal::CONT);
                member.runs = true;
            }),
            Kind::Network(index, _) => self.set_network(index, Network::Good),
            Kind::Broken(..) => {}
        }
        if matches!(fault.kind, Kind::ServerKilled | Kind::ServerStopped | Kind::ServerFrozen) {
            self.truth.server_is(true);
        }
        Ok(())
    }

    /// Puts the logs of all programs where they stay. Gives the directory.
    ///
    /// # Errors
    /// They can't be written.
    pub(super) fn keep_logs(&self) -> io::Result<PathBuf> {
        let directory = tempfile::Builder::new().prefix("holdfast-chaos-").tempdir()?.keep();
        fs::write(directory.join("server.log"), self.server.log())?;
        for Member { agent, .. } in &self.members {
            fs::write(directory.join(format!("{}.log", agent.name())), agent.log())?;
        }
        Ok(directory)
    }

    fn set_network(&mut self, index: usize, network: Network) {
        let owner = self.members.get(index).and_then(|member| member.agent.process_id());
        if let Some(owner) = owner {
            self.proxy.set(owner, network);
        }
        self.change(index, |member| member.network = network);
    }

    /// Does something to a device, and notes what is true of it behind that.
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.get_mut(index) {
            change(member);
            self.truth.device_is(index, member.runs && member.network == Network::Good);
        }
    }
}

/// Says stop to all who look, however this ends.
pub(super) struct StopAtEnd<'a>(pub(super) &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
