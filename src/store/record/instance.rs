//! The record of an instance, and what is kept of it when it is deleted ↔ their messages.

use prost::Message;

use crate::domain::gone::{Deletion, Gone};
use crate::domain::id::{Revision, Uid};
use crate::domain::instance::{Durability, InstanceRecord, Resting};
use crate::domain::replay::{Answered, Replay, Replays};
use crate::domain::time::Timestamp;
use crate::proto::storage as pb;
use crate::store::record::{
    Decoded, Undecodable, field, floor, instance_id, labels, principal, request, write_labels,
};

/// The payload of a frame `instance`; `generation` is the directory that holds the log.
pub(in crate::store) fn write_instance(
    record: &InstanceRecord,
    generation: u64,
    bytes: &mut Vec<u8>,
) {
    bytes.extend_from_slice(&message(record, generation).encode_to_vec());
}

fn message(record: &InstanceRecord, generation: u64) -> pb::Instance {
    pb::Instance {
        id: record.id.as_str().to_owned(),
        uid: record.uid.as_str().to_owned(),
        labels: write_labels(&record.labels),
        max_sessions: record.max_sessions,
        durability: match record.durability {
            Durability::Flush => pb::Durability::Flush,
            Durability::Lazy => pb::Durability::Lazy,
        }
        .into(),
        created_us: record.created.micros(),
        updated_us: record.updated.micros(),
        floor_revision: record.floor.revision.get(),
        floor_sesid: record.floor.sesid,
        resting: write_resting(record.resting).into(),
        generation,
        ended_revision: record.ended.get(),
        created_by: record.created_by.as_deref().map(write_replay),
        replays: record.replays.iter().map(write_replay).collect(),
    }
}

/// Reads the payload of a frame `instance`: the record and the directory that holds the log.
pub(in crate::store) fn read_instance(payload: &[u8]) -> Decoded<(InstanceRecord, u64)> {
    instance(pb::Instance::decode(payload)?)
}

fn instance(message: pb::Instance) -> Decoded<(InstanceRecord, u64)> {
    let durability = match pb::Durability::try_from(message.durability) {
        Ok(pb::Durability::Flush) => Some(Durability::Flush),
        Ok(pb::Durability::Lazy) => Some(Durability::Lazy),
        Ok(pb::Durability::Unspecified) | Err(_) => None,
    };
    let replays = message.replays.into_iter().map(replay).collect::<Decoded<_>>()?;
    let record = InstanceRecord {
        id: instance_id(&message.id)?,
        uid: Uid::new(&message.uid),
        labels: labels(message.labels)?,
        max_sessions: message.max_sessions,
        durability: field(durability, "durability")?,
        created: Timestamp::from_micros(message.created_us),
        updated: Timestamp::from_micros(message.updated_us),
        floor: floor(message.floor_revision, message.floor_sesid),
        resting: resting(message.resting)?,
        ended: Revision::new(message.ended_revision),
        created_by: message.created_by.map(replay).transpose()?.map(Box::new),
        replays: field(Replays::new(replays), "replays")?,
    };
    Ok((record, message.generation))
}

/// The payload of a frame `gone`.
pub(in crate::store) fn write_gone(gone: &Gone, bytes: &mut Vec<u8>) {
    let deletion = |Deletion { by, request, time }: &Deletion| pb::Deletion {
        principal: by.as_str().to_owned(),
        request_id: request.id.to_string(),
        body: request.body.get(),
        time_us: time.micros(),
    };
    let message = pb::Gone {
        instance: Some(message(&gone.record, 0)),
        deleted_by: gone.deleted_by.as_ref().map(deletion),
    };
    bytes.extend_from_slice(&message.encode_to_vec());
}

/// Reads the payload of a frame `gone`.
pub(in crate::store) fn read_gone(payload: &[u8]) -> Decoded<Gone> {
    let message = pb::Gone::decode(payload)?;
    let deletion = |deletion: pb::Deletion| -> Decoded<Deletion> {
        Ok(Deletion {
            by: principal(&deletion.principal)?,
            request: request(&deletion.request_id, deletion.body)?,
            time: Timestamp::from_micros(deletion.time_us),
        })
    };
    let (record, _) = instance(field(message.instance, "instance")?)?;
    Ok(Gone { record, deleted_by: message.deleted_by.map(deletion).transpose()? })
}

