//! Peers that say nothing, too little, or too much. Time stands still, unless everybody waits.

mod frames;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;
use tower::Layer;

use super::*;
use crate::domain::id::Principal;
use crate::domain::limits::{
    DRAIN_PREFACE_MS_MAX, DRAIN_QUIET_MS, DRAIN_SILENCE_SECONDS_MAX, SILENCE_SECONDS_MAX,
};
use crate::rpc::access::{Access, Guard, Peer};
use crate::rpc::layers::{CallLayer, Panics};
use crate::rpc::telemetry::Observer;
use crate::server::environment::System;
use frames::{Frame, beginning, next, next_of, send};

/// What happens at the very moment has happened a moment later.
const MOMENT: Duration = Duration::from_millis(1);

const SILENCE: Duration = Duration::from_secs(SILENCE_SECONDS_MAX);
/// A quiet moment, and as long as a peer may take to answer a goodbye.
const GOODBYE: Duration = Duration::from_millis(DRAIN_QUIET_MS + 1_000 * DRAIN_SILENCE_SECONDS_MAX);

/// A call that ends when somebody ends it.
const ENDLESS: &str = "/grpc.health.v1.Health/Watch";

/// A connection, seen from its peer.
struct Connection {
    wire: DuplexStream,
    served: JoinHandle<Result<(), Ended>>,
    drain: watch::Sender<bool>,
    tally: Arc<Tally>,
}

fn serving(routes: Routes, tally: Arc<Tally>) -> Serving {
    let config = Config::new(([127, 0, 0, 1], 0).into());
    let observer = Observer::new(Arc::new(System::new()), None);
    Serving::new(
        &config,
        CallLayer::new(Panics::default(), observer, Guard::new(Access::Open))
            .layer(routes.prepare()),
        None,
        tally,
    )
}

impl Connection {
    /// One whose peer has said this before it is listened to.
    async fn after(said: &[u8]) -> Self {
        let (mut wire, stream) = tokio::io::duplex(4 << 20);
        wire.write_all(said).await.unwrap();
        let (_, health) = tonic_health::server::health_reporter();
        let tally = Arc::new(Tally::default());
        let serving = serving(Routes::new(health), Arc::clone(&tally));
        let (drain, draining) = watch::channel(false);
        let served = serving.attend(greeting::plaintext(stream), draining);
        Self { wire, served: tokio::spawn(served), drain, tally }
    }

    /// One whose peer speaks HTTP/2.
    async fn begun() -> Self {
        let mut connection = Self::after(&beginning()).await;
        next_of(&mut connection.wire, frames::SETTINGS, frames::ACK).await;
        connection
    }

    /// Begins a call that does not end by itself.
    async fn call(&mut self, stream: u32) {
        send(&mut self.wire, &Frame::call(stream, ENDLESS)).await;
        send(&mut self.wire, &Frame::new(0x0, frames::END_STREAM, stream, [0; 5])).await;
        next_of(&mut self.wire, 0x0, 0).await;
    }

    /// How it ends if it ends after this long, and neither sooner nor later.
    async fn ends_after(&mut self, long: Duration) -> Result<(), Ended> {
        let sooner = timeout(long - MOMENT, &mut self.served).await;
        assert!(sooner.is_err(), "ended sooner than after {long:?}: {sooner:?}");
        let ended = timeout(2 * MOMENT, &mut self.served).await;
        ended.unwrap_or_else(|_| panic!("not ended after {long:?}")).unwrap()
    }

    /// Whether it lives, which it shows by an answer.
    async fn lives(&mut self) {
        send(&mut self.wire, &Frame::ping()).await;
        let answer = next_of(&mut self.wire, frames::PING, frames::ACK).await;
        assert_eq!(answer.payload, Frame::ping().payload);
    }

    /// The reason for which it was ended.
    async fn goaway(&mut self) -> u32 {
        next_of(&mut self.wire, frames::GOAWAY, 0).await.reason(4)
    }
}

