//! Who calls, and whether they may.

mod matrix;
mod redaction;
mod scopes;

use jet_session::proto::api as pb;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;

use crate::support::call::{call, first, path};
use crate::support::raw::Raw;
use crate::support::ruled::rule;
use crate::support::{MAIN, Refusal, TestServer, within};

/// `alice` and `bob` use `main`; `carol` operates it.
async fn colleagues() -> TestServer {
    let rules =
        [rule(&["alice", "bob"], &["main"], &["use"]), rule(&["carol"], &["main"], &["operate"])];
    TestServer::ruled(&rules, &["alice", "bob", "carol"]).await
}

/// The code, the message, the details and the metadata of a status.
type Whole = (Code, String, Vec<u8>, Vec<String>);

/// A status as a client gets it, in one piece.
fn whole(status: &Status) -> Whole {
    let mut metadata: Vec<_> = status
        .metadata()
        .iter()
        .map(|pair| format!("{pair:?}"))
        // The moment of the answer is of HTTP.
        .filter(|pair| !pair.contains("date"))
        .collect();
    metadata.sort();
    (status.code(), status.message().to_owned(), status.details().to_vec(), metadata)
}

#[tokio::test]
async fn credentials_that_are_missing_or_not_good_are_told_apart() {
    let server = colleagues().await;
    let raw = Raw::connect(server.address()).await;
    let begin = pb::BeginSessionRequest { instance: MAIN.to_owned(), ..Default::default() };
    let begin_path = path("SessionService/BeginSession");
    let good = ("authorization", "bEaReR alice");
    for (headers, reason) in [
        (&[][..], "CREDENTIALS_MISSING"),
        (&[("authorization", "")], "CREDENTIALS_INVALID"),
        (&[("authorization", "Bearer")], "CREDENTIALS_INVALID"),
        (&[("authorization", "alice")], "CREDENTIALS_INVALID"),
        (&[("authorization", "Basic alice")], "CREDENTIALS_INVALID"),
        (&[("authorization", "Bearer mallory")], "CREDENTIALS_INVALID"),
        (&[good, good], "CREDENTIALS_INVALID"),
    ] {
        let refused = raw.call(&begin_path, headers, &begin).await.status();
        assert_eq!((refused.code(), &*refused.reason()), (Code::Unauthenticated, reason));
        assert!(refused.message().contains("authorization: Bearer TOKEN"), "{refused}");
        assert!(!refused.message().contains("mallory"), "a secret is not repeated");
        // Health is not asked who asks.
        let health = HealthCheckRequest { service: String::new() };
        let checked = raw.call("/grpc.health.v1.Health/Check", headers, &health).await.status();
        assert_eq!(checked.code(), Code::Ok);
    }
    assert_eq!(raw.call(&begin_path, &[good], &begin).await.status().code(), Code::Ok);
    let headers = [good, ("x-request-id", "mine")];
    let elsewhere =
        pb::BeginSessionRequest { instance: "instances/x".into(), ..Default::default() };
    let refused = raw.call(&begin_path, &headers, &elsewhere).await.status();
    let info = refused.told().request_info().cloned().expect("the id comes back");
    assert_eq!((refused.code(), &*info.request_id), (Code::PermissionDenied, "mine"));
}

#[tokio::test]
async fn methods_that_do_not_exist_are_told_to_those_who_are_known() {
    let server = colleagues().await;
    let raw = Raw::connect(server.address()).await;
    let nothing = pb::GetServerInfoRequest {};
    let unknown = path("SessionService/Nothing");
    let stranger = raw.call(&unknown, &[], &nothing).await.status();
    assert_eq!(stranger.code(), Code::Unauthenticated);
    let known = raw.call(&unknown, &[("authorization", "Bearer alice")], &nothing).await.status();
    assert_eq!((known.code(), &*known.reason()), (Code::Unimplemented, "UNKNOWN_METHOD"));
}

#[tokio::test]
async fn threads_of_one_name_are_two_threads() {
    let server = colleagues().await;
    let (alice, bob) = (server.by("alice"), server.by("bob"));
    let (mine, theirs) = (alice.begin().await, bob.begin().await);
    alice.set(&mine, "t").await.unwrap();
    bob.set(&theirs, "t").await.unwrap();

    let refused = alice.reset(&theirs, "t").await.unwrap_err();
    assert_eq!((refused.jet_err().code(), &*refused.fact("cause")), (-1913, "held_by_other"));
    let refused = bob.reset(&mine, "t").await.unwrap_err();
    assert_eq!((refused.jet_err().code(), &*refused.fact("cause")), (-1913, "held_by_other"));
    let request = pb::EndThreadsRequest { thread_ids: vec!["t".to_owned()] };
    bob.threads().end_threads(request).await.unwrap();

    bob.set(&theirs, "u").await.expect("bob's thread has ended");
    alice.reset(&mine, "t").await.unwrap();
}

