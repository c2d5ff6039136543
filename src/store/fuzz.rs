//! What the fuzz targets try, as plain functions, so that tests can try it too. Each panics if what it
//! is about is not true of these bytes.

use std::io;

use crate::domain::id::{Revision, Uid};
use crate::domain::limits::SESSIONS_MAX;
use crate::store::frame::{self, HEADER_BYTES, Header, Kind};
use crate::store::log::disk::DiskFile;
use crate::store::log::scan::{Cursor, End, Scan};
use crate::store::log::segment::{self, About, BLOCK_BYTES};
use crate::store::record;
use crate::store::snapshot::{self, Decoder, Encoder};

/// A scan finds no frame that is not there, word for word, and says the same end twice.
pub fn frame_scan(bytes: &[u8]) {
    let uid = Uid::new("fuzz");
    segment::read_block(&bytes[..bytes.len().min(BLOCK_BYTES)], &uid).ok();
    let about = About::behind(&Cursor::default(), &uid);
    scan(&about, &uid, bytes);
    scan(&about, &uid, &framed(bytes, about.salt, 1));
}

fn scan(about: &About, uid: &Uid, bytes: &[u8]) {
    let mut file = segment::write_block(about, uid);
    file.extend_from_slice(bytes);
    let file = Memory(file);
    let mut scan = Scan::new(&file, about, about.cursor()).expect("memory does not fail");
    let (mut at, mut sequence) = (BLOCK_BYTES, 0);
    let end = loop {
        match scan.step().expect("memory does not fail") {
            Ok(found) => {
                let (frame, size) =
                    frame::read(&file.0[at..], about.salt).expect("what is found is there");
                assert_eq!((frame, sequence + 1), (found, found.header.sequence));
                (at, sequence) = (at + size, sequence + 1);
            }
            Err(end) => break end,
        }
        assert_eq!(scan.at(), at as u64);
    };
    assert_eq!(scan.step().expect("memory does not fail"), Err(end.clone()));
    let rest = &file.0[at..];
    match end {
        End::Clean => assert!(rest.iter().all(|byte| *byte == 0)),
        End::Torn { until } => {
            assert!(at as u64 <= until && until <= file.0.len() as u64);
            assert!(frame::read(rest, about.salt).is_err(), "a frame is not cut off");
        }
        End::Corrupt(_) => assert!(!rest.is_empty()),
    }
}

/// A payload is refused, or means something that is written and read back as the same.
pub fn record_decode(bytes: &[u8]) {
    const FIRST: Revision = Revision::new(7);
    if let Ok(changes) = record::read_changes(bytes, FIRST) {
        assert_eq!(record::count_changes(bytes), Ok(changes.len() as u64));
        let mut again = Vec::new();
        record::write_changes(&changes, &mut again);
        assert_eq!(record::read_changes(&again, FIRST), Ok(changes));
    }
    if let Ok((instance, generation)) = record::read_instance(bytes) {
        let mut again = Vec::new();
        record::write_instance(&instance, generation, &mut again);
        assert_eq!(record::read_instance(&again), Ok((instance, generation)));
    }
    if let Ok(gone) = record::read_gone(bytes) {
        let mut again = Vec::new();
        record::write_gone(&gone, &mut again);
        assert_eq!(record::read_gone(&again), Ok(gone));
    }
    if let Ok(floor) = record::read_floor(bytes) {
        let mut again = Vec::new();
        record::write_floor(floor, &mut again);
        assert_eq!(record::read_floor(&again), Ok(floor));
    }
    if let Ok(numbers) = record::read_numbers(bytes) {
        let mut again = Vec::new();
        record::write_numbers(numbers, &mut again);
        assert_eq!(record::read_numbers(&again), Ok(numbers));
    }
}

/// A snapshot is refused, or is written and read back as the same; in pieces as well as whole.
pub fn snapshot_decode(bytes: &[u8]) {
    snapshot(bytes);
    snapshot(&framed(bytes, snapshot::SALT, 0));
}

fn snapshot(bytes: &[u8]) {
    let mut decoder = Decoder::new(SESSIONS_MAX.into());
    let whole = decoder.push(bytes).and_then(|()| decoder.finish());
    let mut decoder = Decoder::new(SESSIONS_MAX.into());
    let pushed = bytes.chunks(13).try_for_each(|piece| decoder.push(piece));
    let pieces = pushed.and_then(|()| decoder.finish());
    assert_eq!(whole.is_ok(), pieces.is_ok());
    if let Ok((about, table)) = whole {
        let mut decoder = Decoder::new(SESSIONS_MAX.into());
        for frame in Encoder::new(about.clone(), table.clone()) {
            decoder.push(&frame).expect("what is written can be read");
        }
        assert_eq!(decoder.finish(), Ok((about, table)));
    }
}

/// Frames with these bytes as headers and payloads, chained and with the right checksums: nobody
/// guesses those, and it is what lies behind them that is to be tried.
fn framed(mut bytes: &[u8], salt: u32, first: u64) -> Vec<u8> {
    let (mut file, mut sequence, mut previous) = (Vec::new(), first, 0);
    while let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) {
        let number =
            |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|n| header[at + n]));
        let kind = Kind::ALL[usize::from(header[4]) % Kind::ALL.len()];
        let length = usize::from(header[8]) + 256 * usize::from(header[9] % 16);
        let (payload, behind) = rest.split_at(length.min(rest.len()));
        let header = Header { kind, sequence, revision: number(24), previous };
        previous = frame::write(&mut file, salt, header, |file| file.extend_from_slice(payload));
        sequence += 1;
        let padding =
            (HEADER_BYTES + length).next_multiple_of(frame::ALIGNMENT) - HEADER_BYTES - length;
        bytes = &behind[padding.min(behind.len())..];
    }
    file.extend_from_slice(bytes);
    file
}

#[derive(Debug)]
struct Memory(Vec<u8>);

impl DiskFile for Memory {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let size = bytes.len().min(self.0.len() - from);
        bytes[..size].copy_from_slice(&self.0[from..from + size]);
        Ok(size)
    }

    fn write_all_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::arbitrary::released_files;

    const ALL: [fn(&[u8]); 3] = [frame_scan, record_decode, snapshot_decode];

    proptest! {
        #[test]
        fn no_bytes_break_anything(bytes: Vec<u8>) {
            ALL.into_iter().for_each(|target| target(&bytes));
        }

        /// Files of the released format, with a few bytes changed, parts left out and the end cut off.
        #[test]
        fn nothing_that_becomes_of_a_file_breaks_anything(
            file: prop::sample::Index,
            changed in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            from: prop::sample::Index,
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let files = released_files();
            let mut bytes = file.get(&files).clone();
            if bytes.is_empty() { return Ok(()); }
            for (at, byte) in changed {
                *at.get_mut(&mut bytes) = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            for target in ALL {
                target(&bytes);
                target(bytes.get(BLOCK_BYTES..).unwrap_or_default());
                target(bytes.get(HEADER_BYTES..).unwrap_or_default());
                target(bytes.get(from.index(bytes.len().max(1))..).unwrap_or_default());
            }
        }
    }
}
