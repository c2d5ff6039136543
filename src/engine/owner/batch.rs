//! Calls decided together, committed together and answered together.

use crate::domain::event;
use crate::domain::instance::Instance;
use crate::domain::lifecycle::{Admission, Failure};
use crate::domain::limits::BATCH_CHANGES_MAX;
use crate::engine::ask::{Now, Question, Verdict};
use crate::engine::meter::Committed;
use crate::engine::owner::waiting::Parked;
use crate::engine::owner::{Owner, refuse};
use crate::store::{Journal, Store, StoreError, with_causes};

/// Calls that are decided and wait for their batch to be committed.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) questions: Vec<Box<dyn Question>>,
    pub(super) happened: event::Batch,
}

impl Batch {
    /// Decides a call, and gives what it frees to those who wait for it.
    pub(super) fn decide(
        &mut self,
        question: Box<dyn Question>,
        instance: &mut Instance,
        parked: &mut Parked,
        now: Now,
    ) {
        let from = self.happened.len();
        self.put(question, instance, parked, now);
        if self.happened.len() > from && !parked.is_empty() {
            self.hand_over(from, instance, parked, now);
        }
    }

    /// Decides a call. It is in the batch before it is decided, so that its caller is told even of a
    /// panic; it leaves the batch again if it waits.
    pub(super) fn put(
        &mut self,
        question: Box<dyn Question>,
        instance: &mut Instance,
        parked: &mut Parked,
        now: Now,
    ) {
        self.questions.push(question);
        let verdict = match self.questions.last_mut() {
            Some(question) => question.decide(instance, now, &mut self.happened),
            None => return,
        };
        if let Verdict::Waits(id, waiter) = verdict
            && let Some(question) = self.questions.pop()
        {
            parked.park(id, waiter, question, &mut instance.queue);
        }
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty() && self.happened.is_empty()
    }

    /// Whether it is committed although more calls wait.
    pub(super) fn is_full(&self) -> bool {
        self.happened.len() >= BATCH_CHANGES_MAX
    }

    pub(super) fn answer(&mut self, committed: Result<(), &Failure>) {
        self.happened.clear();
        for question in self.questions.drain(..) {
            question.answer(committed);
        }
    }
}

impl<S: Store> Owner<S> {
    /// Commits a batch, makes it visible, tells it to those who watch, and answers its calls, in this
    /// order. Then the journal may look at the state.
    ///
    /// A refusal may rest on a change of the same batch, so it waits like everybody else.
    pub(super) async fn commit(&mut self, batch: &mut Batch) {
        let mut lost = None;
        let changed = !batch.happened.is_empty();
        if changed {
            let began = self.environment.monotonic();
            let journal = self.journal.as_mut().expect("calls are decided with an open journal");
            match journal.commit(&batch.happened.changes).await {
                Ok(()) => {
                    let took = self.environment.monotonic().saturating_sub(began);
                    let changes = &batch.happened.changes;
                    self.told.meter.committed(Committed { changes, took });
                    self.told.published.publish(&self.instance);
                    let table = &self.instance.table;
                    // Those who watch instances are told of counts when the pulse beats.
                    self.view.send_if_modified(|view| {
                        view.count(table);
                        false
                    });
                    self.pulse.touch();
                    self.ring.push(&mut batch.happened);
                }
                Err(error) => lost = Some(self.fail(error.jet_err(), with_causes(&error))),
            }
        }
        batch.answer(lost.as_ref().map_or(Ok(()), Err));
        if changed && let Some(journal) = &mut self.journal {
            journal.settle(&self.instance.table);
        }
    }

    /// Sees to it that there is room beside the reserve.
    pub(super) async fn make_room(&mut self) -> Result<(), StoreError> {
        match &mut self.journal {
            Some(journal) if !journal.has_room() => journal.make_room().await,
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a call would take something if it were decided now.
    pub(super) fn would_take(&self, question: &dyn Question) -> bool {
        match question.admission() {
            Admission::Takes => self.instance.phase.admit(Admission::Takes).is_ok(),
            Admission::LetsGo => false,
        }
    }

    /// Fails the instance because there is no room for calls that would take something. They are not
    /// decided, unless something else that was asked meanwhile refuses them anyway.
    pub(super) async fn refuse_takers(
        &mut self,
        takers: &mut Vec<Box<dyn Question>>,
        no_room: &StoreError,
        batch: &mut Batch,
    ) {
        if !takers.iter().any(|taker| taker.waits() && self.would_take(&**taker)) {
            let now = self.now();
            for taker in takers.drain(..) {
                batch.decide(taker, &mut self.instance, &mut self.parked, now);
            }
            return self.commit(batch).await;
        }
        self.close_journal().await;
        let failure = self.fail(no_room.error, with_causes(no_room));
        refuse(takers, &failure);
    }
}
