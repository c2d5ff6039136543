//! grpc.health.v1, kept true: the server, each service, each instance, and `liveness`.

use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::domain::lifecycle::Phase;
use crate::engine::Engine;
use crate::engine::watch::InstanceChange;

/// Always SERVING while the process runs, also while it drains: what a liveness probe asks.
pub const LIVENESS: &str = "liveness";

/// A reporter for a process that is alive and does not serve yet.
pub async fn reporter() -> HealthReporter {
    let reporter = HealthReporter::new();
    reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter
}

/// What the reporter knows, as a service.
pub fn service(reporter: &HealthReporter) -> HealthServer<HealthService> {
    HealthServer::new(HealthService::from_health_reporter(reporter.clone()))
}

/// The same, where nothing else is served.
pub fn alone(reporter: &HealthReporter) -> Routes {
    Routes::new(service(reporter)).prepare()
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
