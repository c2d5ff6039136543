//! Clients that go on over restarts: workers that repeat a call under its request id until it is answered, and
//! watchers that go on where they were. Whatever fails meanwhile must say that trying again helps.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jet_session::proto::api as pb;
use jet_session::proto::api::session_event::Cause;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::clients::{MAIN, fact, jet_error};
use crate::server::within;

/// What a process that goes down, or comes up, answers.
const ON_ITS_WAY: [i32; 3] = [-1329, -1029, -1031];

/// The pause before a retry that nobody advised.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether clients go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    /// Until they are told otherwise.
    On,
    /// Until what they are about is done.
    ToTheEnd,
    /// Until they are refused: the server does not come back.
    UntilRefused,
}

/// A connection that is made when it is needed, and again when it is broken.
pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("a URI").connect_lazy()
}

/// Checks that a failure is one that a client may repeat blindly, and waits as long as it says.
async fn pause(doing: &str, status: &Status) {
    let advised = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    match (status.code(), jet_error(status)) {
        // The connection is gone, or was refused.
        (Code::Unavailable, None) => {}
        (_, None) if crossed_a_goodbye(status) => {}
        (Code::Unavailable, Some(code)) if ON_ITS_WAY.contains(&code) && advised.is_some() => {}
        _ => panic!("A FAILURE THAT DOES NOT SAY TO TRY AGAIN: {doing}: {status:?}"),
    }
    tokio::time::sleep(advised.unwrap_or(PAUSE)).await;
}

