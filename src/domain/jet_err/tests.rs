//! The table is complete, its sentences are fit to be shown, and each code has its promised kind.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

use super::{
    Category, Effect, JetErr, Kind, RetryAdvice, UnknownName, Visibility, markdown, upper_snake,
};

#[test]
fn there_are_431_codes_in_falling_order_with_success_first() {
    assert_eq!(JetErr::ALL.len(), 431);
    assert_eq!(JetErr::ALL.first(), Some(&JetErr::Success));
    assert!(JetErr::ALL.is_sorted_by(|a, b| a.code() > b.code()));
}

#[test]
fn numbers_names_reasons_and_sentences_are_unique() {
    assert_unique(JetErr::code);
    assert_unique(JetErr::name);
    assert_unique(JetErr::reason);
    assert_unique(JetErr::message);
}

#[test]
fn every_sentence_is_fit_to_be_shown() {
    for err in JetErr::ALL {
        let sentence = err.message();
        assert!(sentence.ends_with('.'), "{err}: no full stop");
        assert!(sentence.len() <= 160, "{err}: {} characters", sentence.len());
        assert!(sentence.bytes().all(|b| matches!(b, b' '..=b'~')), "{err}: not plain ASCII");
        assert!(sentence.starts_with(|c: char| c.is_ascii_uppercase()), "{err}: starts small");
        assert!(!sentence.contains("  ") && sentence.contains(' '), "{err}: spaces");
        assert_eq!(
            sentence.starts_with("Obsolete:"),
            err.visibility() == Visibility::Obsolete,
            "{err}: an obsolete code says so, and no other does"
        );
    }
}

#[test]
fn every_code_is_found_by_number_and_by_both_names() {
    for &err in JetErr::ALL {
        assert_eq!(JetErr::from_code(err.code()), Some(err));
        assert_eq!(JetErr::from_name(err.name()), Some(err));
        assert_eq!(err.short_name().parse(), Ok(err));
        assert_eq!(err.name(), format!("JET_err{}", err.short_name()));
    }
}

#[test]
fn unknown_numbers_and_names_are_not_found() {
    for code in [1, -1, -104, -19130, i32::MIN, i32::MAX] {
        assert_eq!(JetErr::from_code(code), None, "{code}");
    }
    for name in ["", "JET_err", "JET_errJET_errSuccess", "success", "JET_wrnNyi", " Success"] {
        assert_eq!(name.parse::<JetErr>(), Err(UnknownName), "{name:?}");
    }
}

#[test]
fn a_code_prints_its_name_and_number() {
    assert_eq!(
        JetErr::SessionContextAlreadySet.to_string(),
        "JET_errSessionContextAlreadySet (-1912)"
    );
    assert_eq!(JetErr::Success.to_string(), "JET_errSuccess (0)");
}

#[test]
fn reasons_follow_the_rule_for_names() {
    check_reason(JetErr::Success, "SUCCESS");
    check_reason(JetErr::LSNotSet, "LS_NOT_SET");
    check_reason(
        JetErr::SessionContextNotSetByThisThread,
        "SESSION_CONTEXT_NOT_SET_BY_THIS_THREAD",
    );
    check_reason(
        JetErr::InstanceUnavailableDueToFatalLogDiskFull,
        "INSTANCE_UNAVAILABLE_DUE_TO_FATAL_LOG_DISK_FULL",
    );
    check_reason(JetErr::TooManyIO, "TOO_MANY_IO");
    check_reason(JetErr::NTSystemCallFailed, "NT_SYSTEM_CALL_FAILED");
    check_reason(JetErr::RBSRCInvalidRBS, "RBSRC_INVALID_RBS");
    check_reason(JetErr::FileIOBeyondEOF, "FILE_IO_BEYOND_EOF");
    check_reason(JetErr::Database200Format, "DATABASE200_FORMAT");
    check_reason(JetErr::TaggedNotNULL, "TAGGED_NOT_NULL");
    // The rule sees the run `ID` followed by `s`. Ugly, but a rule that clients can compute.
    check_reason(JetErr::OutOfObjectIDs, "OUT_OF_OBJECT_I_DS");
    assert_eq!(upper_snake(""), "");
}

