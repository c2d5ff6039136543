//! InstanceService: instances and their life.

use std::time::Duration;

use std::collections::BTreeSet;
use std::pin::Pin;

use futures_util::stream::{self, Stream};
use tonic::{Request, Response, Status, Streaming};

use crate::domain::access::Role;
use crate::domain::id::InstanceId;
use crate::domain::limits;
use crate::engine::watch::{InstanceChange, InstanceChanges, InstanceView};
use crate::engine::{Engine, Unanswered};
use crate::proto::api as pb;
use crate::proto::api::instance_service_server::InstanceService;
use crate::rpc::access::{ChangingScope, Guard};
use crate::rpc::convert::{
    DeleteCommand, ListInstancesCommand, StopCommand, TerminateCommand, WatchCommand, duration,
    instance,
};
use crate::rpc::layers::Deadline;
use crate::rpc::status::{self, About};
use crate::rpc::{OfInstance, answered, backup, parse};

/// The service, a thin skin over the engine.
#[derive(Debug, Clone)]
pub struct Instances {
    engine: Engine,
    guard: Guard,
    about_us: AboutUs,
}

/// What GetServerInfo tells of the program.
#[derive(Debug, Clone, Copy)]
pub struct AboutUs {
    /// The version of the release.
    pub version: &'static str,
    /// The commit it was built from.
    pub commit: &'static str,
    /// The format of the logs it writes; 0 if it writes none.
    pub log_format: u32,
}

impl Instances {
    /// The service of this engine, for those whom the guard lets in.
    pub fn new(engine: Engine, guard: Guard, about_us: AboutUs) -> Self {
        Self { engine, guard, about_us }
    }

    fn limits(&self) -> pb::Limits {
        let settings = self.engine.settings();
        let of = |bound: usize| i32::try_from(bound).unwrap_or(i32::MAX);
        let of_u32 = |bound: u32| i32::try_from(bound).unwrap_or(i32::MAX);
        let seconds = |seconds| duration(Duration::from_secs(seconds));
        pb::Limits {
            max_instances: of(settings.max_instances),
            default_max_sessions: of_u32(settings.max_sessions),
            max_sessions: of_u32(limits::SESSIONS_MAX),
            max_transaction_level: limits::TRANSACTION_LEVEL_MAX.into(),
            max_labels: of(limits::LABELS_MAX),
            max_label_characters: of(limits::LABEL_BYTES_MAX),
            max_instance_id_characters: of(limits::INSTANCE_ID_BYTES_MAX),
            max_thread_id_characters: of(limits::THREAD_ID_BYTES_MAX),
            max_request_id_characters: of(limits::REQUEST_ID_BYTES_MAX),
            max_reason_bytes: of(limits::REASON_BYTES_MAX),
            default_page_size: of_u32(limits::PAGE_SIZE_DEFAULT),
            max_page_size: of_u32(limits::PAGE_SIZE_MAX),
            max_request_bytes: of(limits::REQUEST_BYTES_MAX),
            max_response_bytes: of(limits::RESPONSE_BYTES_MAX),
            max_backup_chunk_bytes: of(limits::BACKUP_CHUNK_BYTES_MAX),
            max_error_details_bytes: of(limits::STATUS_DETAILS_BYTES_MAX),
            max_concurrent_streams: of_u32(limits::STREAMS_PER_CONNECTION_MAX),
            max_batch_sessions: of_u32(limits::BATCH_BEGIN_MAX),
            max_waiters_per_session: of(limits::WAITERS_PER_SESSION_MAX),
            max_waiters_per_pool: of(limits::WAITERS_PER_POOL_MAX),
            max_waiters_per_server: of(limits::WAITERS_MAX),
            max_waiters_per_connection: of(limits::WAITERS_PER_CONNECTION_MAX),
            min_lease_ttl: seconds(limits::LEASE_SECONDS_MIN),
            max_lease_ttl: seconds(limits::LEASE_SECONDS_MAX),
            max_lease_lateness: seconds(limits::LEASE_LATENESS_SECONDS),
            max_leases_per_instance: of(limits::LEASES_MAX),
            max_listed_contexts: of(limits::HELD_NAMED_MAX),
            max_threads_per_call: of(limits::THREADS_PER_CALL_MAX),
            request_id_window: seconds(limits::RETRY_WINDOW_SECONDS),
            max_remembered_answers: of(limits::RETRY_ANSWERS_MAX),
        }
    }
}

