//! Sessions, tokens, leases, waiters and remembered answers, as small as they can be and still honest.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::client::DOMAIN;
use crate::domain::jet_err::JetErr;
use crate::proto::api::session_event::Cause;
use crate::proto::api::{ContextBinding, LostContext, Session};

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) sessions: BTreeMap<u64, Entry>,
    revision: u64,
    /// The answers to calls with a request id, as bytes of the response.
    pub(super) answers: BTreeMap<String, Vec<u8>>,
    leases: BTreeMap<String, (Duration, Instant)>,
    lost: BTreeMap<String, Vec<LostContext>>,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    labels: BTreeMap<String, String>,
    held: Option<(String, u64, u64)>,
    abandoned: bool,
    level: i32,
    waiters: VecDeque<Waiter>,
    last: Option<(String, Vec<(&'static str, String)>)>,
}

#[derive(Debug)]
struct Waiter {
    thread: String,
    context: u64,
    grant: oneshot::Sender<u64>,
}

/// A refusal as the server writes it.
pub(in crate::client::tests) fn refused(
    code: Code,
    jet: JetErr,
    reason: &str,
    facts: &[(&str, &str)],
    after: Option<Duration>,
) -> Status {
    let number = jet.code().to_string();
    let known = [("jet_error", number.as_str()), ("jet_error_name", jet.name())];
    let facts: HashMap<String, String> =
        known.iter().chain(facts).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, facts);
    details.set_retry_info(after);
    let mut trailers = MetadataMap::new();
    if code == Code::Unavailable && after.is_none() {
        trailers.insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
    }
    Status::with_error_details_and_metadata(code, jet.message(), details, trailers)
}

