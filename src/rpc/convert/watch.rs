//! The messages of WatchSessions.

use crate::domain::call::session::SessionFilter;
use crate::domain::id::{InstanceId, Principal, Reason, Revision};
use crate::domain::session::SessionView;
use crate::domain::watch::{Cause, Told};
use crate::engine::sessions::Watched;
use crate::proto::api;
use crate::proto::api::session_event::Cause as Word;
use crate::rpc::access::Sight;
use crate::rpc::convert::{Fields, Parse, session, session_filter, timestamp};

/// A wish to watch the sessions of an instance.
pub(in crate::rpc) struct WatchSessionsCommand {
    pub(in crate::rpc) instance: InstanceId,
    pub(in crate::rpc) from: Revision,
    pub(in crate::rpc) filter: SessionFilter,
}

impl Parse for api::WatchSessionsRequest {
    type Command = WatchSessionsCommand;

    fn parse(self, fields: &mut Fields) -> Option<WatchSessionsCommand> {
        let instance = fields.instance("parent", &self.parent);
        let filter = session_filter(self.filter.unwrap_or_default(), fields);
        let from = Revision::new(self.from_revision);
        Some(WatchSessionsCommand { instance: instance?, from, filter: filter? })
    }
}

/// What a watch tells, on the wire.
pub(in crate::rpc) fn watched(
    instance: &InstanceId,
    sight: &Sight,
    watched: &Watched,
) -> api::WatchSessionsResponse {
    let event = match watched {
        Watched::Present(revision, view) => {
            snapshot(*revision, Some(session(instance, sight, view)))
        }
        Watched::UpTo(revision) => snapshot(*revision, None),
        Watched::Event(told) => event(instance, sight, told),
    };
    api::WatchSessionsResponse { event: Some(event) }
}

fn snapshot(revision: Revision, session: Option<api::Session>) -> api::SessionEvent {
    api::SessionEvent {
        revision: revision.get(),
        session,
        cause: Word::Snapshot.into(),
        ..Default::default()
    }
}

fn event(instance: &InstanceId, sight: &Sight, told: &Told) -> api::SessionEvent {
    let view: &SessionView = &told.seen.after;
    let (cause, reason) = word(&told.cause);
    let by = told.by.as_ref().filter(|by| sight.sees(by));
    api::SessionEvent {
        revision: told.revision.get(),
        session: Some(session(instance, sight, view)),
        cause: cause.into(),
        principal: by.map(Principal::as_str).unwrap_or_default().to_owned(),
        reason: reason.map(Reason::as_str).unwrap_or_default().to_owned(),
        time: Some(timestamp(told.time)),
    }
}

fn word(cause: &Cause) -> (Word, Option<&Reason>) {
    match cause {
        Cause::Began => (Word::Began, None),
        Cause::Set => (Word::Set, None),
        Cause::Reset => (Word::Reset, None),
        Cause::Transferred => (Word::Transferred, None),
        Cause::LeaseExpired => (Word::LeaseExpired, None),
        Cause::Forced(reason) => (Word::Forced, Some(reason)),
        Cause::Ended(reason) => (Word::Ended, reason.as_ref()),
        Cause::TransactionBegan => (Word::TransactionBegan, None),
        Cause::TransactionCommitted => (Word::TransactionCommitted, None),
        Cause::TransactionRolledBack => (Word::TransactionRolledBack, None),
    }
}
