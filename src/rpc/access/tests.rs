use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::HeaderValue;
use tonic_types::StatusExt;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::domain::access::{Digest, Pattern, Rule, Scope};
use crate::domain::id::InstanceId;
use crate::rpc::layers::RequestId;

/// The digest of the token `abc` (FIPS 180-2, appendix B.1).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn rule(principal: &str, instance: &str, role: Role) -> Rule {
    Rule {
        principals: vec![Pattern::of_principals(principal).unwrap()],
        instances: vec![Pattern::of_instances(instance).unwrap()],
        roles: role.into(),
    }
}

/// Rules under which `alice` has the token `abc`.
fn rules(rules: Vec<Rule>) -> Access {
    let mut tokens = Tokens::default();
    tokens.add(ABC.parse::<Digest>().unwrap(), Principal::new("alice")).unwrap();
    Access::Ruled(Rules::new(tokens, Policy::new(rules)))
}

fn id(id: &str) -> InstanceId {
    id.parse().unwrap()
}

fn about(instance: &str) -> About {
    About { instance: Some(id(instance)), ..About::default() }
}

fn method(name: &str) -> &'static Method {
    method::METHODS.iter().find(|method| method.name == name).unwrap()
}

/// A request of `alice`, or of nobody.
fn request(name: &str, known: bool) -> Request<()> {
    let method = method(name);
    let mut request = Request::new(());
    *request.uri_mut() = format!("/{}/{}", method.service, method.name).parse().unwrap();
    if known {
        let token = HeaderValue::from_static("Bearer abc");
        request.headers_mut().insert(http::header::AUTHORIZATION, token);
    }
    request
}

/// What becomes of a request of a method for an instance: the reason why not, or who its caller is.
fn made(
    guard: &Guard,
    mut request: Request<()>,
    about: About,
    wish: Wish,
) -> Result<Caller, String> {
    let reason = |status: Status| {
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, "jet.session.v1");
        info.reason.clone()
    };
    guard.admit(Method::of(request.uri().path()), &mut request, &about).map_err(reason)?;
    let entry = guard.entry(request.extensions(), &about).map_err(reason)?;
    entry.caller(None, about, wish).map_err(reason)
}

fn called(guard: &Guard, name: &str, known: bool, instance: &str) -> Result<Caller, String> {
    made(guard, request(name, known), about(instance), Wish::default())
}

fn who(called: Result<Caller, String>) -> Result<String, String> {
    called.map(|caller| caller.asker.by.as_str().to_owned())
}

fn yes(name: &str) -> Result<String, String> {
    Ok(name.to_owned())
}

fn no(reason: &str) -> Result<String, String> {
    Err(reason.to_owned())
}

#[test]
fn where_nothing_is_configured_everybody_may_do_everything() {
    let guard = Guard::new(Access::Open);
    for (name, known) in [("TerminateInstance", false), ("SetSessionContext", true)] {
        let caller = called(&guard, name, known, "main").unwrap();
        assert_eq!(caller.asker.by, Principal::anonymous(), "credentials are not looked at");
        assert_eq!(caller.about.sight, Sight::Everybody);
        assert!(matches!(caller.scope(), Scope::All));
    }
    let mut plain = request("SetSessionContext", false);
    assert!(
        guard
            .admit(Method::of(plain.uri().path()), &mut plain, &About::default())
            .unwrap()
            .is_none()
    );
    assert!(plain.extensions().is_empty(), "a plain call carries nothing");
}

#[test]
fn nobody_comes_in_but_by_the_door() {
    let guard = Guard::new(rules(vec![rule("*", "*", Role::Admin)]));
    let mut request = request("SetSessionContext", true);
    let entered = guard.entry(request.extensions(), &about("main"));
    assert!(entered.is_err(), "the door was passed by");
    guard.admit(Method::of(request.uri().path()), &mut request, &about("main")).unwrap();
    assert!(guard.entry(request.extensions(), &about("main")).is_ok());
}