/// As many bytes as these streams make of these frames.
fn flood(streams: usize, frames: impl Fn(u32) -> Vec<Frame>) -> Vec<u8> {
    let mut bytes = beginning();
    for stream in (1..).step_by(2).take(streams) {
        bytes.extend(frames(stream).iter().flat_map(Frame::bytes));
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up() {
    let mut connection = Connection::after(b"").await;

    let ended = connection.ends_after(SILENCE).await;

    assert!(matches!(ended, Err(Ended::Unheard(Unheard::Silent(SILENCE)))), "{ended:?}");
    assert_eq!(connection.wire.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(connection.tally.handshake_failed(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_a_byte_now_and_then_is_given_up_as_soon() {
    let mut connection = Connection::after(b"").await;
    for byte in &beginning()[..9] {
        connection.wire.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let ended = connection.ends_after(SILENCE - Duration::from_secs(9)).await;

    assert!(matches!(ended, Err(Ended::Unheard(Unheard::Silent(SILENCE)))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_anything_else_is_left_at_once_and_it_is_known_what_it_spoke() {
    for (said, expected) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "it speaks HTTP/1, and only HTTP/2 is spoken here"),
        (b"POST", "it speaks HTTP/1, and only HTTP/2 is spoken here"),
        (b"\x16\x03\x01\x02\x00\x01", "it speaks TLS, and plaintext is spoken here"),
        (b"SSH-2.0-OpenSSH", "it does not speak HTTP/2"),
        (b"PRI * HTTP/2.0\r\n\r\nXX", "it does not speak HTTP/2"),
    ] {
        let mut connection = Connection::after(said).await;
        let ended = timeout(MOMENT, &mut connection.served).await.unwrap().unwrap();
        assert_eq!(ended.unwrap_err().to_string(), expected);
        assert_eq!(connection.tally.handshake_failed(), 1, "{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_only_comes_and_goes_is_no_failure() {
    for said in [&b""[..], b"PRI"] {
        let Connection { wire, served, tally, drain: _drain } = Connection::after(said).await;
        drop(wire);
        let ended = timeout(MOMENT, served).await.unwrap().unwrap();
        assert!(matches!(ended, Err(Ended::Unheard(Unheard::Gone))), "{ended:?}");
        assert_eq!(tally.handshake_failed(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_not_begun_keeps_no_drain_waiting() {
    let mut connection = Connection::after(&beginning()[..10]).await;

    connection.drain.send_replace(true);

    connection.ends_after(Duration::from_millis(DRAIN_PREFACE_MS_MAX)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_found_although_it_has_calls() {
    let mut connection = Connection::begun().await;
    connection.call(1).await;
    let alive = KEEPALIVE_INTERVAL_SECONDS + KEEPALIVE_TIMEOUT_SECONDS;

    let ended = connection.ends_after(Duration::from_secs(alive)).await;

    let Err(Ended::Broken(error)) = ended else { panic!("{ended:?}") };
    assert!(format!("{error:?}").contains("KeepAliveTimedOut"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_without_calls_keeps_a_drain_waiting_only_for_so_long() {
    let mut connection = Connection::begun().await;

    connection.drain.send_replace(true);

    connection.ends_after(GOODBYE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_keep_a_drain_waiting() {
    let mut connection = Connection::begun().await;
    connection.call(1).await;
    connection.drain.send_replace(true);
    let waits = timeout(3 * GOODBYE, &mut connection.served).await;
    assert!(waits.is_err(), "{waits:?}");

    send(&mut connection.wire, &Frame::reset(1)).await;

    timeout(GOODBYE, &mut connection.served).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_lets_go_is_let_go_at_once() {
    let mut connection = Connection::begun().await;
    connection.drain.send_replace(true);
    let ping = next_of(&mut connection.wire, frames::PING, 0).await;

    send(&mut connection.wire, &Frame { flags: frames::ACK, ..ping }).await;

    timeout(MOMENT, &mut connection.served).await.unwrap().unwrap().unwrap();
    while let Some(frame) = next(&mut connection.wire).await {
        assert!(frame.is(frames::GOAWAY, 0), "{frame:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_told_its_bounds() {
    let mut connection = Connection::after(&beginning()).await;

    let settings = next_of(&mut connection.wire, frames::SETTINGS, 0).await;

    let told = |id: u16| {
        settings
            .payload
            .chunks(6)
            .find(|setting| setting[..2] == id.to_be_bytes())
            .map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
    };
    assert_eq!(told(0x3), Some(STREAMS_PER_CONNECTION_MAX));
    assert_eq!(told(0x5), Some(HTTP_FRAME_BYTES_MAX));
    assert_eq!(told(0x6), Some(HEADERS_BYTES_MAX));
}

#[tokio::test(start_paused = true)]
async fn one_stream_too_many_is_refused_and_the_others_go_on() {
    let most = STREAMS_PER_CONNECTION_MAX as usize;
    let said = flood(most + 1, |stream| vec![Frame::call(stream, ENDLESS)]);
    let mut connection = Connection::after(&said).await;

    let refused = next_of(&mut connection.wire, frames::RST_STREAM, 0).await;

    assert_eq!(refused.stream, 2 * STREAMS_PER_CONNECTION_MAX + 1);
    assert_eq!(refused.reason(0), frames::REFUSED_STREAM);
    connection.lives().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_may_cancel_all_its_calls_at_once_and_go_on() {
    let cancelled = |stream| vec![Frame::call(stream, ENDLESS), Frame::reset(stream)];
    let said = flood(STREAMS_PER_CONNECTION_MAX as usize, cancelled);
    let mut connection = Connection::after(&said).await;

    connection.lives().await;
    connection.call(2 * STREAMS_PER_CONNECTION_MAX + 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_nothing_but_cancel_is_ended() {
    let cancelled = |stream| vec![Frame::call(stream, ENDLESS), Frame::reset(stream)];
    let said = flood(2 * PENDING_ACCEPT_RESETS_MAX, cancelled);
    let mut connection = Connection::after(&said).await;

    assert_eq!(connection.goaway().await, frames::ENHANCE_YOUR_CALM);
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_every_stream_is_an_error_is_ended() {
    let errors = |count| flood(count, |stream| vec![Frame::malformed(stream)]);
    let mut connection = Connection::after(&errors(LOCAL_ERROR_RESETS_MAX / 2)).await;
    connection.lives().await;

    let mut connection = Connection::after(&errors(2 * LOCAL_ERROR_RESETS_MAX)).await;
    assert_eq!(connection.goaway().await, frames::ENHANCE_YOUR_CALM);
}

#[tokio::test(start_paused = true)]
async fn a_request_says_who_its_peer_is() {
    let worker = Peer::Certified(Principal::new("worker.example"));
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let (_, health) = tonic_health::server::health_reporter();
    let health = InterceptedService::new(health, move |request: tonic::Request<()>| {
        tell.try_send(request.extensions().get::<Peer>().cloned()).unwrap();
        Ok(request)
    });
    let (mut wire, stream) = tokio::io::duplex(1 << 16);
    let certified = async {
        let greeted = greeting::plaintext(stream).await?;
        Ok(Greeted { peer: worker.clone(), ..greeted })
    };
    let (_drain, draining) = watch::channel(false);
    let serving = serving(Routes::new(health), Arc::default());
    wire.write_all(&beginning()).await.unwrap();
    send(&mut wire, &Frame::call(1, ENDLESS)).await;

    tokio::select! {
        ended = serving.attend(certified, draining) => panic!("{ended:?}"),
        heard = told.recv() => assert_eq!(heard, Some(Some(worker))),
    }
}