/// Whether the client's own side says that its call was not processed, because the server had said goodbye when it
/// came. tonic calls that INTERNAL, or CANCELLED if it was not even sent; other clients repeat it by themselves.
fn crossed_a_goodbye(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let well = error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_go_away() && error.is_remote() && well;
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// How many clients have come to something.
#[derive(Debug, Clone, Default)]
pub(crate) struct Begun(Arc<watch::Sender<usize>>);

impl Begun {
    fn one_more(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Waits for so many.
    pub(crate) async fn wait(&self, clients: usize) {
        let mut count = self.0.subscribe();
        within("all clients begin", count.wait_for(|count| *count >= clients))
            .await
            .expect("it lives");
    }
}

/// One that takes and lets go of a session of its own.
pub(crate) struct Worker {
    sessions: SessionServiceClient<Channel>,
    thread_id: String,
    session: String,
    go: watch::Receiver<Go>,
    /// The pause between two calls.
    pace: Duration,
    begun: Begun,
    /// The revisions of what was answered: a Set, a Reset, a Set and so on.
    done: Vec<u64>,
    /// Calls that failed and were repeated, or would have been.
    failures: usize,
}

/// What a worker has done.
pub(crate) struct Work {
    pub(crate) session: String,
    pub(crate) done: Vec<u64>,
    pub(crate) failures: usize,
}

impl Worker {
    pub(crate) async fn new(
        channel: &Channel,
        number: usize,
        pace: Duration,
        (go, begun): (&watch::Receiver<Go>, &Begun),
    ) -> Self {
        let mut sessions = SessionServiceClient::new(channel.clone());
        let request = pb::BeginSessionRequest { instance: MAIN.to_owned(), ..Default::default() };
        let answer = sessions.begin_session(request).await.expect("main begins sessions");
        let session = answer.into_inner().session.expect("the answer has a session").name;
        let thread_id = format!("worker-{number}");
        let (go, begun) = (go.clone(), begun.clone());
        Self { sessions, thread_id, session, go, pace, begun, done: Vec::new(), failures: 0 }
    }

    pub(crate) async fn run(mut self) -> Work {
        while *self.go.borrow() != Go::ToTheEnd {
            let Some(revision) = self.next().await else {
                break;
            };
            self.done.push(revision);
            if self.done.len() == 2 {
                self.begun.one_more();
            }
            tokio::time::sleep(self.pace).await;
        }
        Work { session: self.session, done: self.done, failures: self.failures }
    }

    /// Does the next thing, once.
    async fn next(&mut self) -> Option<u64> {
        let number = self.done.len();
        let request_id = format!("{}-{number}", self.thread_id);
        loop {
            let (session, thread_id) = (self.session.clone(), self.thread_id.clone());
            let request_id = request_id.clone();
            let answer = if number.is_multiple_of(2) {
                let set = pb::SetSessionContextRequest {
                    session,
                    thread_id,
                    context: 7,
                    request_id,
                    ..Default::default()
                };
                self.sessions
                    .set_session_context(set)
                    .await
                    .map(|set| set.into_inner().fencing_token)
            } else {
                let reset = pb::ResetSessionContextRequest {
                    session,
                    thread_id,
                    request_id,
                    ..Default::default()
                };
                let reset = self.sessions.reset_session_context(reset).await;
                reset.map(|reset| reset.into_inner().revision)
            };
            match answer {
                Ok(revision) => return Some(revision),
                Err(status) => {
                    self.failures += 1;
                    pause(&format!("{} {number}", self.thread_id), &status).await;
                    if *self.go.borrow() == Go::UntilRefused && jet_error(&status).is_none() {
                        return None;
                    }
                }
            }
        }
    }
}

/// One that is told everything, from server to server.
pub(crate) struct Watcher {
    sessions: SessionServiceClient<Channel>,
    go: watch::Receiver<Go>,
    begun: Begun,
    /// The events that were told, in order: session and cause.
    told: Vec<(String, Cause)>,
    /// How often a server said goodbye.
    goodbyes: usize,
}

/// What a watcher was told.
pub(crate) struct Told {
    pub(crate) events: Vec<(String, Cause)>,
    pub(crate) goodbyes: usize,
}

impl Watcher {
    pub(crate) fn new(channel: &Channel, (go, begun): (&watch::Receiver<Go>, &Begun)) -> Self {
        let sessions = SessionServiceClient::new(channel.clone());
        Self { sessions, go: go.clone(), begun: begun.clone(), told: Vec::new(), goodbyes: 0 }
    }

    /// As one that has been told so much already.
    pub(crate) fn after(channel: &Channel, go: &watch::Receiver<Go>, told: Told) -> Self {
        Self { told: told.events, ..Self::new(channel, (go, &Begun::default())) }
    }

    /// Watches until everything up to `last` was told, if it is known, or until nobody is there any more.
    pub(crate) async fn run(mut self, last: watch::Receiver<u64>) -> Told {
        loop {
            let request = pb::WatchSessionsRequest {
                parent: MAIN.to_owned(),
                from_revision: self.next(),
                filter: None,
            };
            match self.sessions.watch_sessions(request).await {
                Ok(watch) => {
                    if self.listen(watch.into_inner(), last.clone()).await {
                        break;
                    }
                }
                Err(status) => {
                    pause("a watch begins", &status).await;
                    if *self.go.borrow() == Go::UntilRefused && jet_error(&status).is_none() {
                        break;
                    }
                }
            }
        }
        Told { events: self.told, goodbyes: self.goodbyes }
    }

    /// The revision that comes next: there has been nothing before the first.
    fn next(&self) -> u64 {
        self.told.len() as u64 + 1
    }

    /// Listens to one watch; answers whether that was all.
    async fn listen(
        &mut self,
        mut watch: tonic::Streaming<pb::WatchSessionsResponse>,
        mut last: watch::Receiver<u64>,
    ) -> bool {
        loop {
            let next = self.next();
            let message = tokio::select! {
                message = watch.message() => message,
                Ok(_) = last.wait_for(|last| next > *last) => return true,
            };
            match message {
                Ok(message) => {
                    let event = message.and_then(|message| message.event).expect("a watch goes on");
                    assert_eq!(event.revision, next, "A GAP OR A REPETITION");
                    let cause = event.cause();
                    self.told.push((event.session.expect("a session").name, cause));
                    if self.told.len() == 1 {
                        self.begun.one_more();
                    }
                }
                Err(status) => {
                    let resume = fact(&status, "resume_revision");
                    assert_eq!(resume, next.to_string(), "where to go on: {status:?}");
                    assert_eq!(jet_error(&status), Some(-1329), "{status:?}");
                    self.goodbyes += 1;
                    pause("a watch ends", &status).await;
                    return false;
                }
            }
        }
    }
}

/// Checks that everything that was answered has happened, once, and nothing else but perhaps the thing that each
/// worker was about when it stopped.
pub(crate) fn assert_exactly_once(work: &[Work], told: &Told, may_be_about: bool) {
    let mut happened: BTreeMap<&str, Vec<(u64, Cause)>> = BTreeMap::new();
    for (revision, (session, cause)) in (1..).zip(&told.events) {
        if *cause != Cause::Began {
            happened.entry(session).or_default().push((revision, *cause));
        }
    }
    for Work { session, done, .. } in work {
        let happened = happened.remove(&**session).unwrap_or_default();
        let more = happened.len() - done.len().min(happened.len());
        assert!(more <= usize::from(may_be_about), "{session}: {more} more than was answered");
        let causes = [Cause::Set, Cause::Reset].into_iter().cycle();
        assert!(
            happened.iter().map(|(_, cause)| *cause).eq(causes.take(happened.len())),
            "{session}"
        );
        let revisions = happened.iter().take(done.len()).map(|(revision, _)| revision);
        assert!(revisions.eq(done), "{session}: what was answered is not what has happened");
    }
    assert!(happened.is_empty(), "nobody did this: {happened:?}");
}
