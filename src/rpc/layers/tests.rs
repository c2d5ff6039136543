//! The layer around services that never answer, go on for ever, or break.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, pending};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::rpc::access::Access;
use crate::rpc::telemetry::tests::observer;

// As gRPC numbers them.
const OK: i32 = 0;
const DEADLINE_EXCEEDED: i32 = 4;
const INTERNAL: i32 = 13;

// Of those that there are: the guard lets no others in.
const CAPPED: &str = "/jet.session.v1.SessionService/GetSession";
const ENDLESS: &str = "/grpc.health.v1.Health/Watch";
const CAP: Duration = Duration::from_secs(60);

type Answering = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// A layer whose methods are the two above.
fn layer(panics: &Panics) -> CallLayer {
    let longest = |method: Option<&Method>| {
        let ends = method.is_some_and(|method| method.longest.is_some());
        ends.then_some(CAP)
    };
    let guard = Guard::new(Access::Open);
    CallLayer { longest, panics: panics.clone(), observer: observer(), guard }
}

fn request(path: &str, timeout: Option<&str>) -> Request<()> {
    let mut request = Request::post(path);
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    request.body(()).unwrap()
}

/// An answer whose body is this stream.
fn streaming(frames: impl stream::Stream<Item = Frame<Bytes>> + Send + 'static) -> Response<Body> {
    let frames = futures_util::StreamExt::map(frames, Ok::<_, Status>);
    Response::new(Body::new(StreamBody::new(frames)))
}

fn data() -> Frame<Bytes> {
    Frame::data(Bytes::from_static(b"a message"))
}

fn well() -> Frame<Bytes> {
    Frame::trailers(
        [("grpc-status", "0")]
            .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
            .into_iter()
            .collect(),
    )
}

/// The status of an answer, wherever it stands, and how many pieces came before it.
async fn told(response: Response<ObservedBody>) -> (usize, Status) {
    if let Some(status) = Status::from_header_map(response.headers()) {
        return (0, status);
    }
    let mut body = response.into_body();
    let mut pieces = 0;
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_trailers() {
            Ok(trailers) => return (pieces, Status::from_header_map(&trailers).unwrap()),
            Err(_) => pieces += 1,
        }
    }
    panic!("the body ended after {pieces} pieces without a status");
}

/// How long the layer waits for a service that never answers, and the deadline that its handler sees.
#[expect(clippy::disallowed_methods, reason = "the clock of the runtime is the test's own")]
async fn patience(path: &str, timeout: Option<&str>) -> Option<(Duration, Option<Duration>)> {
    let began = Instant::now();
    let (tell, seen) = tokio::sync::oneshot::channel();
    let tell = Arc::new(std::sync::Mutex::new(Some(tell)));
    let service = tower::service_fn(move |request: Request<()>| {
        let deadline = request.extensions().get::<Deadline>().map(|deadline| deadline.at() - began);
        tell.lock().unwrap().take().unwrap().send(deadline).unwrap();
        let never: Answering = Box::pin(pending());
        never
    });
    let call = layer(&Panics::default()).layer(service).oneshot(request(path, timeout));
    let answer = tokio::time::timeout(CAP * 1_000_000, call).await.ok()?.unwrap();
    let (_, status) = told(answer).await;
    assert_eq!(i32::from(status.code()), DEADLINE_EXCEEDED);
    Some((began.elapsed(), seen.await.unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_call_has_the_shorter_of_what_it_says_and_what_its_method_may_take() {
    for (path, timeout, expected) in [
        (CAPPED, None, Some(CAP)),
        (CAPPED, Some("5S"), Some(Duration::from_secs(5))),
        (CAPPED, Some("60001m"), Some(CAP)),
        (CAPPED, Some("99999999H"), Some(CAP)),
        (ENDLESS, Some("5S"), Some(Duration::from_secs(5))),
        (ENDLESS, Some("2H"), Some(Duration::from_secs(7_200))),
        (ENDLESS, None, None),
    ] {
        let Some((waited, seen)) = patience(path, timeout).await else {
            assert_eq!(expected, None, "{path} {timeout:?} was waited for in vain");
            continue;
        };
        let expected = expected.expect("it has no end");
        let late = waited.checked_sub(expected).unwrap();
        assert!(late <= Duration::from_millis(1), "{path} {timeout:?}: {late:?} late");
        assert_eq!(seen, Some(expected), "{path} {timeout:?}: what the handler knows");
    }
}

#[test]
fn what_may_take_how_long_is_in_the_table_of_methods() {
    for method in &crate::rpc::method::METHODS {
        assert_eq!(deadline::longest(Some(method)), method.longest, "{method:?}");
    }
    assert!(deadline::longest(None).is_some());
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the clock of the runtime is the test's own")]
async fn a_stream_ends_at_the_deadline_of_its_call() {
    let silent =
        || futures_util::StreamExt::chain(stream::iter([data(), data()]), stream::pending());
    let chatty = || {
        stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((data(), ()))
        })
    };
    for talks in [false, true] {
        let began = Instant::now();
        let service = tower::service_fn(move |_: Request<()>| {
            let answer = if talks { streaming(chatty()) } else { streaming(silent()) };
            let answer: Answering = Box::pin(async move { Ok(answer) });
            answer
        });
        let call =
            layer(&Panics::default()).layer(service).oneshot(request(CAPPED, Some("10500m")));
        let (pieces, status) = told(call.await.unwrap()).await;
        assert_eq!(
            (pieces, i32::from(status.code())),
            (if talks { 10 } else { 2 }, DEADLINE_EXCEEDED)
        );
        assert_eq!(began.elapsed().as_millis() / 10, 1_050);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_in_time_is_not_taken_back() {
    let service = tower::service_fn(|_: Request<()>| {
        let answer: Answering = Box::pin(async { Ok(streaming(stream::iter([data(), well()]))) });
        answer
    });
    let call = layer(&Panics::default()).layer(service).oneshot(request(CAPPED, Some("1S")));
    let answer = call.await.unwrap();

    // The peer takes its time.
    tokio::time::sleep(Duration::from_secs(5)).await;

    let (pieces, status) = told(answer).await;
    assert_eq!((pieces, i32::from(status.code())), (1, OK));
}

/// What breaks as soon as it is dropped.
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a secret, once more");
        }
    }
}

/// The header that says how a call breaks.
const HOW: &str = "how";

/// A service that breaks in the way that the request says.
fn fragile(request: &Request<Incoming>) -> Answering {
    match request.headers()[HOW].to_str().unwrap() {
        "AtOnce" => panic!("a secret"),
        "Later" => Box::pin(async {
            tokio::task::yield_now().await;
            panic!("a {}", "secret")
        }),
        "First" => broken_after(0),
        "InTheMiddle" => broken_after(3),
        "Twice" => {
            let fragile = Fragile;
            let frames = stream::poll_fn(move |_| {
                let _held = &fragile;
                std::panic::panic_any(4_711)
            });
            Box::pin(async move { Ok(streaming(frames)) })
        }
        _ => Box::pin(async {
            Ok(streaming(futures_util::StreamExt::chain(
                stream::iter([data()]),
                stream::once(async {
                    // Until after the others have broken.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    well()
                }),
            )))
        }),
    }
}

fn broken_after(pieces: usize) -> Answering {
    let mut left = pieces;
    let frames = stream::poll_fn(move |_| {
        assert_ne!(left, 0, "a secret");
        left -= 1;
        Poll::Ready(Some(data()))
    });
    Box::pin(async move { Ok(streaming(frames)) })
}

/// One connection to a server of that service.
async fn connection(panics: &Panics) -> (h2::client::SendRequest<Bytes>, [JoinHandle<()>; 2]) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let calls = layer(panics).layer(tower::service_fn(|request| fragile(&request)));
    let server = tokio::spawn(async move {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let service = TowerToHyperService::new(calls);
        builder.serve_connection(TokioIo::new(theirs), service).await.unwrap();
    });
    let (streams, connection) = h2::client::handshake(ours).await.unwrap();
    let client = tokio::spawn(async move { connection.await.unwrap() });
    (streams, [server, client])
}

