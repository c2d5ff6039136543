//! Restarts under load: who repeats what failed, under its request id, notices nothing but that it waited.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::crowd::{Begun, Go, Watcher, Worker, assert_exactly_once, channel};
use crate::server::{Starting, end_of, within};

const RESTARTS: usize = 3;
const WORKERS: usize = 32;
const WATCHERS: usize = 4;
/// The pause between two calls of a worker.
const PACE: Duration = Duration::from_millis(2);

/// How long a server is at work before it is told to end.
const AT_WORK: Duration = Duration::from_secs(1);

/// A port for several servers, one after the other. None that the system gives to outgoing connections: one of
/// those could have it in between.
fn port() -> u16 {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("a small number");
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (first..32_768).find(free).expect("there is a free port")
}

#[tokio::test]
async fn rolling_restarts_lose_nothing_and_do_nothing_twice() {
    let (data, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = logs.path().join("log");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port()));
    let listen = address.to_string();
    let server = || Starting::spawn_with(data.path(), &log, &["--listen", &listen]).listening();
    let (going, go) = watch::channel(Go::On);
    let begun = Begun::default();
    let clients = (&go, &begun);
    let (all, last) = watch::channel(u64::MAX);

    let mut now = server().await;
    let (mut workers, mut watchers) = (JoinSet::new(), JoinSet::new());
    for _ in 0..WATCHERS {
        watchers.spawn(Watcher::new(&channel(address), clients).run(last.clone()));
    }
    for number in 0..WORKERS {
        workers.spawn(Worker::new(&channel(address), number, PACE, clients).await.run());
    }
    begun.wait(WATCHERS + WORKERS).await;
    for _ in 0..RESTARTS {
        tokio::time::sleep(AT_WORK).await;
        now.terminate();
        let status = now.ended().await;
        assert!(status.success(), "{status}\n{}", end_of(&log));
        // At once, on the same port, while connections of the one before are hardly gone.
        now = server().await;
    }
    tokio::time::sleep(AT_WORK).await;
    going.send_replace(Go::ToTheEnd);
    let work = within("the workers end", workers.join_all()).await;
    let done = work.iter().map(|work| work.done.len()).sum::<usize>();
    all.send_replace((WORKERS + done) as u64);
    let told = within("all is told", watchers.join_all()).await;

    for told in &told {
        assert_eq!(told.goodbyes, RESTARTS, "each server said goodbye");
        assert_exactly_once(&work, told, false);
    }
    assert!(work.iter().map(|work| work.failures).sum::<usize>() > 0, "nobody noticed a restart");
    now.terminate();
    assert!(now.ended().await.success());
}
