//! What those who watch sessions need of the owner: the sessions between two batches, and the way to what
//! was committed before. All else they find in the ring.

use crate::domain::lifecycle::Admission;
use crate::engine::owner::Owner;
use crate::engine::sessions::{Look, Snapshot};
use crate::store::{Journal, Store};

impl<S: Store> Owner<S> {
    /// Answers a watcher. One that has gone does not need it.
    pub(super) fn look(&self, look: Look) {
        let admitted = self.instance.phase.admit(Admission::LetsGo);
        match (look, &self.journal) {
            (Look::Snapshot(reply), _) => {
                let plain = self.instance.queue.is_empty() && self.instance.deadlines.is_empty();
                let table = || self.instance.table.sessions_alone();
                let snapshot = admitted.map(|()| Snapshot { table: table(), plain });
                drop(reply.send(snapshot.map_err(Into::into)));
            }
            (Look::Now(sessions, reply), _) => {
                let served = self.now().served;
                let view = |session| self.instance.view(session, served);
                drop(reply.send(sessions.into_iter().map(view).collect()));
            }
            (Look::History(reply), Some(journal)) => {
                drop(reply.send(admitted.map(|()| journal.history()).map_err(Into::into)));
            }
            // There is a journal exactly in the phases that admit it.
            (Look::History(reply), None) => {
                if let Err(refusal) = admitted {
                    drop(reply.send(Err(refusal.into())));
                }
            }
        }
    }
}
