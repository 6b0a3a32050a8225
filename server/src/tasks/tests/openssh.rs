use std::net::Ipv4Addr;

use protocol_core::message::OpenSshParameters;
use tokio::net::TcpListener;

use super::*;
use crate::{event::EventRow, tasks::ports::MOST_KEPT};

/// A device that takes this way alone, and a session with it: its name on the wire, and where it is to listen.
async fn begun(fleet: &Fleet) -> (Device, Task, message::Join, u16) {
    let device = kiosk(fleet).await;
    let (task, join, listen) = session(fleet, &device).await;
    (device, task, join, listen)
}

async fn kiosk(fleet: &Fleet) -> Device {
    let id = fleet.enrol("kiosk").await;
    let device = fleet.connect(id, 1).await;
    let kinds = [Kind::new("openssh").unwrap()].into_iter().collect();
    fleet.tasks.offered(&device.online, &Offer { kinds, tasks: heapless::Vec::new() });
    device
}

async fn session(fleet: &Fleet, device: &Device) -> (Task, message::Join, u16) {
    let task = fleet.start(device, TaskKind::Ssh).await.unwrap();
    // That earlier ones are to stop may be said before.
    let (wire, kind, key, parameters) = loop {
        if let Instruction::Run { task, kind, key, parameters, .. } = device.instruction().await {
            break (task, kind, key, parameters);
        }
    };
    assert_eq!(kind.as_str(), "openssh");
    let listen = OpenSshParameters::decode(&parameters).unwrap().listen;
    assert_eq!(fleet.tasks.ports.of(device.online.device), [listen]);
    fleet.report(device, wire, code::TaskState::Running);
    (task, message::Join { task: wire, key }, listen)
}

#[tokio::test]
async fn a_session_over_this_machines_ssh_server() {
    let fleet = Fleet::new(LONG);
    let (device, mut task, join, port) = begun(&fleet).await;
    assert_eq!(fleet.tasks.join(device.online.device, &join).err(), Some(JoinError::NoSuchTask));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    far.write_all(b"SSH-2.0").await.unwrap();
    let mut bytes = timeout(LONGEST_WAIT, task.bytes()).await.unwrap().unwrap();
    let mut banner = [0; 7];
    bytes.stream.read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0");
    assert!(fleet.tasks.ports.of(device.online.device).is_empty(), "nobody logs in by it a second time");
    fleet.tasks.stop(task.id(), "enough").unwrap();
    assert_eq!(device.stop().await, "enough");
    fleet.report(&device, join.task, code::TaskState::Done);
    assert_eq!(fleet.ended(task.id()).await.state, TaskState::Done);
}

#[tokio::test]
async fn an_ssh_server_that_says_nothing_is_none() {
    let fleet = Fleet::new(LONG);
    let (device, mut task, _, port) = begun(&fleet).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    drop(listener.accept().await.unwrap());
    let error = timeout(LONGEST_WAIT, task.bytes()).await.unwrap().err().unwrap().to_string();
    assert!(error.contains("SSH server does not answer"), "{error}");
    assert_eq!(fleet.ended(task.id()).await.state, TaskState::Failed);
    assert!(fleet.tasks.ports.of(device.online.device).is_empty());
}

#[tokio::test]
async fn a_port_is_a_devices_until_its_session_ends() {
    let fleet = Fleet::new(LONG);
    let (device, task, ..) = begun(&fleet).await;
    fleet.tasks.end_of_device(device.online.device, "revoked");
    assert_eq!(fleet.ended(task.id()).await.reason.as_deref(), Some("revoked"));
    let gone = async {
        while !fleet.tasks.ports.of(device.online.device).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONGEST_WAIT, gone).await.expect("the port is nobody's");
}

#[tokio::test]
async fn a_session_whose_bytes_came_late_goes_on() {
    let short = Duration::from_millis(200);
    let fleet = Fleet::new(Deadlines { start: short, ..LONG });
    let (_device, mut task, _, port) = begun(&fleet).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    far.write_all(b"SSH-2.0").await.unwrap();
    let _bytes = timeout(LONGEST_WAIT, task.bytes()).await.unwrap().unwrap();
    assert!(timeout(short * 3, task.stopped()).await.is_err(), "the time for its bytes is not its own");
}

