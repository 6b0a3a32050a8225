use std::net::Ipv4Addr;

use protocol_core::message::OpenSshParameters;
use tokio::net::TcpListener;

use super::*;

/// A device that takes this way alone, and a session with it: its name on the wire, and where it is to listen.
async fn begun(fleet: &Fleet) -> (Device, Task, message::Join, u16) {
    let id = fleet.enrol("kiosk").await;
    let device = fleet.connect(id, 1).await;
    let kinds = [Kind::new("openssh").unwrap()].into_iter().collect();
    fleet.tasks.offered(&device.online, &Offer { kinds, tasks: heapless::Vec::new() });
    let task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let Instruction::Run { task: wire, kind, key, parameters, .. } = device.instruction().await else {
        panic!("expected a task")
    };
    assert_eq!(kind.as_str(), "openssh");
    let listen = OpenSshParameters::decode(&parameters).unwrap().listen;
    assert_eq!(fleet.tasks.ports(id), [listen]);
    fleet.report(&device, wire, code::TaskState::Running);
    (device, task, message::Join { task: wire, key }, listen)
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
    assert!(fleet.tasks.ports(device.online.device).is_empty(), "nobody logs in by it a second time");
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
    assert!(fleet.tasks.ports(device.online.device).is_empty());
}

#[tokio::test]
async fn a_port_is_a_devices_until_its_session_ends() {
    let fleet = Fleet::new(LONG);
    let (device, task, ..) = begun(&fleet).await;
    fleet.tasks.end_of_device(device.online.device, "revoked");
    assert_eq!(fleet.ended(task.id()).await.reason.as_deref(), Some("revoked"));
    let gone = async {
        while !fleet.tasks.ports(device.online.device).is_empty() {
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
