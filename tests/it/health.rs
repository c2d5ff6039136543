//! grpc.health.v1: the server, its services, its instances, and `liveness`.

use jet_session::proto::api::TerminateMode::Complete;
use jet_session::server::Ending;
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
        let (_, mut status) = known(&server, service).await;
        if service == MAIN && status != ServingStatus::Serving {
            let (mut main, now) = known(&server, MAIN).await;
            status = now;
            while status != ServingStatus::Serving {
                status = next(&mut main).await.unwrap();
            }
        }
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
    assert_eq!(next(&mut health).await, Some(Serving), "READY");
    server.stop(&pool).await.unwrap();
    assert_eq!(next(&mut health).await, Some(NotServing), "STOPPED");
    server.resume(&pool).await.unwrap();
    assert_eq!(next(&mut health).await, Some(Serving), "READY again");
    server.terminate(&pool, Complete).await.unwrap();
    assert_eq!(next(&mut health).await, Some(NotServing), "terminated");

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
    for _ in 0..20 {
        let pool = server.create("pool").await.unwrap();
        // Both are on their way before the first is answered.
        let (deleted, created) = tokio::join!(server.delete(&pool), server.create("pool"));
        deleted.unwrap();
        if created.is_err() {
            // The create overtook the delete, and found the name taken.
            continue;
        }
        server.initialize(&pool).await.unwrap();
        let (mut health, mut status) = known(&server, &pool).await;
        while status != ServingStatus::Serving {
            status = match next(&mut health).await {
                Some(status) => status,
                // This was the watch of the old one.
                None => {
                    let again = known(&server, &pool).await;
                    health = again.0;
                    again.1
                }
            };
        }
        server.terminate(&pool, Complete).await.unwrap();
        server.delete(&pool).await.unwrap();
    }
}

#[tokio::test]
async fn a_draining_server_is_alive_and_serves_nothing() {
    let mut server = TestServer::start().await;
    let raw = Raw::connect(server.address()).await;
    // Calls that are open before the drain are answered during it.
    let mut checks = Vec::new();
    for service in SERVICES.into_iter().chain([MAIN, LIVENESS]) {
        let (watch, _) = known(&server, service).await;
        let call = raw.begin("/grpc.health.v1.Health/Check", &[]).await;
        checks.push((service, watch, call));
    }
    raw.settle().await;

    server.order_to_end().await;

    for (service, watch, mut call) in checks {
        let expected =
            if service == LIVENESS { ServingStatus::Serving } else { ServingStatus::NotServing };
        let mut watch = watch;
        while expected == ServingStatus::NotServing && next(&mut watch).await != Some(expected) {}
        let request = HealthCheckRequest { service: service.to_owned() };
        call.send(framed(&prost::Message::encode_to_vec(&request)), true);
        let answer = call.answer().await;
        assert_eq!(answer.status().code(), Code::Ok);
        let status = answer.message::<HealthCheckResponse>().status();
        assert_eq!(status, expected, "{service:?} while draining");
    }
    drop(raw);
    assert_eq!(server.ending().await, Ending::Graceful);
}