#[test]
fn who_calls_is_asked_first_and_what_for_then() {
    let guard = Guard::new(rules(vec![rule("alice", "pool-*", Role::Use)]));
    let set = |known, instance| who(called(&guard, "SetSessionContext", known, instance));
    assert_eq!(set(false, "pool-1"), no("CREDENTIALS_MISSING"));
    assert_eq!(set(true, "pool-1"), yes("alice"));
    assert_eq!(set(true, "main"), no("ROLE_MISSING"));
    assert_eq!(who(called(&guard, "GetSession", true, "pool-1")), no("ROLE_MISSING"));
    assert_eq!(who(called(&guard, "GetServerInfo", true, "pool-1")), yes("alice"));

    let mut twice = request("SetSessionContext", true);
    let token = HeaderValue::from_static("Bearer abc");
    twice.headers_mut().append(http::header::AUTHORIZATION, token);
    let twice = made(&guard, twice, about("pool-1"), Wish::default());
    assert_eq!(who(twice), no("CREDENTIALS_INVALID"));
}

#[test]
fn a_certificate_says_who_calls_unless_a_token_does() {
    let certified = "spiffe://example.org/ns/shop/sa/worker";
    let guard = Guard::new(rules(vec![
        rule("spiffe://example.org/ns/shop/*", "main", Role::Use),
        rule("alice", "main", Role::Use),
    ]));
    for (known, peer, expected) in [
        (false, Peer::Certified(Principal::new(certified)), yes(certified)),
        (true, Peer::Certified(Principal::new(certified)), yes("alice")),
        (true, Peer::Nameless("no name"), yes("alice")),
        (false, Peer::Nameless("no name"), no("CREDENTIALS_INVALID")),
        (false, Peer::Unknown, no("CREDENTIALS_MISSING")),
        // Nobody becomes somebody by calling themselves nobody.
        (false, Peer::Certified(Principal::anonymous()), no("CREDENTIALS_MISSING")),
    ] {
        let mut request = request("SetSessionContext", known);
        request.extensions_mut().insert(peer.clone());
        let called = made(&guard, request, about("main"), Wish::default());
        assert_eq!(who(called), expected, "{known} {peer:?}");
    }
}

#[test]
fn anonymous_may_what_a_rule_says_that_names_it() {
    let guard = Guard::new(rules(vec![
        rule("anonymous", "main", Role::Observe),
        rule("*", "main", Role::Use),
    ]));
    assert_eq!(who(called(&guard, "GetSession", false, "main")), yes("anonymous"));
    assert_eq!(who(called(&guard, "SetSessionContext", false, "main")), no("ROLE_MISSING"));
    assert_eq!(who(called(&guard, "GetServerInfo", false, "main")), yes("anonymous"));
}

#[test]
fn whoever_takes_a_session_away_by_force_needs_to_be_an_operator() {
    let wish = |role| Wish { role: Some(role), successor: None };
    for (has, ends, forces) in [
        (Role::Use, yes("alice"), no("ROLE_MISSING")),
        (Role::Operate, no("ROLE_MISSING"), yes("alice")),
        (Role::Admin, yes("alice"), yes("alice")),
        (Role::Observe, no("ROLE_MISSING"), no("ROLE_MISSING")),
    ] {
        let guard = Guard::new(rules(vec![rule("alice", "main", has)]));
        let end = |role| who(made(&guard, request("EndSession", true), about("main"), wish(role)));
        assert_eq!(end(Role::Use), ends, "{has}");
        assert_eq!(end(Role::Operate), forces, "{has}");
    }
}