#[test]
fn the_numbers_of_the_contract_have_their_names() {
    for (code, name) in [
        (0, "Success"),
        (-505, "BackupInProgress"),
        (-506, "RestoreInProgress"),
        (-1000, "TermInProgress"),
        (-1001, "FeatureNotAvailable"),
        (-1003, "InvalidParameter"),
        (-1029, "NotInitialized"),
        (-1030, "AlreadyInitialized"),
        (-1031, "InitInProgress"),
        (-1054, "NotInTransaction"),
        (-1059, "TooManyActiveUsers"),
        (-1086, "InstanceNameInUse"),
        (-1090, "InstanceUnavailable"),
        (-1092, "InstanceUnavailableDueToFatalLogDiskFull"),
        (-1101, "OutOfSessions"),
        (-1103, "TransTooDeep"),
        (-1104, "InvalidSesid"),
        (-1115, "InvalidInstance"),
        (-1214, "TooManyInstances"),
        (-1329, "ClientRequestToStopJetService"),
        (-1910, "SessionSharingViolation"),
        (-1912, "SessionContextAlreadySet"),
        (-1913, "SessionContextNotSetByThisThread"),
        (-1914, "SessionInUse"),
    ] {
        assert_eq!(JetErr::from_code(code).map(JetErr::short_name), Some(name), "{code}");
    }
}

#[test]
fn the_codes_of_the_api_have_their_grpc_codes() {
    for (code, grpc) in [
        (0, "OK"),
        (-1003, "INVALID_ARGUMENT"),
        (-1115, "NOT_FOUND"),
        (-1104, "NOT_FOUND"),
        (-1086, "ALREADY_EXISTS"),
        (-1101, "RESOURCE_EXHAUSTED"),
        (-1214, "RESOURCE_EXHAUSTED"),
        (-1029, "UNAVAILABLE"),
        (-1031, "UNAVAILABLE"),
        (-506, "UNAVAILABLE"),
        (-1000, "UNAVAILABLE"),
        (-1329, "UNAVAILABLE"),
        (-1090, "FAILED_PRECONDITION"),
        (-1092, "FAILED_PRECONDITION"),
        (-1912, "FAILED_PRECONDITION"),
        (-1913, "FAILED_PRECONDITION"),
        (-1914, "FAILED_PRECONDITION"),
        (-1030, "FAILED_PRECONDITION"),
        (-1054, "FAILED_PRECONDITION"),
        (-1103, "FAILED_PRECONDITION"),
        (-1059, "FAILED_PRECONDITION"),
        (-505, "FAILED_PRECONDITION"),
        (-1910, "ABORTED"),
    ] {
        let named = JetErr::from_code(code).map(|err| err.kind().grpc_name());
        assert_eq!(named, Some(grpc), "{code}");
    }
}

#[test]
fn every_other_code_has_the_grpc_code_of_its_category() {
    let own = JetErr::ALL.iter().filter(|err| err.kind_of_its_own().is_some()).count();
    assert_eq!(own, 23, "the codes that the API names");

    for err in JetErr::ALL.iter().filter(|err| err.kind_of_its_own().is_none()) {
        let expected = match err.category() {
            Category::Corruption => "DATA_LOSS",
            Category::Io | Category::Disk | Category::Operation => "INTERNAL",
            Category::Memory | Category::Quota | Category::Resource => "RESOURCE_EXHAUSTED",
            Category::Usage => "INVALID_ARGUMENT",
            Category::Fatal
            | Category::State
            | Category::Inconsistent
            | Category::Fragmentation => "FAILED_PRECONDITION",
            Category::Obsolete => "UNIMPLEMENTED",
        };
        assert_eq!(err.kind().grpc_name(), expected, "{err}");
    }
}

#[test]
fn each_kind_and_each_advice_is_used_and_is_listed_once() {
    let used: HashSet<_> = JetErr::ALL.iter().map(|err| err.kind()).collect();
    assert_eq!(used, Kind::ALL.iter().copied().collect());
    assert_eq!(used.len(), Kind::ALL.len());
    let names: HashSet<_> = Kind::ALL.iter().map(|kind| kind.grpc_name()).collect();
    assert_eq!(names.len(), Kind::ALL.len());

    let used: HashSet<_> = JetErr::ALL.iter().map(|err| err.retry()).collect();
    assert_eq!(used, RetryAdvice::ALL.iter().copied().collect());
    assert_eq!(used.len(), RetryAdvice::ALL.len());
    let labels: HashSet<_> = RetryAdvice::ALL.iter().map(|advice| advice.label()).collect();
    assert_eq!(labels.len(), RetryAdvice::ALL.len());
}

