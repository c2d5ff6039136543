//! Leases: one heartbeat, and losses that are never noticed too late.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Scene;
use super::fake::Fault;
use crate::client::LossCause;
use crate::client::clock::now;

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(10);

/// What the clock of a test may be off, because timers have whole milliseconds.
const TICK: Duration = Duration::from_millis(5);

async fn leased() -> Scene {
    Scene::with(|builder| builder.lease_ttl(TTL)).await
}

fn assert_at(moment: Instant, wanted: Instant) {
    let off = if moment > wanted { moment - wanted } else { wanted - moment };
    assert!(off <= TICK, "off by {off:?}");
}

#[tokio::test(start_paused = true)]
async fn one_heartbeat_renews_all_threads_three_times_in_each_ttl() {
    let scene = leased().await;
    let main = "main".parse().unwrap();
    let mut guards = Vec::new();
    for (n, session) in scene.client.begin_sessions(&main, 300).await.unwrap().iter().enumerate() {
        // Three sessions each.
        let thread = scene.client.thread(&format!("t{}", n / 3)).unwrap();
        guards.push(thread.bind(session, 7).await.unwrap());
    }
    let begun = now();

    sleep(6 * TTL).await;

    let beats = scene.fake.calls("KeepThreadsAlive");
    assert!((18..=20).contains(&beats.len()), "{} beats", beats.len());
    assert!(beats.iter().all(|beat| beat.threads.len() == 101), "one call is for all threads");
    for pair in beats.windows(2) {
        assert!(pair[1].at - pair[0].at <= TTL / 3 + TICK);
    }
    assert!(beats[0].at - begun <= TTL / 3);
    assert!(guards.iter().all(|guard| guard.loss().is_none()));
    assert!(guards.iter().all(|guard| {
        scene.fake.holder(guard.session()).is_some_and(|(_, token)| token == guard.token())
    }));
}

