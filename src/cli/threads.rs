//! `jet-session thread`: who holds and waits for what, and whose lease is running.

use std::time::Duration;

use clap::Subcommand;

use crate::domain::id::ThreadId;
use crate::proto::api::session_event::Cause;
use crate::proto::api::{
    EndThreadsRequest, GetThreadRequest, KeepThreadsAliveRequest, KeptThread, ListThreadsRequest,
    ListThreadsResponse, Thread,
};

use super::connect::{DECIDED, Options};
use super::failure::Failure;
use super::notation;
use super::output::{Output, View, cell, word};
use super::paging::{Limit, Listed};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the threads that hold something, wait for something or have a lease
    List(Limit),
    /// Show one of the caller's threads
    Show {
        /// Thread to show
        #[arg(value_name = "THREAD")]
        thread: ThreadId,
    },
    /// Give threads a lease, or renew it, and print what they hold and have lost
    KeepAlive {
        /// Threads to keep alive
        #[arg(value_name = "THREAD", required = true)]
        threads: Vec<ThreadId>,
        /// Time to live of the lease, 1s to 1d
        #[arg(long, value_name = "DURATION", value_parser = notation::duration)]
        lease: Duration,
    },
    /// End threads: all they hold is reset, and their leases are dropped
    End {
        /// Threads to end
        #[arg(value_name = "THREAD", required = true)]
        threads: Vec<ThreadId>,
    },
}

impl Command {
    /// Asks the server and shows the answer.
    pub(super) async fn run(self, options: &Options, out: &mut Output<'_>) -> Result<(), Failure> {
        let server = options.connect(DECIDED).await?;
        let mut threads = server.threads();
        let names = |ids: Vec<ThreadId>| ids.iter().map(ThreadId::to_string).collect();
        match self {
            Self::List(limit) => {
                let read = limit.read(async |page_size, page_token| {
                    let request = server.request(ListThreadsRequest { page_size, page_token });
                    let page = server.answer(threads.list_threads(request)).await?;
                    Ok((page.threads, page.next_page_token))
                });
                let Listed { items, next } = read.await?;
                if !next.is_empty() {
                    out.note("there are more; --limit ended the list")?;
                }
                let rows = table(&items);
                let answer = ListThreadsResponse { threads: items, next_page_token: next };
                out.answer("ListThreadsResponse", &answer, rows)
            }
            Self::Show { thread } => {
                let request = GetThreadRequest { thread_id: thread.to_string() };
                let answer = server.answer(threads.get_thread(server.request(request))).await?;
                let shown = answer.thread.as_ref().map_or(View::Nothing, properties);
                out.answer("GetThreadResponse", &answer, shown)
            }
            Self::KeepAlive { threads: ids, lease } => {
                let request = server.request(KeepThreadsAliveRequest {
                    thread_ids: names(ids),
                    lease_ttl: prost_types::Duration::try_from(lease).ok(),
                    include_held: true,
                });
                let answer = server.answer(threads.keep_threads_alive(request)).await?;
                let rows = View::Table(&KEPT, answer.threads.iter().map(kept).collect());
                out.answer("KeepThreadsAliveResponse", &answer, rows)
            }
            Self::End { threads: ids } => {
                let request = server.request(EndThreadsRequest { thread_ids: names(ids) });
                let answer = server.answer(threads.end_threads(request)).await?;
                out.answer("EndThreadsResponse", &answer, View::Nothing)
            }
        }
    }
}

const COLUMNS: [&str; 6] = ["THREAD", "PRINCIPAL", "HELD", "WAITS FOR", "LEASE", "LEFT"];

/// One line for each thread.
fn table(threads: &[Thread]) -> View {
    let row = |thread: &Thread| {
        vec![
            cell(&thread.thread_id),
            cell(&thread.principal),
            thread.held_count.to_string(),
            thread.waiting_for.len().to_string(),
            duration(thread.lease_ttl.as_ref()),
            duration(thread.lease_remaining.as_ref()),
        ]
    };
    View::Table(&COLUMNS, threads.iter().map(row).collect())
}

/// All there is to know about one thread.
fn properties(thread: &Thread) -> View {
    let mut rows = vec![
        ("thread", thread.thread_id.clone()),
        ("principal", cell(&thread.principal)),
        ("lease", duration(thread.lease_ttl.as_ref())),
        ("left", duration(thread.lease_remaining.as_ref())),
        ("held", thread.held_count.to_string()),
    ];
    rows.extend(thread.held.iter().map(|session| ("holds", session.clone())));
    rows.extend(thread.waiting_for.iter().map(|what| ("waits for", what.clone())));
    View::properties(rows)
}

const KEPT: [&str; 4] = ["THREAD", "LEFT", "HELD", "LOST"];

/// What a heartbeat tells about one thread.
fn kept(thread: &KeptThread) -> Vec<String> {
    let lost = thread.lost.iter().map(|lost| {
        let cause = word(lost.cause().as_str_name(), "CAUSE_").to_lowercase().replace('_', " ");
        let cause = if lost.cause() == Cause::Unspecified { "lost".to_owned() } else { cause };
        format!("{} ({cause})", lost.session)
    });
    vec![
        thread.thread_id.clone(),
        duration(thread.lease_remaining.as_ref()),
        thread.held_count.to_string(),
        cell(&lost.collect::<Vec<_>>().join(", ")),
    ]
}

fn duration(duration: Option<&prost_types::Duration>) -> String {
    cell(&duration.map(ToString::to_string).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use prost_types::Duration;

    use super::*;
    use crate::proto::api::LostContext;

    fn worker() -> Thread {
        Thread {
            thread_id: "worker-3".to_owned(),
            principal: "anonymous".to_owned(),
            lease_ttl: Some(Duration { seconds: 10, nanos: 0 }),
            lease_remaining: Some(Duration { seconds: 8, nanos: 0 }),
            held_count: 2,
            held: vec![
                "instances/main/sessions/1".to_owned(),
                "instances/main/sessions/2".to_owned(),
            ],
            waiting_for: vec!["instances/main".to_owned()],
        }
    }

    #[test]
    fn a_list_says_who_has_what_and_for_how_long() {
        let idle = Thread { thread_id: "idle".to_owned(), ..Thread::default() };
        expect_test::expect![[r#"
            THREAD    PRINCIPAL  HELD  WAITS FOR  LEASE  LEFT
            worker-3  anonymous  2     1          10s    8s
            idle      -          0     0          -      -"#]]
        .assert_eq(&table(&[worker(), idle]).to_string());
    }

    #[test]
    fn a_thread_is_shown_with_all_it_holds() {
        expect_test::expect![[r#"
            thread     worker-3
            principal  anonymous
            lease      10s
            left       8s
            held       2
            holds      instances/main/sessions/1
            holds      instances/main/sessions/2
            waits for  instances/main"#]]
        .assert_eq(&properties(&worker()).to_string());
    }

    #[test]
    fn a_heartbeat_tells_what_was_lost() {
        let thread = KeptThread {
            thread_id: "worker-3".to_owned(),
            lease_remaining: Some(Duration { seconds: 10, nanos: 0 }),
            held_count: 1,
            lost: vec![LostContext {
                session: "instances/main/sessions/4".to_owned(),
                cause: Cause::LeaseExpired.into(),
                ..LostContext::default()
            }],
            ..KeptThread::default()
        };
        expect_test::expect![[r#"
            THREAD    LEFT  HELD  LOST
            worker-3  10s   1     instances/main/sessions/4 (lease expired)"#]]
        .assert_eq(&View::Table(&KEPT, vec![kept(&thread)]).to_string());
    }
}