#[tokio::test]
async fn a_session_is_handed_to_somebody_who_can_let_it_go() {
    let server = colleagues().await;
    let (alice, bob) = (server.by("alice"), server.by("bob"));
    let session = alice.begin().await;
    alice.set(&session, "t").await.unwrap();
    for other in ["carol", "mallory", "anonymous"] {
        let refused = alice.transfer(&session, ("t", "u"), other).await.unwrap_err();
        assert_eq!((refused.code(), &*refused.reason()), (Code::PermissionDenied, "ROLE_MISSING"));
        assert_eq!((refused.fact("principal"), refused.fact("role")), (other.into(), "use".into()));
    }
    alice.transfer(&session, ("t", "u"), "bob").await.unwrap();
    bob.reset(&session, "u").await.unwrap();
}

#[tokio::test]
async fn an_operator_takes_away_and_ends_by_force_and_a_user_does_not() {
    let server = colleagues().await;
    let (alice, carol) = (server.by("alice"), server.by("carol"));
    let session = alice.begin().await;
    let token = alice.set(&session, "t").await.unwrap();
    let end = |force| pb::EndSessionRequest {
        session: session.clone(),
        thread_id: if force { "" } else { "t" }.to_owned(),
        reason: if force { "its host is gone" } else { "" }.to_owned(),
        force,
        ..Default::default()
    };
    for refused in [
        alice.force(&session, token).await.map(drop),
        alice.sessions().end_session(end(true)).await.map(drop),
        carol.sessions().end_session(end(false)).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!((refused.code(), &*refused.reason()), (Code::PermissionDenied, "ROLE_MISSING"));
    }
    carol.force(&session, token).await.unwrap();
    carol.sessions().end_session(end(true)).await.unwrap();
}

#[tokio::test]
async fn who_did_something_stands_in_its_event() {
    use pb::session_event::Cause;
    let server = colleagues().await;
    let (alice, bob, carol) = (server.by("alice"), server.by("bob"), server.by("carol"));
    let watch = pb::WatchSessionsRequest { parent: MAIN.to_owned(), ..Default::default() };
    let mut watch = carol.sessions().watch_sessions(watch).await.unwrap().into_inner();
    assert!(within("a snapshot", watch.message()).await.unwrap().is_some());

    let session = alice.begin().await;
    alice.set(&session, "t").await.unwrap();
    let token = alice.transfer(&session, ("t", "u"), "bob").await.unwrap();
    carol.force(&session, token).await.unwrap();
    bob.set(&session, "u").await.unwrap();
    bob.reset(&session, "u").await.unwrap();
    let short = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let leased = pb::SetSessionContextRequest {
        session: session.clone(),
        thread_id: "t".to_owned(),
        context: 7,
        lease_ttl: short,
        ..Default::default()
    };
    alice.sessions().set_session_context(leased).await.unwrap();

    let mut last = 0;
    for (cause, principal) in [
        (Cause::Began, "alice"),
        (Cause::Set, "alice"),
        (Cause::Transferred, "alice"),
        (Cause::Forced, "carol"),
        (Cause::Set, "bob"),
        (Cause::Reset, "bob"),
        (Cause::Set, "alice"),
        // Nobody did that.
        (Cause::LeaseExpired, ""),
    ] {
        let event = within("an event", watch.message()).await.unwrap().unwrap().event.unwrap();
        assert_eq!((event.cause(), &*event.principal), (cause, principal));
        assert!(event.revision > last);
        last = event.revision;
    }
}

#[tokio::test]
async fn health_of_an_instance_is_for_those_who_observe_it() {
    let server = colleagues().await;
    let check = |name: &str| HealthCheckRequest { service: name.to_owned() };
    for name in ["", "liveness", "jet.session.v1.SessionService"] {
        assert!(server.health().check(check(name)).await.is_ok(), "{name}");
    }
    let stranger = server.health().check(check(MAIN)).await.unwrap_err();
    assert_eq!(stranger.code(), Code::Unauthenticated);
    let here = server.by("alice").health().check(check(MAIN)).await.unwrap_err();
    let nowhere = server.by("alice").health().watch(check("instances/none")).await.unwrap_err();
    for denied in [here, nowhere] {
        assert_eq!((denied.code(), &*denied.fact("role")), (Code::PermissionDenied, "observe"));
    }
    let mut observer = server.by("carol").health();
    assert!(observer.check(check(MAIN)).await.is_ok());
    let missing = observer.check(check("instances/none")).await.unwrap_err();
    assert_eq!(missing.code(), Code::PermissionDenied, "carol operates main alone");
    let mut watch = observer.watch(check(MAIN)).await.unwrap().into_inner();
    assert!(within("its health", watch.message()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_refusal_fits_its_bounds_with_the_longest_names() {
    let longest = "p".repeat(256);
    let rules = [rule(&[&longest], &["main"], &["use"])];
    let server = TestServer::ruled(&rules, &[&longest]).await;
    let session = format!("instances/{}/sessions/{}", "i".repeat(63), u64::MAX);
    let reset = pb::ResetSessionContextRequest {
        session,
        thread_id: "t".repeat(128),
        ..Default::default()
    };
    let call = call("SessionService/ResetSessionContext", &reset);
    let mut request = Request::new(call.message);
    let id = "r".repeat(128).parse().expect("an id is fit for metadata");
    request.metadata_mut().insert("x-request-id", id);
    let value = format!("Bearer {longest}").parse().expect("a token is fit for metadata");
    request.metadata_mut().insert("authorization", value);
    let refused = first(server.channel(), &path(call.method), request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.details().len() <= 2 * 1024, "{}", refused.details().len());
}
