use std::{collections::VecDeque, task::Poll, time::Duration};

use futures_util::future::join_all;
use nix::unistd::{Uid, User};
use protocol_core::{
    code::{self, CloseReason},
    message::{BootId, Kind, Secret, Text},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{Semaphore, watch},
    time::timeout,
};

use super::*;
use crate::{
    mailbox::{Farewell, Mailbox},
    registry::{Figures, Place},
    shutdown::Shutdown,
    store::{
        EventFilter, SessionId, TaskState, UnixMillis,
        tests::{enrolled, key_of},
    },
};

/// Far longer than anything here takes.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Longer than what is waited for here, so that nothing ends by itself.
const LONG: Deadlines = Deadlines {
    accept: LONGEST_WAIT,
    start: LONGEST_WAIT,
    stop: LONGEST_WAIT,
    away: LONGEST_WAIT,
    bytes: Duration::from_millis(50),
    look: Duration::from_millis(10),
    count: LONGEST_WAIT,
    reboot: LONGEST_WAIT,
    login: LONGEST_WAIT,
};

mod away;
mod openssh;

struct Fleet {
    _directory: TempDir,
    store: Store,
    registry: Arc<Registry>,
    tasks: Arc<Tasks>,
}

/// A device that is online for as long as this lives.
struct Device {
    online: Arc<Online>,
    /// What it was told, and has not been looked at.
    instructions: Mutex<VecDeque<Instruction>>,
    _place: Place,
}

impl Fleet {
    fn new(deadlines: Deadlines) -> Self {
        Self::changed(deadlines, |_| ())
    }

