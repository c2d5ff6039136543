//! What a log tells, a line each: for people and as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::domain::event::{Change, HowReset, SessionEvent};
use crate::domain::id::{InstanceId, Labels, Owner, SessionId};
use crate::domain::request::Made;
use crate::domain::session::{Transaction, TransactionOwner};
use crate::domain::time::{Served, Timestamp};
use crate::store::log::inspect::dump::{At, Entry};

/// An entry as JSON; and as text, if it is an event.
pub(super) fn line(id: &InstanceId, at: At, entry: &Entry<'_>) -> (Value, Option<String>) {
    let mut object = json!({
        "instance": id.name(),
        "segment": at.segment.to_string(),
        "byte": at.byte.to_string(),
        "frame": at.sequence.to_string(),
    });
    match entry {
        Entry::Change(change) => {
            let (name, fields) = event(change);
            object["revision"] = json!(change.revision.get().to_string());
            object["time"] = json!(moment(change.time));
            object["principal"] = json!(change.by.as_str());
            object["event"] = json!(name);
            let mut text = format!(
                "{}  {}  {}  {}",
                change.revision,
                moment(change.time),
                word(change.by.as_str()),
                name
            );
            for (n, (field, value)) in fields.into_iter().enumerate() {
                let gap = if n == 0 { "  " } else { " " };
                text.push_str(&format!("{gap}{field}={}", plain(&value)));
                object[field] = value;
            }
            let requests: Vec<_> = change.made.iter().map(|made| request(made, change)).collect();
            for (text_of, _) in &requests {
                text.push_str(&format!("  {text_of}"));
            }
            if !requests.is_empty() {
                object["requests"] = requests.into_iter().map(|(_, object)| object).collect();
            }
            return (object, Some(text));
        }
        Entry::Segment(before) => {
            object["event"] = json!("segment");
            object["revision"] = json!(before.get().to_string());
        }
        Entry::Numbers(floor) => {
            object["event"] = json!("numbers");
            object["revision"] = json!(floor.revision.get().to_string());
            object["sesid"] = json!(floor.sesid.to_string());
        }
        Entry::Seal => object["event"] = json!("seal"),
        Entry::Torn(until) => {
            object["event"] = json!("torn");
            object["until"] = json!(until.to_string());
        }
    }
    (object, None)
}

/// An entry that is no event, for people.
pub(super) fn comment(at: At, entry: &Entry<'_>) -> String {
    match entry {
        Entry::Segment(before) => {
            format!("# segment {:020}.log, behind revision {before}", at.segment)
        }
        Entry::Numbers(floor) => {
            format!("# numbers taken up to revision {} and session {}", floor.revision, floor.sesid)
        }
        Entry::Seal => "# sealed: closed in good order".to_owned(),
        Entry::Torn(until) => {
            format!("# bytes {} to {until} are of an append that was never acknowledged", at.byte)
        }
        Entry::Change(change) => format!("# revision {}", change.revision),
    }
}

/// The name of an event, and its fields in the order in which they are read.
fn event(change: &Change) -> (&'static str, Vec<(&'static str, Value)>) {
    let of = |session: &SessionId| ("session", json!(session.get().to_string()));
    match &change.event {
        SessionEvent::Began { session, labels } => {
            let mut fields = vec![of(session)];
            fields.extend(pairs(labels).map(|labels| ("labels", labels)));
            ("began", fields)
        }
        SessionEvent::ContextSet { session, owner, context } => {
            let mut fields = vec![of(session)];
            fields.extend(thread(owner, change));
            fields.push(("context", json!(context.get().to_string())));
            fields.push(("token", json!(change.revision.get().to_string())));
            ("set", fields)
        }
        SessionEvent::ContextReset { session, how: HowReset::ByHolder } => {
            ("reset", vec![of(session)])
        }
        SessionEvent::ContextReset { session, how: HowReset::LeaseExpired } => {
            ("lease-expired", vec![of(session)])
        }
        SessionEvent::ContextReset { session, how: HowReset::Forced(why) } => {
            ("forced", vec![of(session), ("reason", json!(why.as_str()))])
        }
        SessionEvent::ContextTransferred { session, to } => {
            let mut fields = vec![of(session)];
            fields.extend(thread(to, change));
            fields.push(("token", json!(change.revision.get().to_string())));
            ("transferred", fields)
        }
        SessionEvent::TransactionBegan { session, transaction } => {
            ("transaction-began", in_transaction(of(session), Some(transaction), change))
        }
        SessionEvent::TransactionCommitted { session, left } => {
            ("transaction-committed", in_transaction(of(session), left.as_ref(), change))
        }
        SessionEvent::TransactionRolledBack { session, left } => {
            ("transaction-rolled-back", in_transaction(of(session), left.as_ref(), change))
        }
        SessionEvent::Ended { session, forced } => {
            let mut fields = vec![of(session)];
            fields.extend(forced.as_ref().map(|why| ("forced", json!(why.as_str()))));
            ("ended", fields)
        }
        SessionEvent::AllEnded => ("all-ended", Vec::new()),
        SessionEvent::LeaseSet { owner, ttl, since } => {
            let mut fields = thread(owner, change);
            fields.push(("ttl", json!(seconds(*ttl))));
            fields.push(served(*since));
            ("lease-set", fields)
        }
        SessionEvent::LeaseEnded { owner } => ("lease-ended", thread(owner, change)),
        SessionEvent::ServingBegan { at } => ("serving-began", vec![served(*at)]),
        SessionEvent::ServedUntil { at } => ("served-until", vec![served(*at)]),
    }
}

