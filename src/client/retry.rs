//! Which calls are sent again, when, and for how long.
//!
//! A retry keeps its request id, so it can never do a thing twice. Still it is made only where the status
//! says that it helps:
//!
//! | the last try ended with | then |
//! |---|---|
//! | UNAVAILABLE or RESOURCE_EXHAUSTED with `RetryInfo` | again after that time, ±20 % |
//! | a broken connection, or an UNAVAILABLE that no server of ours made | again after a pause that doubles, ±20 % |
//! | UNAUTHENTICATED or PERMISSION_DENIED | never: whoever asks is who they are |
//! | a peer that speaks another protocol (TLS, plaintext, HTTP/1) | never |
//! | the trailer `grpc-retry-pushback-ms` | as it says: a negative one is "never" (gRFC A6) |
//! | anything else | that is the answer |
//!
//! `RetryInfo` on −1912 tells when the holder's lease ends. It is told by
//! [`Error::retry_after`](super::Error::retry_after) and not acted upon: who wants to wait for a session
//! says so, and stands in the queue.
//!
//! All tries of a call share one deadline, and all calls of a client one budget ([`Budget`]).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tonic::{Code, Status};

use crate::domain::limits::{
    RETRY_AFTER_MS_MAX, RETRY_PAUSE_MS_FIRST, RETRY_PAUSE_MS_MAX, RETRY_TOKENS_MAX,
};

use super::dial::Trouble;
use super::error::lost;
use super::refusal::Refusal;

/// Tells gRPC clients when to try again (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What to do after a try that was not answered with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Try again after the time that the server advises.
    Advised(Duration),
    /// Try again; when is for the client to choose.
    Pause,
    /// Leave it.
    Over,
}

/// What the status of a try says about another one.
pub(super) fn next(status: &Status) -> Next {
    if is_denied(status) || Trouble::of(status).is_some_and(|trouble| trouble.is_lasting()) {
        return Next::Over;
    }
    if let Some(pushback) = status.metadata().get(PUSHBACK) {
        // A value that cannot be read is a "never" too.
        let millis = pushback.to_str().ok().and_then(|text| text.parse().ok());
        return millis.map_or(Next::Over, |millis| Next::Advised(Duration::from_millis(millis)));
    }
    if lost(status).is_some() {
        return Next::Pause;
    }
    let refusal = Refusal::of(status);
    let passes = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
    match refusal.retry_after().filter(|_| passes) {
        Some(delay) => Next::Advised(delay.min(Duration::from_millis(RETRY_AFTER_MS_MAX))),
        None if status.code() == Code::Unavailable && !refusal.is_ours() => Next::Pause,
        None => Next::Over,
    }
}

/// Whether a call was denied because of who asks. The next one may have another token.
pub(super) fn is_denied(status: &Status) -> bool {
    matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
}

/// The pause before the `n`th retry that nobody advised, before its jitter.
pub(super) fn pause(n: u32) -> Duration {
    let doubled = RETRY_PAUSE_MS_FIRST.checked_shl(n.min(32).saturating_sub(1));
    Duration::from_millis(doubled.unwrap_or(RETRY_PAUSE_MS_MAX).min(RETRY_PAUSE_MS_MAX))
}

/// How many retries are left, over all calls of a client, so that a server that answers nothing is not
/// hammered: a token bucket as in gRPC's retry throttling. A lost try costs one token, a success earns a
/// tenth of one, and nothing is tried again while the bucket is less than half full.
///
/// What a server advises costs nothing: it has said itself how often it wants to be asked.
#[derive(Debug)]
pub(super) struct Budget {
    tenths: AtomicU32,
}

const FULL: u32 = RETRY_TOKENS_MAX * 10;

impl Budget {
    /// A full bucket.
    pub(super) fn new() -> Self {
        Self { tenths: AtomicU32::new(FULL) }
    }

