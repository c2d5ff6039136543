//! Calls on the instance that come again: answered likewise, and without effect.

use crate::domain::instance::{InitializeRefusal, InstanceRecord, TerminateRefusal};
use crate::domain::replay::{Answered, Replay, Reused};
use crate::domain::table::SessionTable;
use crate::domain::time::Timestamp;
use crate::engine::owner::{Owner, Reply};
use crate::engine::watch::InstanceView;
use crate::engine::{Asker, Unanswered};
use crate::store::Store;

/// Those whose call is the one that runs beside the inbox: one effect, and all get its answer. There are
/// no more of them than streams are open.
#[derive(Default)]
pub(super) struct Twins {
    /// Whose call it is that runs.
    of: Option<Asker>,
    pub(super) initialize: Vec<Reply<InitializeRefusal>>,
    pub(super) terminate: Vec<Reply<TerminateRefusal>>,
}

impl Twins {
    /// A call begins to run.
    pub(super) fn begin(&mut self, asker: Option<&Asker>) {
        let of = asker.filter(|asker| asker.request.is_some()).cloned();
        *self = Self { of, ..Self::default() };
    }

    /// Whether a call is the one that runs, or only has its id.
    fn are(&self, asker: &Asker) -> Result<bool, Reused> {
        let running = self.of.as_ref().filter(|of| of.by == asker.by);
        match (running.and_then(|of| of.request.as_ref()), &asker.request) {
            (Some(of), Some(request)) if of.id == request.id => {
                if of.body == request.body {
                    Ok(true)
                } else {
                    Err(Reused)
                }
            }
            _ => Ok(false),
        }
    }
}

impl<S: Store> Owner<S> {
    /// What this call was answered when it came before.
    pub(super) fn repeated(&self, asker: &Asker) -> Result<Option<InstanceView>, Reused> {
        let Some(request) = &asker.request else {
            return Ok(None);
        };
        let (record, now) = (&self.instance.record, self.environment.now());
        if let Some(replay) = record.replayed(&asker.by, request, now)? {
            return Ok(Some(InstanceView::repeated(record, &replay.answer)));
        }
        let of_sessions = self.instance.table.retries().find(&asker.by, &request.id, now);
        if of_sessions.is_some() { Err(Reused) } else { Ok(None) }
    }

    /// Whoever is to be told of a call, if it comes for the first time. If not, it is answered as it was,
    /// or will be told together with the one that runs.
    pub(super) fn first_time<R>(
        &mut self,
        asker: &Asker,
        reply: Reply<R>,
        twins: impl Fn(&mut Twins) -> &mut Vec<Reply<R>>,
    ) -> Option<Reply<R>> {
        let answer = match self.repeated(asker).and_then(|view| Ok((view, self.twins.are(asker)?)))
        {
            Ok((None, false)) => return Some(reply),
            Ok((None, true)) => {
                twins(&mut self.twins).push(reply);
                return None;
            }
            Ok((Some(view), _)) => Ok(view),
            Err(Reused) => Err(Unanswered::RequestIdReused),
        };
        // A caller that has gone meanwhile loses its answer and nothing else.
        drop(reply.send(answer));
        None
    }
}

/// What an instance with this record and these sessions is answered to be.
pub(in crate::engine) fn answered(record: &InstanceRecord, table: &SessionTable) -> Answered {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Answered {
        uid: record.uid.clone(),
        resting: record.resting,
        updated: record.updated,
        session_count: count(table.len()),
        bound_count: count(table.bound_count()),
        revision: table.revision(),
    }
}

/// Keeps in a record what a call is answered that makes it so.
pub(super) fn keep(record: &mut InstanceRecord, asker: &Asker, answer: Answered, time: Timestamp) {
    if let Some(request) = asker.request.clone() {
        record.replays.keep(Replay { by: asker.by.clone(), request, time, answer });
    }
}
