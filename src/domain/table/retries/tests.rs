//! What is kept for how long, and that it is found.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::domain::id::Revision;
use crate::domain::request::Fingerprint;

#[test]
fn an_answer_is_found_for_a_quarter_of_an_hour() {
    let mut retries = Retries::default();
    retries.remember(&by(1), kept(1, 100));
    let found = |by, id, seconds| retries.find(&by, &name(id), at(seconds)).cloned();
    assert_eq!(found(by(1), 1, 100), Some(kept(1, 100)));
    assert_eq!(found(by(1), 1, 100 + RETRY_WINDOW_SECONDS), Some(kept(1, 100)));
    assert_eq!(found(by(1), 1, 101 + RETRY_WINDOW_SECONDS), None);
    // A wall clock that is set back makes nothing old.
    assert_eq!(found(by(1), 1, 0), Some(kept(1, 100)));
    assert_eq!((found(by(1), 2, 100), found(by(2), 1, 100)), (None, None));
}

#[test]
fn a_request_id_names_another_call_when_the_first_is_forgotten() {
    let mut retries = Retries::default();
    let (first, second) = (kept(1, 100), kept(1, 101 + RETRY_WINDOW_SECONDS));
    assert!(retries.load(&by(1), first.clone()));
    assert!(retries.load(&by(1), second.clone()));
    for retries in [&retries, &retries.clone()] {
        assert_eq!(retries.find(&by(1), &name(1), second.time), Some(&second));
    }
    // The one that goes does not take the other's name with it.
    retries.remember(&by(1), kept(2, 101 + RETRY_WINDOW_SECONDS));
    assert_eq!(retries.len(), 2);
    assert_eq!(retries.find(&by(1), &name(1), second.time), Some(&second));
}

#[test]
fn what_has_become_too_old_goes_as_others_come_whosever_it_is() {
    let mut retries = Retries::default();
    (1..=40).for_each(|n| retries.remember(&by(n), kept(n, n)));
    let late = |n| kept(n, 41 + RETRY_WINDOW_SECONDS);
    for (n, left) in (100..).zip([37, 34, 31, 28, 25, 22, 19, 16, 13, 10, 11]) {
        retries.remember(&by(99), late(n));
        assert_eq!(retries.len(), left, "after {n}");
    }
    assert_eq!((retries.windows.len(), retries.oldest.len()), (1, 1));
}

#[test]
fn answers_that_are_read_back_make_none_of_others_too_old() {
    let mut retries = Retries::default();
    assert!(retries.load(&by(2), kept(1, 10_000)));
    assert!(retries.load(&by(1), kept(1, 1)));
    assert_eq!(retries.len(), 2);
}

#[test]
fn the_oldest_goes_when_a_principal_has_too_many_and_no_other_principal_is_touched() {
    let mut retries = Retries::default();
    retries.remember(&by(2), kept(1, 0));
    let (many, last) = (kept(0, 1), RETRY_ANSWERS_MAX as u64);
    (1..=4).for_each(|n| retries.remember(&by(1), kept(n, 1)));
    (5..last).for_each(|_| retries.remember(&by(1), many.clone()));
    (last..=last + 2).for_each(|n| retries.remember(&by(1), kept(n, 1)));
    assert_eq!(retries.len(), RETRY_ANSWERS_MAX + 1);
    let found = |n| retries.find(&by(1), &name(n), at(1)).map(|kept| &kept.answer);
    assert_eq!((found(1), found(2)), (None, None));
    for n in [3, 4, last, last + 2] {
        assert_eq!(found(n), Some(&Answer::Revision(Revision::new(n))));
    }
    assert!(retries.find(&by(2), &name(1), at(1)).is_some());
    let before = retries.clone();
    assert!(!retries.load(&by(1), kept(0, 1)), "so many are never written");
    assert!(retries == before && retries.load(&by(2), kept(2, 1)));
}

#[test]
fn nothing_is_left_of_a_principal_whose_answers_are_all_too_old() {
    let mut retries = Retries::default();
    retries.remember(&by(1), kept(1, 0));
    retries.remember(&by(2), kept(1, 1 + RETRY_WINDOW_SECONDS));
    assert_eq!(retries.iter().map(|(by, _)| by.clone()).collect::<Vec<_>>(), [by(2)]);
    assert!(!retries.is_empty() && Retries::default().is_empty());
}

#[test]
fn a_copy_shares_all_chunks_but_the_one_that_grows() {
    let mut retries = Retries::default();
    (0..300).for_each(|n| retries.remember(&by(1), kept(n, 1)));
    let copy = retries.clone();
    retries.remember(&by(1), kept(300, 1));
    let chunks = |retries: &Retries| retries.windows[&by(1)].chunks.clone();
    let shared: Vec<_> =
        chunks(&retries).iter().zip(&chunks(&copy)).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
    assert_eq!(shared, [true, true, false]);
    assert_eq!((copy.len(), retries.len()), (300, 301));
    assert!(copy.find(&by(1), &name(300), at(1)).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Against a plain list, with the ids so few that they come again and so many answers that chunks
    /// come and go; copies are made on the way, without their index.
    #[test]
    fn a_window_is_a_plain_list_of_the_last_answers(
        steps in prop::collection::vec((0..10_u8, 1..200_usize, 0..50_u64), 1..12),
    ) {
        let (mut window, mut plain) = (Window::default(), VecDeque::new());
        for (step, count, from) in steps {
            match step {
                0..5 => for n in 0..count as u64 {
                    let kept = kept((from + n * 7) % 400, n);
                    window.push(kept.clone());
                    plain.push_back(kept);
                },
                5..9 => for _ in 0..count {
                    window.pop();
                    plain.pop_front();
                },
                _ => window = window.clone(),
            }
            prop_assert_eq!(window.len, plain.len());
            prop_assert_eq!(window.first(), plain.front());
            prop_assert!(window.iter().eq(&plain));
            let copy = window.clone();
            let last: HashMap<_, _> = plain.iter().map(|kept| (&kept.request.id, kept)).collect();
            for id in (0..400).map(name) {
                prop_assert_eq!(window.find(&id), last.get(&id).copied());
            }
            for id in (0..400).step_by(80).map(name) {
                prop_assert_eq!(copy.find(&id), last.get(&id).copied());
            }
            let mut again = Window::default();
            plain.iter().for_each(|kept| again.push(kept.clone()));
            prop_assert_eq!(&window, &again);
        }
    }
}

fn by(n: u64) -> Principal {
    Principal::new(&format!("p{n:03}"))
}

fn name(id: u64) -> RequestId {
    format!("call-{id}").parse().unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().after(Duration::from_secs(seconds))
}

fn kept(id: u64, seconds: u64) -> Remembered {
    let request = Request { id: name(id), body: Fingerprint::new(id) };
    Remembered { request, time: at(seconds), answer: Answer::Revision(Revision::new(id)) }
}
