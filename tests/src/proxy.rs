//! The network between devices and their server, which can be broken as networks break.

use std::{
    collections::HashMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::{Builder, Runtime},
    sync::watch,
};

/// How the network is between one device and the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// All is well.
    #[default]
    Good,
    /// New connections are refused; those that there are go on.
    Refusing,
    /// Connections are open, and no byte passes; all pass, in their order, when it is good again.
    Stalled,
    /// Connections are open, and what the server says to the second words of a device does not pass until it is good
    /// again: with TLS, all that it says behind the handshake.
    Unanswered,
}

/// What happens to a connection, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It is reset, and both sides are told.
    Cut,
    /// The device's side ends, and the server is not told: it has an open connection to nobody.
    HalfOpenAtServer,
    /// The server's side ends, and the device is not told.
    HalfOpenAtDevice,
}

/// A TCP proxy. It runs on a thread of its own, and ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    target: Option<SocketAddr>,
    /// How the network is for the device of this process, where it is not as for all others.
    networks: HashMap<u32, Network>,
    /// How it is for all others.
    others: Network,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    /// The process that opened it.
    owner: u32,
    condition: watch::Sender<Condition>,
    talk: Arc<Talk>,
}

/// How one connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Passing,
    Stalled,
    Unanswered,
    Broken(Break),
}

/// What was said on a connection.
#[derive(Debug, Default)]
struct Talk {
    /// The server has said something.
    is_answered: AtomicBool,
    /// And the device has, behind that.
    goes_on: AtomicBool,
    /// What the server says to that is held back.
    is_held: AtomicBool,
}

/// Who says what is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    Device,
    Server,
}

impl Talk {
    /// Whether what this side says passes.
    fn passes(&self, speaker: Speaker, condition: Condition) -> bool {
        match condition {
            Condition::Stalled => false,
            Condition::Unanswered => speaker == Speaker::Device || !self.goes_on.load(Ordering::SeqCst),
            Condition::Passing | Condition::Broken(_) => true,
        }
    }