fn write_resting(resting: Resting) -> pb::Resting {
    match resting {
        Resting::Created => pb::Resting::Created,
        Resting::Ready => pb::Resting::Ready,
        Resting::Stopped => pb::Resting::Stopped,
    }
}

fn resting(resting: i32) -> Decoded<Resting> {
    match pb::Resting::try_from(resting) {
        Ok(pb::Resting::Created) => Ok(Resting::Created),
        Ok(pb::Resting::Ready) => Ok(Resting::Ready),
        Ok(pb::Resting::Stopped) => Ok(Resting::Stopped),
        Ok(pb::Resting::Unspecified) | Err(_) => Err(Undecodable::Field("resting")),
    }
}

fn write_replay(replay: &Replay) -> pb::Replay {
    let Replay { by, request, time, answer } = replay;
    pb::Replay {
        principal: by.as_str().to_owned(),
        request_id: request.id.to_string(),
        body: request.body.get(),
        time_us: time.micros(),
        uid: answer.uid.as_str().to_owned(),
        resting: write_resting(answer.resting).into(),
        updated_us: answer.updated.micros(),
        session_count: answer.session_count,
        bound_count: answer.bound_count,
        revision: answer.revision.get(),
    }
}

fn replay(replay: pb::Replay) -> Decoded<Replay> {
    Ok(Replay {
        by: principal(&replay.principal)?,
        request: request(&replay.request_id, replay.body)?,
        time: Timestamp::from_micros(replay.time_us),
        answer: Answered {
            uid: Uid::new(&replay.uid),
            resting: resting(replay.resting)?,
            updated: Timestamp::from_micros(replay.updated_us),
            session_count: replay.session_count,
            bound_count: replay.bound_count,
            revision: Revision::new(replay.revision),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{Labels, Principal};
    use crate::domain::limits::{
        INSTANCE_ID_BYTES_MAX, LABEL_BYTES_MAX, LABELS_MAX, PRINCIPAL_BYTES_MAX, RECORD_BYTES_MAX,
        REPLAYS_MAX, REQUEST_ID_BYTES_MAX,
    };

    /// Whatever is kept in a record, the file that holds it can be read.
    #[test]
    fn the_longest_record_fits_into_its_file_and_is_read_as_it_was_written() {
        let label = |n| (format!("{n:0>LABEL_BYTES_MAX$}"), "v".repeat(LABEL_BYTES_MAX));
        let replay = Replay {
            by: Principal::new(&"p".repeat(PRINCIPAL_BYTES_MAX)),
            request: request(&"i".repeat(REQUEST_ID_BYTES_MAX), u64::MAX).unwrap(),
            time: Timestamp::from_micros(-1),
            answer: Answered {
                uid: Uid::new(&"u".repeat(36)),
                resting: Resting::Stopped,
                updated: Timestamp::from_micros(-1),
                session_count: u32::MAX,
                bound_count: u32::MAX,
                revision: Revision::new(u64::MAX),
            },
        };
        let mut record = InstanceRecord {
            created_by: Some(Box::new(replay.clone())),
            labels: Labels::new((0..LABELS_MAX).map(label).collect()).unwrap(),
            ..crate::store::conformance::record(&"a".repeat(INSTANCE_ID_BYTES_MAX))
        };
        (0..REPLAYS_MAX).for_each(|_| record.replays.keep(replay.clone()));
        let mut bytes = Vec::new();
        write_instance(&record, 7, &mut bytes);

        assert!(2 * bytes.len() < RECORD_BYTES_MAX, "{}", bytes.len());
        assert_eq!(read_instance(&bytes), Ok((record.clone(), 7)));

        let Replay { by, request, time, .. } = replay;
        let gone = Gone { record, deleted_by: Some(Deletion { by, request, time }) };
        bytes.clear();
        write_gone(&gone, &mut bytes);
        assert!(2 * bytes.len() < RECORD_BYTES_MAX, "{}", bytes.len());
        assert_eq!(read_gone(&bytes), Ok(gone));
    }
}
