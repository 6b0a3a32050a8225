//! What the tests of live video share, and whole streams from a device to those who look.

mod ends;
mod recordings;

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use protocol_core::{
    code::{self, Role},
    message::{self, BootId, Join, Kind, Offer, Report, Text},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{
    EndCode, Video, VideoError, Viewing, WatchRequest, Way,
    memory::Memory,
    parameters::{Parameters, tests::KEYFRAME},
    unit::Unit,
};
use crate::{
    byte_stream::ByteStream,
    config::{SshAccount, SshLimits},
    lock::lock,
    mailbox::{Instruction, Mailbox},
    parts::Parts,
    registry::{Camera, Figures, Online, Place, Registry},
    shutdown::Shutdown,
    store::{
        DeviceRef, EventFilter, FirstLogin, OperatorId, SessionId, Store, TaskFilter, TaskRow, UnixMillis,
        tests::{enrolled, key_of},
    },
    tasks::{DataConnection, Deadlines, Requester, Tasks},
};

/// Far longer than anything here takes.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// A keyframe of this time.
pub(super) fn keyframe(time: u64) -> Arc<Unit> {
    let parameters = Arc::new(Parameters::find(KEYFRAME).unwrap());
    Arc::new(Unit::new(Some(parameters), time, KEYFRAME))
}

const PICTURE: &[u8] = b"\0\0\x01\x41picture";

/// A picture that needs those before it.
pub(super) fn picture(time: u64) -> Arc<Unit> {
    Arc::new(Unit::new(None, time, PICTURE))
}

/// A picture as a device sends it.
pub(super) fn frame(flags: u8, microseconds: u64, bytes: &[u8]) -> Vec<u8> {
    let unit = message::Unit { flags, microseconds, bytes };
    let mut room = [0; message::Unit::OVERHEAD];
    [unit.encode_head(&mut room).unwrap(), bytes].concat()
}

/// A device with a camera, and a server that relays it.
struct Fleet {
    directory: TempDir,
    store: Store,
    tasks: Arc<Tasks>,
    video: Arc<Video>,
    device: DeviceRef,
    online: Arc<Online>,
    /// What the device was told, and has not looked at.
    instructions: Mutex<VecDeque<Instruction>>,
    shutdown: Shutdown,
    _place: Place,
}

impl Fleet {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let registry = Arc::<Registry>::default();
        let deadlines = Deadlines { bytes: Duration::from_millis(50), ..Deadlines::default() };
        let (limits, account) = (SshLimits::default(), SshAccount::default());
        let parts = Arc::new(Parts::new(store.clone()));
        let tasks =
            Tasks::new(store.clone(), Arc::clone(&registry), limits, account, deadlines, Arc::clone(&parts));
        let mut video = Video::new(store.clone(), Arc::clone(&tasks), parts);
        Arc::get_mut(&mut video).unwrap().linger = Duration::from_millis(50);
        let id = enrolled(&store, "porch", key_of("porch")).await;
        let online = Arc::new(Online {
            device: id,
            key: None,
            session: SessionId(1),
            boot: BootId(1),
            address: "192.0.2.1:5".parse().unwrap(),
            since: UnixMillis::now(),
            mailbox: Arc::<Mailbox>::default(),
            figures: Figures::default(),
            offers: watch::Sender::new(None),
            cameras: Mutex::default(),
        });
        let turn = registry.turn(id).await;
        let place = registry.enter(Arc::clone(&online), turn);
        let kinds = [Kind::new("video").unwrap()].into_iter().collect();
        tasks.offered(&online, &Offer { kinds, tasks: heapless::Vec::new() });
        Self {
            directory,
            store,
            tasks,
            video,
            device: DeviceRef { id, name: "porch".to_owned() },
            online,
            instructions: Mutex::default(),
            shutdown: Shutdown::default(),
            _place: place,
        }
    }

    fn request(&self, name: &str, role: Role) -> WatchRequest {
        let camera =
            Camera { name: "door".to_owned(), kind: "test".to_owned(), width: 64, height: 48, framerate: 30 };
        let requester = Requester { name: name.to_owned(), role, address: None, operator: None };
        WatchRequest { device: self.device.clone(), camera, requester, way: Way::Units }
    }

    async fn watch(&self, name: &str, role: Role) -> Result<Viewing, VideoError> {
        let watched = self.video.watch(self.request(name, role), &self.shutdown);
        timeout(LONGEST_WAIT, watched).await.expect("an answer")
    }

    /// An operator elsewhere who may look and record.
    async fn operator(&self, name: &str) -> OperatorId {
        let mut hash = [0; 32];
        hash[..name.len()].copy_from_slice(name.as_bytes());
        let login = FirstLogin { hash, expires_at: UnixMillis::now().plus(60_000) };
        let added = self.store.add_operator(name.parse().unwrap(), Role::Operator, login, "test".into());
        added.await.unwrap().unwrap().id
    }

    fn request_of(&self, name: &str, operator: OperatorId) -> WatchRequest {
        let mut request = self.request(name, Role::Operator);
        request.requester.operator = Some(operator);
        request
    }

    /// What is done when the rights of somebody are taken away.
    fn take_rights(&self, operator: OperatorId, reason: &str) {
        self.video.stop_of_operator(operator, reason);
        self.tasks.stop_of_operator(operator, reason);
    }

    /// The newest task, once it is so.
    async fn task(&self, is_so: impl Fn(&TaskRow) -> bool) -> TaskRow {
        let look = async {
            loop {
                let rows = self.store.tasks(TaskFilter::default()).await.unwrap();
                match rows.into_iter().last().filter(|row| is_so(row)) {
                    Some(row) => return row,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        timeout(LONGEST_WAIT, look).await.expect("it is so at last")
    }

    async fn instruction(&self) -> Instruction {
        loop {
            if let Some(next) = lock(&self.instructions).pop_front() {
                return next;
            }
            let more = poll_fn(|context| self.online.mailbox.poll_take(context));
            let requests = timeout(LONGEST_WAIT, more).await.expect("an instruction");
            lock(&self.instructions).extend(requests.instructions);
        }
    }

    /// The next order that the device gets, and for whom it is.
    async fn order(&self) -> (Join, Role) {
        loop {
            if let Instruction::Run { task, key, role, parameters, .. } = self.instruction().await {
                assert_eq!(message::VideoParameters::decode(&parameters).unwrap().camera.as_str(), "door");
                return (Join { task, key }, role);
            }
        }
    }

    fn report(&self, task: message::TaskId, state: code::TaskState, detail: &str) {
        let detail = Text::shortened(detail);
        self.tasks.reported(self.online.device, &Report { task, state, detail, output: b"" });
    }

    /// The device brings the bytes of this task.
    fn join(&self, join: &Join) -> DuplexStream {
        self.join_by(join, |bytes| bytes)
    }

    /// The same, by bytes that are made another stream of.
    fn join_by<S: ByteStream + 'static>(
        &self,
        join: &Join,
        make: impl FnOnce(DuplexStream) -> S,
    ) -> DuplexStream {
        let (near, far) = duplex(64 * 1024);
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let admission = self.tasks.join(self.online.device, join).unwrap();
        assert!(admission.admit(DataConnection::new(make(near), permit)));
        self.report(join.task, code::TaskState::Running, "");
        far
    }

    /// The device does what it is asked for.
    async fn stream(&self) -> DuplexStream {
        let (join, _) = self.order().await;
        self.join(&join)
    }

    async fn events(&self, start: &str) -> Vec<(String, Option<String>)> {
        let events = self.store.events(EventFilter::default()).await.unwrap();
        let wanted = events.into_iter().filter(|event| event.kind.starts_with(start));
        wanted.map(|event| (event.kind, event.who)).collect()
    }
}

async fn next(viewing: &mut Viewing) -> u64 {
    timeout(LONGEST_WAIT, viewing.next()).await.expect("a picture").unwrap().time()
}

/// Waits until the other side has closed.
async fn closed(device: &mut DuplexStream) {
    let mut rest = Vec::new();
    timeout(LONGEST_WAIT, device.read_to_end(&mut rest)).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn one_stream_is_for_all_and_ends_with_the_last() {
    let fleet = Fleet::new().await;
    let (first, mut device) = tokio::join!(fleet.watch("ada", Role::Viewer), fleet.stream());
    let mut first = first.unwrap();
    device.write_all(&frame(1, 10, KEYFRAME)).await.unwrap();
    device.write_all(&frame(0, 20, PICTURE)).await.unwrap();
    assert_eq!([next(&mut first).await, next(&mut first).await], [10, 20]);
    let mut second = fleet.watch("bea", Role::Admin).await.unwrap();
    assert_eq!([next(&mut second).await, next(&mut second).await], [10, 20], "who comes late sees at once");
    device.write_all(&frame(0, 30, PICTURE)).await.unwrap();
    assert_eq!([next(&mut first).await, next(&mut second).await], [30, 30]);
    let names: Vec<_> = fleet.video.viewers().iter().map(|viewer| viewer.who.name.clone()).collect();
    assert_eq!(names, ["ada", "bea"]);
    drop(first);
    device.write_all(&frame(0, 40, PICTURE)).await.unwrap();
    assert_eq!(next(&mut second).await, 40);
    drop(second);
    closed(&mut device).await;
    assert!(fleet.video.viewers().is_empty());
    let events = fleet.events("viewing-").await;
    let told: Vec<_> = events.iter().map(|(kind, who)| (kind.as_str(), who.as_deref().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("viewing-started", "ada"),
            ("viewing-started", "bea"),
            ("viewing-ended", "ada"),
            ("viewing-ended", "bea")
        ]
    );
    // And whoever comes now begins another one.
    let (again, _device) = tokio::join!(fleet.watch("ada", Role::Viewer), fleet.stream());
    assert!(again.is_ok());
}

#[tokio::test]
async fn who_is_thrown_out_is_alone_in_that() {
    let fleet = Fleet::new().await;
    let (first, mut device) = tokio::join!(fleet.watch("ada", Role::Viewer), fleet.stream());
    let (mut first, mut second) = (first.unwrap(), fleet.watch("bea", Role::Viewer).await.unwrap());
    let viewer = fleet.video.viewer(second.viewer().id).unwrap();
    fleet.video.throw_out(&viewer, &fleet.request("ada", Role::Operator).requester);
    let end = timeout(LONGEST_WAIT, second.next()).await.unwrap().unwrap_err();
    assert_eq!((end.code, end.message.as_str()), (EndCode::Stopped, "thrown out by ada"));
    device.write_all(&frame(1, 10, KEYFRAME)).await.unwrap();
    assert_eq!(next(&mut first).await, 10);
    drop((first, second));
    closed(&mut device).await;
    timeout(LONGEST_WAIT, fleet.video.ended()).await.expect("all is written down");
    assert_eq!(fleet.events("viewer-").await, [("viewer-thrown-out".to_owned(), Some("ada".to_owned()))]);
}

/// A viewer is there from the first moment on, and gone with whoever asked, however early that is.
#[tokio::test]
async fn who_goes_at_once_leaves_nothing_behind() {
    let fleet = Fleet::new().await;
    let (first, _device) = tokio::join!(fleet.watch("ada", Role::Viewer), fleet.stream());
    let _first = first.unwrap();
    for _ in 0..3 {
        let mut watched = Box::pin(fleet.video.watch(fleet.request("bea", Role::Viewer), &fleet.shutdown));
        let is_pending = poll_fn(|context| Poll::Ready(watched.as_mut().poll(context).is_pending())).await;
        assert!(is_pending, "it is written down that she looks");
        assert_eq!(fleet.video.viewers().len(), 2);
        drop(watched);
        assert_eq!(fleet.video.viewers().len(), 1);
    }
    let all = async {
        loop {
            let kinds: Vec<_> = fleet.events("viewing-").await.into_iter().map(|(kind, _)| kind).collect();
            if kinds.len() == 7 {
                return kinds;
            }
            tokio::task::yield_now().await;
        }
    };
    let kinds = timeout(LONGEST_WAIT, all).await.expect("all is written down");
    assert_eq!(kinds.iter().filter(|kind| *kind == "viewing-ended").count(), 3);
}

/// Each has bounds; together they would have more than there is.
#[tokio::test]
async fn many_who_take_nothing_do_not_fill_the_memory() {
    let mut fleet = Fleet::new().await;
    Arc::get_mut(&mut fleet.video).unwrap().memory = Arc::new(Memory::of(1 << 20));
    let (first, mut device) = tokio::join!(fleet.watch("ada", Role::Viewer), fleet.stream());
    let (mut first, slow) = (first.unwrap(), fleet.watch("bea", Role::Viewer).await.unwrap());
    device.write_all(&frame(1, 10, KEYFRAME)).await.unwrap();
    assert_eq!(next(&mut first).await, 10);
    let large = [PICTURE, &[7; 200_000]].concat();
    for time in 11..30 {
        device.write_all(&frame(0, time, &large)).await.unwrap();
        assert_eq!(next(&mut first).await, time, "who takes each at once misses nothing");
    }
    assert!(slow.viewer().dropped() > 5, "{}", slow.viewer().dropped());
    assert!(!fleet.video.memory.is_full());
    drop((first, slow));
    closed(&mut device).await;
}

#[tokio::test]
async fn who_has_other_rights_now_looks_no_longer() {
    let fleet = Fleet::new().await;
    let (first, mut device) = tokio::join!(fleet.watch("ada", Role::Viewer), fleet.stream());
    let mut first = first.unwrap();
    let mut request = fleet.request("bea", Role::Operator);
    request.requester.operator = Some(OperatorId(7));
    let mut second = fleet.video.watch(request, &fleet.shutdown).await.unwrap();
    fleet.video.stop_of_operator(OperatorId(8), "somebody else's");
    fleet.video.stop_of_operator(OperatorId(7), "bea has the role viewer now");
    let end = timeout(LONGEST_WAIT, second.next()).await.unwrap().unwrap_err();
    assert_eq!((end.code, end.message.as_str()), (EndCode::Rights, "bea has the role viewer now"));
    device.write_all(&frame(1, 10, KEYFRAME)).await.unwrap();
    assert_eq!(next(&mut first).await, 10);
}

#[tokio::test]
async fn what_others_look_at_goes_on_when_the_rights_of_the_first_end() {
    let fleet = Fleet::new().await;
    let (ada, bea) = (fleet.operator("ada").await, fleet.operator("bea").await);
    let first = fleet.video.watch(fleet.request_of("ada", ada), &fleet.shutdown);
    let (first, mut device) = tokio::join!(first, fleet.stream());
    let second = fleet.video.watch(fleet.request_of("bea", bea), &fleet.shutdown).await;
    let (mut first, mut second) = (first.unwrap(), second.unwrap());
    let task = fleet.task(|row| row.started.is_some()).await;
    assert_eq!((task.who.as_str(), task.operator), ("ada", Some(ada)));
    fleet.take_rights(ada, "the rights of ada were taken away");
    let end = timeout(LONGEST_WAIT, first.next()).await.unwrap().unwrap_err();
    assert_eq!((end.code, end.message.as_str()), (EndCode::Rights, "the rights of ada were taken away"));
    let after = fleet.task(|row| row.operator == Some(bea)).await;
    assert_eq!((after.id, after.who.as_str(), after.ended), (task.id, "bea", None), "it is the same task");
    assert_eq!(fleet.events("task-handed").await, [("task-handed-over".to_owned(), Some("bea".to_owned()))]);
    device.write_all(&frame(1, 10, KEYFRAME)).await.unwrap();
    assert_eq!(next(&mut second).await, 10, "nothing has begun anew");
    // It is with her rights that it ends now, though somebody else has looked before.
    fleet.take_rights(bea, "bea has gone");
    closed(&mut device).await;
    assert_eq!(timeout(LONGEST_WAIT, second.next()).await.unwrap().unwrap_err().code, EndCode::Rights);
    let ended = fleet.task(|row| row.ended.is_some()).await;
    assert_eq!((ended.id, ended.reason.as_deref()), (task.id, Some("bea has gone")));
}

#[tokio::test]
async fn who_waits_with_somebody_whose_rights_end_begins_the_stream_themselves() {
    let fleet = Fleet::new().await;
    let (ada, bea) = (fleet.operator("ada").await, fleet.operator("bea").await);
    let device = async {
        fleet.order().await;
        while lock(&fleet.video.streams).values().all(|hub| hub.interested() < 2) {
            tokio::task::yield_now().await;
        }
        fleet.take_rights(ada, "the rights of ada were taken away");
        fleet.stream().await
    };
    let first = fleet.video.watch(fleet.request_of("ada", ada), &fleet.shutdown);
    let second = fleet.video.watch(fleet.request_of("bea", bea), &fleet.shutdown);
    let all = async { tokio::join!(first, second, device) };
    let (first, second, _device) = timeout(LONGEST_WAIT, all).await.expect("all have an answer");
    let words = "the rights of ada were taken away".to_owned();
    assert_eq!(first.err(), Some(VideoError::RightsEnded(words)));
    assert!(second.is_ok());
    assert_eq!(fleet.task(|row| row.operator != Some(ada)).await.who, "bea");
}

#[tokio::test]
async fn a_devices_own_configuration_has_the_last_word_for_each_who_looks() {
    let fleet = Fleet::new().await;
    let device = async {
        for expected in [Role::Viewer, Role::Operator] {
            let (join, role) = fleet.order().await;
            assert_eq!(role, expected);
            match role {
                Role::Viewer => fleet.report(join.task, code::TaskState::Refused, "not for viewers"),
                _ => return fleet.join(&join),
            }
        }
        panic!("it is asked for the role that it takes");
    };
    let (admin, _device) = tokio::join!(fleet.watch("ada", Role::Admin), device);
    let _admin = admin.unwrap();
    let refused = fleet.watch("vic", Role::Viewer).await.err();
    assert_eq!(refused, Some(VideoError::NotAllowed(Role::Operator)));
    assert!(fleet.watch("oda", Role::Operator).await.is_ok());
}

/// What the device answers to the first who asks is not said to those of a higher role who wait with them.
#[tokio::test]
async fn a_refusal_is_for_those_whom_the_device_refuses() {
    let fleet = Fleet::new().await;
    let device = async {
        let (join, role) = fleet.order().await;
        assert_eq!(role, Role::Viewer);
        // The operator waits with the viewer.
        while lock(&fleet.video.streams).values().all(|hub| hub.interested() < 2) {
            tokio::task::yield_now().await;
        }
        fleet.report(join.task, code::TaskState::Refused, "not for viewers");
        let (join, role) = fleet.order().await;
        assert_eq!(role, Role::Viewer);
        fleet.report(join.task, code::TaskState::Refused, "not for viewers");
        let (join, role) = fleet.order().await;
        assert_eq!(role, Role::Operator);
        fleet.join(&join)
    };
    let (viewer, operator, _device) =
        tokio::join!(fleet.watch("vic", Role::Viewer), fleet.watch("oda", Role::Operator), device);
    assert!(operator.is_ok());
    assert_eq!(viewer.err(), Some(VideoError::Refused("the device refused: not for viewers".to_owned())));
}

#[tokio::test]
async fn why_a_camera_ended_is_told_to_all() {
    let fleet = Fleet::new().await;
    let device = async {
        let (join, _) = fleet.order().await;
        (join, fleet.join(&join))
    };
    let (viewing, (join, mut device)) = tokio::join!(fleet.watch("ada", Role::Viewer), device);
    let mut viewing = viewing.unwrap();
    device.write_all(&frame(1, 10, KEYFRAME)).await.unwrap();
    fleet.report(join.task, code::TaskState::Failed, "the camera gives no picture");
    drop(device);
    assert_eq!(next(&mut viewing).await, 10, "what has come is shown");
    let end = timeout(LONGEST_WAIT, viewing.next()).await.unwrap().unwrap_err();
    assert_eq!((end.code, end.message.as_str()), (EndCode::Camera, "the camera gives no picture"));

    let device = async {
        let (join, _) = fleet.order().await;
        fleet.report(join.task, code::TaskState::Failed, "there is no such camera");
    };
    let (refused, ()) = tokio::join!(fleet.watch("ada", Role::Viewer), device);
    assert_eq!(refused.err(), Some(VideoError::Ended("there is no such camera".to_owned())));
}

#[tokio::test]
async fn what_is_no_picture_ends_the_stream_and_nothing_else() {
    let fleet = Fleet::new().await;
    let (viewing, mut device) = tokio::join!(fleet.watch("ada", Role::Viewer), fleet.stream());
    let mut viewing = viewing.unwrap();
    device.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let end = timeout(LONGEST_WAIT, viewing.next()).await.unwrap().unwrap_err();
    assert!(end.message.contains("no picture"), "{end:?}");
    assert!(fleet.store.counts().await.is_ok());
}

#[tokio::test]
async fn all_end_with_the_server() {
    let fleet = Fleet::new().await;
    let (viewing, mut device) = tokio::join!(fleet.watch("ada", Role::Viewer), fleet.stream());
    fleet.shutdown.request("test");
    let mut viewing = viewing.unwrap();
    let end = timeout(LONGEST_WAIT, viewing.next()).await.unwrap().unwrap_err();
    assert_eq!(end.code, EndCode::Stopping);
    closed(&mut device).await;
    drop(viewing);
    timeout(LONGEST_WAIT, fleet.video.ended()).await.expect("all has ended");
    assert_eq!(fleet.events("viewing-ended").await.len(), 1, "and is written down");
}