    /// With another account for devices than this user's own.
    fn changed(deadlines: Deadlines, change: impl FnOnce(&mut SshAccount)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let host_key = directory.path().join("host_key.pub");
        std::fs::write(&host_key, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAABGdvb2Q= test\n").unwrap();
        let name = User::from_uid(Uid::effective()).unwrap().unwrap().name;
        let mut account = SshAccount { name, host_keys: vec![host_key], ..SshAccount::default() };
        change(&mut account);
        let (registry, parts) = (Arc::<Registry>::default(), Arc::new(Parts::new(store.clone())));
        let limits = SshLimits::default();
        let tasks = Tasks::new(store.clone(), Arc::clone(&registry), limits, account, deadlines, parts);
        Self { _directory: directory, store, registry, tasks }
    }

    async fn enrol(&self, name: &str) -> DeviceId {
        enrolled(&self.store, name, key_of(name)).await
    }

    async fn connect(&self, device: DeviceId, boot: u64) -> Device {
        let online = Arc::new(Online {
            device,
            key: None,
            session: SessionId(1),
            boot: BootId(boot),
            address: "192.0.2.1:5".parse().unwrap(),
            since: UnixMillis::now(),
            mailbox: Arc::<Mailbox>::default(),
            figures: Figures::default(),
            offers: watch::Sender::new(None),
            cameras: Mutex::default(),
        });
        let turn = self.registry.turn(device).await;
        let place = self.registry.enter(Arc::clone(&online), turn);
        Device { online, instructions: Mutex::default(), _place: place }
    }

    /// A device that takes all kinds of tasks.
    async fn device(&self, name: &str) -> Device {
        let id = self.enrol(name).await;
        let device = self.connect(id, 1).await;
        self.offer(&device, &[]);
        device
    }

    fn offer(&self, device: &Device, tasks: &[message::TaskId]) {
        let kinds = ["ssh", "reboot"].into_iter().map(|kind| Kind::new(kind).unwrap()).collect();
        self.tasks.offered(&device.online, &Offer { kinds, tasks: tasks.iter().copied().collect() });
    }

    async fn start(&self, device: &Device, kind: TaskKind) -> Result<Task, TaskError> {
        let requester =
            Requester { name: "ada".to_owned(), role: Role::Operator, address: None, operator: None };
        self.tasks.start(device.online.device, kind, requester).await
    }

    fn report(&self, device: &Device, task: message::TaskId, state: code::TaskState) {
        let (detail, output) = (Text::default(), b"some words".as_slice());
        assert!(self.tasks.reported(device.online.device, &Report { task, state, detail, output }));
    }

    /// Waits until the task has ended, and gives how.
    async fn ended(&self, id: TaskId) -> TaskRow {
        let ended = async {
            loop {
                let row = self.store.task(id).await.unwrap().unwrap();
                if row.state.is_end() {
                    return row;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(LONGEST_WAIT, ended).await.expect("a task ends")
    }

    async fn events(&self) -> Vec<String> {
        let events = self.store.events(EventFilter::default()).await.unwrap();
        events.into_iter().map(|event| event.kind).filter(|kind| kind.starts_with("task-")).collect()
    }
}

/// A connection of the device, and its other end.
fn connection() -> (DataConnection, DuplexStream) {
    let (near, far) = duplex(1_024);
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (DataConnection::new(near, permit), far)
}

impl Device {
    async fn instruction(&self) -> Instruction {
        loop {
            if let Some(next) = lock(&self.instructions).pop_front() {
                return next;
            }
            let more = std::future::poll_fn(|context| self.online.mailbox.poll_take(context));
            let requests = timeout(LONGEST_WAIT, more).await.expect("an instruction");
            lock(&self.instructions).extend(requests.instructions);
        }
    }

    async fn order(&self) -> message::Join {
        match self.instruction().await {
            Instruction::Run { task, key, .. } => message::Join { task, key },
            other => panic!("{other:?}"),
        }
    }

    async fn stop(&self) -> String {
        match self.instruction().await {
            Instruction::Stop { detail, .. } => detail,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_session_from_the_request_to_its_end() {
    let fleet = Fleet::new(LONG);
    let device = fleet.device("kiosk").await;
    let mut task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let id = task.id();
    let join = device.order().await;
    fleet.report(&device, join.task, code::TaskState::Starting);
    let (bytes, mut far) = connection();
    assert!(fleet.tasks.join(device.online.device, &join).unwrap().admit(bytes));
    fleet.report(&device, join.task, code::TaskState::Running);
    let bytes = task.bytes().await.unwrap();
    let (operator, mut screen) = duplex(1_024);
    let shutdown = Shutdown::default();
    let relay = Relay::new(operator, b"early ", Duration::ZERO).run(task, bytes, &shutdown);
    let talk = async {
        screen.write_all(b"words").await.unwrap();
        let mut heard = [0; 11];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"early words");
        far.write_all(b"answer").await.unwrap();
        screen.shutdown().await.unwrap();
        assert_eq!(far.read(&mut heard).await.unwrap(), 0, "the end is passed on, and the other way goes on");
        far.write_all(b", and more").await.unwrap();
        drop(far);
        let mut answer = String::new();
        screen.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer, and more");
    };
    timeout(LONGEST_WAIT, async { tokio::join!(relay, talk) }).await.unwrap();
    let row = fleet.ended(id).await;
    assert_eq!((row.state, row.reason.as_deref()), (TaskState::Done, Some("finished")));
    assert_eq!((row.bytes_in, row.bytes_out), (16, 11));
    assert_eq!((row.who.as_str(), row.name.as_str(), row.kind.as_str()), ("ada", "kiosk", "ssh"));
    assert!(row.started.is_some());
    // That it started is not worth a row of its own: it ran a moment later.
    let expected = ["task-requested", "task-running", "task-done"];
    assert_eq!(fleet.events().await, expected);
    assert_eq!(device.stop().await, "finished", "if it has something left of it");
}

#[tokio::test]
async fn the_bytes_of_a_session_are_counted_while_it_goes_on() {
    let fleet = Fleet::new(Deadlines { count: Duration::from_millis(10), ..LONG });
    let device = fleet.device("kiosk").await;
    let mut task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let id = task.id();
    let join = device.order().await;
    let (bytes, mut far) = connection();
    assert!(fleet.tasks.join(device.online.device, &join).unwrap().admit(bytes));
    fleet.report(&device, join.task, code::TaskState::Running);
    let bytes = task.bytes().await.unwrap();
    let (operator, _screen) = duplex(1_024);
    let shutdown = Shutdown::default();
    let relay = Relay::new(operator, b"word", Duration::ZERO).run(task, bytes, &shutdown);
    let counted = async {
        for more in 1..=2 {
            far.write_all(b"answer").await.unwrap();
            loop {
                let row = fleet.store.task(id).await.unwrap().unwrap();
                if (row.state, row.bytes_in, row.bytes_out) == (TaskState::Running, more * 6, 4) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        () = relay => panic!("the session goes on"),
        counted = timeout(LONGEST_WAIT, counted) => counted.expect("they are counted"),
    }
}

#[tokio::test]
async fn a_key_is_good_for_one_connection_of_one_device() {
    let fleet = Fleet::new(LONG);
    let (device, other) = (fleet.device("kiosk").await, fleet.device("other").await);
    let task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let join = device.order().await;
    let refused = |device: &Device, join| fleet.tasks.join(device.online.device, &join).err();
    assert_eq!(refused(&other, join), Some(JoinError::NoSuchTask));
    assert_eq!(refused(&device, message::Join { key: Secret([0; 16]), ..join }), Some(JoinError::WrongKey));
    let unknown = message::Join { task: message::TaskId(1), ..join };
    assert_eq!(refused(&device, unknown), Some(JoinError::NoSuchTask));
    let admission = fleet.tasks.join(device.online.device, &join).unwrap();
    assert_eq!(refused(&device, join), Some(JoinError::Used));
    assert!(admission.admit(connection().0));
    let id = task.id();
    drop(task);
    assert_eq!(device.stop().await, "whoever asked for it has gone");
    fleet.report(&device, join.task, code::TaskState::Done);
    assert_eq!(fleet.ended(id).await.state, TaskState::Done);
    // Its watcher leaves behind the end.
    let left = async {
        while !fleet.tasks.all(|_| true).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONGEST_WAIT, left).await.expect("its watcher leaves");
    assert_eq!(refused(&device, join), Some(JoinError::NoSuchTask));
}

#[tokio::test]
async fn who_can_not_do_it_is_not_asked() {
    let fleet = Fleet::new(LONG);
    let id = fleet.enrol("kiosk").await;
    let requester = || Requester { name: "ada".to_owned(), role: Role::Admin, address: None, operator: None };
    let offline = fleet.tasks.start(id, TaskKind::Ssh, requester()).await;
    assert!(matches!(offline, Err(TaskError::Offline)));
    let device = fleet.connect(id, 1).await;
    let kinds = [Kind::new("reboot").unwrap()].into_iter().collect();
    fleet.tasks.offered(&device.online, &Offer { kinds, tasks: heapless::Vec::new() });
    let not_offered = fleet.start(&device, TaskKind::Ssh).await;
    assert!(matches!(not_offered, Err(TaskError::NotOffered(TaskKind::Ssh))));
    let mut kept = Vec::new();
    for _ in 0..MAX_OF_DEVICE {
        kept.push(fleet.start(&device, TaskKind::Reboot).await.unwrap());
    }
    assert!(matches!(fleet.start(&device, TaskKind::Reboot).await, Err(TaskError::TooMany)));
    let refused = fleet.events().await.into_iter().filter(|kind| kind == "task-refused").count();
    assert_eq!(refused, 2, "whoever asked for what they can't have has left a trace");
    fleet.store.revoke("kiosk", "test").await.unwrap();
    fleet.tasks.end_of_device(id, "the device was revoked");
    for task in kept {
        let ended = fleet.ended(task.id()).await;
        assert_eq!(
            (ended.state, ended.reason.as_deref()),
            (TaskState::Failed, Some("the device was revoked"))
        );
    }
}

#[tokio::test]
async fn a_device_that_does_nothing_is_waited_for_so_long() {
    let short = Deadlines { accept: Duration::from_millis(20), stop: Duration::from_millis(20), ..LONG };
    let fleet = Fleet::new(short);
    let device = fleet.device("kiosk").await;
    let mut task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let error = task.bytes().await.err().unwrap().to_string();
    assert_eq!(error, "the device did not start it in 20ms");
    let row = fleet.ended(task.id()).await;
    assert_eq!((row.state, row.reason), (TaskState::Failed, Some(error)));

    let task = fleet.start(&device, TaskKind::Reboot).await.unwrap();
    let code = message::TaskId(fleet.store.task(task.id()).await.unwrap().unwrap().code.0);
    fleet.report(&device, code, code::TaskState::Running);
    fleet.tasks.stop(task.id(), "stopped by ada").unwrap();
    let row = fleet.ended(task.id()).await;
    let reason = "the device did not stop it in 20ms (stopped by ada)";
    assert_eq!((row.state, row.reason.as_deref()), (TaskState::Failed, Some(reason)));
    let gone = async {
        while fleet.tasks.stop(task.id(), "again").is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONGEST_WAIT, gone).await.expect("a task that has ended can't be stopped");
}

#[tokio::test]
async fn a_session_whose_bytes_do_not_come_has_failed() {
    let fleet = Fleet::new(Deadlines { accept: Duration::from_millis(20), ..LONG });
    let device = fleet.device("kiosk").await;
    let mut task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let join = device.order().await;
    fleet.report(&device, join.task, code::TaskState::Running);
    let error = timeout(LONGEST_WAIT, task.bytes()).await.unwrap().err().unwrap().to_string();
    assert_eq!(error, "the device says that it runs, and its bytes have not come in 20ms");
    let row = fleet.ended(task.id()).await;
    assert_eq!((row.state, row.reason), (TaskState::Failed, Some(error)));
    assert!(device.stop().await.contains("its bytes have not come"));
}

#[tokio::test]
async fn a_session_whose_bytes_are_lost_on_their_way_in_has_failed() {
    let fleet = Fleet::new(LONG);
    let device = fleet.device("kiosk").await;
    let mut task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let join = device.order().await;
    // Its connection breaks before it is told that it may.
    drop(fleet.tasks.join(device.online.device, &join).unwrap());
    fleet.report(&device, join.task, code::TaskState::Running);
    let error = timeout(LONGEST_WAIT, task.bytes()).await.unwrap().err().unwrap().to_string();
    assert_eq!(error, "its data connection broke before it was used");
    assert_eq!(fleet.ended(task.id()).await.state, TaskState::Failed);
}

#[tokio::test]
async fn why_a_device_ends_a_session_is_heard_behind_its_bytes() {
    let fleet = Fleet::new(Deadlines { bytes: LONGEST_WAIT, ..LONG });
    let device = fleet.device("kiosk").await;
    let broke = || Standing::new(TaskState::Failed, "the connection to the device broke");
    for (state, detail, expected) in [
        (code::TaskState::Stopping, "its time is over: 6 s", (TaskState::Done, "its time is over: 6 s")),
        (code::TaskState::Failed, "SIGKILL", (TaskState::Failed, "the connection to the device broke")),
    ] {
        let mut session = fleet.start(&device, TaskKind::Ssh).await.unwrap();
        let (id, task) = (session.id(), device.order().await.task);
        fleet.report(&device, task, code::TaskState::Running);
        session.running().await;
        session.finish(broke()).await;
        let report = Report { task, state, detail: Text::new(detail).unwrap(), output: &[] };
        assert!(fleet.tasks.reported(device.online.device, &report));
        let row = fleet.ended(id).await;
        assert_eq!((row.state, row.reason.as_deref()), (expected.0, Some(expected.1)));
        device.stop().await;
    }
}

#[tokio::test]
async fn a_task_ends_though_whoever_asked_for_it_went_at_once() {
    let fleet = Fleet::new(LONG);
    let device = fleet.device("kiosk").await;
    {
        let mut asking = std::pin::pin!(fleet.start(&device, TaskKind::Ssh));
        // It is on its way to the store then.
        let asked = std::future::poll_fn(|context| Poll::Ready(asking.as_mut().poll(context).is_pending()));
        assert!(asked.await);
    }
    let join = device.order().await;
    assert_eq!(device.stop().await, "whoever asked for it has gone");
    fleet.report(&device, join.task, code::TaskState::Done);
    assert_eq!(fleet.ended(TaskId(1)).await.state, TaskState::Done);
}

#[tokio::test]
async fn a_device_has_no_more_tasks_though_all_are_asked_for_at_once() {
    let fleet = Fleet::new(LONG);
    let device = fleet.device("kiosk").await;
    let asked = (0..2 * MAX_OF_DEVICE).map(|_| fleet.start(&device, TaskKind::Reboot));
    let (begun, refused): (Vec<_>, Vec<_>) = join_all(asked).await.into_iter().partition(Result::is_ok);
    assert_eq!((begun.len(), refused.len()), (MAX_OF_DEVICE, MAX_OF_DEVICE));
    // What was refused has kept no place.
    drop(begun);
    fleet.tasks.end_of_device(device.online.device, "test");
    for id in 1..=MAX_OF_DEVICE {
        fleet.ended(TaskId(i64::try_from(id).unwrap())).await;
    }
    let started = async {
        while fleet.start(&device, TaskKind::Reboot).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONGEST_WAIT, started).await.expect("there is room again");
}

#[tokio::test]
async fn what_a_device_refuses_is_an_event() {
    let fleet = Fleet::new(LONG);
    let device = fleet.device("kiosk").await;
    let mut task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let join = device.order().await;
    fleet.report(&device, join.task, code::TaskState::Refused);
    let error = task.bytes().await.err().unwrap().to_string();
    assert_eq!(error, "the device refused: its configuration does not allow it");
    assert_eq!(fleet.ended(task.id()).await.state, TaskState::Failed);
    assert_eq!(fleet.events().await, ["task-requested", "task-refused", "task-failed"]);
}

#[tokio::test]
async fn what_a_device_does_not_name_any_longer_is_lost() {
    let fleet = Fleet::new(LONG);
    let device = fleet.device("kiosk").await;
    let [ssh, kept] = [
        fleet.start(&device, TaskKind::Ssh).await.unwrap(),
        fleet.start(&device, TaskKind::Ssh).await.unwrap(),
    ];
    let code =
        async |task: &Task| message::TaskId(fleet.store.task(task.id()).await.unwrap().unwrap().code.0);
    for task in [&ssh, &kept] {
        fleet.report(&device, code(task).await, code::TaskState::Running);
    }
    let id = device.online.device;
    device.online.mailbox.close(Farewell::new(CloseReason::Finished, "gone"));
    drop(device);
    let device = fleet.connect(id, 2).await;
    let unknown = message::TaskId(77);
    fleet.offer(&device, &[code(&kept).await, unknown]);
    assert_eq!(device.stop().await, "the server does not know it, or it has ended there");
    let lost = fleet.ended(ssh.id()).await;
    assert_eq!(lost.state, TaskState::Lost);
    assert_eq!(lost.reason.as_deref(), Some("the device's agent started anew meanwhile"));
    let row = fleet.store.task(kept.id()).await.unwrap().unwrap();
    assert_eq!(row.state, TaskState::Running);
    fleet.report(&device, code(&kept).await, code::TaskState::Failed);
    let failed = fleet.ended(kept.id()).await;
    assert_eq!(failed.output.as_deref(), Some(b"some words".as_slice()));
}

#[tokio::test]
async fn whether_a_device_has_started_anew_is_for_the_device_to_say() {
    let fleet = Fleet::new(Deadlines { start: Duration::ZERO, ..LONG });
    let device = fleet.device("kiosk").await;
    let (mut tasks, mut codes) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        tasks.push(fleet.start(&device, TaskKind::Reboot).await.unwrap());
        codes.push(device.order().await.task);
    }
    for task in [1, 2] {
        fleet.report(&device, codes[task], code::TaskState::Running);
        tasks[task].running().await;
    }
    let id = device.online.device;
    drop(device);
    // One that is gone before it could say that it goes.
    let begun =
        Report { task: codes[0], state: code::TaskState::Starting, detail: Text::default(), output: &[] };
    fleet.tasks.reported(id, &begun);
    let mut standing = fleet.tasks.find(id, codes[0]).unwrap().standing.subscribe();
    standing.wait_for(|standing| standing.state == TaskState::Starting).await.unwrap();
    let device = fleet.connect(id, 2).await;
    fleet.offer(&device, &codes[..2]);
    fleet.report(&device, codes[0], code::TaskState::Done);
    fleet.report(&device, codes[1], code::TaskState::Failed);
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(fleet.ended(task.id()).await.state);
    }
    assert_eq!(ends, [TaskState::Done, TaskState::Failed, TaskState::Lost], "the last one it has forgotten");
}

#[tokio::test]
async fn reports_of_a_task_are_a_few() {
    let fleet = Fleet::new(LONG);
    let device = fleet.device("kiosk").await;
    let _task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let task = device.order().await.task;
    let said = Report { task, state: code::TaskState::Starting, detail: Text::default(), output: &[] };
    let of_it = (0..1_000).filter(|_| fleet.tasks.reported(device.online.device, &said)).count();
    assert_eq!(of_it, 8, "the others are notices");
    assert!(!fleet.tasks.reported(device.online.device, &Report { task: message::TaskId(1), ..said }));
}
