//! One session of a snapshot ↔ its message.

use crate::domain::id::Revision;
use crate::domain::session::{Binding, Context, HowLost, Lost, Session, TransactionOwner};
use crate::domain::time::Timestamp;
use crate::proto::storage as pb;
use crate::store::record::{self, Undecodable, field};
use crate::store::snapshot::owners::{Listed, Listing};

pub(super) fn write(session: &Session, owners: &mut Listing) -> pb::Session {
    let context = match &session.context {
        Context::NeverSet => None,
        Context::Reset => Some(pb::session::Context::WasReset(pb::ContextWasReset {})),
        Context::Set(binding) => Some(pb::session::Context::Binding(pb::Binding {
            context: binding.context.get(),
            owner: owners.position(&binding.owner),
            token: binding.token.get(),
            since_us: binding.since.micros(),
        })),
    };
    let transaction = session.transaction().map(|open| {
        use pb::open_transaction::BoundTo;
        pb::OpenTransaction {
            level: open.level().into(),
            bound_to: Some(match open.bound_to() {
                TransactionOwner::Context(word) => BoundTo::Context(word.get()),
                TransactionOwner::Thread(owner) => BoundTo::Thread(owners.position(owner)),
            }),
        }
    });
    pb::Session {
        sesid: session.id.get(),
        created_us: session.created.micros(),
        revision: session.revision.get(),
        labels: record::write_labels(&session.labels),
        context,
        transaction,
        lost: session.lost().map(|lost| write_lost(lost, owners)),
        abandoned: session.abandoned(),
    }
}

fn write_lost(lost: &Lost, owners: &mut Listing) -> pb::Lost {
    use pb::lost::How;
    pb::Lost {
        owner: owners.position(&lost.owner),
        token: lost.token.get(),
        principal: lost.by.as_str().to_owned(),
        time_us: lost.time.micros(),
        how: Some(match &lost.how {
            HowLost::LeaseExpired => How::LeaseExpired(pb::LeaseExpired {}),
            HowLost::Forced(reason) => How::Forced(reason.as_str().to_owned()),
            HowLost::Transferred => How::HandedOver(pb::HandedOver {}),
        }),
    }
}

pub(super) fn read(session: pb::Session, owners: &Listed) -> Result<Session, Undecodable> {
    let mut read = Session::new(
        record::sesid(session.sesid)?,
        record::labels(session.labels)?,
        Timestamp::from_micros(session.created_us),
        Revision::new(session.revision),
    );
    read.context = match session.context {
        None => Context::NeverSet,
        Some(pb::session::Context::WasReset(pb::ContextWasReset {})) => Context::Reset,
        Some(pb::session::Context::Binding(binding)) => Context::Set(Binding {
            context: record::context(binding.context)?,
            owner: owners.at(binding.owner)?,
            token: Revision::new(binding.token),
            since: Timestamp::from_micros(binding.since_us),
        }),
    };
    if let Some(open) = session.transaction {
        use pb::open_transaction::BoundTo;
        let bound_to = match field(open.bound_to, "bound_to")? {
            BoundTo::Context(word) => TransactionOwner::Context(record::context(word)?),
            BoundTo::Thread(thread) => TransactionOwner::Thread(owners.at(thread)?),
        };
        read.set_transaction(Some(record::at_level(open.level, bound_to)?));
    }
    if let Some(lost) = session.lost {
        read.set_lost(Some(read_lost(lost, owners)?));
    }
    read.set_abandoned(session.abandoned);
    Ok(read)
}

fn read_lost(lost: pb::Lost, owners: &Listed) -> Result<Lost, Undecodable> {
    use pb::lost::How;
    Ok(Lost {
        owner: owners.at(lost.owner)?,
        token: Revision::new(lost.token),
        how: match field(lost.how, "how")? {
            How::LeaseExpired(pb::LeaseExpired {}) => HowLost::LeaseExpired,
            How::Forced(reason) => HowLost::Forced(field(reason.parse().ok(), "forced")?),
            How::HandedOver(pb::HandedOver {}) => HowLost::Transferred,
        },
        by: record::principal(&lost.principal)?,
        time: Timestamp::from_micros(lost.time_us),
    })
}
