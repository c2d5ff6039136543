//! The messages of SessionService about contexts: taking a session, letting it go, handing it over.

use std::mem::take;

use crate::domain::call::context::{ResetContext, SetContext};
use crate::domain::call::ownership::{CheckContext, ForceReset, TransferContext};
use crate::domain::call::pool::ClaimContext;
use crate::domain::id::{InstanceId, Principal, Reason, Revision, SessionName};
use crate::domain::limits::PRINCIPAL_BYTES_MAX;
use crate::domain::session::SessionView;
use crate::proto::api;
use crate::rpc::access::Sight;
use crate::rpc::convert::session::session;
use crate::rpc::convert::{Addressed, Fields, Parse, Patient, Reply};

impl Parse for api::SetSessionContextRequest {
    type Command = Patient<SetContext>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let (request_id, wait) = (take(&mut self.request_id), self.wait_timeout.take());
        fields.request("SetSessionContext", &request_id, &self);
        let name = fields.session("session", &self.session);
        let thread = fields.thread("thread_id", &self.thread_id);
        let context = fields.context(self.context);
        let wait = fields.wait_timeout(wait);
        let lease = fields.lease_ttl(self.lease_ttl);
        let SessionName { instance, session } = name?;
        let call = SetContext { session, thread: thread?, context, wait: !wait.is_zero(), lease };
        Some(Patient { addressed: Addressed { instance, call }, wait })
    }
}

impl Parse for api::ClaimSessionContextRequest {
    type Command = Patient<ClaimContext>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let (request_id, wait) = (take(&mut self.request_id), self.wait_timeout.take());
        fields.request("ClaimSessionContext", &request_id, &self);
        let instance = fields.instance("parent", &self.parent);
        let labels = fields.labels("labels", self.labels);
        let thread = fields.thread("thread_id", &self.thread_id);
        let context = fields.context(self.context);
        let wait = fields.wait_timeout(wait);
        let lease = fields.lease_ttl(self.lease_ttl);
        let (labels, thread) = (labels?, thread?);
        let call = ClaimContext { labels, thread, context, wait: !wait.is_zero(), lease };
        Some(Patient { addressed: Addressed { instance: instance?, call }, wait })
    }
}

impl Parse for api::ResetSessionContextRequest {
    type Command = Addressed<ResetContext>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let request_id = take(&mut self.request_id);
        fields.request("ResetSessionContext", &request_id, &self);
        let name = fields.session("session", &self.session);
        let thread = fields.thread("thread_id", &self.thread_id);
        let token = token(self.fencing_token);
        let SessionName { instance, session } = name?;
        Some(Addressed { instance, call: ResetContext { session, thread: thread?, token } })
    }
}

impl Parse for api::TransferSessionContextRequest {
    type Command = Addressed<TransferContext>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let request_id = take(&mut self.request_id);
        fields.request("TransferSessionContext", &request_id, &self);
        let name = fields.session("session", &self.session);
        let to_thread = fields.take("to_thread_id", self.to_thread_id.parse());
        let thread = fields.thread("thread_id", &self.thread_id);
        let token = token(self.fencing_token);
        let to_principal = principal("to_principal", &self.to_principal, fields);
        fields.hands_to(to_principal.as_ref());
        let SessionName { instance, session } = name?;
        let (thread, to_thread) = (thread?, to_thread?);
        let call = TransferContext { session, thread, token, to_thread, to_principal };
        Some(Addressed { instance, call })
    }
}

impl Parse for api::CheckSessionContextRequest {
    type Command = Addressed<CheckContext>;

    fn parse(self, fields: &mut Fields) -> Option<Self::Command> {
        let name = fields.session("session", &self.session);
        let thread = fields.thread("thread_id", &self.thread_id);
        let token = fields.token(self.fencing_token);
        let SessionName { instance, session } = name?;
        Some(Addressed { instance, call: CheckContext { session, thread: thread?, token: token? } })
    }
}

impl Parse for api::ForceResetSessionContextRequest {
    type Command = Addressed<ForceReset>;

    fn parse(mut self, fields: &mut Fields) -> Option<Self::Command> {
        let request_id = take(&mut self.request_id);
        fields.request("ForceResetSessionContext", &request_id, &self);
        let name = fields.session("session", &self.session);
        let token = fields.token(self.fencing_token);
        let reason = fields.take("reason", self.reason.parse::<Reason>());
        let SessionName { instance, session } = name?;
        Some(Addressed { instance, call: ForceReset { session, token: token?, reason: reason? } })
    }
}

/// Somebody else, if anybody is named.
fn principal(field: &str, name: &str, fields: &mut Fields) -> Option<Principal> {
    if name.len() > PRINCIPAL_BYTES_MAX || name.chars().any(char::is_control) {
        fields.bad(field, "a principal is up to 256 bytes of text without control characters");
    }
    (!name.is_empty()).then(|| Principal::new(name))
}

/// A fencing token, if it is to be checked.
fn token(token: u64) -> Option<Revision> {
    (token != 0).then(|| Revision::new(token))
}

impl Reply<SessionView> for api::SetSessionContextResponse {
    fn reply(instance: &InstanceId, sight: &Sight, answer: SessionView) -> Self {
        Self {
            fencing_token: given(&answer),
            abandoned: answer.session.abandoned(),
            session: Some(session(instance, sight, &answer)),
        }
    }
}

impl Reply<SessionView> for api::ClaimSessionContextResponse {
    fn reply(instance: &InstanceId, sight: &Sight, answer: SessionView) -> Self {
        Self {
            fencing_token: given(&answer),
            abandoned: answer.session.abandoned(),
            session: Some(session(instance, sight, &answer)),
        }
    }
}

/// The fencing token of a session that has just been bound.
fn given(view: &SessionView) -> u64 {
    view.session.binding().map_or(0, |binding| binding.token.get())
}

impl Reply<Revision> for api::ResetSessionContextResponse {
    fn reply(_: &InstanceId, _: &Sight, revision: Revision) -> Self {
        Self { revision: revision.get() }
    }
}

impl Reply<Revision> for api::TransferSessionContextResponse {
    fn reply(_: &InstanceId, _: &Sight, token: Revision) -> Self {
        Self { fencing_token: token.get() }
    }
}

impl Reply<SessionView> for api::CheckSessionContextResponse {
    fn reply(instance: &InstanceId, sight: &Sight, answer: SessionView) -> Self {
        Self { session: Some(session(instance, sight, &answer)) }
    }
}

impl Reply<Revision> for api::ForceResetSessionContextResponse {
    fn reply(_: &InstanceId, _: &Sight, revision: Revision) -> Self {
        Self { revision: revision.get() }
    }
}
