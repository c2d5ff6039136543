use super::*;
use crate::domain::id::Uid;
use crate::domain::instance::Resting;
use crate::domain::replay::Answered;
use crate::domain::request::Fingerprint;
use crate::domain::table::Floor;

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().after(Duration::from_secs(seconds))
}

fn request(id: &str, body: u64) -> Request {
    Request { id: id.parse().unwrap(), body: Fingerprint::new(body) }
}

fn name(id: &str) -> InstanceId {
    id.parse().unwrap()
}

/// An instance that this request created at that time, if one did.
fn record(id: &str, created_by: Option<(&str, u64)>) -> InstanceRecord {
    let now = Timestamp::default();
    let record = InstanceRecord::unreadable(name(id), Uid::new("u"), 7, Floor::default(), now);
    let made = |(id, seconds)| Replay {
        by: Principal::anonymous(),
        request: request(id, 1),
        time: at(seconds),
        answer: Answered {
            uid: record.uid.clone(),
            resting: Resting::Created,
            updated: now,
            session_count: 0,
            bound_count: 0,
            revision: record.ended,
        },
    };
    InstanceRecord {
        created_by: created_by.map(|made_by| Box::new(made(made_by))),
        ..record.clone()
    }
}

fn gone(id: &str, by: &Principal, deleted_by: &str, seconds: u64) -> Gone {
    Gone::of(&record(id, None), by, Some(&request(deleted_by, 1)), at(seconds)).unwrap()
}

#[test]
fn something_is_kept_only_for_those_who_may_ask_again() {
    let me = Principal::anonymous();
    assert_eq!(Gone::of(&record("a", None), &me, None, at(0)), None);
    let created = record("a", Some(("c", 5)));
    let last = 5 + RETRY_WINDOW_SECONDS;
    assert_eq!(Gone::of(&created, &me, None, at(last)).unwrap().record, created);
    assert_eq!(Gone::of(&created, &me, None, at(last + 1)), None);
    let kept = Gone::of(&created, &me, Some(&request("d", 1)), at(last + 1)).unwrap();
    assert_eq!(kept.record, record("a", None), "nobody creates it again");
}

#[test]
fn a_deletion_is_found_by_its_own_principal_for_its_own_body_and_for_a_while() {
    let me = Principal::anonymous();
    let all = AllGone::new(vec![gone("a", &me, "d", 10)]);
    let deleted = |id: &str, by: &Principal, request: &Request, seconds| {
        all.deleted(&name(id), by, request, at(seconds))
    };
    let last = 10 + RETRY_WINDOW_SECONDS;
    assert_eq!(deleted("a", &me, &request("d", 1), last), Ok(true));
    assert_eq!(deleted("a", &me, &request("d", 1), last + 1), Ok(false));
    assert_eq!(deleted("a", &me, &request("d", 2), last), Err(Reused));
    assert_eq!(deleted("a", &me, &request("e", 1), last), Ok(false));
    assert_eq!(deleted("b", &me, &request("d", 1), last), Ok(false), "another instance");
    assert_eq!(deleted("a", &Principal::new("x"), &request("d", 1), last), Ok(false));
    let created = |id: &str| all.created(&name(id), &me, &request("d", 1), at(last));
    assert_eq!((created("a"), created("b")), (Err(Reused), Ok(None)));
}

#[test]
fn a_creation_is_found_after_the_deletion() {
    let (me, created) = (Principal::anonymous(), record("a", Some(("c", 10))));
    let all = AllGone::new(Gone::of(&created, &me, None, at(11)).into_iter().collect());
    let find = |id: &str, body, seconds| {
        let found = all.created(&name(id), &me, &request("c", body), at(seconds));
        found.map(|found| found.map(|(record, _)| record.clone()))
    };
    let last = 10 + RETRY_WINDOW_SECONDS;
    assert_eq!(find("a", 1, last), Ok(Some(created.clone())));
    // Creations have ids of their own per principal, whatever they create.
    assert_eq!((find("a", 2, last), find("b", 2, last)), (Err(Reused), Err(Reused)));
    assert_eq!(find("a", 1, last + 1), Ok(None));
    assert_eq!(all.deleted(&name("a"), &me, &request("c", 1), at(last)), Err(Reused));
    assert_eq!(all.deleted(&name("b"), &me, &request("c", 1), at(last)), Ok(false));
}

#[test]
fn those_that_are_too_old_or_too_many_go_the_oldest_first() {
    let (me, other) = (Principal::anonymous(), Principal::new("other"));
    let mut all = AllGone::new(vec![gone("b", &me, "r1", 1), gone("a", &other, "r0", 0)]);
    for n in 2..=GONE_PER_PRINCIPAL_MAX as u64 + 1 {
        all.keep(gone("c", &me, &format!("r{n}"), 2));
    }
    // Mine are one too many; what is older and not mine stays.
    assert_eq!(all.outdated(at(2)), [gone("b", &me, "r1", 1)]);
    assert_eq!(all.outdated(at(2)), []);
    assert_eq!(all.outdated(at(1 + RETRY_WINDOW_SECONDS)), [gone("a", &other, "r0", 0)]);
    assert_eq!(all.outdated(at(3 + RETRY_WINDOW_SECONDS)).len(), GONE_PER_PRINCIPAL_MAX);

    let everybody = |n: usize| gone("a", &Principal::new(&format!("p{n}")), "r", n as u64);
    let mut all = AllGone::new((0..GONE_MAX + 2).map(everybody).collect());
    assert_eq!(all.outdated(at(0)), [everybody(0), everybody(1)]);
}
