//! The messages of SessionService, but for those about contexts.

use std::mem::take;

use crate::domain::access::Role;
use crate::domain::call::pool::BatchBeginSessions;
use crate::domain::call::session::{
    BeginSession, DuplicateSession, EndHow, EndSession, GetSession, SessionFilter,
};
use crate::domain::call::transaction::{BeginTransaction, CommitTransaction, RollbackTransaction};
use crate::domain::id::{InstanceId, Owner, Reason, SessionId, SessionName};
use crate::domain::limits::BATCH_BEGIN_MAX;
use crate::domain::session::{Binding, LeaseView, SessionView, Transaction, TransactionOwner};
use crate::proto::api;
use crate::rpc::access::Sight;
use crate::rpc::convert::{Addressed, Fields, PageQuery, Parse, Reply, duration, pairs, timestamp};

impl Parse for api::BeginSessionRequest {
    type Command = Addressed<BeginSession>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let request_id = take(&mut self.request_id);
        fields.request("BeginSession", &request_id, &self);
        let instance = fields.instance("instance", &self.instance);
        let labels = fields.labels("labels", self.labels);
        Some(Addressed { instance: instance?, call: BeginSession { labels: labels? } })
    }
}

impl Parse for api::BatchBeginSessionsRequest {
    type Command = Addressed<BatchBeginSessions>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let request_id = take(&mut self.request_id);
        fields.request("BatchBeginSessions", &request_id, &self);
        let instance = fields.instance("instance", &self.instance);
        let labels = fields.labels("labels", self.labels);
        let count = u32::try_from(self.count).ok();
        let count = count.filter(|count| (1..=BATCH_BEGIN_MAX).contains(count));
        if count.is_none() {
            fields.bad("count", "must be from 1 to 1000");
        }
        let call = BatchBeginSessions { count: count?, labels: labels? };
        Some(Addressed { instance: instance?, call })
    }
}

impl Parse for api::DuplicateSessionRequest {
    type Command = Addressed<DuplicateSession>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let request_id = take(&mut self.request_id);
        fields.request("DuplicateSession", &request_id, &self);
        let SessionName { instance, session } = fields.session("session", &self.session)?;
        Some(Addressed { instance, call: DuplicateSession { session } })
    }
}

impl Parse for api::EndSessionRequest {
    type Command = Addressed<EndSession>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let request_id = take(&mut self.request_id);
        fields.request("EndSession", &request_id, &self);
        let name = fields.session("session", &self.session);
        fields.takes(if self.force { Role::Operate } else { Role::Use });
        let how = if self.force {
            if !self.thread_id.is_empty() {
                fields.thread("thread_id", &self.thread_id);
            }
            fields.take("reason", self.reason.parse::<Reason>()).map(EndHow::Forced)
        } else {
            if !self.reason.is_empty() {
                fields.bad("reason", "is only for a forced end; set force, or leave it out");
            }
            fields.thread("thread_id", &self.thread_id).map(EndHow::By)
        };
        let SessionName { instance, session } = name?;
        Some(Addressed { instance, call: EndSession { session, how: how? } })
    }
}

impl Parse for api::GetSessionRequest {
    type Command = Addressed<GetSession>;

    fn parse(self, fields: &mut Fields) -> Option<Self::Command> {
        let SessionName { instance, session } = fields.session("name", &self.name)?;
        Some(Addressed { instance, call: GetSession { session } })
    }
}

/// A wish for a page of sessions.
pub(in crate::rpc) struct ListSessionsCommand {
    pub(in crate::rpc) instance: InstanceId,
    pub(in crate::rpc) filter: SessionFilter,
    pub(in crate::rpc) after: Option<SessionId>,
    pub(in crate::rpc) page: PageQuery,
}

impl Parse for api::ListSessionsRequest {
    type Command = ListSessionsCommand;

    fn parse(mut self, fields: &mut Fields) -> Option<ListSessionsCommand> {
        let size = take(&mut self.page_size);
        let token = take(&mut self.page_token);
        let page = PageQuery::parse("ListSessions", &self, size, &token, fields);
        let after = match page.after.as_deref().map(str::parse::<SessionId>) {
            None => None,
            Some(Ok(session)) => Some(session),
            Some(Err(_)) => {
                fields.bad("page_token", "must be a next_page_token of this list");
                None
            }
        };
        let instance = fields.instance("parent", &self.parent);
        let filter = session_filter(self.filter.unwrap_or_default(), fields);
        Some(ListSessionsCommand { instance: instance?, filter: filter?, after, page })
    }
}

/// The filter of a list or a watch.
pub(in crate::rpc) fn session_filter(
    wanted: api::SessionFilter,
    fields: &mut Fields,
) -> Option<SessionFilter> {
    let labels = fields.labels("filter.labels", wanted.labels);
    let thread = match wanted.thread_id.as_str() {
        "" => None,
        id => fields.take("filter.thread_id", id.parse()),
    };
    Some(SessionFilter { bound: wanted.bound, thread, labels: labels? })
}

