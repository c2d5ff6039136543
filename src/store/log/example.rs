//! The worked example of docs/log-format.md, made of real bytes so that it cannot rot.

use std::fmt::Write as _;

use crate::domain::event::{Change, SessionEvent};
use crate::domain::id::{ContextValue, Owner, Principal, Revision, SessionId, Uid};
use crate::domain::time::Timestamp;
use crate::store::frame::{self, Header, Kind};
use crate::store::log::scan::Cursor;
use crate::store::log::segment::{self, About, BLOCK_BYTES};
use crate::store::record;
use crate::store::snapshot::Position;

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/log-format.md"));

/// Bytes, row by row: how many, and what they are.
fn rows(bytes: &[u8], rows: &[(usize, &str)]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    for (size, what) in rows {
        let (row, behind) = rest.split_at(*size);
        let at = bytes.len() - rest.len();
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{at:3}  {:35}  {what}", hex.join(" ")).unwrap();
        rest = behind;
    }
    assert!(rest.is_empty(), "{} bytes are not explained", rest.len());
    text
}

fn is_shown(block: &str) {
    assert!(DOCUMENT.contains(block), "docs/log-format.md should show:\n\n{block}");
}

#[test]
fn the_document_shows_a_segment_and_a_frame_as_they_are() {
    let uid = Uid::new("c0ffee");
    let about = About::behind(&Cursor::default(), &uid);
    let block = segment::write_block(&about, &uid);
    let header = &[
        (4, "magic: JSF and the version of this layout"),
        (4, "kind: 1, segment"),
        (4, "length of the payload: 15"),
        (4, "previous: no frame before"),
        (8, "sequence of the first frame that follows: 1"),
        (8, "revision before it: 0"),
        (4, "checksum; no salt in this frame"),
        (2, "format = 2"),
        (8, "uid = \"c0ffee\""),
        (5, "salt, from the uid and the sequence"),
        (5, "zeros up to a multiple of 8"),
    ];
    is_shown(&rows(&block[..56], header));
    assert!(block[56..BLOCK_BYTES].iter().all(|byte| *byte == 0));

    let set = Change {
        revision: Revision::new(2),
        time: Timestamp::from_micros(1_767_225_600_000_001),
        by: Principal::anonymous(),
        event: SessionEvent::ContextSet {
            session: SessionId::new(1).unwrap(),
            owner: Owner::new(Principal::anonymous(), "worker-a/1".parse().unwrap()),
            context: ContextValue::new(42).unwrap(),
        },
        made: Vec::new(),
    };
    // The frame before began session 1.
    let before = Position { sequence: 1, checksum: 0x2A5C_7E91 };
    let header = Header {
        kind: Kind::Changes,
        sequence: before.sequence + 1,
        revision: set.revision.get(),
        previous: before.checksum,
    };
    let mut bytes = Vec::new();
    frame::write(&mut bytes, about.salt, header, |bytes| record::write_changes(&[set], bytes));
    let frame = &[
        (4, "magic"),
        (4, "kind: 2, changes"),
        (4, "length of the payload: 60"),
        (4, "previous: the checksum of frame 1"),
        (8, "sequence: 2"),
        (8, "revision of the first change: 2"),
        (4, "checksum, begun with the salt of the segment"),
        (2, "changes[0], 58 bytes"),
        (9, "time_us = 1767225600000001"),
        (11, "principal = \"anonymous\""),
        (2, "context_set, 36 bytes"),
        (2, "sesid = 1"),
        (2, "owner, 23 bytes"),
        (11, "principal = \"anonymous\""),
        (12, "thread = \"worker-a/1\""),
        (9, "context = 42, fixed64"),
    ];
    is_shown(&rows(&bytes, frame));
}
