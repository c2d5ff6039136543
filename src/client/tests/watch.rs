//! Watching without gap or double.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::Scene;
use super::fake::refused;
use crate::client::{DOMAIN, Watch};
use crate::domain::jet_err::JetErr;
use crate::proto::api::session_event::Cause;
use crate::proto::api::{Session, SessionEvent};

fn event(revision: u64, cause: Cause) -> SessionEvent {
    let session = Some(Session { sesid: 1, ..Session::default() });
    SessionEvent { revision, session, cause: cause.into(), ..SessionEvent::default() }
}

fn end_of_snapshot(revision: u64) -> SessionEvent {
    SessionEvent { revision, cause: Cause::Snapshot.into(), ..SessionEvent::default() }
}

fn too_slow() -> Status {
    let facts = HashMap::from([("resume_revision".to_owned(), "8".to_owned())]);
    let details = ErrorDetails::with_error_info("WATCH_TOO_SLOW", DOMAIN, facts);
    Status::with_error_details(Code::ResourceExhausted, "", details)
}

async fn revisions(watch: &mut Watch, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(watch.next().await.unwrap().revision);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_where_it_was() {
    let scene = Scene::plain().await;
    let snapshot = vec![event(5, Cause::Snapshot), end_of_snapshot(5), event(7, Cause::Set)];
    scene.fake.watched(snapshot, Status::unavailable("a proxy went down"));
    scene.fake.watched(vec![event(9, Cause::Reset)], too_slow());
    scene.fake.watched(vec![event(12, Cause::Set)], None);
    let mut watch = scene.client.watch_sessions(&"main".parse().unwrap());

    assert_eq!(revisions(&mut watch, 5).await, [5, 5, 7, 9, 12]);
    scene.fake.watched(vec![event(14, Cause::Reset)], None);
    scene.fake.cut();
    assert_eq!(revisions(&mut watch, 1).await, [14]);

    assert_eq!(scene.fake.watched_from(), [0, 8, 10, 13]);
    assert_eq!(watch.resume_revision(), 15);
}

#[tokio::test(start_paused = true)]
async fn half_a_snapshot_is_read_anew() {
    let scene = Scene::plain().await;
    scene.fake.watched(vec![event(5, Cause::Snapshot)], Status::unavailable(""));
    scene.fake.watched(vec![event(6, Cause::Snapshot), end_of_snapshot(6)], None);
    let mut watch = scene.client.watch_sessions(&"main".parse().unwrap());

    assert_eq!(revisions(&mut watch, 3).await, [5, 6, 6]);

    assert_eq!(scene.fake.watched_from(), [0, 0]);
    assert_eq!(watch.resume_revision(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_where_going_on_would_leave_a_gap_or_not_help() {
    let scene = Scene::plain().await;
    let details = ErrorDetails::with_error_info(
        "REVISION_COMPACTED",
        DOMAIN,
        HashMap::from([("oldest_revision".to_owned(), "40".to_owned())]),
    );
    scene.fake.watched(vec![], Status::with_error_details(Code::OutOfRange, "", details));
    let mut watch = scene.client.watch_sessions(&"main".parse().unwrap()).from_revision(3);
    let error = watch.next().await.unwrap_err();
    assert_eq!(error.refusal().unwrap().fact("oldest_revision"), Some("40"));

    let jet = JetErr::TermInProgress;
    scene.fake.watched(vec![], refused(Code::Unavailable, jet, &jet.reason(), &[], None));
    assert_eq!(watch.next().await.unwrap_err().jet_err(), Some(jet));
    assert_eq!(scene.fake.watched_from(), [3, 3]);
}
