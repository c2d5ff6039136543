//! Files that a configuration names: read within bounds, and looked at for changes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Reads a text of at most `most` bytes, or says why that cannot be done. Only from a file that can be read
/// again: a reload that found a pipe empty would take everything back.
pub fn read(path: &Path, most: u64) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let kind = fs::metadata(path).map_err(cannot)?.file_type();
    if kind.is_dir() {
        return Err("is a directory, not a file".to_owned());
    }
    if !kind.is_file() {
        return Err("is no regular file, so it could not be read again at a reload".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    // What is longer shows by one byte.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(cannot)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > most) {
        return Err(format!("is longer than {most} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
        format!("is no UTF-8 in line {line}")
    })
}

/// What can be seen of a file without reading it, behind all symbolic links; nothing of one that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(Option<[i64; 5]>, u64);

impl Stamp {
    /// Looks at a file.
    pub(super) fn of(path: &Path) -> Self {
        let Ok(seen) = fs::metadata(path) else {
            return Self(None, 0);
        };
        // The second pair also shows who may read it now: a key that was refused for that is read again.
        let times = [seen.mtime(), seen.mtime_nsec(), seen.ctime(), seen.ctime_nsec()];
        let [modified, modified_nanos, changed, changed_nanos] = times;
        let length = i64::try_from(seen.len()).unwrap_or(i64::MAX);
        Self(Some([modified, modified_nanos, changed, changed_nanos, length]), seen.ino())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_within_bounds_is_read_and_only_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let said = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read(&path, 8)
        };
        assert_eq!(said(b""), Ok(String::new()));
        assert_eq!(said(b"8 bytes!"), Ok("8 bytes!".to_owned()));
        assert_eq!(said(b"9 bytes !"), Err("is longer than 8 bytes".to_owned()));
        assert_eq!(said(b"a\n\n\xff"), Err("is no UTF-8 in line 3".to_owned()));
        assert_eq!(read(dir.path(), 8), Err("is a directory, not a file".to_owned()));
        let pipe = read(Path::new("/dev/null"), 8).unwrap_err();
        assert!(pipe.starts_with("is no regular file"), "{pipe}");
        let missing = read(&dir.path().join("missing"), 8).unwrap_err();
        assert!(missing.starts_with("cannot be read: No such file"), "{missing}");
    }
}