#[tokio::test(start_paused = true)]
async fn more_threads_than_fit_into_one_call_are_renewed_by_several() {
    let scene = leased().await;
    let threads: Vec<_> =
        (0..1_000).map(|n| scene.client.thread(&format!("t{n}")).unwrap()).collect();

    sleep(TTL / 2).await;

    let beats = scene.fake.calls("KeepThreadsAlive");
    let mut sizes: Vec<usize> = beats.iter().map(|beat| beat.threads.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [201, 400, 400]);
    drop(threads);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_is_lost_by_the_clients_own_clock() {
    let scene = leased().await;
    let bound = now();
    let guard = scene.bound().await;
    scene.fake.vanish();

    let loss = guard.lost().await;

    assert_eq!(loss.cause, LossCause::NotRenewed);
    assert_at(now(), bound + TTL);
}

#[tokio::test(start_paused = true)]
async fn the_time_counts_from_when_the_renewal_was_sent_and_not_from_its_answer() {
    let scene = leased().await;
    let guard = scene.bound().await;
    let slow = 3 * SECOND;
    scene.fake.script("KeepThreadsAlive", [Fault::Delay(slow)]);
    // The first heartbeat is sent, and later answered; then the server is gone.
    sleep(TTL / 3).await;
    let sent = scene.fake.calls("KeepThreadsAlive")[0].at;
    sleep((sent + slow + TICK) - now()).await;
    scene.fake.vanish();

    guard.lost().await;

    assert_at(now(), sent + TTL);
}

#[tokio::test(start_paused = true)]
async fn a_set_counts_from_its_first_try() {
    let scene = leased().await;
    let faults = [Fault::LoseReply, Fault::LoseReply, Fault::Delay(2 * SECOND)];
    scene.fake.script("SetSessionContext", faults);
    let begun = now();
    let guard = scene.bound().await;
    // The first try set the context, the third one told.
    assert!(now() - begun > 2 * SECOND);
    scene.fake.vanish();

    guard.lost().await;

    assert_at(now(), begun + TTL);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_long_waited_for_is_renewed_before_it_is_given_out() {
    let scene = leased().await;
    let first = scene.bound().await;
    let other = scene.client.thread("worker-2").unwrap();
    let waiting = tokio::spawn(other.bind(&scene.session, 8).wait(90 * SECOND).into_future());
    sleep(45 * SECOND).await;
    first.release().await.unwrap();
    let second = waiting.await.unwrap().unwrap();
    assert_eq!(second.loss(), None);
    let granted = now();
    scene.fake.vanish();

    assert_eq!(second.lost().await.cause, LossCause::NotRenewed);

    let lived = now() - granted;
    assert!(lived >= TTL / 3 * 2 - TICK && lived <= TTL, "{lived:?}");
    let beats = scene.fake.calls("KeepThreadsAlive");
    assert_at(now(), beats.last().unwrap().at + TTL);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_fails_is_soon_tried_again() {
    let scene = leased().await;
    let guard = scene.bound().await;
    let faults = [Fault::LoseRequest, Fault::LoseReply, Fault::Hang];
    scene.fake.script("KeepThreadsAlive", faults);

    sleep(10 * TTL).await;

    assert_eq!(guard.loss(), None);
    assert_eq!(scene.holder(), Some(("worker-1".to_owned(), guard.token())));
}

#[tokio::test(start_paused = true)]
async fn a_late_renewal_revives_nothing() {
    let scene = leased().await;
    let guard = scene.bound().await;
    let other = scene.client.begin_session(&"main".parse().unwrap()).await.unwrap();
    let unwatched = scene.thread.bind(&other, 8).await.unwrap();
    scene.fake.vanish();
    sleep(TTL - SECOND).await;
    scene.fake.come_back();
    let beat = Fault::Delay(2 * SECOND);
    scene.fake.script("KeepThreadsAlive", [beat]);

    let loss = guard.lost().await;
    sleep(5 * SECOND).await;

    assert!(!scene.fake.calls("KeepThreadsAlive").is_empty());
    assert_eq!(loss.cause, LossCause::NotRenewed);
    assert_eq!(guard.loss(), Some(loss.clone()));
    assert_eq!(unwatched.loss(), Some(loss), "one thread's sessions are lost together");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_knows_at_once() {
    let scene = leased().await;
    let guard = scene.bound().await;
    // Time passes, and no task has run yet.
    let stopped = tokio::time::advance(TTL + SECOND);
    let mut stopped = std::pin::pin!(stopped);
    let woken = std::future::poll_fn(|cx| {
        assert!(stopped.as_mut().poll(cx).is_pending(), "other tasks have run");
        std::task::Poll::Ready(guard.loss())
    });

    assert_eq!(woken.await.map(|loss| loss.cause), Some(LossCause::NotRenewed));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_tells_who_took_a_session_and_why() {
    let scene = leased().await;
    let (forced, kept) = (scene.bound().await, {
        let other = scene.client.begin_session(&"main".parse().unwrap()).await.unwrap();
        scene.thread.bind(&other, 8).await.unwrap()
    });
    scene.fake.force(&scene.session, "ada", "hung");

    let loss = timeout(TTL / 3 + SECOND, forced.lost()).await.unwrap();

    assert_eq!(loss.cause, LossCause::Forced);
    assert_eq!((loss.by_principal.as_deref(), loss.reason.as_deref()), (Some("ada"), Some("hung")));
    assert_eq!(kept.loss(), None);
}

#[tokio::test(start_paused = true)]
async fn a_forced_loss_is_told_although_nobody_says_by_whom() {
    let scene = leased().await;
    let guard = scene.bound().await;
    scene.fake.script("CheckSessionContext", [Fault::Hang]);
    scene.fake.force(&scene.session, "ada", "hung");

    let loss = timeout(TTL / 3 + SECOND, guard.lost()).await.unwrap();

    assert_eq!((loss.cause, loss.by_principal), (LossCause::Forced, None));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_tells_of_a_lease_that_the_server_let_expire() {
    let scene = leased().await;
    let guard = scene.bound().await;
    scene.fake.expire(&scene.session);

    let loss = timeout(TTL / 3 + SECOND, guard.lost()).await.unwrap();

    assert_eq!(loss.cause, LossCause::LeaseExpired);
    // It is told again in every heartbeat, and is not that of a later binding.
    let again = scene.bound().await;
    sleep(2 * TTL).await;
    assert_eq!(again.loss(), None);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_any_more_is_not_renewed() {
    let scene = leased().await;
    let guard = scene.bound().await;
    let passing = scene.client.thread("passing").unwrap();
    sleep(TTL / 2).await;
    assert_eq!(scene.fake.calls("KeepThreadsAlive")[0].threads.len(), 2);
    drop(passing);
    sleep(TTL).await;
    assert_eq!(scene.fake.calls("KeepThreadsAlive").last().unwrap().threads, ["worker-1"]);

    let Scene { fake, client, thread, .. } = scene;
    guard.release().await.unwrap();
    drop((client, thread));
    let beats = fake.calls("KeepThreadsAlive").len();
    sleep(10 * TTL).await;
    assert_eq!(fake.calls("KeepThreadsAlive").len(), beats, "the heart beats without a client");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_no_server_takes_is_refused_here() {
    let scene = Scene::plain().await;
    for ttl in [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(86_401)] {
        let builder = crate::client::Client::builder("http://fake").lease_ttl(ttl);
        assert!(builder.over(scene.fake.channel().await).is_err(), "{ttl:?}");
    }
}
