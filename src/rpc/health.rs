//! grpc.health.v1, kept true: the server, each service, each instance, and `liveness`.

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::domain::lifecycle::Phase;
use crate::engine::Engine;
use crate::engine::watch::InstanceChange;

/// Always SERVING while the process runs, also while it drains: what a liveness probe asks.
pub const LIVENESS: &str = "liveness";

/// Keeps the reporter true until the server drains, and then says NOT_SERVING everywhere but for
/// [`LIVENESS`].
pub async fn report(engine: Engine, mut reporter: HealthReporter, services: &[&str]) {
    use ServingStatus::{NotServing, Serving};
    reporter.set_service_status(LIVENESS, Serving).await;
    for service in services.iter().chain(&[""]) {
        reporter.set_service_status(service, Serving).await;
    }
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
