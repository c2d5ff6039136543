//! How instances look to people.

use crate::cli::output::{View, cell, labels, moment, word};
use crate::proto::api::Instance;

/// One line for each instance.
pub(super) fn table<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> View {
    View::Table(&COLUMNS, instances.into_iter().map(row).collect())
}

const COLUMNS: [&str; 8] =
    ["INSTANCE", "STATE", "SESSIONS", "BOUND", "MAX", "DURABILITY", "REVISION", "LABELS"];

fn row(instance: &Instance) -> Vec<String> {
    vec![
        short(&instance.name).to_owned(),
        state(instance),
        instance.session_count.to_string(),
        instance.bound_count.to_string(),
        instance.max_sessions.to_string(),
        durability(instance),
        instance.revision.to_string(),
        labels(&instance.labels),
    ]
}

/// One change of a watch. Its columns are as wide as they mostly are, since what comes is not known.
pub(super) fn line(instance: &Instance) -> String {
    format!(
        "{:<16}  {:<12}  sessions={} bound={} max={} revision={}",
        short(&instance.name),
        state(instance),
        instance.session_count,
        instance.bound_count,
        instance.max_sessions,
        instance.revision,
    )
}

/// All there is to know about one instance.
pub(super) fn properties(instance: Option<&Instance>) -> View {
    let Some(instance) = instance else {
        return View::Nothing;
    };
    let mut rows = vec![("instance", instance.name.clone()), ("state", state(instance))];
    if let Some(failure) = &instance.failure {
        let cause = format!("{} ({}): {}", failure.name, failure.code, failure.message);
        rows.push(("failure", cause));
    }
    rows.extend([
        ("labels", labels(&instance.labels)),
        ("sessions", instance.session_count.to_string()),
        ("bound", instance.bound_count.to_string()),
        ("max sessions", instance.max_sessions.to_string()),
        ("durability", durability(instance)),
        ("revision", instance.revision.to_string()),
        ("created", moment(instance.create_time.as_ref())),
        ("updated", moment(instance.update_time.as_ref())),
        ("uid", cell(&instance.uid)),
    ]);
    View::properties(rows)
}

/// The phase, and how far it has come if it ends by itself.
fn state(instance: &Instance) -> String {
    let name = word(instance.state().as_str_name(), "STATE_");
    match instance.progress {
        0 => name.to_owned(),
        percent => format!("{name} {percent}%"),
    }
}

fn durability(instance: &Instance) -> String {
    word(instance.durability().as_str_name(), "DURABILITY_").to_owned()
}

fn short(name: &str) -> &str {
    word(name, "instances/")
}

#[cfg(test)]
mod tests {
    use crate::proto::api::instance::State;
    use crate::proto::api::{Durability, JetError};

    use super::*;

    fn ready() -> Instance {
        Instance {
            name: "instances/main".to_owned(),
            state: State::Ready.into(),
            max_sessions: 10_000,
            durability: Durability::Flush.into(),
            session_count: 12,
            bound_count: 3,
            revision: 77,
            uid: "c0ffee".to_owned(),
            ..Instance::default()
        }
    }

    fn failed() -> Instance {
        Instance {
            name: "instances/tenant-a".to_owned(),
            state: State::Failed.into(),
            failure: Some(JetError {
                code: -1808,
                name: "JET_errDiskFull".to_owned(),
                message: "The disk is full.".to_owned(),
                ..JetError::default()
            }),
            ..ready()
        }
    }

    #[test]
    fn a_list_says_which_phase_each_is_in() {
        let opening = Instance { state: State::Initializing.into(), progress: 40, ..ready() };
        let view = table(&[ready(), failed(), opening]);
        expect_test::expect![[r#"
            INSTANCE  STATE             SESSIONS  BOUND  MAX    DURABILITY  REVISION  LABELS
            main      READY             12        3      10000  FLUSH       77        -
            tenant-a  FAILED            12        3      10000  FLUSH       77        -
            main      INITIALIZING 40%  12        3      10000  FLUSH       77        -"#]]
        .assert_eq(&view.to_string());
    }

    #[test]
    fn a_failed_instance_says_why() {
        expect_test::expect![[r#"
            instance      instances/tenant-a
            state         FAILED
            failure       JET_errDiskFull (-1808): The disk is full.
            labels        -
            sessions      12
            bound         3
            max sessions  10000
            durability    FLUSH
            revision      77
            created       -
            updated       -
            uid           c0ffee"#]]
        .assert_eq(&properties(Some(&failed())).to_string());
    }

    #[test]
    fn a_change_is_one_line() {
        expect_test::expect![
            "main              READY         sessions=12 bound=3 max=10000 revision=77"
        ]
        .assert_eq(&line(&ready()));
    }

    #[test]
    fn a_state_newer_than_this_program_is_shown_as_unknown() {
        let instance = Instance { state: 99, ..ready() };
        assert_eq!(state(&instance), "UNSPECIFIED");
    }
}