/// Makes a call; answers how many bytes came, and the status.
async fn call(streams: &h2::client::SendRequest<Bytes>, method: &str) -> (usize, Status) {
    let request = Request::post(format!("http://localhost{CAPPED}"))
        .header(HOW, method)
        .header("x-request-id", "id-7")
        .body(())
        .unwrap();
    let mut streams = streams.clone().ready().await.unwrap();
    let (answer, _) = streams.send_request(request, true).unwrap();
    let (parts, mut body) = answer.await.unwrap().into_parts();
    let mut bytes = 0;
    while let Some(data) = body.data().await {
        let data = data.expect("the stream is not reset");
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes += data.len();
    }
    let trailers = body.trailers().await.unwrap().unwrap_or(parts.headers);
    assert_eq!(trailers["x-request-id"], "id-7");
    (bytes, Status::from_header_map(&trailers).expect("the call has a status"))
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_breaks_ends_its_own_call_with_a_status_and_no_other() {
    let panics = Panics::default();
    let (streams, ends) = connection(&panics).await;
    let other = streams.clone();
    let other = tokio::spawn(async move { call(&other, "Well").await });
    let message = b"a message".len();
    let cases = [
        ("AtOnce", 0, 1),
        ("Later", 0, 1),
        ("First", 0, 1),
        ("InTheMiddle", 3, 1),
        ("Twice", 0, 2),
    ];
    for (method, pieces, times) in cases {
        let before = panics.count();
        let (bytes, status) = call(&streams, method).await;
        assert_eq!((bytes, i32::from(status.code())), (pieces * message, INTERNAL), "{method}");
        let told = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
        assert!(!told.contains("secret"), "{told}");
        assert_eq!(panics.count() - before, times, "{method} is counted");
    }

    let (bytes, status) = other.await.unwrap();
    assert_eq!((bytes, i32::from(status.code())), (message, OK), "the call beside them goes on");
    assert_eq!(i32::from(call(&streams, "Well").await.1.code()), OK, "so does the connection");
    drop(streams);
    for end in ends {
        end.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the clock of the runtime is the test's own")]
async fn a_connection_is_quiet_and_deserted_when_no_call_is_under_way() {
    let room = WaitingRoom::new();
    let service = tower::service_fn(|_: Request<()>| {
        let answer: Answering = Box::pin(async { Ok(streaming(stream::iter([data(), well()]))) });
        answer
    });
    let mut asked = request(CAPPED, None);
    asked.extensions_mut().insert(room.clone());
    let answer = layer(&Panics::default()).layer(service).oneshot(asked).await.unwrap();
    let long = CAP * 100;
    assert!(tokio::time::timeout(long, room.deserted()).await.is_err(), "its answer is not sent");

    let talking = tokio::time::timeout(long, room.quiet());
    let began = Instant::now();
    assert!(talking.await.is_ok(), "there is no end of waiting for a good moment");
    assert_eq!(began.elapsed().as_millis() / 10, 100);
    told(answer).await;
    let began = Instant::now();
    room.quiet().await;
    assert_eq!(began.elapsed().as_millis() / 10, 10, "nobody has called for a while");

    assert!(tokio::time::timeout(long, room.deserted()).await.is_ok());
}