#[test]
fn a_session_is_handed_only_to_somebody_who_may_use_it() {
    let guard = Guard::new(rules(vec![
        rule("alice", "main", Role::Use),
        rule("bob", "main", Role::Use),
        rule("carol", "main", Role::Operate),
    ]));
    for (to, expected) in
        [("bob", yes("alice")), ("carol", no("ROLE_MISSING")), ("x", no("ROLE_MISSING"))]
    {
        let wish = Wish { role: None, successor: Some(Principal::new(to)) };
        let request = request("TransferSessionContext", true);
        assert_eq!(who(made(&guard, request, about("main"), wish)), expected, "{to}");
    }
}

#[test]
fn only_those_who_observe_see_others() {
    for (has, sees) in [(Role::Use, false), (Role::Admin, true)] {
        let guard = Guard::new(rules(vec![rule("alice", "main", has)]));
        let caller = called(&guard, "SetSessionContext", true, "main").unwrap();
        assert!(caller.about.sight.sees(&Principal::new("alice")));
        assert_eq!(caller.about.sight.sees(&Principal::new("bob")), sees, "{has}");
    }
    assert!(!About::default().sight.sees(&Principal::anonymous()), "who forgets sees nothing");
}

#[test]
fn a_call_that_spans_instances_has_a_scope() {
    let guard =
        Guard::new(rules(vec![rule("alice", "a*", Role::Use), rule("alice", "b*", Role::Observe)]));
    let scope = |name: &str| {
        let caller = made(&guard, request(name, true), About::default(), Wish::default());
        let scope = caller.unwrap().scope();
        ["a1", "b1", "c1"].map(|instance| scope.holds(&id(instance)))
    };
    assert_eq!(scope("EndThreads"), [true, false, false]);
    assert_eq!(scope("ListInstances"), [false, true, false]);
    assert_eq!(scope("GetServerInfo"), [false, false, false], "it needs none");
}

/// Waits for something that must happen.
async fn soon<T>(happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), happens).await.expect("it never happened")
}

#[tokio::test]
async fn what_lasts_ends_when_the_right_to_it_is_taken_away() {
    let all = || vec![rule("alice", "main", Role::Observe), rule("alice", "x", Role::Use)];
    let guard = Guard::new(rules(all()));
    let watch = |items: usize| {
        let caller = called(&guard, "WatchSessions", true, "main").unwrap();
        let items = stream::iter(vec![Ok(()); items]).chain(stream::pending());
        Box::pin(caller.standing().over(items))
    };
    let mut silent = watch(0);
    let mut busy = watch(1_000);
    assert!(soon(busy.next()).await.unwrap().is_ok());

    guard.replace(rules(all()));
    assert!(soon(busy.next()).await.unwrap().is_ok(), "nothing was taken away");

    guard.replace(rules(vec![rule("alice", "x", Role::Use)]));
    for stream in [&mut silent, &mut busy] {
        let ended = soon(stream.next()).await.unwrap().unwrap_err();
        assert_eq!(ended.get_error_details().error_info().unwrap().reason, "ROLE_MISSING");
        assert!(soon(stream.next()).await.is_none());
    }
}

#[tokio::test]
async fn what_lasts_ends_when_its_token_is_revoked() {
    let guard = Guard::new(rules(vec![rule("*", "*", Role::Admin)]));
    let mut standing = called(&guard, "WatchSessions", true, "main").unwrap().standing();
    let policy = Policy::new(vec![rule("*", "*", Role::Admin)]);
    guard.replace(Access::Ruled(Rules::new(Tokens::default(), policy)));
    let ended = soon(standing.ended()).await;
    assert_eq!(ended.get_error_details().error_info().unwrap().reason, "CREDENTIALS_INVALID");
}

#[tokio::test]
async fn what_began_when_everybody_might_do_everything_ends_when_that_ends() {
    let guard = Guard::new(Access::Open);
    let mut watch = called(&guard, "WatchSessions", false, "main").unwrap().standing();
    let mut waiting = called(&guard, "SetSessionContext", false, "main").unwrap().standing();
    guard.replace(rules(vec![rule("anonymous", "main", Role::Use)]));
    for (standing, reason) in [(&mut watch, "ROLE_MISSING"), (&mut waiting, "CREDENTIALS_MISSING")]
    {
        let ended = soon(standing.ended()).await;
        assert_eq!(ended.get_error_details().error_info().unwrap().reason, reason);
    }
}