    /// Pays for a lost try; answers whether another one may be made.
    pub(super) fn lost(&self) -> bool {
        let pay = |tenths: u32| Some(tenths.saturating_sub(10));
        let before = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
        before.unwrap_or_else(|same| same).saturating_sub(10) > FULL / 2
    }

    /// Earns for a call that was answered.
    pub(super) fn answered(&self) {
        let earn = |tenths: u32| (tenths < FULL).then_some(tenths + 1);
        // A full bucket stays as it is.
        self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic::metadata::MetadataMap;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::client::refusal::DOMAIN;
    use crate::domain::jet_err::JetErr;

    fn refused(code: Code, jet: JetErr, after: Option<Duration>) -> Status {
        let facts = HashMap::from([("jet_error".to_owned(), jet.code().to_string())]);
        let mut details = ErrorDetails::with_error_info(jet.reason(), DOMAIN, facts);
        details.set_retry_info(after);
        Status::with_error_details(code, "", details)
    }

    fn pushed_back(text: &str) -> Status {
        pushed_back_as(Code::Unavailable, text)
    }

    fn pushed_back_as(code: Code, text: &str) -> Status {
        let mut trailers = MetadataMap::new();
        trailers.insert(PUSHBACK, text.parse().unwrap());
        Status::with_metadata(code, "", trailers)
    }

    #[test]
    fn a_retry_is_made_only_where_the_status_says_that_it_helps() {
        let (second, year) = (Duration::from_secs(1), Duration::from_secs(365 * 86_400));
        let cap = Duration::from_millis(RETRY_AFTER_MS_MAX);
        let broken = Status::from_error("connection reset".into());
        for (status, wanted) in [
            (
                refused(Code::Unavailable, JetErr::InitInProgress, Some(second)),
                Next::Advised(second),
            ),
            (refused(Code::Unavailable, JetErr::InitInProgress, Some(year)), Next::Advised(cap)),
            (
                refused(Code::ResourceExhausted, JetErr::OutOfSessions, Some(second)),
                Next::Advised(second),
            ),
            (refused(Code::Unavailable, JetErr::NotInitialized, None), Next::Over),
            (refused(Code::ResourceExhausted, JetErr::OutOfSessions, None), Next::Over),
            (
                refused(Code::FailedPrecondition, JetErr::SessionContextAlreadySet, Some(second)),
                Next::Over,
            ),
            (refused(Code::Aborted, JetErr::SessionSharingViolation, None), Next::Over),
            (Status::unavailable("no healthy upstream"), Next::Pause),
            (broken, Next::Pause),
            (Status::internal(""), Next::Over),
            (Status::deadline_exceeded(""), Next::Over),
            (pushed_back("-1"), Next::Over),
            (pushed_back("soon"), Next::Over),
            (pushed_back("1000"), Next::Advised(second)),
            (Status::unauthenticated(""), Next::Over),
            (Status::permission_denied(""), Next::Over),
            (pushed_back_as(Code::Unauthenticated, "1000"), Next::Over),
            (Status::from_error(Box::new(Trouble::NotSigned("X".to_owned()))), Next::Pause),
            (Status::from_error(Box::new(Trouble::HungUp)), Next::Pause),
            (Status::from_error(Box::new(Trouble::OnlyTls)), Next::Over),
        ] {
            assert_eq!(next(&status), wanted, "{status:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        let pauses: Vec<u128> = (1..=8).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(pause(u32::MAX), pause(8));
    }

    #[test]
    fn a_server_that_answers_nothing_is_soon_left_alone() {
        let budget = Budget::new();
        let retries = (0..1_000).filter(|_| budget.lost()).count();
        assert_eq!(retries, 49);

        // All 510 tenths up to the half, and one to be above it after the next loss.
        for _ in 0..510 {
            assert!(
                !Budget { tenths: AtomicU32::new(budget.tenths.load(Ordering::Relaxed)) }.lost()
            );
            budget.answered();
        }
        budget.answered();
        assert!(budget.lost());
    }
}