/// An account of this machine that this process does not run as.
const OTHERS: [&str; 2] = ["root", "daemon"];

#[tokio::test]
async fn only_sshd_is_taken_for_a_device() {
    let another = |account: &mut SshAccount| {
        let name = OTHERS.into_iter().find(|name| *name != account.name);
        account.name = name.unwrap().to_owned();
    };
    let fleet = Fleet::changed(LONG, another);
    let (_device, mut task, _, port) = begun(&fleet).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let error = timeout(LONGEST_WAIT, task.bytes()).await.unwrap().err().unwrap().to_string();
    assert!(error.contains("somebody else of this machine listens on the session's port"), "{error}");
    assert_eq!(fleet.ended(task.id()).await.state, TaskState::Failed);
    assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err(), "nobody has knocked there");
}

#[tokio::test]
async fn without_the_account_there_is_no_session() {
    let fleet = Fleet::changed(LONG, |account| account.name = "there-is-no-such-account".to_owned());
    let device = kiosk(&fleet).await;
    let error = fleet.start(&device, TaskKind::Ssh).await.err().unwrap();
    assert!(error.to_string().contains("run `holdfast setup-ssh-account`"), "{error}");
    assert_eq!(fleet.events().await, ["task-refused"]);
    assert!(fleet.tasks.all(|_| true).is_empty() && fleet.tasks.ports.of(device.online.device).is_empty());
}

#[tokio::test]
async fn what_fails_when_it_is_stopped_was_stopped() {
    let fleet = Fleet::new(LONG);
    let (device, task, join, _) = begun(&fleet).await;
    fleet.tasks.stop(task.id(), "stopped by ada").unwrap();
    assert_eq!(device.stop().await, "stopped by ada");
    fleet.report(&device, join.task, code::TaskState::Failed);
    let row = fleet.ended(task.id()).await;
    assert_eq!((row.state, row.reason.as_deref()), (TaskState::Done, Some("stopped by ada")));
}

#[tokio::test]
async fn what_stops_by_itself_and_fails_has_failed() {
    let fleet = Fleet::new(LONG);
    let (device, task, join, _) = begun(&fleet).await;
    fleet.report(&device, join.task, code::TaskState::Stopping);
    fleet.report(&device, join.task, code::TaskState::Failed);
    assert_eq!(fleet.ended(task.id()).await.state, TaskState::Failed);
}

/// The ports that this device is said to keep, as they were written down.
async fn kept(fleet: &Fleet) -> Vec<u64> {
    let events = fleet.store.events(EventFilter::default()).await.unwrap();
    let is_it = |event: &&EventRow| event.kind == "port-kept" && event.device.as_deref() == Some("kiosk");
    events.iter().filter(is_it).filter_map(|event| event.detail["port"].as_u64()).collect()
}

#[tokio::test]
async fn a_device_that_keeps_ports_gets_no_further_session() {
    let farewell = Duration::from_millis(50);
    let fleet = Fleet::new(Deadlines { login: farewell, ..LONG });
    fleet.tasks.resume().await.unwrap();
    let device = kiosk(&fleet).await;
    let mut listeners = Vec::new();
    let mut told = Vec::new();
    for _ in 0..MOST_KEPT {
        let (task, join, port) = session(&fleet, &device).await;
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap());
        fleet.tasks.stop(task.id(), "enough").unwrap();
        fleet.report(&device, join.task, code::TaskState::Done);
        fleet.ended(task.id()).await;
        told.push(u64::from(port));
        let is_told = async {
            while kept(&fleet).await != told {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONGEST_WAIT, is_told).await.expect("it is told that the port is kept");
    }
    let error = fleet.start(&device, TaskKind::Ssh).await.err().unwrap().to_string();
    assert!(error.contains("4 sessions that are over") && error.contains("`kill PROCESS`"), "{error}");
    assert_eq!(fleet.events().await.last().map(String::as_str), Some("task-refused"));
    // With its login goes its port.
    listeners.pop();
    session(&fleet, &device).await;
    assert_eq!(kept(&fleet).await, told, "each is told once");
}
