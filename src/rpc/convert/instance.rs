//! The messages of InstanceService.

use std::collections::BTreeSet;

use crate::domain::id::InstanceId;
use crate::domain::instance::{Durability, TerminateMode};
use crate::domain::lifecycle::{Failure, Phase};
use crate::domain::limits::SESSIONS_MAX;
use crate::engine::NewInstance;
use crate::engine::watch::InstanceView;
use crate::proto::api;
use crate::rpc::OfInstance;
use crate::rpc::convert::{Fields, PageQuery, Parse, count, pairs, timestamp};
use crate::rpc::status::{BadField, jet_error};

impl Parse for api::CreateInstanceRequest {
    type Command = NewInstance;

    fn parse(mut self, fields: &mut Fields) -> Option<NewInstance> {
        let request_id = std::mem::take(&mut self.request_id);
        fields.request("CreateInstance", &request_id, &self);
        let id = fields.take("instance_id", self.instance_id.parse::<InstanceId>());
        fields.about(id.as_ref());
        let labels = fields.labels("labels", self.labels);
        let max_sessions = match u32::try_from(self.max_sessions) {
            Ok(0) => None,
            Ok(max) if max <= SESSIONS_MAX => Some(max),
            Ok(_) | Err(_) => {
                fields.bad("max_sessions", "must be from 1 to 10000000, or 0 for the default");
                None
            }
        };
        let durability = match api::Durability::try_from(self.durability) {
            Ok(api::Durability::Unspecified | api::Durability::Flush) => Durability::Flush,
            Ok(api::Durability::Lazy) => Durability::Lazy,
            Err(_) => {
                fields.bad("durability", "must be DURABILITY_FLUSH or DURABILITY_LAZY");
                Durability::Flush
            }
        };
        Some(NewInstance { id: id?, labels: labels?, max_sessions, durability, ready: false })
    }
}

impl Parse for api::GetInstanceRequest {
    type Command = OfInstance;

    fn parse(self, fields: &mut Fields) -> Option<OfInstance> {
        fields.instance("name", &self.name).map(OfInstance)
    }
}

/// A wish for a page of instances.
pub(in crate::rpc) struct ListInstancesCommand {
    pub(in crate::rpc) after: Option<InstanceId>,
    pub(in crate::rpc) page: PageQuery,
}

impl Parse for api::ListInstancesRequest {
    type Command = ListInstancesCommand;

    fn parse(mut self, fields: &mut Fields) -> Option<ListInstancesCommand> {
        let size = std::mem::take(&mut self.page_size);
        let token = std::mem::take(&mut self.page_token);
        let page = PageQuery::parse("ListInstances", &self, size, &token, fields);
        let after = match page.after.as_deref().map(str::parse::<InstanceId>) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => {
                fields.bad("page_token", "must be a next_page_token of this list");
                None
            }
        };
        Some(ListInstancesCommand { after, page })
    }
}

/// A wish to forget an instance.
pub(in crate::rpc) struct DeleteCommand(pub(in crate::rpc) InstanceId);

impl Parse for api::DeleteInstanceRequest {
    type Command = DeleteCommand;

    fn parse(mut self, fields: &mut Fields) -> Option<DeleteCommand> {
        let request_id = std::mem::take(&mut self.request_id);
        fields.request("DeleteInstance", &request_id, &self);
        let id = fields.instance("name", &self.name);
        id.map(DeleteCommand)
    }
}

impl Parse for api::BackupInstanceRequest {
    type Command = OfInstance;

    fn parse(self, fields: &mut Fields) -> Option<OfInstance> {
        fields.instance("name", &self.name).map(OfInstance)
    }
}

/// The first message of a restore. What follows is read by [`chunk`].
impl Parse for api::RestoreInstanceRequest {
    type Command = OfInstance;

    fn parse(self, fields: &mut Fields) -> Option<OfInstance> {
        use api::restore_instance_request::Payload;
        match self.payload {
            Some(Payload::Name(name)) => fields.instance("name", &name).map(OfInstance),
            Some(Payload::Chunk(_)) | None => {
                fields.bad("name", "the first message must name the instance and nothing else");
                None
            }
        }
    }
}

/// What a further message of a restore carries.
pub(in crate::rpc) fn chunk(message: api::RestoreInstanceRequest) -> Result<Vec<u8>, BadField> {
    use api::restore_instance_request::Payload;
    match message.payload {
        Some(Payload::Chunk(chunk)) => Ok(chunk),
        Some(Payload::Name(_)) | None => Err(BadField {
            field: "chunk".to_owned(),
            rule: "every message after the first must carry a chunk of the backup".to_owned(),
        }),
    }
}

