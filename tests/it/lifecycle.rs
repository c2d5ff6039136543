//! Instances: their life, their limits, and what every call answers in every phase of it.

use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use jet_session::proto::api::TerminateMode::{Abrupt, Complete, Force};
use jet_session::proto::api::instance::State;
use tonic::Code;

use crate::support::call::{self, Call, on_instance, on_session, on_sessions_of};
use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer};

#[tokio::test]
async fn a_server_has_an_instance_that_is_ready() {
    let server = TestServer::start().await;

    let main = server.instance(MAIN).await.unwrap();

    assert_eq!(main.state(), State::Ready);
    assert_eq!(main.max_sessions, 10_000);
    assert_eq!(main.durability(), pb::Durability::Flush);
    assert!(!main.uid.is_empty());
    assert_eq!(main.failure, None);
}

#[tokio::test]
async fn the_default_instance_can_be_left_out() {
    let server = TestServer::start_with(|config| config.default_instance = false).await;

    let refusal = server.instance(MAIN).await.unwrap_err();

    assert_eq!(refusal.code(), Code::NotFound);
    assert_eq!(refusal.jet_err(), JetErr::InvalidInstance);
    assert_eq!(refusal.told().resource_info().unwrap().resource_name, MAIN);
}

#[tokio::test]
async fn a_life_leads_through_its_phases_and_back() {
    let server = TestServer::start().await;
    let request = pb::CreateInstanceRequest {
        instance_id: "pool".to_owned(),
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        max_sessions: 3,
        durability: pb::Durability::Lazy.into(),
        ..Default::default()
    };
    let created = server.instances().create_instance(request).await.unwrap().into_inner();
    let created = created.instance.unwrap();
    assert_eq!(created.name, "instances/pool");
    assert_eq!(created.state(), State::Created);
    assert_eq!(created.max_sessions, 3);
    assert_eq!(created.durability(), pb::Durability::Lazy);
    assert_eq!(created.labels["team"], "blue");

    let name = &created.name;
    server.initialize(name).await.unwrap();
    assert_eq!(server.instance(name).await.unwrap().state(), State::Ready);
    for _ in 0..2 {
        server.stop(name).await.unwrap();
        assert_eq!(server.instance(name).await.unwrap().state(), State::Stopped);
    }
    server.resume(name).await.unwrap();
    let ready = server.picture().await;
    server.resume(name).await.unwrap();
    assert_eq!(server.picture().await, ready, "to resume what is ready changes nothing");
    server.terminate(name, Complete).await.unwrap();
    let terminated = server.instance(name).await.unwrap();
    assert_eq!(terminated.state(), State::Created);
    assert_eq!((terminated.uid, terminated.labels), (created.uid, created.labels));
    server.delete(name).await.unwrap();
    assert_eq!(server.instance(name).await.unwrap_err().jet_err(), JetErr::InvalidInstance);
}

/// A name and its session, in this phase.
struct InPhase {
    instance: String,
    session: String,
}

async fn in_phase(server: &TestServer, id: &str, state: State) -> InPhase {
    let instance = server.create(id).await.expect("the name is free");
    server.initialize(&instance).await.expect("it can be initialised");
    let session = server.begin(&instance).await.expect("it begins sessions");
    let session = session.name().to_owned();
    if state == State::Stopped {
        server.stop(&instance).await.expect("it can be stopped");
    } else if state == State::Created {
        server.terminate(&instance, Complete).await.expect("it can be terminated");
    }
    InPhase { instance, session }
}

async fn outcome(server: &TestServer, call: &Call) -> i32 {
    let before = server.picture().await;
    match server.ask(call).await {
        Ok(_) => 0,
        Err(refusal) => {
            assert_eq!(server.picture().await, before, "{} changed something", call.method);
            refusal.jet_err().code()
        }
    }
}

