//! What is kept of instances that were deleted: who created and deleted them, for when those calls come
//! again.
//!
//! Whoever repeats a creation or a deletion must not be told of another instance that has the name by
//! then, and must not delete it. The record of the instance is gone, so this is kept in its stead: as
//! long as a retry may come, and of a bounded number.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::id::{InstanceId, Principal};
use crate::domain::instance::InstanceRecord;
use crate::domain::limits::{GONE_MAX, GONE_PER_PRINCIPAL_MAX, RETRY_WINDOW_SECONDS};
use crate::domain::replay::{Replay, Reused};
use crate::domain::request::Request;
use crate::domain::time::Timestamp;

/// What is kept of an instance that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its record, with the request that created it and without what later calls on it answered.
    pub record: InstanceRecord,
    /// The request that deleted it, if that can come again.
    pub deleted_by: Option<Deletion>,
}

/// A call that deleted an instance. It answers nothing but that it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Whose call it was.
    pub by: Principal,
    /// The call.
    pub request: Request,
    /// When it took effect.
    pub time: Timestamp,
}

impl Gone {
    /// What has to be kept of an instance that is deleted now; nothing if nobody can ask again.
    pub fn of(
        record: &InstanceRecord,
        by: &Principal,
        request: Option<&Request>,
        now: Timestamp,
    ) -> Option<Self> {
        let created_by = record.created_by.clone().filter(|made| !made.is_too_old(now));
        let deletion =
            |request: &Request| Deletion { by: by.clone(), request: request.clone(), time: now };
        let deleted_by = request.map(deletion);
        (created_by.is_some() || deleted_by.is_some())
            .then(|| Self { record: InstanceRecord { created_by, ..record.shown() }, deleted_by })
    }

    /// The request that created it, if that is not too old.
    fn creation(&self, now: Timestamp) -> Option<&Replay> {
        self.record.created_by.as_deref().filter(|made| !made.is_too_old(now))
    }

    /// The request that deleted it, if that is not too old.
    fn deletion(&self, now: Timestamp) -> Option<&Deletion> {
        let window = Duration::from_secs(RETRY_WINDOW_SECONDS);
        self.deleted_by.as_ref().filter(|deletion| now.since(deletion.time) <= window)
    }

    /// For whom it is kept, and the last call that it answers.
    fn kept_for(&self) -> Option<(&Principal, Timestamp)> {
        let created = self.record.created_by.as_deref().map(|made| (&made.by, made.time));
        self.deleted_by.as_ref().map(|deletion| (&deletion.by, deletion.time)).or(created)
    }
}

/// Every deleted instance that something is kept of, the one that was deleted first in front.
#[derive(Debug, Default)]
pub struct AllGone(VecDeque<Gone>);

impl AllGone {
    /// Those that were remembered, in any order.
    pub fn new(mut kept: Vec<Gone>) -> Self {
        kept.sort_by_key(|gone| gone.kept_for().map(|(_, time)| time));
        Self(kept.into())
    }

    /// Keeps one more.
    pub fn keep(&mut self, gone: Gone) {
        self.0.push_back(gone);
    }

    /// Takes out those that nobody asks for any more at `now`, and the oldest if there are too many: of
    /// one principal first, so that nobody is forgotten because of somebody else before that.
    pub fn outdated(&mut self, now: Timestamp) -> Vec<Gone> {
        let (mut kept, mut outdated) = (VecDeque::with_capacity(self.0.len()), Vec::new());
        for gone in std::mem::take(&mut self.0) {
            if gone.creation(now).is_some() || gone.deletion(now).is_some() {
                kept.push_back(gone);
            } else {
                outdated.push(gone);
            }
        }
        if let Some(newest) = kept.back() {
            let whom = |gone: &Gone| gone.kept_for().map(|(by, _)| by.clone());
            let by = whom(newest);
            let theirs = kept.iter().filter(|gone| whom(gone) == by).count();
            let mut too_many = theirs.saturating_sub(GONE_PER_PRINCIPAL_MAX);
            if too_many > 0 {
                let (go, stay): (VecDeque<_>, _) = kept.into_iter().partition(|gone| {
                    let goes = too_many > 0 && whom(gone) == by;
                    too_many -= usize::from(goes);
                    goes
                });
                outdated.extend(go);
                kept = stay;
            }
        }
        outdated.extend(kept.drain(..kept.len().saturating_sub(GONE_MAX)));
        self.0 = kept;
        outdated
    }

    /// The record of the instance that this request created, and what was answered.
    ///
    /// The request that deleted an instance is another one for whoever creates an instance of that name.
    pub fn created(
        &self,
        id: &InstanceId,
        by: &Principal,
        request: &Request,
        now: Timestamp,
    ) -> Result<Option<(&InstanceRecord, &Replay)>, Reused> {
        for gone in self.0.iter().rev() {
            if let Some(made) = gone.creation(now)
                && made.answers(by, request, now)?
            {
                return Ok(Some((&gone.record, made)));
            }
            let is_theirs = |deletion: &&Deletion| {
                gone.record.id == *id && deletion.by == *by && deletion.request.id == request.id
            };
            if gone.deletion(now).filter(is_theirs).is_some() {
                return Err(Reused);
            }
        }
        Ok(None)
    }

    /// Whether this request has deleted an instance of this name.
    pub fn deleted(
        &self,
        id: &InstanceId,
        by: &Principal,
        request: &Request,
        now: Timestamp,
    ) -> Result<bool, Reused> {
        for gone in self.0.iter().rev().filter(|gone| gone.record.id == *id) {
            if let Some(deletion) = gone.deletion(now)
                && deletion.by == *by
                && deletion.request.id == request.id
            {
                return if deletion.request.body == request.body { Ok(true) } else { Err(Reused) };
            }
            if gone
                .creation(now)
                .is_some_and(|made| made.by == *by && made.request.id == request.id)
            {
                return Err(Reused);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