    /// Notes that this side has said something, which is about to pass.
    fn said(&self, speaker: Speaker) {
        match speaker {
            Speaker::Server => self.is_answered.store(true, Ordering::SeqCst),
            Speaker::Device => {
                self.goes_on.fetch_or(self.is_answered.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        }
    }
}

impl From<Network> for Condition {
    fn from(network: Network) -> Self {
        match network {
            Network::Good | Network::Refusing => Self::Passing,
            Network::Stalled => Self::Stalled,
            Network::Unanswered => Self::Unanswered,
        }
    }
}

impl Proxy {
    /// Starts it on a free port; it refuses connections until it knows where they lead to.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _runtime: runtime })
    }

    /// Where devices connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says where connections lead to.
    pub fn lead_to(&self, server: SocketAddr) {
        self.shared.lock().target = Some(server);
    }

    /// Sets how the network is for the connections that process `owner` opens or has opened.
    pub fn set(&self, owner: u32, network: Network) {
        let mut state = self.shared.lock();
        state.networks.insert(owner, network);
        state.connections_of(owner).for_each(|connection| connection.set(network));
    }

    /// Sets how the network is for the connections of all processes for which it was never set.
    pub fn set_others(&self, network: Network) {
        let mut state = self.shared.lock();
        state.others = network;
        let State { networks, connections, .. } = &*state;
        let others = connections.iter().filter(|connection| !networks.contains_key(&connection.owner));
        others.for_each(|connection| connection.set(network));
    }

    /// How many connections process `owner` has.
    pub fn connections(&self, owner: u32) -> usize {
        self.shared.lock().connections_of(owner).count()
    }

    /// Whether something is held back that the server has said to process `owner`: [`Network::Unanswered`].
    pub fn holds_answer(&self, owner: u32) -> bool {
        let mut state = self.shared.lock();
        state.connections_of(owner).any(|connection| connection.talk.is_held.load(Ordering::SeqCst))
    }

    /// Breaks the connections that process `owner` has; gives how many there were.
    pub fn break_all(&self, owner: u32, how: Break) -> usize {
        let mut state = self.shared.lock();
        let broken = state.connections_of(owner).map(|connection| {
            connection.condition.send_replace(Condition::Broken(how));
        });
        broken.count()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn set(&self, network: Network) {
        self.condition.send_if_modified(|condition| {
            let to = network.into();
            let changes = !matches!(condition, Condition::Broken(_)) && *condition != to;
            if changes {
                *condition = to;
            }
            changes
        });
    }
}

impl State {
    fn connections_of(&mut self, owner: u32) -> impl Iterator<Item = &Connection> {
        // A connection that has ended listens to nobody any more.
        self.connections.retain(|connection| !connection.condition.is_closed());
        self.connections.iter().filter(move |connection| connection.owner == owner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // Without a connection there is nothing to be passed on.
        let Ok((device, from)) = listener.accept().await else { continue };
        let owner = device.local_addr().ok().and_then(|to| owner_of(from, to)).unwrap_or(0);
        let talk = Arc::<Talk>::default();
        let (target, condition) = {
            let mut state = shared.lock();
            let network = state.networks.get(&owner).copied().unwrap_or(state.others);
            let (sender, condition) = watch::channel(network.into());
            state.connections.push(Connection { owner, condition: sender, talk: Arc::clone(&talk) });
            (state.target.filter(|_| network != Network::Refusing), condition)
        };
        tokio::spawn(async move {
            let server = match target {
                Some(target) => TcpStream::connect(target).await.ok(),
                None => None,
            };
            match server {
                Some(server) => relay(device, server, condition, talk).await,
                None => reset(&device),
            }
        });
    }
}

/// Passes bytes both ways until the connection ends or is broken.
async fn relay(
    device: TcpStream,
    server: TcpStream,
    mut condition: watch::Receiver<Condition>,
    talk: Arc<Talk>,
) {
    let (from_device, to_device) = device.into_split();
    let (from_server, to_server) = server.into_split();
    let up = pass(from_device, to_server, condition.clone(), Arc::clone(&talk), Speaker::Device);
    let down = pass(from_server, to_device, condition.clone(), talk, Speaker::Server);
    let (up, down) = (tokio::spawn(up), tokio::spawn(down));
    let ends = (up.await, down.await);
    let (Ok((from_device, to_server)), Ok((from_server, to_device))) = ends else { return };
    let (Ok(device), Ok(server)) = (from_device.reunite(to_device), from_server.reunite(to_server)) else {
        return;
    };
    let broken = *condition.borrow_and_update();
    match broken {
        Condition::Broken(Break::HalfOpenAtServer) => {
            reset(&device);
            drop(device);
            ignore(server).await;
        }
        Condition::Broken(Break::HalfOpenAtDevice) => {
            reset(&server);
            drop(server);
            ignore(device).await;
        }
        Condition::Broken(Break::Cut) => {
            reset(&device);
            reset(&server);
        }
        Condition::Passing | Condition::Stalled | Condition::Unanswered => {}
    }
}

/// Passes bytes one way, until they end or the connection is broken.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut condition: watch::Receiver<Condition>,
    talk: Arc<Talk>,
    speaker: Speaker,
) -> (OwnedReadHalf, OwnedWriteHalf) {
    let mut buffer = [0; 8192];
    let passing = |condition: &Condition| talk.passes(speaker, *condition);
    loop {
        match condition.wait_for(passing).await.as_deref() {
            Ok(Condition::Broken(_)) => break,
            Ok(_) => {}
            // The proxy ends.
            Err(_) => return (from, to),
        }
        let read = tokio::select! {
            _ = condition.changed() => continue,
            read = from.read(&mut buffer) => read,
        };
        let length = read.unwrap_or(0);
        let is_held = speaker == Speaker::Server && length > 0 && !passing(&condition.borrow());
        talk.is_held.fetch_or(is_held, Ordering::SeqCst);
        // What was read before a stall is passed on after it.
        let broken = condition.wait_for(passing).await.is_ok_and(|now| matches!(*now, Condition::Broken(_)));
        if broken {
            break;
        }
        talk.said(speaker);
        let written = tokio::select! {
            _ = condition.wait_for(|now| matches!(now, Condition::Broken(_))) => break,
            written = to.write_all(buffer.get(..length).unwrap_or_default()) => written,
        };
        if length == 0 || written.is_err() {
            // The end is passed on; the other way may still have something.
            let _ = to.shutdown().await;
            break;
        }
    }
    (from, to)
}

/// Keeps a connection open that leads nowhere, until its peer gives it up.
async fn ignore(mut stream: TcpStream) {
    let mut nowhere = [0; 8192];
    while stream.read(&mut nowhere).await.is_ok_and(|length| length > 0) {}
}

/// Has the connection end by a reset when it is dropped.
fn reset(stream: &TcpStream) {
    // If it can't be set, it ends in the common way.
    let _ = stream.set_zero_linger();
}

/// The process that has opened the connection between these addresses of this machine.
fn owner_of(from: SocketAddr, to: SocketAddr) -> Option<u32> {
    let inode = inode_of(from, to)?;
    let link = format!("socket:[{inode}]");
    let processes =
        fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.into_iter().find(|process: &u32| {
        let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        files
            .into_iter()
            .any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    })
}

/// The number of the socket that is connected from and to these addresses. One of them would not do: on a busy machine
/// a port is used for connections to several others at a time.
fn inode_of(from: SocketAddr, to: SocketAddr) -> Option<u64> {
    let ends = [in_table(from)?, in_table(to)?];
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let line = table.lines().find(|line| line.split_whitespace().skip(1).take(2).eq(&ends))?;
    line.split_whitespace().nth(9)?.parse().ok()
}

/// An address as `/proc/net/tcp` has it.
fn in_table(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}