#[tokio::test]
async fn calls_on_sessions_answer_by_the_phase_first() {
    let server = TestServer::start().await;
    // Where the phase lets a call through, the state of an idle session answers.
    let expected = [
        ("SessionService/SetSessionContext", -1029, -1329, 0),
        ("SessionService/ResetSessionContext", -1029, -1913, -1913),
        ("SessionService/ClaimSessionContext", -1029, -1329, 0),
        ("SessionService/TransferSessionContext", -1029, -1329, -1913),
        ("SessionService/CheckSessionContext", -1029, -1913, -1913),
        ("SessionService/ForceResetSessionContext", -1029, -1913, -1913),
        ("SessionService/BeginTransaction", -1029, -1329, 0),
        ("SessionService/CommitTransaction", -1029, -1329, -1054),
        ("SessionService/RollbackTransaction", -1029, -1054, -1054),
        ("SessionService/EndSession", -1029, 0, 0),
        ("SessionService/DuplicateSession", -1029, -1329, 0),
        ("SessionService/GetSession", -1029, 0, 0),
        ("SessionService/BeginSession", -1029, -1329, 0),
        ("SessionService/BatchBeginSessions", -1029, -1329, 0),
        ("SessionService/ListSessions", -1029, 0, 0),
    ];
    for (i, (method, created, stopped, ready)) in expected.into_iter().enumerate() {
        for (state, code) in
            [(State::Created, created), (State::Stopped, stopped), (State::Ready, ready)]
        {
            let id = format!("i{i}-{}", state.as_str_name().to_lowercase().replace('_', "-"));
            let there = in_phase(&server, &id, state).await;
            let calls = [on_session(&there.session, THREAD_A), on_sessions_of(&there.instance)];
            let call = calls.iter().flatten().find(|call| call.method == method).unwrap();
            assert_eq!(outcome(&server, call).await, code, "{method} while {state:?}");
        }
    }
    let known: Vec<_> = expected.iter().map(|row| row.0).collect();
    for call in [on_session("", ""), on_sessions_of("")].iter().flatten() {
        assert!(known.contains(&call.method), "{} has no row", call.method);
    }
}

