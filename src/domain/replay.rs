//! Exact retries of calls on an instance itself: what they answered, kept in its record.
//!
//! What calls on sessions answered is in the history of the sessions. Calls that create, initialise, stop
//! and terminate an instance have no part in that. They are rare, and each writes the record of the
//! instance anyway, so what they answered is kept there, written together with the effect.

use std::time::Duration;

use crate::domain::id::{Principal, Revision, Uid};
use crate::domain::instance::{InstanceRecord, Resting};
use crate::domain::limits::{REPLAYS_MAX, RETRY_WINDOW_SECONDS};
use crate::domain::request::Request;
use crate::domain::time::Timestamp;

/// A call on an instance that took effect, and what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Whose call it was.
    pub by: Principal,
    /// The call.
    pub request: Request,
    /// When it took effect.
    pub time: Timestamp,
    /// What it answered.
    pub answer: Answered,
}

/// What an instance was when a call on it was answered, as far as that can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Its uid, which a restore changes.
    pub uid: Uid,
    /// Its phase.
    pub resting: Resting,
    /// When that had last changed.
    pub updated: Timestamp,
    /// How many sessions it had.
    pub session_count: u32,
    /// How many of them had a context set.
    pub bound_count: u32,
    /// Its last change.
    pub revision: Revision,
}

/// Another call had this request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reused;

impl Replay {
    /// Whether it answers this request of this principal at `now`, or has its id and is another.
    pub fn answers(
        &self,
        by: &Principal,
        request: &Request,
        now: Timestamp,
    ) -> Result<bool, Reused> {
        if self.by != *by || self.request.id != request.id || self.is_too_old(now) {
            return Ok(false);
        }
        if self.request.body == request.body { Ok(true) } else { Err(Reused) }
    }

    /// Whether nobody repeats it any more.
    pub fn is_too_old(&self, now: Timestamp) -> bool {
        now.since(self.time) > Duration::from_secs(RETRY_WINDOW_SECONDS)
    }
}

/// What was answered to calls on one instance, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replays(Vec<Replay>);

impl Replays {
    /// Those that were remembered; nothing if there are more than are kept.
    pub fn new(kept: Vec<Replay>) -> Option<Self> {
        (kept.len() <= REPLAYS_MAX).then_some(Self(kept))
    }

    /// What this request of a principal was answered, if it is not too old at `now`.
    pub fn find(
        &self,
        by: &Principal,
        request: &Request,
        now: Timestamp,
    ) -> Result<Option<&Replay>, Reused> {
        for replay in self.0.iter().rev() {
            if replay.answers(by, request, now)? {
                return Ok(Some(replay));
            }
        }
        Ok(None)
    }

    /// Keeps an answer. Those that have become too old go, and the oldest if there are too many.
    pub fn keep(&mut self, replay: Replay) {
        self.0.retain(|kept| !kept.is_too_old(replay.time));
        if self.0.len() >= REPLAYS_MAX {
            self.0.remove(0);
        }
        self.0.push(replay);
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Replay> {
        self.0.iter()
    }
}

impl InstanceRecord {
    /// What a call on the instance with this request was answered, if it is not too old at `now`. The
    /// request that created it is another call.
    pub fn replayed(
        &self,
        by: &Principal,
        request: &Request,
        now: Timestamp,
    ) -> Result<Option<&Replay>, Reused> {
        match &self.created_by {
            Some(made) if made.answers(by, request, now)? => Err(Reused),
            Some(_) | None => self.replays.find(by, request, now),
        }
    }

    /// The record as a call found it that was answered like this.
    #[must_use]
    pub fn as_answered(&self, answered: &Answered) -> Self {
        let Answered { uid, resting, updated, .. } = answered;
        let (uid, resting, updated) = (uid.clone(), *resting, *updated);
        Self { uid, resting, updated, ..self.shown() }
    }

    /// The record without what only serves to repeat answers: what is told to those who watch.
    #[must_use]
    pub fn shown(&self) -> Self {
        Self { created_by: None, replays: Replays::default(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::request::Fingerprint;

    fn request(id: &str, body: u64) -> Request {
        Request { id: id.parse().unwrap(), body: Fingerprint::new(body) }
    }

    fn replay(id: &str, at: u64) -> Replay {
        Replay {
            by: Principal::anonymous(),
            request: request(id, 1),
            time: Timestamp::default().after(Duration::from_secs(at)),
            answer: Answered {
                uid: Uid::new("u"),
                resting: Resting::Ready,
                updated: Timestamp::default(),
                session_count: 0,
                bound_count: 0,
                revision: Revision::ZERO,
            },
        }
    }

    #[test]
    fn an_answer_is_found_by_its_own_principal_for_its_own_body_and_for_a_while() {
        let mut replays = Replays::default();
        replays.keep(replay("a", 10));
        let at = |seconds| Timestamp::default().after(Duration::from_secs(seconds));
        let (me, last) = (Principal::anonymous(), 10 + RETRY_WINDOW_SECONDS);
        assert_eq!(replays.find(&me, &request("a", 1), at(last)), Ok(Some(&replay("a", 10))));
        assert_eq!(replays.find(&me, &request("a", 1), at(last + 1)), Ok(None));
        assert_eq!(replays.find(&me, &request("a", 2), at(last)), Err(Reused));
        assert_eq!(replays.find(&me, &request("a", 2), at(last + 1)), Ok(None));
        assert_eq!(replays.find(&me, &request("b", 1), at(last)), Ok(None));
        assert_eq!(replays.find(&Principal::new("x"), &request("a", 2), at(last)), Ok(None));
    }

    #[test]
    fn a_record_keeps_a_bounded_number_and_none_that_is_too_old() {
        let mut replays = Replays::default();
        for n in 0..=REPLAYS_MAX {
            replays.keep(replay(&format!("r{n}"), 1));
        }
        let kept: Vec<_> = replays.iter().map(|kept| kept.request.id.to_string()).collect();
        assert_eq!(kept.len(), REPLAYS_MAX);
        assert_eq!((kept[0].as_str(), &kept[REPLAYS_MAX - 1]), ("r1", &format!("r{REPLAYS_MAX}")));
        replays.keep(replay("late", 2 + RETRY_WINDOW_SECONDS));
        assert_eq!(replays.iter().count(), 1);
        assert_eq!(Replays::new(vec![replay("x", 1); REPLAYS_MAX + 1]), None);
    }
}
