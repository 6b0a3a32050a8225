use serde_json::{Value, json};

use super::*;
use crate::event::{EventKind, NewEvent};

async fn begin(store: &Store, device: DeviceId, code: u64) -> TaskId {
    let (kind, code, boot) = ("ssh".parse().unwrap(), RandomId(code), RandomId(1));
    let address = Some("192.0.2.7".parse().unwrap());
    let task = NewTask { device, kind, code, boot, who: "anna".to_owned(), address, operator: None };
    store.begin_task(task).await.unwrap()
}

async fn end(store: &Store, code: u64) -> bool {
    let change = TaskChange { code: RandomId(code), state: TaskState::Done, reason: None, output: None };
    store.change_task(change).await.unwrap()
}

async fn ids(store: &Store, filter: TaskFilter) -> Vec<i64> {
    store.tasks(filter).await.unwrap().into_iter().map(|row| row.id.0).collect()
}

#[tokio::test]
async fn pages_of_tasks_from_both_ends() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (pi, other) = (device(&store, "pi", 1).await, device(&store, "other", 2).await);
    for (code, of) in [(1, pi), (2, other), (3, pi), (4, pi)] {
        begin(&store, of, code).await;
    }
    assert!(end(&store, 3).await);
    let all = TaskFilter::default();
    let newest = TaskFilter { before: Some(TaskId(i64::MAX)), ..all };
    assert_eq!(ids(&store, all).await, [1, 2, 3, 4]);
    assert_eq!(ids(&store, TaskFilter { after: TaskId(2), limit: 1, ..all }).await, [3]);
    assert_eq!(ids(&store, TaskFilter { limit: 3, ..newest }).await, [2, 3, 4]);
    assert_eq!(ids(&store, TaskFilter { before: Some(TaskId(2)), ..all }).await, [1]);
    assert_eq!(
        ids(&store, TaskFilter { after: TaskId(1), before: Some(TaskId(4)), limit: 1, ..all }).await,
        [3]
    );
    assert_eq!(ids(&store, TaskFilter { device: Some(pi), open: true, ..newest }).await, [1, 4]);
}

#[tokio::test]
async fn tasks_that_ended_long_ago_are_deleted_and_their_events_stay() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi", 1).await;
    for code in 1..=3 {
        begin(&store, pi, code).await;
    }
    store.count_task(RandomId(1), 5, 7).await.unwrap();
    assert!(end(&store, 1).await && end(&store, 3).await);
    // As many more as are kept beside the third.
    let later = |change: &mut Change<'_>| {
        change.connection.execute("UPDATE tasks SET id = 100002 WHERE id = 3", ())?;
        Ok(())
    };
    store.write(later).await.unwrap();
    assert_eq!(begin(&store, pi, 4).await, TaskId(100_003));
    assert_eq!(
        ids(&store, TaskFilter::default()).await,
        [2, 100_002, 100_003],
        "one that has not ended stays"
    );
    let mut events = store.events(EventFilter::default()).await.unwrap();
    events.retain(|event| event.kind == "task-done");
    assert_eq!(
        Value::Object(events[0].detail.clone()),
        json!({"task": 1, "kind": "ssh", "bytes_in": 5, "bytes_out": 7})
    );
    assert_eq!(events[0].address.as_deref(), Some("192.0.2.7"));
}

#[tokio::test]
async fn a_task_in_a_state_of_a_newer_version_has_yet_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi", 1).await;
    let id = begin(&store, pi, 1).await;
    let newer = |change: &mut Change<'_>| {
        change.connection.execute("UPDATE tasks SET state = 'asleep', kind = 'video'", ())?;
        Ok(())
    };
    store.write(newer).await.unwrap();
    let open = TaskFilter { open: true, ..TaskFilter::default() };
    assert_eq!(store.tasks(open).await.unwrap()[0].state, TaskState::Stopping);
    assert!(end(&store, 1).await, "it can be ended");
    let row = store.task(id).await.unwrap().unwrap();
    assert!(row.state == TaskState::Done && row.ended.is_some(), "{row:?}");
    assert_eq!(ids(&store, open).await, [0; 0]);
}

#[tokio::test]
async fn tasks_are_found_by_what_has_happened_to_them() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (pi, other) = (device(&store, "pi", 1).await, device(&store, "other", 2).await);
    for (code, of) in [(1, pi), (2, other), (3, pi)] {
        begin(&store, of, code).await;
    }
    let changed = async |after, device| {
        let rows = store.changed_tasks(after, device).await.unwrap();
        rows.into_iter().map(|row| row.id.0).collect::<Vec<_>>()
    };
    assert_eq!(changed(EventId(0), None).await, [1, 2, 3]);
    let before = store.newest().borrow().event;
    assert_eq!(changed(before, None).await, [0; 0]);
    // What is no task's has numbers, too.
    let event = NewEvent::new(EventKind::RecordingStarted).device(pi).detail("task", 3);
    store.record(event).await.unwrap();
    assert_eq!(changed(before, None).await, [0; 0]);
    assert!(end(&store, 1).await && end(&store, 2).await);
    assert_eq!(changed(before, None).await, [1, 2]);
    assert_eq!(changed(before, Some(pi)).await, [1]);
}