#[tokio::test]
async fn calls_on_instances_answer_by_the_phase() {
    let server = TestServer::start().await;
    let resume = pb::StopInstanceRequest { resume: true, ..Default::default() };
    for (method, created, stopped, ready) in [
        ("InstanceService/InitializeInstance", 0, -1030, -1030),
        ("InstanceService/StopInstance", -1029, 0, 0),
        ("InstanceService/TerminateInstance", 0, 0, 0),
        ("InstanceService/DeleteInstance", 0, -1030, -1030),
        ("InstanceService/GetInstance", 0, 0, 0),
    ] {
        for (state, code) in
            [(State::Created, created), (State::Stopped, stopped), (State::Ready, ready)]
        {
            let there = in_phase(&server, "changing", state).await;
            let calls = on_instance(&there.instance);
            let call = calls.iter().find(|call| call.method == method).unwrap();
            assert_eq!(outcome(&server, call).await, code, "{method} while {state:?}");
            // A resume follows the row of stop.
            if method == "InstanceService/StopInstance" {
                let resume =
                    pb::StopInstanceRequest { name: there.instance.clone(), ..resume.clone() };
                let call = call::call(method, &resume);
                assert_eq!(outcome(&server, &call).await, code, "resume while {state:?}");
            }
            if server.instance(&there.instance).await.is_ok() {
                server.terminate(&there.instance, Force).await.unwrap();
                server.delete(&there.instance).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_by_the_phase_says_which_and_whether_to_come_back() {
    let server = TestServer::start().await;
    let created = server.create("pool").await.unwrap();
    let session = server.session().await;
    server.stop(MAIN).await.unwrap();

    for (refusal, jet, state, subject) in [
        (server.begin(&created).await.map(drop), JetErr::NotInitialized, "CREATED", &*created),
        (
            session.set_context(THREAD_A, 7).await.map(drop),
            JetErr::ClientRequestToStopJetService,
            "STOPPED",
            MAIN,
        ),
    ] {
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable);
        assert_eq!(refusal.jet_err(), jet);
        assert_eq!(refusal.fact("instance_state"), state);
        let violations = refusal.told().precondition_failure().unwrap().violations.clone();
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].r#type, "INSTANCE_STATE");
        assert_eq!(violations[0].subject, subject);
        // Somebody must act first, so nobody should hammer it.
        assert!(refusal.told().retry_info().is_none());
        assert_eq!(refusal.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
    }
}

#[tokio::test]
async fn owners_let_go_of_a_stopped_instance_and_go_on_after_a_resume() {
    let server = TestServer::start().await;
    let (bound, working, idle) =
        (server.session().await, server.session().await, server.session().await);
    bound.set_context(THREAD_A, 7).await.unwrap();
    working.begin_transaction(THREAD_A).await.unwrap();
    server.stop(MAIN).await.unwrap();

    let refusal = working.commit(THREAD_A).await.unwrap_err();
    assert_eq!(refusal.jet_err(), JetErr::ClientRequestToStopJetService);
    assert_eq!(working.level().await, 1);
    bound.reset_context(THREAD_A).await.unwrap();
    assert_eq!(working.rollback(THREAD_A, false).await.unwrap(), 0);
    idle.end(THREAD_A).await.unwrap();

    server.resume(MAIN).await.unwrap();
    bound.set_context(THREAD_B, 8).await.unwrap();
}

#[tokio::test]
async fn open_transactions_forbid_a_terminate_unless_forced() {
    let server = TestServer::start().await;
    let mut working = Vec::new();
    for _ in 0..12 {
        let session = server.session().await;
        session.begin_transaction(THREAD_A).await.unwrap();
        working.push(session);
    }
    let idle = server.session().await;
    idle.set_context(THREAD_B, 7).await.unwrap();
    let before = server.picture().await;

    for mode in [Complete, Abrupt, pb::TerminateMode::Unspecified] {
        let refusal = server.terminate(MAIN, mode).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert_eq!(refusal.jet_err(), JetErr::TooManyActiveUsers);
        assert!(refusal.message().contains("12 sessions"), "{}", refusal.message());
        let named = refusal.told().precondition_failure().unwrap().violations.clone();
        let named: Vec<_> = named.iter().map(|violation| &*violation.subject).collect();
        let first: Vec<_> = working[..10].iter().map(|session| session.name()).collect();
        assert_eq!(named, first, "ten are named, in their order");
        assert_eq!(server.picture().await, before);
    }
    server.terminate(MAIN, Force).await.unwrap();
    assert_eq!(server.instance(MAIN).await.unwrap().state(), State::Created);
}

#[tokio::test]
async fn sessions_at_level_0_end_with_their_instance() {
    let server = TestServer::start().await;
    let (bound, idle) = (server.session().await, server.session().await);
    let token = bound.set_context(THREAD_A, 7).await.unwrap();

    server.terminate(MAIN, Complete).await.unwrap();

    assert_eq!(server.instance(MAIN).await.unwrap().session_count, 0);
    server.initialize(MAIN).await.unwrap();
    for session in [bound, idle] {
        let refusal = session.look().await.unwrap_err();
        assert_eq!(refusal.jet_err(), JetErr::InvalidSesid);
        assert_eq!(refusal.fact("cause"), "ended");
    }
    assert!(server.session().await.set_context(THREAD_A, 7).await.unwrap() > token);
}

#[tokio::test]
async fn no_number_comes_twice_when_an_instance_is_deleted_and_created_anew() {
    let server = TestServer::start().await;
    let mut last = (0, 0);
    let mut uids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let pool = server.create("pool").await.unwrap();
        server.initialize(&pool).await.unwrap();
        assert!(uids.insert(server.instance(&pool).await.unwrap().uid), "a uid came twice");
        let session = server.begin(&pool).await.unwrap();
        let next = (session.sesid(), session.set_context(THREAD_A, 7).await.unwrap());
        assert!(next.0 > last.0 && next.1 > last.1, "{next:?} is not above {last:?}");
        last = next;
        server.terminate(&pool, Complete).await.unwrap();
        server.delete(&pool).await.unwrap();
    }
}

#[tokio::test]
async fn a_name_is_taken_once_and_the_server_takes_so_many() {
    let server = TestServer::start_with(|config| config.max_instances = 2).await;
    let before = server.picture().await;
    let refusal = server.create("main").await.unwrap_err();
    assert_eq!(refusal.code(), Code::AlreadyExists);
    assert_eq!(refusal.jet_err(), JetErr::InstanceNameInUse);
    assert_eq!(server.picture().await, before);

    server.create("second").await.unwrap();
    let before = server.picture().await;
    // A full server says so before it looks at the name.
    for id in ["third", "main"] {
        let refusal = server.create(id).await.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert_eq!(refusal.jet_err(), JetErr::TooManyInstances);
        let quota = refusal.told().quota_failure().unwrap().violations[0].clone();
        assert_eq!((&*quota.quota_metric, quota.quota_value), ("max_instances", 2));
        assert!(refusal.told().retry_info().is_none());
    }
    assert_eq!(server.picture().await, before);
    server.delete("instances/second").await.unwrap();
    server.create("third").await.unwrap();
}

#[tokio::test]
async fn an_instance_begins_so_many_sessions() {
    let server = TestServer::start_with(|config| config.max_sessions = 2).await;
    let (first, _second) = (server.session().await, server.session().await);
    let before = server.picture().await;

    for refusal in [server.begin(MAIN).await.map(drop), first.duplicate().await.map(drop)] {
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert_eq!(refusal.jet_err(), JetErr::OutOfSessions);
        let quota = refusal.told().quota_failure().unwrap().violations[0].clone();
        assert_eq!((&*quota.subject, &*quota.quota_metric), (MAIN, "max_sessions"));
        assert_eq!(quota.quota_value, 2);
    }
    assert_eq!(server.picture().await, before);
    first.end(THREAD_A).await.unwrap();
    server.session().await;
}
