//! One answer of a snapshot, kept for a retry ↔ its message.

use std::time::Duration;

use crate::domain::id::{Revision, SessionId};
use crate::domain::limits::TRANSACTION_LEVEL_MAX;
use crate::domain::request::{Answer, Begun};
use crate::domain::session::{LeaseView, Session, SessionView};
use crate::domain::table::{Remembered, SessionTable};
use crate::domain::time::Timestamp;
use crate::proto::storage as pb;
use crate::store::record::{self, Undecodable, field};
use crate::store::snapshot::decode::Damage;
use crate::store::snapshot::owners::{Listed, Listing};
use crate::store::snapshot::session;

pub(super) fn write(remembered: &Remembered, owners: &mut Listing) -> pb::Remembered {
    use pb::remembered::Answer as Message;
    let answer = match &remembered.answer {
        Answer::Session(view) => Message::Session(pb::RememberedSession {
            session: Some(session::write(&view.session, owners)),
            waiters: view.waiters,
            lease: view.lease.map(|lease| pb::RememberedLease {
                ttl_us: record::micros(lease.ttl),
                remaining_us: record::micros(lease.remaining),
            }),
        }),
        Answer::Sessions(begun) => Message::Begun(pb::Begun {
            sesid: begun.first.get(),
            revision: begun.revision.get(),
            count: begun.count,
            labels: record::write_labels(&begun.labels),
        }),
        Answer::Revision(revision) => Message::Revision(revision.get()),
        Answer::Level(level) => Message::Level((*level).into()),
        Answer::Done => Message::Done(pb::AnswerDone {}),
    };
    pb::Remembered {
        request_id: remembered.request.id.to_string(),
        body: remembered.request.body.get(),
        time_us: remembered.time.micros(),
        answer: Some(answer),
    }
}

/// Reads an answer that was given by the instance whose table this is.
pub(super) fn read(
    message: pb::Remembered,
    owners: &Listed,
    table: &SessionTable,
) -> Result<Remembered, Damage> {
    use pb::remembered::Answer as Message;
    let time = Timestamp::from_micros(message.time_us);
    let happened = |session: SessionId, revision: Revision| {
        let known = table.ever_began(session) && revision <= table.revision();
        if known { Ok(()) } else { Err(Damage::Contradiction) }
    };
    let answer = match field(message.answer, "answer")? {
        Message::Session(answered) => {
            let mut session = session::read(field(answered.session, "session")?, owners)?;
            let token = session.binding().map_or(session.revision, |binding| binding.token);
            happened(session.id, session.revision.max(token))?;
            share_labels(&mut session, table);
            let lease = answered.lease.map(read_lease).transpose()?;
            Answer::Session(Box::new(SessionView { session, waiters: answered.waiters, lease }))
        }
        Message::Begun(begun) => {
            let begun = Begun {
                first: record::sesid(begun.sesid)?,
                revision: Revision::new(begun.revision),
                count: record::begun_count(begun.count)?,
                labels: record::labels(begun.labels)?,
                created: time,
            };
            let (last, revision) = begun.last().ok_or(Damage::Contradiction)?;
            happened(begun.first, begun.revision)?;
            happened(last, revision)?;
            Answer::Sessions(Box::new(begun))
        }
        Message::Revision(revision) if revision <= table.revision().get() => {
            Answer::Revision(Revision::new(revision))
        }
        Message::Revision(_) => return Err(Damage::Contradiction),
        Message::Level(level) => {
            let level = u8::try_from(level).ok().filter(|level| *level <= TRANSACTION_LEVEL_MAX);
            Answer::Level(field(level, "level")?)
        }
        Message::Done(pb::AnswerDone {}) => Answer::Done,
    };
    let request = record::request(&message.request_id, message.body)?;
    Ok(Remembered { request, time, answer })
}

fn read_lease(lease: pb::RememberedLease) -> Result<LeaseView, Undecodable> {
    let remaining = Duration::from_micros(lease.remaining_us);
    Ok(LeaseView { ttl: record::ttl(lease.ttl_us)?, remaining })
}

/// The labels of a session never change: those of many answers about one session are kept once.
fn share_labels(session: &mut Session, table: &SessionTable) {
    if let Some(present) = table.session(session.id).filter(|here| here.labels == session.labels) {
        session.labels = present.labels.clone();
    }
}
