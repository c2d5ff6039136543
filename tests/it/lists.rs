//! Lists, a page at a time, and single errors looked up.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use prost::Message;

use crate::support::call::call;
use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer};

/// The largest response that the API promises to send.
const RESPONSE_BYTES: usize = 1024 * 1024;

async fn page(server: &TestServer, request: pb::ListSessionsRequest) -> pb::ListSessionsResponse {
    let parent = if request.parent.is_empty() { MAIN.to_owned() } else { request.parent.clone() };
    let request = pb::ListSessionsRequest { parent, ..request };
    server.sessions().list_sessions(request).await.expect("a page").into_inner()
}

fn sesids(sessions: &[pb::Session]) -> Vec<u64> {
    sessions.iter().map(|session| session.sesid).collect()
}

/// All sessions that pass the filter, by small pages.
async fn filtered(server: &TestServer, filter: pb::SessionFilter) -> Vec<u64> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let filter = Some(filter.clone());
        let request =
            pb::ListSessionsRequest { page_size: 2, page_token, filter, ..Default::default() };
        let page = page(server, request).await;
        assert!(page.sessions.len() <= 2);
        found.extend(sesids(&page.sessions));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test]
async fn pages_have_no_gap_and_no_double_while_sessions_come_and_go() {
    let server = TestServer::start().await;
    let mut sessions = Vec::new();
    for _ in 0..25 {
        sessions.push(server.session().await);
    }
    let next =
        |page_token| pb::ListSessionsRequest { page_size: 10, page_token, ..Default::default() };
    let first = page(&server, next(String::new())).await;
    // One already shown, the very last shown, and one still to come end; two begin.
    for gone in [4, 9, 15] {
        sessions[gone].end(THREAD_A).await.unwrap();
    }
    let late = [server.session().await.sesid(), server.session().await.sesid()];

    let second = page(&server, next(first.next_page_token)).await;
    sessions[20].end(THREAD_A).await.unwrap();
    let third = page(&server, next(second.next_page_token)).await;

    let pages = [&first.sessions, &second.sessions, &third.sessions];
    let seen: Vec<u64> = pages.iter().flat_map(|page| sesids(page)).collect();
    // What had been shown when it ended stays shown; the rest is there exactly once and in order.
    let all = sessions.iter().map(crate::support::TestSession::sesid).chain(late);
    let gone = [sessions[15].sesid()];
    let expected: Vec<u64> = all.filter(|sesid| !gone.contains(sesid)).collect();
    let shown_then_gone = sessions[20].sesid();
    assert!(sesids(&second.sessions).contains(&shown_then_gone));
    assert_eq!(seen, expected);
    assert_eq!(third.next_page_token, "");
}

#[tokio::test]
async fn a_page_has_a_default_size_and_a_largest() {
    let server = TestServer::start().await;
    begin_many(&server, 1_005, &[]).await;
    for (asked, given) in [(0, 100), (1, 1), (999, 999), (1_000, 1_000), (i32::MAX, 1_000)] {
        let page =
            page(&server, pb::ListSessionsRequest { page_size: asked, ..Default::default() });
        let page = page.await;
        assert_eq!(page.sessions.len(), given, "{asked}");
        assert!(!page.next_page_token.is_empty());
    }
}

/// Begins sessions on `main`, many at a time.
async fn begin_many(server: &TestServer, count: usize, labels: &[(String, String)]) {
    let request = pb::BeginSessionRequest {
        instance: MAIN.to_owned(),
        labels: labels.iter().cloned().collect(),
        ..Default::default()
    };
    let begin = call("SessionService/BeginSession", &request);
    let mut begun = stream::iter(0..count).map(|_| server.ask(&begin)).buffer_unordered(64);
    while let Some(result) = begun.next().await {
        result.expect("main begins sessions");
    }
}

#[tokio::test]
async fn a_page_ends_early_rather_than_grow_past_the_limit_of_a_response() {
    let server = TestServer::start().await;
    let long = |i: usize, letter: &str| format!("{}{i}", letter.repeat(62));
    let labels: Vec<_> = (0..8).map(|i| (long(i, "k"), long(i, "v"))).collect();
    begin_many(&server, 1_000, &labels).await;

    let mut seen = Vec::new();
    let mut pages = 0;
    let mut page_token = String::new();
    loop {
        let parent = MAIN.to_owned();
        let request =
            pb::ListSessionsRequest { parent, page_size: 1_000, page_token, ..Default::default() };
        let bytes = server.ask(&call("SessionService/ListSessions", &request)).await.unwrap();
        assert!(bytes.len() <= RESPONSE_BYTES, "{} bytes", bytes.len());
        let page = pb::ListSessionsResponse::decode(bytes).unwrap();
        seen.extend(sesids(&page.sessions));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(pages > 1, "all of it fits into one page, so this shows nothing");
    assert!(seen.is_sorted());
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 1_000);
}