#[test]
fn the_advice_follows_from_kind_and_the_engines_word() {
    for (err, advice) in [
        (JetErr::Success, RetryAdvice::NotNeeded),
        (JetErr::InvalidParameter, RetryAdvice::NeverUnchanged),
        (JetErr::InvalidSesid, RetryAdvice::NeverUnchanged),
        (JetErr::InstanceNameInUse, RetryAdvice::NeverUnchanged),
        (JetErr::SessionContextAlreadySet, RetryAdvice::AfterChange),
        (JetErr::InstanceUnavailable, RetryAdvice::AfterChange),
        (JetErr::InitInProgress, RetryAdvice::WithBackOff),
        (JetErr::RestoreInProgress, RetryAdvice::WithBackOff),
        (JetErr::SessionSharingViolation, RetryAdvice::AfterReading),
        (JetErr::WriteConflict, RetryAdvice::AfterReading),
        (JetErr::OutOfSessions, RetryAdvice::WhenFreed),
        (JetErr::DiskIO, RetryAdvice::Sparingly),
        (JetErr::ReadVerifyFailure, RetryAdvice::AfterRestore),
        (JetErr::AccessDenied, RetryAdvice::NotReturned),
    ] {
        assert_eq!(err.retry(), advice, "{err}");
    }
}

#[test]
fn a_refusal_of_the_contract_changes_nothing_unless_the_instance_failed() {
    for (err, effect) in [
        (JetErr::Success, Effect::Done),
        (JetErr::SessionContextNotSetByThisThread, Effect::None),
        (JetErr::TermInProgress, Effect::None),
        (JetErr::SessionSharingViolation, Effect::None),
        (JetErr::InstanceUnavailable, Effect::Unknown),
        (JetErr::InstanceUnavailableDueToFatalLogDiskFull, Effect::Unknown),
        (JetErr::InternalError, Effect::Unknown),
    ] {
        assert_eq!(err.verdict().effect, effect, "{err}");
        assert_eq!(err.verdict().kind, err.kind());
        assert_eq!(err.verdict().retry, err.retry());
    }
}

#[test]
fn a_path_selects_its_node_and_all_below_it() {
    check_within("Error", Category::ALL);
    check_within(
        "Error/Operation/Resource",
        &[Category::Resource, Category::Memory, Category::Quota, Category::Disk],
    );
    check_within(
        "Error/Data",
        &[Category::Corruption, Category::Inconsistent, Category::Fragmentation],
    );
    check_within("Error/Api", &[Category::Usage, Category::State, Category::Obsolete]);
    check_within("Error/Operation/IO", &[Category::Io]);
    for none in
        ["", "/", "Err", "Error/", "Error/Da", "error", "Error/Api/Usage/", "Data", "Error/Api/Use"]
    {
        check_within(none, &[]);
    }
}

#[test]
fn categories_are_listed_once_and_each_has_codes() {
    let paths: HashSet<_> = Category::ALL.iter().map(|category| category.path()).collect();
    assert_eq!(paths.len(), 13);
    for category in Category::ALL {
        assert!(JetErr::ALL.iter().any(|err| err.category() == *category), "{category}");
    }
}

#[test]
fn the_page_has_every_category_and_every_code_once_in_order() {
    let page = markdown();
    let headings: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## Err")).collect();
    let expected: Vec<_> = Category::ALL.iter().map(|category| &category.path()[3..]).collect();
    assert_eq!(headings, expected);

    let listed: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|line| line.split(" | ").next())
        .filter_map(|code| code.parse::<i32>().ok())
        .collect();
    let expected: Vec<_> = Category::ALL
        .iter()
        .flat_map(|category| JetErr::ALL.iter().filter(move |err| err.category() == *category))
        .map(|err| err.code())
        .collect();
    assert_eq!(listed, expected);

    assert!(page.contains("| JET_errSessionInUse | FAILED_PRECONDITION | after a change | The "));
    assert!(page.ends_with(" |\n") && !page.contains("\n\n\n"));
    assert_eq!(super::markdown::cell("a|b"), "a\\|b");
}

fn assert_unique<T: Debug + Eq + Hash>(of: impl Fn(JetErr) -> T) {
    let mut seen = HashSet::new();
    for &err in JetErr::ALL {
        assert!(seen.insert(of(err)), "{err} repeats {:?}", of(err));
    }
}

fn check_reason(err: JetErr, reason: &str) {
    assert_eq!(err.reason(), reason);
}

fn check_within(path: &str, expected: &[Category]) {
    let found: Vec<_> =
        Category::ALL.iter().copied().filter(|category| category.is_within(path)).collect();
    assert_eq!(found, expected, "{path:?}");
    assert_eq!(Category::is_path(path), !expected.is_empty(), "{path:?}");
}
