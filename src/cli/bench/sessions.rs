//! The sessions of a run: begun before it, ended after it.

use std::cell::{Cell, RefCell};

use futures_util::{StreamExt, stream};

use crate::domain::jet_err::JetErr;
use crate::proto::api::{BeginSessionRequest, EndSessionRequest};

use super::super::connect::Connection;
use super::super::failure::Failure;
use super::outcome::Trouble;
use super::plan::Plan;

/// Calls under way at once: enough to share the server's writes, too few to be a load of their own.
const AT_ONCE: usize = 64;

/// The label of all sessions of a run, by which those of one that was killed are found.
const LABEL: &str = "bench";

/// Begins the sessions of a run, until one is refused or `stop` says that there are enough. Their names
/// are in `names` as soon as they are known, for whoever does not wait until the end.
pub(super) async fn begin(
    server: &Connection,
    plan: &Plan,
    run: &str,
    names: &RefCell<Vec<String>>,
    stop: impl Fn() -> bool,
) -> Result<(), Failure> {
    let request = BeginSessionRequest {
        instance: plan.instance.name(),
        labels: [(LABEL.to_owned(), run.to_owned())].into(),
        ..BeginSessionRequest::default()
    };
    let failed = Cell::new(false);
    let mut begun = stream::iter(0..plan.sessions)
        .take_while(|_| std::future::ready(!failed.get() && !stop()))
        .map(async |_| {
            let request = server.request(request.clone());
            let answer = server.answer(server.sessions().begin_session(request)).await?;
            let session = answer.session.ok_or(Failure::Confused("a session without a name"))?;
            Ok(session.name)
        })
        .buffer_unordered(AT_ONCE);
    let mut outcome = Ok(());
    // What is under way is awaited in any case: it may have begun a session.
    while let Some(answer) = begun.next().await {
        match answer {
            Ok(name) => names.borrow_mut().push(name),
            Err(why) => {
                failed.set(true);
                outcome = outcome.and(Err(why));
            }
        }
    }
    outcome
}

/// Ends sessions, whatever state a broken run left them in. Answers why not all of them, if so. `ended`
/// counts them as they end, for whoever does not wait until the end.
pub(super) async fn end(
    server: &Connection,
    names: &[String],
    thread: &str,
    ended: &Cell<usize>,
) -> Option<Trouble> {
    let mut ending = stream::iter(names)
        .map(async |name| {
            let answer = match end_one(server, name, thread, false).await {
                Err(trouble) if is_in_use(&trouble) => end_one(server, name, thread, true).await,
                answer => answer,
            };
            match answer {
                Err(trouble) if trouble.jet_err() == Some(JetErr::InvalidSesid) => Ok(()),
                answer => answer,
            }
        })
        .buffer_unordered(AT_ONCE);
    let mut why = None;
    while let Some(answer) = ending.next().await {
        match answer {
            Ok(()) => ended.set(ended.get() + 1),
            Err(trouble) => {
                why.get_or_insert(trouble);
            }
        }
    }
    why
}

async fn end_one(
    server: &Connection,
    name: &str,
    thread: &str,
    force: bool,
) -> Result<(), Trouble> {
    let request = server.request(EndSessionRequest {
        session: name.to_owned(),
        thread_id: thread.to_owned(),
        force,
        reason: if force { "the benchmark is over".to_owned() } else { String::new() },
        ..EndSessionRequest::default()
    });
    let answer = server.answer(server.sessions().end_session(request)).await;
    answer.map(drop).map_err(|failure| Trouble::from(&failure))
}

/// Whether a context was left behind, by a client that could not reset it.
fn is_in_use(trouble: &Trouble) -> bool {
    trouble.jet_err() == Some(JetErr::SessionInUse)
}