#[tokio::test]
async fn a_filter_lets_through_what_matches_all_of_it() {
    let server = TestServer::start().await;
    let mut sessions = Vec::new();
    for (colour, size) in [("red", "s"), ("red", "l"), ("blue", "s"), ("blue", "l"), ("red", "s")] {
        let request = pb::BeginSessionRequest {
            instance: MAIN.to_owned(),
            labels: [("colour".into(), colour.into()), ("size".into(), size.into())].into(),
            ..Default::default()
        };
        let begun = server.sessions().begin_session(request).await.unwrap().into_inner();
        sessions.push(crate::support::TestSession::new(server.sessions(), begun.session.unwrap()));
    }
    sessions[0].set_context(THREAD_A, 7).await.unwrap();
    sessions[2].set_context(THREAD_B, 7).await.unwrap();
    sessions[4].set_context(THREAD_A, 8).await.unwrap();
    // Was bound, and is not.
    sessions[3].set_context(THREAD_A, 9).await.unwrap();
    sessions[3].reset_context(THREAD_A).await.unwrap();

    let none: &[(&str, &str)] = &[];
    for (bound, thread, labels, expected) in [
        (None, "", none, &[0, 1, 2, 3, 4][..]),
        (Some(true), "", none, &[0, 2, 4]),
        (Some(false), "", none, &[1, 3]),
        (None, THREAD_A, none, &[0, 4]),
        (None, "worker-c", none, &[]),
        (Some(false), THREAD_A, none, &[]),
        (None, "", &[("colour", "red")], &[0, 1, 4]),
        (None, "", &[("colour", "red"), ("size", "s")], &[0, 4]),
        (None, "", &[("colour", "green")], &[]),
        (None, "", &[("shape", "red")], &[]),
        (Some(true), THREAD_B, &[("colour", "blue")], &[2]),
    ] {
        let filter = pb::SessionFilter {
            bound,
            thread_id: thread.to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        let expected: Vec<u64> = expected.iter().map(|i: &usize| sessions[*i].sesid()).collect();
        assert_eq!(filtered(&server, filter.clone()).await, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn a_list_shows_one_instances_sessions_only() {
    let server = TestServer::start().await;
    let pool = server.create("pool").await.unwrap();
    server.initialize(&pool).await.unwrap();
    server.session().await;
    let theirs = server.begin(&pool).await.unwrap();

    let listed =
        page(&server, pb::ListSessionsRequest { parent: pool, ..Default::default() }).await;

    assert_eq!(listed.sessions.len(), 1);
    assert_eq!(listed.sessions[0].name, theirs.name());
}

#[tokio::test]
async fn a_page_token_is_good_for_its_own_list_only() {
    let server = TestServer::start().await;
    let pool = server.create("pool").await.unwrap();
    server.initialize(&pool).await.unwrap();
    for _ in 0..3 {
        server.session().await;
    }
    let first = page(&server, pb::ListSessionsRequest { page_size: 1, ..Default::default() }).await;
    let token = first.next_page_token;
    let request = pb::ListInstancesRequest { page_size: 1, ..Default::default() };
    let instances = server.instances().list_instances(request).await.unwrap().into_inner();
    let bound = Some(pb::SessionFilter { bound: Some(false), ..Default::default() });
    let of = |parent: &str, filter: &Option<pb::SessionFilter>, page_token: String| {
        let (parent, filter) = (parent.to_owned(), filter.clone());
        pb::ListSessionsRequest { parent, filter, page_token, ..Default::default() }
    };

    for request in [
        of(&pool, &None, token.clone()),
        of(MAIN, &bound, token.clone()),
        of(MAIN, &None, instances.next_page_token.clone()),
        of(MAIN, &None, "garbage".to_owned()),
        of(MAIN, &None, "ü".to_owned()),
        of(MAIN, &None, format!("{token}x")),
        of(MAIN, &None, token[..token.len() - 1].to_owned()),
    ] {
        let refusal = server.sessions().list_sessions(request).await.unwrap_err();
        refusal.is_about_fields(&["page_token"]);
    }
    let request = pb::ListInstancesRequest { page_token: token.clone(), ..Default::default() };
    let refusal = server.instances().list_instances(request).await.unwrap_err();
    refusal.is_about_fields(&["page_token"]);
    let request = pb::ListErrorsRequest { page_token: token.clone(), ..Default::default() };
    server.errors().list_errors(request).await.unwrap_err().is_about_fields(&["page_token"]);
    // Another page size is no other list.
    let request = pb::ListSessionsRequest { page_size: 50, ..of(MAIN, &None, token) };
    assert_eq!(page(&server, request).await.sessions.len(), 2);
}

#[tokio::test]
async fn instances_are_listed_by_name() {
    let server = TestServer::start().await;
    for id in ["zebra", "ant", "bee", "owl"] {
        server.create(id).await.unwrap();
    }
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListInstancesRequest { page_size: 2, page_token };
        let page = server.instances().list_instances(request).await.unwrap().into_inner();
        assert!(page.instances.len() <= 2);
        names.extend(page.instances.into_iter().map(|instance| instance.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        if names.len() == 2 {
            // Behind the page and before it.
            server.create("cat").await.unwrap();
            server.delete("instances/ant").await.unwrap();
        }
    }
    let expected =
        ["ant", "bee", "cat", "main", "owl", "zebra"].map(|id| format!("instances/{id}"));
    assert_eq!(names, expected);
}

#[tokio::test]
async fn all_errors_are_listed_a_page_at_a_time() {
    let server = TestServer::start().await;
    let mut errors = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListErrorsRequest { page_token, page_size: 50, ..Default::default() };
        let page = server.errors().list_errors(request).await.unwrap().into_inner();
        assert!(page.errors.len() <= 50);
        errors.extend(page.errors);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected: Vec<_> = JetErr::ALL.iter().map(|jet| jet.code()).collect();
    assert_eq!(expected.len(), 431);
    assert_eq!(errors.iter().map(|error| error.code).collect::<Vec<_>>(), expected);
    assert!(errors.iter().all(|error| !error.message.is_empty() && !error.retry_advice.is_empty()));
}

#[tokio::test]
async fn errors_are_listed_by_category() {
    let server = TestServer::start().await;
    let list = |category: &str| {
        let (category, page_size) = (category.to_owned(), 1_000);
        let request = pb::ListErrorsRequest { category, page_size, ..Default::default() };
        let mut client = server.errors();
        async move { client.list_errors(request).await.map(|page| page.into_inner().errors) }
    };
    for (asked, path) in [
        ("Error/Api/Usage", "Error/Api/Usage"),
        ("Usage", "Error/Api/Usage"),
        ("Resource", "Error/Operation/Resource"),
        ("Error", "Error"),
    ] {
        let found = list(asked).await.unwrap();
        let all = JetErr::ALL.iter().filter(|jet| jet.category().is_within(path)).count();
        assert!(all > 0);
        assert_eq!(found.len(), all, "{asked}");
        assert!(found.iter().all(|error| error.category.starts_with(path)), "{asked}");
    }
    for unknown in ["usage", "Error/", "Nonsense", "/"] {
        list(unknown).await.unwrap_err().is_about_fields(&["category"]);
    }
}

#[tokio::test]
async fn an_error_is_found_by_number_and_by_either_name() {
    use pb::get_error_request::Key;
    let server = TestServer::start().await;
    let get = |key| {
        let mut client = server.errors();
        async move {
            let found = client.get_error(pb::GetErrorRequest { key }).await?;
            Ok::<_, tonic::Status>(found.into_inner().error.expect("the answer has an error"))
        }
    };
    let by_code = get(Some(Key::Code(-1912))).await.unwrap();
    assert_eq!(by_code.name, "JET_errSessionContextAlreadySet");
    assert_eq!(by_code.category, "Error/Api/Usage");
    assert_eq!(by_code.grpc_code, "FAILED_PRECONDITION");
    for name in ["JET_errSessionContextAlreadySet", "SessionContextAlreadySet"] {
        assert_eq!(get(Some(Key::Name(name.to_owned()))).await.unwrap(), by_code);
    }
    assert_eq!(get(Some(Key::Code(0))).await.unwrap().name, "JET_errSuccess");
    for (key, field) in [
        (Some(Key::Code(1)), "code"),
        (Some(Key::Code(-1)), "code"),
        (Some(Key::Name("sessioncontextalreadyset".to_owned())), "name"),
        (Some(Key::Name(String::new())), "name"),
        (None, "code"),
    ] {
        get(key).await.unwrap_err().is_about_fields(&[field]);
    }
}