/// A request that a change answers, and whose it is if not that of the caller.
fn request(made: &Made, change: &Change) -> (String, Value) {
    let id = made.request.id.to_string();
    let mut text = format!("request_id={}", word(&id));
    if made.by != change.by {
        text.push_str(&format!(" request_of={}", word(made.by.as_str())));
    }
    let object = json!({
        "request_id": id,
        "principal": made.by.as_str(),
        "body": format!("{:016x}", made.request.body.get()),
    });
    (text, object)
}

/// The clock of the instance.
fn served(at: Served) -> (&'static str, Value) {
    ("served", json!(seconds(Duration::from_micros(at.micros()))))
}

/// A duration as protobuf writes it in JSON.
fn seconds(duration: Duration) -> String {
    let (seconds, micros) = (duration.as_secs(), duration.subsec_micros());
    if micros == 0 { format!("{seconds}s") } else { format!("{seconds}.{micros:06}s") }
}

/// The session, and its transaction as it is then.
fn in_transaction(
    session: (&'static str, Value),
    transaction: Option<&Transaction>,
    change: &Change,
) -> Vec<(&'static str, Value)> {
    let level = transaction.map_or(0, Transaction::level);
    let mut fields = vec![session, ("level", json!(level))];
    match transaction.map(Transaction::bound_to) {
        Some(TransactionOwner::Context(word)) => {
            fields.push(("context", json!(word.get().to_string())));
        }
        Some(TransactionOwner::Thread(owner)) => fields.extend(thread(owner, change)),
        None => {}
    }
    fields
}

/// A thread, and its principal if that is not the caller.
fn thread(owner: &Owner, change: &Change) -> Vec<(&'static str, Value)> {
    let mut fields = vec![("thread", json!(owner.thread().as_str()))];
    if *owner.principal() != change.by {
        fields.push(("of", json!(owner.principal().as_str())));
    }
    fields
}

fn pairs(labels: &Labels) -> Option<Value> {
    let pairs: Map<String, Value> =
        labels.iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    (!pairs.is_empty()).then_some(Value::Object(pairs))
}

fn moment(time: Timestamp) -> String {
    const SECOND: i64 = 1_000_000;
    let (seconds, micros) = (time.micros().div_euclid(SECOND), time.micros().rem_euclid(SECOND));
    let nanos = i32::try_from(micros * 1_000).unwrap_or(0);
    prost_types::Timestamp { seconds, nanos }.to_string()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => word(text),
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}={}", word(key), plain(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    }
}

