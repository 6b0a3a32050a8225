//! Devices that go away, and the next server.

use super::*;

#[tokio::test]
async fn an_order_that_was_lost_with_its_session_is_given_again() {
    let fleet = Fleet::new(LONG);
    let device = fleet.device("kiosk").await;
    let [lost, mut heard] = [
        fleet.start(&device, TaskKind::Ssh).await.unwrap(),
        fleet.start(&device, TaskKind::Ssh).await.unwrap(),
    ];
    let (first, second) = (device.order().await, device.order().await);
    fleet.report(&device, second.task, code::TaskState::Starting);
    fleet.report(&device, second.task, code::TaskState::Running);
    heard.running().await;
    let id = device.online.device;
    drop(device);
    let device = fleet.connect(id, 1).await;
    fleet.offer(&device, &[]);
    // One that it has heard of, and does not name any longer, is not begun again.
    assert_eq!(fleet.ended(heard.id()).await.state, TaskState::Lost);
    let mut told = Vec::new();
    while told.len() < 2 {
        told.push(match device.instruction().await {
            Instruction::Run { task, key, .. } => (task, Some(key)),
            Instruction::Stop { task, .. } => (task, None),
        });
    }
    told.sort_by_key(|(_, key)| key.is_none());
    assert_eq!(told, [(first.task, Some(first.key)), (second.task, None)]);
    let row = fleet.store.task(lost.id()).await.unwrap().unwrap();
    assert_eq!(row.state, TaskState::Requested);
}

#[tokio::test]
async fn a_device_has_a_while_to_start_anew() {
    let reboot = Duration::from_millis(300);
    let fleet = Fleet::new(Deadlines { reboot, away: Duration::from_millis(1), ..LONG });
    let device = fleet.device("kiosk").await;
    let stays = fleet.start(&device, TaskKind::Reboot).await.unwrap();
    fleet.report(&device, device.order().await.task, code::TaskState::Running);
    let row = fleet.ended(stays.id()).await;
    let reason = "the device has not gone down in 300ms";
    assert_eq!((row.state, row.reason.as_deref()), (TaskState::Failed, Some(reason)));
    assert_eq!(device.stop().await, reason);

    let mut goes = fleet.start(&device, TaskKind::Reboot).await.unwrap();
    fleet.report(&device, device.order().await.task, code::TaskState::Running);
    goes.running().await;
    drop(device);
    let row = fleet.ended(goes.id()).await;
    let reason = "the device has not come back in 300ms";
    assert_eq!((row.state, row.reason.as_deref()), (TaskState::Lost, Some(reason)));
}

#[tokio::test]
async fn a_task_whose_device_stays_away_is_lost() {
    let fleet = Fleet::new(Deadlines { away: Duration::from_millis(30), ..LONG });
    let device = fleet.device("kiosk").await;
    let task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    drop(device);
    let row = fleet.ended(task.id()).await;
    assert_eq!((row.state, row.reason.as_deref()), (TaskState::Lost, Some("the device was away for 30ms")));
}

#[tokio::test]
async fn the_next_server_takes_tasks_up() {
    let fleet = Fleet::new(LONG);
    let device = fleet.device("kiosk").await;
    let asked = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let mut running = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let code = message::TaskId(fleet.store.task(running.id()).await.unwrap().unwrap().code.0);
    fleet.report(&device, code, code::TaskState::Running);
    assert_eq!(running.running().await.state, TaskState::Running);

    let next = Tasks::new(
        fleet.store.clone(),
        Arc::clone(&fleet.registry),
        SshLimits::default(),
        SshAccount::default(),
        LONG,
        Arc::new(Parts::new(fleet.store.clone())),
    );
    next.resume().await.unwrap();
    let row = fleet.ended(asked.id()).await;
    assert_eq!((row.state, row.who.as_str()), (TaskState::Failed, "ada"));
    assert_eq!(row.reason.as_deref(), Some("the server ended before the device was asked"));
    assert_eq!(
        next.join(device.online.device, &message::Join { task: code, key: Secret([0; 16]) }).err(),
        Some(JoinError::Used)
    );
    let (detail, output) = (Text::default(), [].as_slice());
    next.reported(device.online.device, &Report { task: code, state: code::TaskState::Done, detail, output });
    assert_eq!(fleet.ended(running.id()).await.state, TaskState::Done);
}

/// Where what watches a task fails, the task has ended, and all else goes on.
#[tokio::test]
async fn a_task_whose_watcher_fails_has_ended() {
    // There is no clock that ticks so often.
    let fleet = Fleet::new(Deadlines { look: Duration::ZERO, ..LONG });
    let device = fleet.device("kiosk").await;
    let task = fleet.start(&device, TaskKind::Ssh).await.unwrap();
    let row = fleet.ended(task.id()).await;
    let reason = "the server has failed to watch it";
    assert_eq!((row.state, row.reason.as_deref()), (TaskState::Failed, Some(reason)));
    device.order().await;
    assert_eq!(device.stop().await, reason);
    assert_eq!(fleet.tasks.part.standing().restarts, 1);
}
