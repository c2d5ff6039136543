//! grpc.health.v1: the server, its services, its instances, and `liveness`.

use jet_session::proto::api::TerminateMode::Complete;
use jet_session::server::Ending;
use prost::Message;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::support::raw::{Raw, framed};
use crate::support::{MAIN, TestServer, within};

const SERVICES: [&str; 5] = [
    "",
    "jet.session.v1.SessionService",
    "jet.session.v1.InstanceService",
    "jet.session.v1.ThreadService",
    "jet.session.v1.ErrorService",
];
const LIVENESS: &str = "liveness";

async fn check(server: &TestServer, service: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    Ok(server.health().check(request).await?.into_inner().status())
}

/// A watch of one name, and what it says now.
async fn watch(
    server: &TestServer,
    service: &str,
) -> Result<(Streaming<HealthCheckResponse>, ServingStatus), Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let mut watch = server.health().watch(request).await?.into_inner();
    let now = next(&mut watch).await.expect("a watch begins with what is");
    Ok((watch, now))
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    let next = within("a change of health", watch.message()).await.expect("the watch goes on");
    next.map(|response| response.status())
}

/// Waits for this status; the same one may be told again, and others before it.
async fn until(watch: &mut Streaming<HealthCheckResponse>, status: ServingStatus) {
    while next(watch).await.expect("the name is known") != status {}
}

/// Waits until the name is known: instances get theirs a moment after they are there.
async fn known(
    server: &TestServer,
    service: &str,
) -> (Streaming<HealthCheckResponse>, ServingStatus) {
    within("the name is known", async {
        loop {
            match watch(server, service).await {
                Ok(watched) => return watched,
                Err(refusal) => assert_eq!(refusal.code(), Code::NotFound),
            }
        }
    })
    .await
}

#[tokio::test]
async fn everything_serves_once_the_server_is_ready() {
    let server = TestServer::start().await;
    for service in SERVICES.into_iter().chain([LIVENESS, MAIN]) {
        let (_, status) = known(&server, service).await;
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    for unknown in ["nonsense", "main", "instances/nowhere", "jet.session.v1"] {
        assert_eq!(check(&server, unknown).await.unwrap_err().code(), Code::NotFound, "{unknown}");
    }
}

#[tokio::test]
async fn an_instance_serves_only_while_it_is_ready() {
    use ServingStatus::{NotServing, Serving};
    let server = TestServer::start().await;
    let pool = server.create("pool").await.unwrap();
    let (mut health, now) = known(&server, &pool).await;
    assert_eq!(now, NotServing, "CREATED");

    // The states in which an instance rests; those it passes may be skipped.
    server.initialize(&pool).await.unwrap();
    until(&mut health, Serving).await;
    server.stop(&pool).await.unwrap();
    until(&mut health, NotServing).await;
    server.resume(&pool).await.unwrap();
    until(&mut health, Serving).await;
    server.terminate(&pool, Complete).await.unwrap();
    until(&mut health, NotServing).await;

    server.delete(&pool).await.unwrap();
    while next(&mut health).await.is_some() {}
    assert_eq!(check(&server, &pool).await.unwrap_err().code(), Code::NotFound);
    for service in SERVICES {
        assert_eq!(check(&server, service).await.unwrap(), Serving, "whatever one instance does");
    }
}

#[tokio::test]
async fn an_instance_created_anew_in_the_same_breath_has_its_own_health() {
    let server = TestServer::start().await;
    let mut anew = 0;
    for _ in 0..20 {
        let pool = server.create("pool").await.unwrap();
        // Both are on their way before the first is answered.
        let (deleted, created) = tokio::join!(server.delete(&pool), server.create("pool"));
        deleted.unwrap();
        if created.is_err() {
            // The create overtook the delete, and found the name taken.
            continue;
        }
        anew += 1;
        server.initialize(&pool).await.unwrap();
        let (mut health, mut status) = known(&server, &pool).await;
        while status != ServingStatus::Serving {
            if let Some(changed) = next(&mut health).await {
                status = changed;
            } else {
                // This was the watch of the old one.
                (health, status) = known(&server, &pool).await;
            }
        }
        server.terminate(&pool, Complete).await.unwrap();
        server.delete(&pool).await.unwrap();
    }
    assert!(anew > 0, "no create came right after its delete");
}

#[tokio::test]
async fn a_draining_server_is_alive_and_serves_nothing() {
    let mut server = TestServer::start().await;
    // The last of all names: what is said of it is said of all.
    let zebra = server.create("zebra").await.unwrap();
    let (mut last, _) = known(&server, &zebra).await;
    let raw = Raw::connect(server.address()).await;
    let mut watches = Vec::new();
    let mut checks = Vec::new();
    for service in SERVICES.into_iter().chain([MAIN]) {
        watches.push(known(&server, service).await.0);
    }
    for service in SERVICES.into_iter().chain([MAIN, LIVENESS]) {
        // Calls that are open before the drain are answered during it.
        checks.push((service, raw.begin("/grpc.health.v1.Health/Check", &[]).await));
    }
    raw.settle().await;

    server.order_to_end().await;

    for mut watch in watches {
        until(&mut watch, ServingStatus::NotServing).await;
        assert_eq!(next(&mut watch).await, None, "a watch does not keep the server");
    }
    while next(&mut last).await.is_some() {}
    for (service, mut call) in checks {
        let request = HealthCheckRequest { service: service.to_owned() };
        call.send(framed(&request.encode_to_vec()), true);
        let answer = call.answer().await;
        assert_eq!(answer.status().code(), Code::Ok, "{service:?}");
        let expected =
            if service == LIVENESS { ServingStatus::Serving } else { ServingStatus::NotServing };
        let status = answer.message::<HealthCheckResponse>().status();
        assert_eq!(status, expected, "{service:?} while draining");
    }
    drop(raw);
    assert_eq!(server.ending().await, Ending::Graceful);
}