#[tonic::async_trait]
impl InstanceService for Instances {
    async fn create_instance(
        &self,
        request: Request<pb::CreateInstanceRequest>,
    ) -> Result<Response<pb::CreateInstanceResponse>, Status> {
        let (wanted, caller) = parse(&self.guard, request)?;
        let view = answered(self.engine.create(wanted, caller.asker).await, &caller.about)?;
        Ok(Response::new(pb::CreateInstanceResponse { instance: Some(instance(view)) }))
    }

    async fn get_instance(
        &self,
        request: Request<pb::GetInstanceRequest>,
    ) -> Result<Response<pb::GetInstanceResponse>, Status> {
        let (OfInstance(id), caller) = parse(&self.guard, request)?;
        let view = answered(self.engine.instance(&id), &caller.about)?;
        Ok(Response::new(pb::GetInstanceResponse { instance: Some(instance(view)) }))
    }

    async fn list_instances(
        &self,
        request: Request<pb::ListInstancesRequest>,
    ) -> Result<Response<pb::ListInstancesResponse>, Status> {
        let (ListInstancesCommand { after, page }, caller) = parse(&self.guard, request)?;
        // One more than fits tells whether there is a next page.
        let found = self.engine.instances(&caller.scope(), after.as_ref(), page.size + 1);
        let page = page.page(found.into_iter().map(instance), None, |instance| {
            instance.name.trim_start_matches("instances/").to_owned()
        });
        Ok(Response::new(pb::ListInstancesResponse {
            instances: page.items,
            next_page_token: page.next_page_token,
        }))
    }

    async fn delete_instance(
        &self,
        request: Request<pb::DeleteInstanceRequest>,
    ) -> Result<Response<pb::DeleteInstanceResponse>, Status> {
        let (DeleteCommand(id), caller) = parse(&self.guard, request)?;
        answered(self.engine.delete(id, caller.asker).await, &caller.about)?;
        Ok(Response::new(pb::DeleteInstanceResponse {}))
    }

    async fn get_server_info(
        &self,
        _: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        Ok(Response::new(pb::GetServerInfoResponse {
            version: self.about_us.version.to_owned(),
            commit: self.about_us.commit.to_owned(),
            log_format: i32::try_from(self.about_us.log_format).unwrap_or(i32::MAX),
            limits: Some(self.limits()),
        }))
    }

    async fn initialize_instance(
        &self,
        request: Request<pb::InitializeInstanceRequest>,
    ) -> Result<Response<pb::InitializeInstanceResponse>, Status> {
        let (OfInstance(id), caller) = parse(&self.guard, request)?;
        let view = answered(self.engine.initialize(&id, caller.asker).await, &caller.about)?;
        Ok(Response::new(pb::InitializeInstanceResponse { instance: Some(instance(view)) }))
    }

    async fn stop_instance(
        &self,
        request: Request<pb::StopInstanceRequest>,
    ) -> Result<Response<pb::StopInstanceResponse>, Status> {
        let (StopCommand { id, resume }, caller) = parse(&self.guard, request)?;
        let view = answered(self.engine.stop(&id, resume, caller.asker).await, &caller.about)?;
        Ok(Response::new(pb::StopInstanceResponse { instance: Some(instance(view)) }))
    }

    async fn terminate_instance(
        &self,
        request: Request<pb::TerminateInstanceRequest>,
    ) -> Result<Response<pb::TerminateInstanceResponse>, Status> {
        let (TerminateCommand { id, mode }, caller) = parse(&self.guard, request)?;
        let view = answered(self.engine.terminate(&id, mode, caller.asker).await, &caller.about)?;
        Ok(Response::new(pb::TerminateInstanceResponse { instance: Some(instance(view)) }))
    }