/// A text as one word: as it is if it can be, else in quotes. A log is not trusted with the terminal.
fn word(text: &str) -> String {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    if bare { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{ContextValue, Principal, Reason, Revision};
    use crate::domain::request::{AnswerKind, Fingerprint, Request};
    use crate::domain::table::Floor;

    fn owner(principal: &str) -> Owner {
        Owner::new(Principal::new(principal), "worker-a/1".parse().unwrap())
    }

    #[test]
    fn every_kind_of_line() {
        let session = SessionId::new(1).unwrap();
        let context = ContextValue::new(42).unwrap();
        let labels = [("pool".to_owned(), "a".to_owned()), ("zone".to_owned(), "x".to_owned())];
        let by_word = Transaction::at_level(2, TransactionOwner::Context(context));
        let by_thread = Transaction::outermost(TransactionOwner::Thread(owner("anonymous")));
        let events = [
            SessionEvent::Began { session, labels: Labels::new(labels.into()).unwrap() },
            SessionEvent::ContextSet { session, owner: owner("anonymous"), context },
            SessionEvent::ContextSet { session, owner: owner("a \"b\"\n"), context },
            SessionEvent::TransactionBegan { session, transaction: by_thread },
            SessionEvent::TransactionCommitted { session, left: by_word },
            SessionEvent::TransactionRolledBack { session, left: None },
            SessionEvent::ContextReset { session, how: HowReset::ByHolder },
            SessionEvent::Ended { session, forced: "it hung".parse::<Reason>().ok() },
            SessionEvent::AllEnded,
            SessionEvent::ContextReset { session, how: HowReset::LeaseExpired },
            SessionEvent::ContextReset {
                session,
                how: HowReset::Forced("it\u{301} hung".parse().unwrap()),
            },
            SessionEvent::ContextTransferred { session, to: owner("anonymous") },
            SessionEvent::ContextTransferred { session, to: owner("other") },
            SessionEvent::LeaseSet {
                owner: owner("anonymous"),
                ttl: Duration::from_secs(30),
                since: Served::from_micros(1_500_000),
            },
            SessionEvent::LeaseEnded { owner: owner("other") },
            SessionEvent::ServingBegan { at: Served::from_micros(60_000_000) },
            SessionEvent::ServedUntil { at: Served::from_micros(62_000_001) },
        ];
        let mut changes: Vec<Change> = (7..)
            .zip(events)
            .map(|(revision, event)| {
                let time = Timestamp::from_micros(1_767_225_600_000_001);
                Change::new(Revision::new(revision), time, Principal::anonymous(), event)
            })
            .collect();
        let made = |id: &str, by: &str| Made {
            by: Principal::new(by),
            request: Request { id: id.parse().unwrap(), body: Fingerprint::new(0xC0FFEE) },
            answer: AnswerKind::Revision,
        };
        changes[1].made.push(made("123e4567-e89b-12d3-a456-426614174000", "anonymous"));
        changes[8].made.push(made("last", "anonymous"));
        changes[12].made.extend([made("a", "anonymous"), made("\"b\"", "other")]);
        let numbers = Entry::Numbers(Floor { revision: Revision::new(900), sesid: 800 });
        let entries = std::iter::once(Entry::Segment(Revision::new(6)))
            .chain(changes.iter().map(Entry::Change))
            .chain([numbers, Entry::Seal, Entry::Torn(8_200)]);
        let at = At { segment: 5, byte: 4_096, sequence: 5 };
        let (mut text, mut objects) = (String::new(), String::new());
        for entry in entries {
            let (object, line) = line(&"main".parse().unwrap(), at, &entry);
            text.push_str(&line.unwrap_or_else(|| comment(at, &entry)));
            text.push('\n');
            objects.push_str(&format!("{object}\n"));
        }
        expect_test::expect![[r##"
            # segment 00000000000000000005.log, behind revision 6
            7  2026-01-01T00:00:00.000001Z  anonymous  began  session=1 labels=pool=a,zone=x
            8  2026-01-01T00:00:00.000001Z  anonymous  set  session=1 thread=worker-a/1 context=42 token=8  request_id=123e4567-e89b-12d3-a456-426614174000
            9  2026-01-01T00:00:00.000001Z  anonymous  set  session=1 thread=worker-a/1 of="a \"b\"\n" context=42 token=9
            10  2026-01-01T00:00:00.000001Z  anonymous  transaction-began  session=1 level=1 thread=worker-a/1
            11  2026-01-01T00:00:00.000001Z  anonymous  transaction-committed  session=1 level=2 context=42
            12  2026-01-01T00:00:00.000001Z  anonymous  transaction-rolled-back  session=1 level=0
            13  2026-01-01T00:00:00.000001Z  anonymous  reset  session=1
            14  2026-01-01T00:00:00.000001Z  anonymous  ended  session=1 forced="it hung"
            15  2026-01-01T00:00:00.000001Z  anonymous  all-ended  request_id=last
            16  2026-01-01T00:00:00.000001Z  anonymous  lease-expired  session=1
            17  2026-01-01T00:00:00.000001Z  anonymous  forced  session=1 reason="it\u{301} hung"
            18  2026-01-01T00:00:00.000001Z  anonymous  transferred  session=1 thread=worker-a/1 token=18
            19  2026-01-01T00:00:00.000001Z  anonymous  transferred  session=1 thread=worker-a/1 of=other token=19  request_id=a  request_id="\"b\"" request_of=other
            20  2026-01-01T00:00:00.000001Z  anonymous  lease-set  thread=worker-a/1 ttl=30s served=1.500000s
            21  2026-01-01T00:00:00.000001Z  anonymous  lease-ended  thread=worker-a/1 of=other
            22  2026-01-01T00:00:00.000001Z  anonymous  serving-began  served=60s
            23  2026-01-01T00:00:00.000001Z  anonymous  served-until  served=62.000001s
            # numbers taken up to revision 900 and session 800
            # sealed: closed in good order
            # bytes 4096 to 8200 are of an append that was never acknowledged
        "##]].assert_eq(&text);
        expect_test::expect![[r#"
            {"byte":"4096","event":"segment","frame":"5","instance":"instances/main","revision":"6","segment":"5"}
            {"byte":"4096","event":"began","frame":"5","instance":"instances/main","labels":{"pool":"a","zone":"x"},"principal":"anonymous","revision":"7","segment":"5","session":"1","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","context":"42","event":"set","frame":"5","instance":"instances/main","principal":"anonymous","requests":[{"body":"0000000000c0ffee","principal":"anonymous","request_id":"123e4567-e89b-12d3-a456-426614174000"}],"revision":"8","segment":"5","session":"1","thread":"worker-a/1","time":"2026-01-01T00:00:00.000001Z","token":"8"}
            {"byte":"4096","context":"42","event":"set","frame":"5","instance":"instances/main","of":"a \"b\"\n","principal":"anonymous","revision":"9","segment":"5","session":"1","thread":"worker-a/1","time":"2026-01-01T00:00:00.000001Z","token":"9"}
            {"byte":"4096","event":"transaction-began","frame":"5","instance":"instances/main","level":1,"principal":"anonymous","revision":"10","segment":"5","session":"1","thread":"worker-a/1","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","context":"42","event":"transaction-committed","frame":"5","instance":"instances/main","level":2,"principal":"anonymous","revision":"11","segment":"5","session":"1","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","event":"transaction-rolled-back","frame":"5","instance":"instances/main","level":0,"principal":"anonymous","revision":"12","segment":"5","session":"1","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","event":"reset","frame":"5","instance":"instances/main","principal":"anonymous","revision":"13","segment":"5","session":"1","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","event":"ended","forced":"it hung","frame":"5","instance":"instances/main","principal":"anonymous","revision":"14","segment":"5","session":"1","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","event":"all-ended","frame":"5","instance":"instances/main","principal":"anonymous","requests":[{"body":"0000000000c0ffee","principal":"anonymous","request_id":"last"}],"revision":"15","segment":"5","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","event":"lease-expired","frame":"5","instance":"instances/main","principal":"anonymous","revision":"16","segment":"5","session":"1","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","event":"forced","frame":"5","instance":"instances/main","principal":"anonymous","reason":"it́ hung","revision":"17","segment":"5","session":"1","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","event":"transferred","frame":"5","instance":"instances/main","principal":"anonymous","revision":"18","segment":"5","session":"1","thread":"worker-a/1","time":"2026-01-01T00:00:00.000001Z","token":"18"}
            {"byte":"4096","event":"transferred","frame":"5","instance":"instances/main","of":"other","principal":"anonymous","requests":[{"body":"0000000000c0ffee","principal":"anonymous","request_id":"a"},{"body":"0000000000c0ffee","principal":"other","request_id":"\"b\""}],"revision":"19","segment":"5","session":"1","thread":"worker-a/1","time":"2026-01-01T00:00:00.000001Z","token":"19"}
            {"byte":"4096","event":"lease-set","frame":"5","instance":"instances/main","principal":"anonymous","revision":"20","segment":"5","served":"1.500000s","thread":"worker-a/1","time":"2026-01-01T00:00:00.000001Z","ttl":"30s"}
            {"byte":"4096","event":"lease-ended","frame":"5","instance":"instances/main","of":"other","principal":"anonymous","revision":"21","segment":"5","thread":"worker-a/1","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","event":"serving-began","frame":"5","instance":"instances/main","principal":"anonymous","revision":"22","segment":"5","served":"60s","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","event":"served-until","frame":"5","instance":"instances/main","principal":"anonymous","revision":"23","segment":"5","served":"62.000001s","time":"2026-01-01T00:00:00.000001Z"}
            {"byte":"4096","event":"numbers","frame":"5","instance":"instances/main","revision":"900","segment":"5","sesid":"800"}
            {"byte":"4096","event":"seal","frame":"5","instance":"instances/main","segment":"5"}
            {"byte":"4096","event":"torn","frame":"5","instance":"instances/main","segment":"5","until":"8200"}
        "#]].assert_eq(&objects);
    }
}