/// What is logged, as lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn of(run: impl FnOnce()) -> String {
        let lines = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, run);
        let bytes = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(bytes.clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Makes a call as the layer does; answers it with a status or, if it is nobody's wish any more, not at
/// all.
fn act(guard: &Guard, name: &str, wish: Wish, answer: Option<http::Response<()>>) {
    let mut request = request(name, true);
    let request_id = request_id("r-1");
    request.extensions_mut().insert(request_id.clone());
    let about = About { request_id: Some(request_id), ..about("main") };
    let Ok(acting) = guard.admit(Method::of(request.uri().path()), &mut request, &about) else {
        return;
    };
    let caller = guard.entry(request.extensions(), &about).unwrap().caller(None, about, wish);
    if let (Some(acting), Some(answer)) = (acting, answer) {
        acting.answered(&answer);
    }
    drop(caller);
}

fn request_id(id: &str) -> RequestId {
    let headers = [(http::HeaderName::from_static("x-request-id"), id.parse().unwrap())];
    RequestId::of(&headers.into_iter().collect()).unwrap()
}

#[test]
fn what_operators_do_is_logged_and_nothing_else() {
    let guard = Guard::new(rules(vec![rule("alice", "main", Role::Admin)]));
    let ok = || Some(http::Response::new(()));
    let forced = || Wish { role: Some(Role::Operate), successor: None };
    let logged = |name: &str, wish, answer| Lines::of(|| act(&guard, name, wish, answer));

    let line = logged("TerminateInstance", Wish::default(), ok());
    assert_eq!(line.lines().count(), 1, "{line}");
    for word in [
        "INFO",
        "an operator acted",
        "principal=\"alice\"",
        "method=\"TerminateInstance\"",
        "instance=\"main\"",
        "request_id=\"r-1\"",
        "outcome=\"Ok\"",
    ] {
        assert!(line.contains(word), "no {word} in {line}");
    }
    let refused = crate::rpc::status::malformed(Vec::new(), &About::default()).into_http::<()>();
    let line = logged("DeleteInstance", Wish::default(), Some(refused));
    assert!(line.contains("outcome=\"InvalidArgument\""), "{line}");
    let line = logged("BackupInstance", Wish::default(), None);
    assert!(line.contains("the caller went away"), "{line}");
    assert!(logged("EndSession", forced(), ok()).contains("method=\"EndSession\""));

    let used = Wish { role: Some(Role::Use), successor: None };
    assert_eq!(logged("EndSession", used, ok()), "");
    for name in ["SetSessionContext", "GetInstance", "ListInstances", "GetServerInfo"] {
        assert_eq!(logged(name, Wish::default(), ok()), "", "{name}");
    }
}

#[test]
fn refused_attempts_of_operators_are_logged_as_warnings() {
    let forced = || Wish { role: Some(Role::Operate), successor: None };
    // Turned away at the door, and when it is known which instance is meant.
    for instance in ["other", "main"] {
        let guard = Guard::new(rules(vec![
            rule("alice", instance, Role::Use),
            rule("alice", "other", if instance == "other" { Role::Use } else { Role::Admin }),
        ]));
        for (name, wish) in [("DeleteInstance", Wish::default()), ("EndSession", forced())] {
            let line = Lines::of(|| act(&guard, name, wish, Some(http::Response::new(()))));
            assert_eq!(line.lines().count(), 1, "{line}");
            for word in ["WARN", "an operator's act was refused", "principal=\"alice\"", name] {
                assert!(line.contains(word), "no {word} in {line}");
            }
        }
        let line = Lines::of(|| act(&guard, "GetSession", Wish::default(), None));
        assert_eq!(line, "", "that somebody looks is nothing to warn of");
    }
}