    type BackupInstanceStream = Answers<pb::BackupInstanceResponse>;

    async fn backup_instance(
        &self,
        request: Request<pb::BackupInstanceRequest>,
    ) -> Result<Response<Self::BackupInstanceStream>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let (OfInstance(id), caller) = parse(&self.guard, request)?;
        let backup = answered(self.engine.backup(&id).await, &caller.about)?;
        let standing = caller.standing();
        let chunks = standing.over(backup::chunks(backup, caller.about.clone()));
        Ok(Response::new(until(deadline, chunks, caller.about)))
    }

    async fn restore_instance(
        &self,
        request: Request<Streaming<pb::RestoreInstanceRequest>>,
    ) -> Result<Response<pb::RestoreInstanceResponse>, Status> {
        let view = backup::restore(&self.guard, &self.engine, request).await?;
        Ok(Response::new(pb::RestoreInstanceResponse { instance: Some(instance(view)) }))
    }

    type WatchInstancesStream = Answers<pb::WatchInstancesResponse>;

    async fn watch_instances(
        &self,
        request: Request<pb::WatchInstancesRequest>,
    ) -> Result<Response<Self::WatchInstancesStream>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let (WatchCommand(names), mut caller) = parse(&self.guard, request)?;
        for id in &names {
            caller.may_also(Role::Observe, id)?;
            caller.about.instance = Some(id.clone());
            answered(self.engine.instance(id), &caller.about)?;
        }
        let about = caller.about.clone();
        let standing = caller.standing().and(Role::Observe, names.clone());
        let scope = caller.changing_scope();
        let watch = Watch::new(self.engine.clone(), scope, names, caller.about);
        let views = stream::unfold(watch, |mut watch| async move {
            let item = watch.next().await?;
            Some((item, watch))
        });
        Ok(Response::new(until(deadline, standing.over(views), about)))
    }
}

/// What a streaming method answers.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The stream until its end or until the deadline of its call.
pub(super) fn until<T: Send + 'static>(
    deadline: Option<Deadline>,
    stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    about: About,
) -> Answers<T> {
    match deadline {
        Some(deadline) => Box::pin(deadline.ends(stream, about)),
        None => Box::pin(stream),
    }
}

/// A watch of instances.
struct Watch {
    engine: Engine,
    scope: ChangingScope,
    changes: InstanceChanges,
    names: BTreeSet<InstanceId>,
    about: About,
    ended: bool,
}

impl Watch {
    fn new(
        engine: Engine,
        scope: ChangingScope,
        names: BTreeSet<InstanceId>,
        about: About,
    ) -> Self {
        let changes = engine.watch_instances(names.clone());
        Self { engine, scope, changes, names, about, ended: false }
    }

    /// The next message; waits for one. After an error there is none.
    async fn next(&mut self) -> Option<Result<pb::WatchInstancesResponse, Status>> {
        if self.ended {
            return None;
        }
        let view = self.view().await;
        self.ended = view.is_err();
        Some(view.map(|view| pb::WatchInstancesResponse { instance: Some(instance(view)) }))
    }

    async fn view(&mut self) -> Result<InstanceView, Status> {
        loop {
            tokio::select! {
                biased;
                () = self.engine.drained() => {
                    let gone = Unanswered::<std::convert::Infallible>::ShuttingDown;
                    return Err(status::refused(&gone, &self.about));
                }
                // What is visible now that was not is told as it is.
                () = self.scope.changed() => {
                    self.changes = self.engine.watch_instances(self.names.clone());
                }
                change = self.changes.next() => match change {
                    InstanceChange::Present(view) if self.scope.holds(&view.record.id) => {
                        return Ok(view);
                    }
                    InstanceChange::Present(_) => {}
                    // A watch of all goes on.
                    InstanceChange::Gone(id) if self.names.contains(&id) => {
                        let gone = Unanswered::<std::convert::Infallible>::NoSuchInstance;
                        let about = About { instance: Some(id), ..self.about.clone() };
                        return Err(status::refused(&gone, &about));
                    }
                    InstanceChange::Gone(_) => {}
                }
            }
        }
    }
}