impl Parse for api::InitializeInstanceRequest {
    type Command = OfInstance;

    fn parse(mut self, fields: &mut Fields) -> Option<OfInstance> {
        let request_id = std::mem::take(&mut self.request_id);
        fields.request("InitializeInstance", &request_id, &self);
        let id = fields.instance("name", &self.name);
        id.map(OfInstance)
    }
}

/// A wish to stop an instance, or to let it go on.
pub(in crate::rpc) struct StopCommand {
    pub(in crate::rpc) id: InstanceId,
    pub(in crate::rpc) resume: bool,
}

impl Parse for api::StopInstanceRequest {
    type Command = StopCommand;

    fn parse(mut self, fields: &mut Fields) -> Option<StopCommand> {
        let request_id = std::mem::take(&mut self.request_id);
        fields.request("StopInstance", &request_id, &self);
        let id = fields.instance("name", &self.name);
        Some(StopCommand { id: id?, resume: self.resume })
    }
}

/// A wish to terminate an instance.
pub(in crate::rpc) struct TerminateCommand {
    pub(in crate::rpc) id: InstanceId,
    pub(in crate::rpc) mode: TerminateMode,
}

impl Parse for api::TerminateInstanceRequest {
    type Command = TerminateCommand;

    fn parse(mut self, fields: &mut Fields) -> Option<TerminateCommand> {
        let request_id = std::mem::take(&mut self.request_id);
        fields.request("TerminateInstance", &request_id, &self);
        let id = fields.instance("name", &self.name);
        let mode = match api::TerminateMode::try_from(self.mode) {
            Ok(api::TerminateMode::Unspecified | api::TerminateMode::Complete) => {
                TerminateMode::Complete
            }
            Ok(api::TerminateMode::Abrupt) => TerminateMode::Abrupt,
            Ok(api::TerminateMode::Force) => TerminateMode::Force,
            Err(_) => {
                fields.bad(
                    "mode",
                    "must be TERMINATE_MODE_COMPLETE, TERMINATE_MODE_ABRUPT or TERMINATE_MODE_FORCE",
                );
                TerminateMode::Complete
            }
        };
        Some(TerminateCommand { id: id?, mode })
    }
}

/// A wish to watch instances; no names mean all.
pub(in crate::rpc) struct WatchCommand(pub(in crate::rpc) BTreeSet<InstanceId>);

impl Parse for api::WatchInstancesRequest {
    type Command = WatchCommand;

    fn parse(self, fields: &mut Fields) -> Option<WatchCommand> {
        let mut ids = BTreeSet::new();
        for (i, name) in self.names.iter().enumerate() {
            ids.extend(fields.take(&format!("names[{i}]"), InstanceId::from_name(name)));
        }
        Some(WatchCommand(ids))
    }
}

/// An instance on the wire.
pub(in crate::rpc) fn instance(view: InstanceView) -> api::Instance {
    use api::instance::State;
    let (state, failure) = match &view.phase {
        Phase::Created => (State::Created, None),
        Phase::Initializing => (State::Initializing, None),
        Phase::Ready => (State::Ready, None),
        Phase::Stopped => (State::Stopped, None),
        Phase::Restoring => (State::Restoring, None),
        Phase::Terminating => (State::Terminating, None),
        Phase::Failed(first) => (State::Failed, Some(failed(first))),
    };
    let durability = match view.record.durability {
        Durability::Flush => api::Durability::Flush,
        Durability::Lazy => api::Durability::Lazy,
    };
    api::Instance {
        name: view.record.id.name(),
        state: state.into(),
        labels: pairs(&view.record.labels),
        max_sessions: i32::try_from(view.record.max_sessions).unwrap_or(i32::MAX),
        durability: durability.into(),
        session_count: count(view.session_count),
        bound_count: count(view.bound_count),
        revision: view.revision.get(),
        failure,
        create_time: Some(timestamp(view.record.created)),
        update_time: Some(timestamp(view.record.updated)),
        progress: view.progress.into(),
        uid: view.record.uid.as_str().to_owned(),
    }
}

/// The first cause of a failure: the row of the table, and before its sentence what happened here.
fn failed(failure: &Failure) -> api::JetError {
    let row = jet_error(failure.error);
    api::JetError { message: format!("{}. {}", failure.cause, row.message), ..row }
}
