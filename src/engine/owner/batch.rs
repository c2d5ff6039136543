//! Calls decided together, committed together and answered together.

use crate::domain::event::Change;
use crate::domain::instance::Instance;
use crate::domain::lifecycle::Failure;
use crate::domain::time::Timestamp;
use crate::engine::ask::Question;
use crate::engine::owner::{Owner, with_causes};
use crate::store::{Journal, Store};

/// Calls that are decided and wait for their batch to be committed.
#[derive(Default)]
pub(super) struct Batch {
    questions: Vec<Box<dyn Question>>,
    changes: Vec<Change>,
}

impl Batch {
    pub(super) fn decide(
        &mut self,
        question: Box<dyn Question>,
        instance: &mut Instance,
        now: Timestamp,
    ) {
        // In the batch before it is decided, so that its caller is told even of a panic.
        self.questions.push(question);
        if let Some(question) = self.questions.last_mut() {
            question.decide(instance, now, &mut self.changes);
        }
    }

    pub(super) fn answer(&mut self, committed: Result<(), &Failure>) {
        self.changes.clear();
        for question in self.questions.drain(..) {
            question.answer(committed);
        }
    }
}

impl<S: Store> Owner<S> {
    /// Commits a batch, makes it visible and answers its calls, in this order.
    ///
    /// A refusal may rest on a change of the same batch, so it waits like everybody else.
    pub(super) async fn commit(&mut self, batch: &mut Batch) {
        let mut lost = None;
        if !batch.changes.is_empty() {
            let journal = self.journal.as_mut().expect("calls are decided with an open journal");
            match journal.commit(&batch.changes).await {
                Ok(()) => {
                    let table = &self.instance.table;
                    self.view.send_modify(|view| view.count(table));
                }
                Err(error) => lost = Some(self.fail(error.jet_err(), with_causes(&error))),
            }
        }
        batch.answer(lost.as_ref().map_or(Ok(()), Err));
    }
}