impl Parse for api::BeginTransactionRequest {
    type Command = Addressed<BeginTransaction>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let request_id = take(&mut self.request_id);
        fields.request("BeginTransaction", &request_id, &self);
        let name = fields.session("session", &self.session);
        let thread = fields.thread("thread_id", &self.thread_id);
        let SessionName { instance, session } = name?;
        Some(Addressed { instance, call: BeginTransaction { session, thread: thread? } })
    }
}

impl Parse for api::CommitTransactionRequest {
    type Command = Addressed<CommitTransaction>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let request_id = take(&mut self.request_id);
        fields.request("CommitTransaction", &request_id, &self);
        let name = fields.session("session", &self.session);
        let thread = fields.thread("thread_id", &self.thread_id);
        let SessionName { instance, session } = name?;
        Some(Addressed { instance, call: CommitTransaction { session, thread: thread? } })
    }
}

impl Parse for api::RollbackTransactionRequest {
    type Command = Addressed<RollbackTransaction>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let request_id = take(&mut self.request_id);
        fields.request("RollbackTransaction", &request_id, &self);
        let name = fields.session("session", &self.session);
        let thread = fields.thread("thread_id", &self.thread_id);
        let all_levels = self.all_levels;
        let SessionName { instance, session } = name?;
        let call = RollbackTransaction { session, thread: thread?, all_levels };
        Some(Addressed { instance, call })
    }
}

impl Reply<SessionView> for api::BeginSessionResponse {
    fn reply(instance: &InstanceId, sight: &Sight, answer: SessionView) -> Self {
        Self { session: Some(session(instance, sight, &answer)) }
    }
}

impl Reply<Vec<SessionView>> for api::BatchBeginSessionsResponse {
    fn reply(instance: &InstanceId, sight: &Sight, answer: Vec<SessionView>) -> Self {
        Self { sessions: answer.iter().map(|begun| session(instance, sight, begun)).collect() }
    }
}

impl Reply<SessionView> for api::DuplicateSessionResponse {
    fn reply(instance: &InstanceId, sight: &Sight, answer: SessionView) -> Self {
        Self { session: Some(session(instance, sight, &answer)) }
    }
}

impl Reply<()> for api::EndSessionResponse {
    fn reply(_: &InstanceId, _: &Sight, (): ()) -> Self {
        Self {}
    }
}

impl Reply<SessionView> for api::GetSessionResponse {
    fn reply(instance: &InstanceId, sight: &Sight, answer: SessionView) -> Self {
        Self { session: Some(session(instance, sight, &answer)) }
    }
}

impl Reply<u8> for api::BeginTransactionResponse {
    fn reply(_: &InstanceId, _: &Sight, level: u8) -> Self {
        Self { transaction_level: level.into() }
    }
}

impl Reply<u8> for api::CommitTransactionResponse {
    fn reply(_: &InstanceId, _: &Sight, level: u8) -> Self {
        Self { transaction_level: level.into() }
    }
}

impl Reply<u8> for api::RollbackTransactionResponse {
    fn reply(_: &InstanceId, _: &Sight, level: u8) -> Self {
        Self { transaction_level: level.into() }
    }
}

/// A session on the wire, as somebody may know it who sees only some principals.
pub(in crate::rpc) fn session(
    instance: &InstanceId,
    sight: &Sight,
    view: &SessionView,
) -> api::Session {
    let SessionView { session, waiters, lease } = view;
    api::Session {
        name: SessionName { instance: instance.clone(), session: session.id }.to_string(),
        sesid: session.id.get(),
        labels: pairs(&session.labels),
        transaction_level: session.transaction_level().into(),
        binding: session.binding().map(|held| binding(held, *lease, sight)),
        transaction_binding: session.transaction().map(|bound| transaction_binding(bound, sight)),
        waiters: i32::try_from(*waiters).unwrap_or(i32::MAX),
        abandoned: session.abandoned(),
        create_time: Some(timestamp(session.created)),
        revision: session.revision.get(),
    }
}

fn binding(binding: &Binding, lease: Option<LeaseView>, sight: &Sight) -> api::ContextBinding {
    let (thread_id, principal) = names(&binding.owner, sight);
    api::ContextBinding {
        thread_id,
        context: binding.context.get(),
        fencing_token: binding.token.get(),
        set_time: Some(timestamp(binding.since)),
        lease_ttl: lease.and_then(|lease| duration(lease.ttl)),
        lease_remaining: lease.and_then(|lease| duration(lease.remaining)),
        principal,
    }
}

fn transaction_binding(transaction: &Transaction, sight: &Sight) -> api::TransactionBinding {
    use api::transaction_binding::Owner;
    let (owner, principal) = match transaction.bound_to() {
        TransactionOwner::Context(word) => (Some(Owner::Context(word.get())), String::new()),
        TransactionOwner::Thread(owner) => {
            let (thread, principal) = names(owner, sight);
            ((!thread.is_empty()).then_some(Owner::ThreadId(thread)), principal)
        }
    };
    api::TransactionBinding { owner, principal }
}

/// What a thread and its principal are called; nothing to whoever may not know.
fn names(owner: &Owner, sight: &Sight) -> (String, String) {
    if !sight.sees(owner.principal()) {
        return (String::new(), String::new());
    }
    (owner.thread().as_str().to_owned(), owner.principal().as_str().to_owned())
}
