//! How sessions look to people.

use crate::cli::output::{View, cell, labels, moment, yes_no};
use crate::proto::api::Session;
use crate::proto::api::transaction_binding::Owner;

/// The name, as the next command takes it.
pub(super) fn name(session: Option<&Session>) -> View {
    let name = session.map(|session| session.name.clone());
    View::Value(name.unwrap_or_default())
}

const COLUMNS: [&str; 8] =
    ["SESSION", "LEVEL", "CONTEXT", "HELD BY", "TOKEN", "SINCE", "LABELS", "NOTES"];

/// One line for each session.
pub(super) fn table(sessions: &[Session]) -> View {
    View::Table(&COLUMNS, sessions.iter().map(row).collect())
}

fn row(session: &Session) -> Vec<String> {
    let binding = session.binding.as_ref();
    let mut notes = Vec::new();
    if session.abandoned {
        notes.push("abandoned".to_owned());
    }
    if session.waiters > 0 {
        notes.push(format!("waiters={}", session.waiters));
    }
    vec![
        short(&session.name),
        session.transaction_level.to_string(),
        cell(&binding.map(|b| word(b.context)).unwrap_or_default()),
        cell(binding.map_or("", |b| &b.thread_id)),
        cell(&binding.map(|b| b.fencing_token.to_string()).unwrap_or_default()),
        moment(binding.and_then(|b| b.set_time.as_ref())),
        labels(&session.labels),
        cell(&notes.join(",")),
    ]
}

/// All there is to know about one session.
pub(super) fn properties(session: Option<&Session>) -> View {
    let Some(session) = session else {
        return View::Nothing;
    };
    let mut rows = vec![
        ("session", session.name.clone()),
        ("labels", labels(&session.labels)),
        ("transaction level", session.transaction_level.to_string()),
    ];
    if let Some(bound) = &session.transaction_binding {
        let owner = match &bound.owner {
            Some(Owner::Context(context)) => format!("context {}", word(*context)),
            Some(Owner::ThreadId(thread)) => format!("thread {thread} of {}", bound.principal),
            None => cell(""),
        };
        rows.push(("transaction of", owner));
    }
    match &session.binding {
        None => rows.push(("context", cell(""))),
        Some(held) => {
            rows.extend([
                ("context", word(held.context)),
                ("held by", held.thread_id.clone()),
                ("principal", held.principal.clone()),
                ("fencing token", held.fencing_token.to_string()),
                ("since", moment(held.set_time.as_ref())),
            ]);
            if let (Some(ttl), Some(left)) = (&held.lease_ttl, &held.lease_remaining) {
                rows.push(("lease", format!("{ttl}, {left} left")));
            }
        }
    }
    rows.extend([
        ("waiters", session.waiters.to_string()),
        ("abandoned", yes_no(session.abandoned)),
        ("created", moment(session.create_time.as_ref())),
        ("revision", session.revision.to_string()),
    ]);
    View::properties(rows)
}

/// A name as short as it may be typed: `main/1`.
fn short(name: &str) -> String {
    name.replacen("instances/", "", 1).replacen("/sessions/", "/", 1)
}

/// A context word as people compare it.
fn word(context: u64) -> String {
    format!("{context:#x}")
}

#[cfg(test)]
mod tests {
    use crate::proto::api::{ContextBinding, TransactionBinding};

    use super::*;

    fn free() -> Session {
        Session {
            name: "instances/main/sessions/1".to_owned(),
            sesid: 1,
            revision: 4,
            ..Session::default()
        }
    }

    fn held() -> Session {
        Session {
            name: "instances/main/sessions/2".to_owned(),
            labels: [("pool".to_owned(), "a".to_owned())].into(),
            transaction_level: 2,
            binding: Some(ContextBinding {
                thread_id: "worker-3".to_owned(),
                context: 255,
                fencing_token: 17,
                set_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }),
                lease_ttl: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
                lease_remaining: Some(prost_types::Duration { seconds: 8, nanos: 0 }),
                principal: "anonymous".to_owned(),
            }),
            transaction_binding: Some(TransactionBinding {
                owner: Some(Owner::Context(255)),
                principal: String::new(),
            }),
            waiters: 3,
            abandoned: true,
            ..free()
        }
    }

    #[test]
    fn a_list_says_who_holds_what() {
        let view = table(&[free(), held()]);
        expect_test::expect![[r#"
            SESSION  LEVEL  CONTEXT  HELD BY   TOKEN  SINCE                 LABELS  NOTES
            main/1   0      -        -         -      -                     -       -
            main/2   2      0xff     worker-3  17     2023-11-14T22:13:20Z  pool=a  abandoned,waiters=3"#]]
        .assert_eq(&view.to_string());
    }

    #[test]
    fn a_session_is_shown_property_by_property() {
        expect_test::expect![[r#"
            session            instances/main/sessions/2
            labels             pool=a
            transaction level  2
            transaction of     context 0xff
            context            0xff
            held by            worker-3
            principal          anonymous
            fencing token      17
            since              2023-11-14T22:13:20Z
            lease              10s, 8s left
            waiters            3
            abandoned          yes
            created            -
            revision           4"#]]
        .assert_eq(&properties(Some(&held())).to_string());
        expect_test::expect![[r#"
            session            instances/main/sessions/1
            labels             -
            transaction level  0
            context            -
            waiters            0
            abandoned          no
            created            -
            revision           4"#]]
        .assert_eq(&properties(Some(&free())).to_string());
    }
}
