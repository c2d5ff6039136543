//! The table of codes, held against the list it was made from, and the page printed from it.

use std::fs;

use expect_test::expect_file;
use jet_session::domain::jet_err::{JetErr, Retryable, Visibility, markdown};

/// The `jet_err` list of ESE. It lies beside this repository where it is developed, not in it.
const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/spec/jet_err.tsv");

#[test]
fn the_table_agrees_with_ese() {
    let list = match fs::read_to_string(LIST) {
        Ok(list) => list,
        Err(cause) => {
            skipped(&format!("the codes were NOT compared with {LIST}: {cause}"));
            return;
        }
    };
    let header = "value\tname\tcategory\tretryable\tvisibility".to_owned();
    let ours: Vec<_> =
        std::iter::once(header).chain(JetErr::ALL.iter().copied().map(line)).collect();
    let theirs: Vec<_> = list.lines().collect();
    assert_eq!(ours, theirs);
}

#[test]
fn the_page_is_printed_from_the_table() {
    expect_file!["../../docs/errors.md"].assert_eq(&markdown());
}

/// A code as the list writes it.
fn line(err: JetErr) -> String {
    let category = err.category().path().rsplit('/').next().unwrap_or_default();
    let retryable = match err.retryable() {
        Retryable::Yes => "y",
        Retryable::No => "n",
        Retryable::Unknown => "unknown",
    };
    let visibility = match err.visibility() {
        Visibility::External => "external",
        Visibility::Internal => "internal",
        Visibility::Obsolete => "obsolete",
    };
    let (code, name) = (err.code(), err.name());
    format!("{code}\t{name}\t{category}\t{retryable}\t{visibility}")
}

#[expect(clippy::print_stderr, reason = "a test that cannot compare must be seen to be skipped")]
fn skipped(what: &str) {
    eprintln!("SKIPPED: {what}");
}
