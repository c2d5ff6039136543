//! How sessions look to people.

use crate::cli::output::{self, View, cell, labels, moment, yes_no};
use crate::proto::api::session_event::Cause;
use crate::proto::api::transaction_binding::Owner;
use crate::proto::api::{Session, SessionEvent};

/// The name, as the next command takes it.
pub(super) fn name(session: Option<&Session>) -> View {
    let name = session.map(|session| session.name.clone());
    View::Value(name.unwrap_or_default())
}

/// The names, one on each line.
pub(super) fn names(sessions: &[Session]) -> View {
    let names = sessions.iter().map(|session| session.name.as_str());
    View::Value(names.collect::<Vec<_>>().join("\n"))
}

/// What the next commands take of a session that was claimed: `read -r session token`.
pub(super) fn claimed(session: Option<&Session>, token: u64) -> View {
    let name = session.map(|session| session.name.as_str()).unwrap_or_default();
    View::Value(format!("{name} {token}"))
}

/// One event of a watch. Its columns are as wide as they mostly are, since what comes is not known. The
/// end of a snapshot is no event for people.
pub(super) fn event(event: &SessionEvent, coloured: bool) -> String {
    let Some(session) = &event.session else {
        return String::new();
    };
    let cause = output::word(event.cause().as_str_name(), "CAUSE_");
    let cause = cause.replacen("TRANSACTION", "TX", 1).to_lowercase().replace('_', " ");
    let mut facts = Vec::new();
    if let Some(held) = &session.binding {
        let (thread, word, token) = (&held.thread_id, word(held.context), held.fencing_token);
        facts.push(format!("held by {thread} context={word} token={token}"));
    }
    if session.transaction_level > 0 {
        facts.push(format!("level={}", session.transaction_level));
    }
    if session.waiters > 0 {
        facts.push(format!("waiters={}", session.waiters));
    }
    if session.abandoned {
        facts.push("abandoned".to_owned());
    }
    if !event.principal.is_empty() {
        facts.push(format!("by {}", event.principal));
    }
    if !event.reason.is_empty() {
        facts.push(format!("because: {}", event.reason));
    }
    let (revision, time, name) =
        (event.revision, moment(event.time.as_ref()), short(&session.name));
    let painted = paint(event.cause(), &format!("{cause:<14}"), coloured);
    // A server is not trusted with the terminal.
    let visible = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let facts = visible(&facts.join(" "));
    format!("{revision:<8}  {time}  {painted}  {:<12}  {facts}", visible(&name))
        .trim_end()
        .to_owned()
}

/// The colour that says at a glance what happened: green took, blue handed over, yellow and red lost.
fn paint(cause: Cause, text: &str, coloured: bool) -> String {
    let colour = match cause {
        Cause::Set => "32",
        Cause::Transferred => "34",
        Cause::LeaseExpired => "33",
        Cause::Forced => "1;31",
        Cause::Ended => "35",
        Cause::Snapshot => "2",
        Cause::Began | Cause::TransactionBegan => "36",
        Cause::Unspecified
        | Cause::Reset
        | Cause::TransactionCommitted
        | Cause::TransactionRolledBack => return text.to_owned(),
    };
    if coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
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

    #[test]
    fn what_begins_or_is_claimed_can_be_given_to_the_next_command() {
        let both = names(&[free(), held()]).to_string();
        assert_eq!(both, "instances/main/sessions/1\ninstances/main/sessions/2");
        assert_eq!(claimed(Some(&held()), 17).to_string(), "instances/main/sessions/2 17");
    }

    #[test]
    fn an_event_is_one_line_that_says_who_what_and_why() {
        let told = |cause: Cause, session, principal: &str, reason: &str| {
            let event = SessionEvent {
                revision: 17,
                session,
                cause: cause.into(),
                principal: principal.to_owned(),
                reason: reason.to_owned(),
                time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }),
            };
            super::event(&event, false)
        };
        let lines = [
            told(Cause::Set, Some(held()), "anonymous", ""),
            told(Cause::LeaseExpired, Some(free()), "", ""),
            told(Cause::Forced, Some(free()), "ada", "hung\x1b[2J for an hour"),
            told(Cause::TransactionRolledBack, Some(free()), "anonymous", ""),
        ];
        expect_test::expect![[r#"
            17        2023-11-14T22:13:20Z  set             main/2        held by worker-3 context=0xff token=17 level=2 waiters=3 abandoned by anonymous
            17        2023-11-14T22:13:20Z  lease expired   main/1
            17        2023-11-14T22:13:20Z  forced          main/1        by ada because: hung[2J for an hour
            17        2023-11-14T22:13:20Z  tx rolled back  main/1        by anonymous"#]]
        .assert_eq(&lines.join("\n"));
        assert_eq!(told(Cause::Snapshot, None, "", ""), "");
    }

    #[test]
    fn colours_are_for_the_cause_alone_and_only_if_wanted() {
        let event = SessionEvent {
            session: Some(free()),
            cause: Cause::Forced.into(),
            ..SessionEvent::default()
        };
        let (plain, coloured) = (super::event(&event, false), super::event(&event, true));
        assert!(!plain.contains('\x1b'));
        assert_eq!(coloured.replace("\x1b[1;31m", "").replace("\x1b[0m", ""), plain);
        assert!(coloured.contains("\x1b[1;31mforced"));
    }
}
