//! What watches of sessions say that JET has no code for, and where they can go on.

use tonic::Code;

use super::Answer;
use crate::domain::refusal::WatchFacts;

/// The reader did not keep up.
pub(super) fn too_slow() -> Answer {
    Answer::ours(Code::ResourceExhausted, "WATCH_TOO_SLOW", String::new())
}

/// What was asked for is not kept.
pub(super) fn compacted() -> Answer {
    Answer::ours(Code::OutOfRange, "REVISION_COMPACTED", String::new())
}

/// What was asked for has not happened.
pub(super) fn not_yet() -> Answer {
    Answer::ours(Code::OutOfRange, "REVISION_NOT_YET", String::new())
}

/// What the reader of a watch does about each.
pub(super) const TOO_SLOW: &str = "Read faster, filter, or ask for less; the watch can go on with metadata.resume_revision, and 0 \
     begins with a snapshot.";
pub(super) const COMPACTED: &str = "What happened before metadata.oldest_revision is not kept, or is of sessions that ended with their \
     instance or were replaced. Begin anew with from_revision 0.";
pub(super) const NOT_YET: &str = "The instance has only come to metadata.current_revision. What was told after it may have been lost \
     before it was durable, or was of another instance. Begin anew with from_revision 0.";

/// The facts as metadata.
pub(super) fn metadata(facts: &WatchFacts) -> [(&'static str, Option<String>); 3] {
    [
        ("resume_revision", facts.resume.map(|revision| revision.to_string())),
        ("oldest_revision", facts.oldest.map(|revision| revision.to_string())),
        ("current_revision", facts.current.map(|revision| revision.to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;
    use crate::domain::id::Revision;
    use crate::domain::lifecycle::PhaseRefusal;
    use crate::domain::watch::WatchRefusal;
    use crate::rpc::status::{About, refused};

    #[test]
    fn whoever_is_told_no_more_is_told_where_to_go_on() {
        let revision = Revision::new(7);
        for (refusal, code, reason, fact) in [
            (
                WatchRefusal::TooSlow.resume_from(revision),
                Code::ResourceExhausted,
                "WATCH_TOO_SLOW",
                "resume_revision",
            ),
            (
                WatchRefusal::from(PhaseRefusal::Terminating).resume_from(revision),
                Code::Unavailable,
                "TERM_IN_PROGRESS",
                "resume_revision",
            ),
            (
                WatchRefusal::Compacted { oldest: revision },
                Code::OutOfRange,
                "REVISION_COMPACTED",
                "oldest_revision",
            ),
            (
                WatchRefusal::NotYet { current: revision },
                Code::OutOfRange,
                "REVISION_NOT_YET",
                "current_revision",
            ),
        ] {
            let status = refused(&refusal, &About::default());
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((status.code(), &*info.reason), (code, reason));
            assert_eq!(info.metadata[fact], "7", "{info:?}");
        }
    }
}
