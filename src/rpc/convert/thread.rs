//! The messages of ThreadService.

use std::collections::BTreeSet;
use std::mem::take;

use crate::domain::call::thread::KeepAlive;
use crate::domain::id::{InstanceId, Owner, Principal, SessionName, ThreadId};
use crate::domain::lease::{Loss, LossCause};
use crate::domain::limits::THREADS_PER_CALL_MAX;
use crate::engine::threads::{Everywhere, KeptThread, WaitsFor};
use crate::proto::api;
use crate::proto::api::session_event::Cause;
use crate::rpc::convert::{Fields, LEASE_RULE, PageQuery, Parse, count, duration, timestamp};

impl Parse for api::KeepThreadsAliveRequest {
    type Command = KeepAlive;

    fn parse(self, fields: &mut Fields) -> Option<KeepAlive> {
        let threads = threads(&self.thread_ids, fields);
        if self.lease_ttl.is_none() {
            fields.bad("lease_ttl", LEASE_RULE);
        }
        let ttl = fields.lease_ttl(self.lease_ttl);
        Some(KeepAlive { threads: threads?, ttl: ttl?, include_held: self.include_held })
    }
}

/// A wish to see one thread.
pub(in crate::rpc) struct OneThread(pub(in crate::rpc) ThreadId);

impl Parse for api::GetThreadRequest {
    type Command = OneThread;

    fn parse(self, fields: &mut Fields) -> Option<OneThread> {
        fields.thread("thread_id", &self.thread_id).map(OneThread)
    }
}

/// A wish for a page of threads.
pub(in crate::rpc) struct ListThreadsCommand {
    pub(in crate::rpc) after: Option<Owner>,
    pub(in crate::rpc) page: PageQuery,
}

impl Parse for api::ListThreadsRequest {
    type Command = ListThreadsCommand;

    fn parse(mut self, fields: &mut Fields) -> Option<ListThreadsCommand> {
        let size = take(&mut self.page_size);
        let token = take(&mut self.page_token);
        let page = PageQuery::parse("ListThreads", &self, size, &token, fields);
        let after = page.after.as_deref().map(owner);
        if after == Some(None) {
            fields.bad("page_token", "must be a next_page_token of this list");
        }
        Some(ListThreadsCommand { after: after.flatten(), page })
    }
}

/// A wish that threads end.
pub(in crate::rpc) struct EndThreadsCommand(pub(in crate::rpc) Vec<ThreadId>);

impl Parse for api::EndThreadsRequest {
    type Command = EndThreadsCommand;

    fn parse(self, fields: &mut Fields) -> Option<EndThreadsCommand> {
        threads(&self.thread_ids, fields).map(EndThreadsCommand)
    }
}

/// Threads of the caller, each once, in the order in which they are named.
fn threads(ids: &[String], fields: &mut Fields) -> Option<Vec<ThreadId>> {
    if !(1..=THREADS_PER_CALL_MAX).contains(&ids.len()) {
        fields.bad("thread_ids", format!("must be from 1 to {THREADS_PER_CALL_MAX} thread ids"));
        return None;
    }
    let mut known = BTreeSet::new();
    let mut threads = Vec::with_capacity(ids.len());
    for (nth, id) in ids.iter().enumerate() {
        let thread = fields.take(&format!("thread_ids[{nth}]"), id.parse::<ThreadId>());
        if let Some(thread) = thread
            && known.insert(thread.clone())
        {
            threads.push(thread);
        }
    }
    Some(threads)
}

/// A thread as a place in a list, as text. No thread id has a space in it.
fn place(principal: &str, thread: &str) -> String {
    format!("{thread} {principal}")
}

/// The place of a thread in a list.
pub(in crate::rpc) fn place_of(thread: &api::Thread) -> String {
    place(&thread.principal, &thread.thread_id)
}

/// The place of the last thread of a page.
pub(in crate::rpc) fn place_after(owner: &Owner) -> String {
    place(owner.principal().as_str(), owner.thread().as_str())
}

/// The thread that has this place.
fn owner(place: &str) -> Option<Owner> {
    let (thread, principal) = place.split_once(' ')?;
    Some(Owner::new(Principal::new(principal), thread.parse().ok()?))
}

/// A thread on the wire.
pub(in crate::rpc) fn thread(found: Everywhere) -> api::Thread {
    let Everywhere { owner, lease, held_count, held, waiting_for } = found;
    api::Thread {
        thread_id: owner.thread().as_str().to_owned(),
        principal: owner.principal().as_str().to_owned(),
        lease_ttl: lease.and_then(|lease| duration(lease.ttl)),
        lease_remaining: lease.and_then(|lease| duration(lease.remaining)),
        held_count: count(held_count),
        held: names(&held),
        waiting_for: waiting_for
            .iter()
            .map(|waits_for| match waits_for {
                WaitsFor::Session(session) => session.to_string(),
                WaitsFor::Pool(instance) => instance.name(),
            })
            .collect(),
    }
}

/// A thread that was kept alive, on the wire.
pub(in crate::rpc) fn kept(kept: KeptThread) -> api::KeptThread {
    let KeptThread { thread, remaining, held_count, held, lost: losses } = kept;
    api::KeptThread {
        thread_id: thread.as_str().to_owned(),
        lease_remaining: duration(remaining),
        held_count: count(held_count),
        held: names(&held),
        lost: losses.into_iter().map(|(instance, loss)| lost(instance, &loss)).collect(),
    }
}

fn names(sessions: &[SessionName]) -> Vec<String> {
    sessions.iter().map(SessionName::to_string).collect()
}

fn lost(instance: InstanceId, loss: &Loss) -> api::LostContext {
    let cause = match loss.cause {
        LossCause::LeaseExpired => Cause::LeaseExpired,
        LossCause::Forced => Cause::Forced,
        LossCause::Ended => Cause::Ended,
    };
    api::LostContext {
        session: SessionName { instance, session: loss.session }.to_string(),
        cause: cause.into(),
        fencing_token: loss.token.get(),
        time: Some(timestamp(loss.time)),
    }
}
