//! grpc.health.v1, kept true: the server, each service, each instance, and `liveness`.

use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::domain::id::InstanceId;
use crate::domain::lifecycle::Phase;
use crate::engine::Engine;
use crate::engine::watch::InstanceChange;
use crate::rpc::access::{Guard, Standing};
use crate::rpc::instance::Answers;

/// Always SERVING while the process runs, also while it drains: what a liveness probe asks.
pub const LIVENESS: &str = "liveness";

/// A reporter for a process that is alive and does not serve yet.
pub async fn reporter() -> HealthReporter {
    let reporter = HealthReporter::new();
    reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter
}

/// What the reporter knows, where nothing else is served: for probes, which are nobody.
pub fn alone(reporter: &HealthReporter) -> Routes {
    let known = HealthService::from_health_reporter(reporter.clone());
    Routes::new(HealthServer::new(known)).prepare()
}

/// What the reporter knows, for clients: of an instance only to those who may observe it.
pub fn service(reporter: &HealthReporter, guard: Guard) -> HealthServer<impl Health> {
    let known = HealthService::from_health_reporter(reporter.clone());
    HealthServer::new(Guarded { known, guard })
}

struct Guarded {
    known: HealthService,
    guard: Guard,
}

impl Guarded {
    /// Sees to it that whoever asks may know; of an instance only as long as that holds.
    fn admit(&self, request: &Request<HealthCheckRequest>) -> Result<Option<Standing>, Status> {
        // What is no name of an instance is either of the server, which everybody may know, or unknown.
        let Ok(instance) = InstanceId::from_name(&request.get_ref().service) else {
            return Ok(None);
        };
        let headers = request.metadata().as_ref();
        self.guard.observer(headers, request.extensions(), instance).map(Some)
    }
}

#[tonic::async_trait]
impl Health for Guarded {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.admit(&request)?;
        self.known.check(request).await
    }

    type WatchStream = Answers<HealthCheckResponse>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let standing = self.admit(&request)?;
        let statuses = self.known.watch(request).await?;
        Ok(statuses.map(|statuses| match standing {
            Some(standing) => Box::pin(standing.over(statuses)) as Self::WatchStream,
            None => Box::pin(statuses),
        }))
    }
}

/// Says that the server serves, and keeps the reporter true from now on.
pub async fn report(engine: Engine, reporter: HealthReporter, services: &'static [&str]) {
    for service in services.iter().chain(&[""]) {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    tokio::spawn(follow(engine, reporter, services));
}

/// Keeps the reporter true until the server drains, and then says NOT_SERVING everywhere but for
/// [`LIVENESS`].
async fn follow(engine: Engine, mut reporter: HealthReporter, services: &'static [&str]) {
    use ServingStatus::{NotServing, Serving};
    let mut changes = engine.watch_instances(std::collections::BTreeSet::new());
    let mut names = std::collections::BTreeSet::new();
    loop {
        let change = tokio::select! {
            biased;
            () = engine.drained() => break,
            change = changes.next() => change,
        };
        match change {
            InstanceChange::Present(view) => {
                let name = view.record.id.name();
                let status = match view.phase {
                    Phase::Ready => Serving,
                    Phase::Created
                    | Phase::Initializing
                    | Phase::Stopped
                    | Phase::Restoring
                    | Phase::Terminating
                    | Phase::Failed(_) => NotServing,
                };
                reporter.set_service_status(&name, status).await;
                names.insert(name);
            }
            InstanceChange::Gone(id) => {
                reporter.clear_service_status(&id.name()).await;
                names.remove(&id.name());
            }
        }
    }
    let all = services.iter().copied().chain([""]).chain(names.iter().map(String::as_str));
    for service in all {
        reporter.set_service_status(service, NotServing).await;
        end_watches(&mut reporter, service, NotServing).await;
    }
}

/// Ends the watches of a service after they have told its last status: an open watch would keep its
/// connection, and with it the server, until the drain deadline. Checks go on being answered.
async fn end_watches(reporter: &mut HealthReporter, service: &str, status: ServingStatus) {
    reporter.clear_service_status(service).await;
    reporter.set_service_status(service, status).await;
}