impl Model {
    fn next(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    pub(super) fn begin(&mut self, labels: BTreeMap<String, String>) -> Session {
        let sesid = self.next();
        self.sessions.insert(sesid, Entry { labels, ..Entry::default() });
        self.show(sesid)
    }

    pub(super) fn show(&self, sesid: u64) -> Session {
        let entry = &self.sessions[&sesid];
        Session {
            name: format!("instances/main/sessions/{sesid}"),
            sesid,
            labels: entry.labels.clone(),
            transaction_level: entry.level,
            binding: entry.held.as_ref().map(|(thread, context, token)| ContextBinding {
                thread_id: thread.clone(),
                context: *context,
                fencing_token: *token,
                ..ContextBinding::default()
            }),
            abandoned: entry.abandoned,
            ..Session::default()
        }
    }

    pub(super) fn holder(&self, sesid: u64) -> Option<(String, u64)> {
        let held = self.sessions.get(&sesid)?.held.as_ref();
        held.map(|(thread, _, token)| (thread.clone(), *token))
    }

    /// A free session with these labels.
    pub(super) fn free(&self, labels: &BTreeMap<String, String>) -> Option<u64> {
        let mut all = self.sessions.iter();
        let fits = |entry: &Entry| labels.iter().all(|(k, v)| entry.labels.get(k) == Some(v));
        all.find(|(_, entry)| entry.held.is_none() && fits(entry)).map(|(sesid, _)| *sesid)
    }

    /// Sets, or refuses with −1912. Answers the token and whether the session was abandoned.
    pub(super) fn set(&mut self, sesid: u64, thread: &str, context: u64) -> Result<u64, Status> {
        let token = self.revision + 1;
        let Some(entry) = self.sessions.get_mut(&sesid) else {
            return Err(refused(Code::NotFound, JetErr::InvalidSesid, "INVALID_SESID", &[], None));
        };
        if let Some((holder, _, held_with)) = &entry.held {
            let held_with = held_with.to_string();
            let facts = [("holder_thread_id", holder.as_str()), ("fencing_token", &held_with)];
            let (jet, code) = (JetErr::SessionContextAlreadySet, Code::FailedPrecondition);
            return Err(refused(code, jet, &jet.reason(), &facts, None));
        }
        entry.held = Some((thread.to_owned(), context, token));
        self.revision = token;
        Ok(token)
    }

    /// Stands in the queue of a session.
    pub(super) fn wait(
        &mut self,
        sesid: u64,
        thread: &str,
        context: u64,
    ) -> oneshot::Receiver<u64> {
        let (grant, granted) = oneshot::channel();
        let waiter = Waiter { thread: thread.to_owned(), context, grant };
        self.sessions.get_mut(&sesid).unwrap().waiters.push_back(waiter);
        granted
    }

    /// The holder's own calls: the right thread with the right token, or the refusal.
    pub(super) fn owns(&self, sesid: u64, thread: &str, token: u64) -> Result<(), Status> {
        let jet = JetErr::SessionContextNotSetByThisThread;
        let entry = &self.sessions[&sesid];
        let current = entry.held.as_ref().map(|(_, _, token)| *token);
        let mine = entry.held.as_ref().is_some_and(|(holder, _, _)| holder == thread);
        let last = entry.last.iter().filter(|(last, _)| last == thread);
        let told: Vec<(&str, &str)> =
            last.flat_map(|(_, facts)| facts).map(|(k, v)| (*k, v.as_str())).collect();
        if token != 0 && current != Some(token) {
            return Err(refused(Code::Aborted, jet, "STALE_FENCING_TOKEN", &told, None));
        }
        if mine {
            return Ok(());
        }
        let facts = if told.is_empty() { vec![("cause", "held_by_other")] } else { told };
        Err(refused(Code::FailedPrecondition, jet, &jet.reason(), &facts, None))
    }

    /// Frees a session, or gives it to the next who waits.
    pub(super) fn free_it(&mut self, sesid: u64) -> u64 {
        let freed = self.next();
        let entry = self.sessions.get_mut(&sesid).unwrap();
        entry.held = None;
        while let Some(waiter) = entry.waiters.pop_front() {
            let token = freed + 1;
            if waiter.grant.send(token).is_ok() {
                entry.held = Some((waiter.thread, waiter.context, token));
                self.revision = token;
                break;
            }
        }
        freed
    }

    pub(super) fn transfer(&mut self, sesid: u64, to: &str) -> u64 {
        let token = self.next();
        let held = self.sessions.get_mut(&sesid).unwrap().held.as_mut().unwrap();
        (held.0, held.2) = (to.to_owned(), token);
        token
    }

    pub(super) fn level(&mut self, sesid: u64, by: i32) -> i32 {
        let entry = self.sessions.get_mut(&sesid).unwrap();
        entry.level += by;
        entry.level
    }

    pub(super) fn end(&mut self, sesid: u64) {
        self.sessions.remove(&sesid);
    }

    /// Takes a session away from its holder, who is told.
    fn lose(&mut self, sesid: u64, cause: Cause, told: Vec<(&'static str, String)>) {
        let entry = self.sessions.get_mut(&sesid).unwrap();
        let (thread, _, token) = entry.held.clone().unwrap();
        entry.abandoned = true;
        entry.last = Some((thread.clone(), told));
        self.lost.entry(thread).or_default().push(LostContext {
            session: format!("instances/main/sessions/{sesid}"),
            cause: cause.into(),
            fencing_token: token,
            time: None,
        });
        self.free_it(sesid);
    }

    pub(super) fn force(&mut self, sesid: u64, by: &str, reason: &str) {
        let told = vec![
            ("cause", "forced".to_owned()),
            ("by_principal", by.to_owned()),
            ("reason", reason.to_owned()),
        ];
        self.lose(sesid, Cause::Forced, told);
    }

    pub(super) fn lease(&mut self, thread: &str, ttl: Duration, now: Instant) {
        self.leases.insert(thread.to_owned(), (ttl, now + ttl));
    }

    pub(super) fn lost(&self, thread: &str) -> Vec<LostContext> {
        self.lost.get(thread).cloned().unwrap_or_default()
    }

    pub(super) fn held_by(&self, thread: &str) -> Vec<u64> {
        let all = self.sessions.iter();
        let held = all.filter(|(_, e)| e.held.as_ref().is_some_and(|(by, _, _)| by == thread));
        held.map(|(sesid, _)| *sesid).collect()
    }

    /// Ends what is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let over = self.leases.extract_if(.., |_, (_, until)| *until <= now);
        for thread in over.map(|(thread, _)| thread).collect::<Vec<_>>() {
            for sesid in self.held_by(&thread) {
                self.expire_one(sesid);
            }
        }
    }

    pub(super) fn expire_one(&mut self, sesid: u64) {
        let told = vec![("cause", "lease_expired".to_owned())];
        self.lose(sesid, Cause::LeaseExpired, told);
    }
}
