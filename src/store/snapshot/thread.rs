//! What a snapshot keeps of a thread, its lease and its losses ↔ messages.

use crate::domain::id::{Owner, Revision};
use crate::domain::lease::{Lease, Loss, LossCause};
use crate::domain::time::{Served, Timestamp};
use crate::proto::storage as pb;
use crate::store::record::{self, Undecodable, field};
use crate::store::snapshot::owners::{Listed, Listing};

pub(super) fn write_lease(owner: &Owner, lease: Lease, owners: &mut Listing) -> pb::Lease {
    pb::Lease {
        owner: owners.position(owner),
        ttl_us: record::micros(lease.ttl),
        since_us: lease.since.micros(),
        starts: lease.starts.into(),
    }
}

pub(super) fn read_lease(
    lease: &pb::Lease,
    owners: &Listed,
) -> Result<(Owner, Lease), Undecodable> {
    let read = Lease {
        ttl: record::ttl(lease.ttl_us)?,
        since: Served::from_micros(lease.since_us),
        starts: field(u8::try_from(lease.starts).ok(), "starts")?,
    };
    Ok((owners.at(lease.owner)?, read))
}

pub(super) fn write_loss(owner: &Owner, loss: &Loss, owners: &mut Listing) -> pb::Loss {
    let cause = match loss.cause {
        LossCause::LeaseExpired => pb::LossCause::LeaseExpired,
        LossCause::Forced => pb::LossCause::Forced,
        LossCause::Ended => pb::LossCause::Ended,
    };
    pb::Loss {
        owner: owners.position(owner),
        sesid: loss.session.get(),
        cause: cause.into(),
        token: loss.token.get(),
        time_us: loss.time.micros(),
        told_until_us: loss.told_until.micros(),
    }
}

pub(super) fn read_loss(loss: &pb::Loss, owners: &Listed) -> Result<(Owner, Loss), Undecodable> {
    let cause = match pb::LossCause::try_from(loss.cause) {
        Ok(pb::LossCause::LeaseExpired) => Some(LossCause::LeaseExpired),
        Ok(pb::LossCause::Forced) => Some(LossCause::Forced),
        Ok(pb::LossCause::Ended) => Some(LossCause::Ended),
        Ok(pb::LossCause::Unspecified) | Err(_) => None,
    };
    let read = Loss {
        session: record::sesid(loss.sesid)?,
        cause: field(cause, "cause")?,
        token: Revision::new(loss.token),
        time: Timestamp::from_micros(loss.time_us),
        told_until: Timestamp::from_micros(loss.told_until_us),
    };
    Ok((owners.at(loss.owner)?, read))
}
