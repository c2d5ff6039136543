//! The table of section 4: to whom a transaction belongs.

use super::*;

/// A row of the table: what happened, and what then a commit by T1 or one by T2 answers.
struct Row {
    begun: &'static [Step],
    then: &'static [Step],
    t1: i32,
    t2: i32,
}

const TABLE: [Row; 7] = [
    // no context, by T1 | –
    Row { begun: &[BeginTx(T1, 1)], then: &[], t1: OK, t2: SHARING_VIOLATION },
    // no context, by T1 | T1 Set, Reset; T2 Set
    Row {
        begun: &[BeginTx(T1, 1)],
        then: &[Set(T1, 1, C), Reset(T1, 1), Set(T2, 1, C)],
        t1: OK,
        t2: SHARING_VIOLATION,
    },
    // T1 Set C, T1 begin | C still held by T1
    Row { begun: &[Set(T1, 1, C), BeginTx(T1, 1)], then: &[], t1: OK, t2: SHARING_VIOLATION },
    // T1 Set C, T2 begin | C still held by T1
    Row { begun: &[Set(T1, 1, C), BeginTx(T2, 1)], then: &[], t1: OK, t2: SHARING_VIOLATION },
    // T1 Set C, T1 begin, T1 Reset | nobody holds
    Row { begun: RESET, then: &[], t1: SHARING_VIOLATION, t2: SHARING_VIOLATION },
    // … | T2 Set C
    Row { begun: RESET, then: &[Set(T2, 1, C)], t1: SHARING_VIOLATION, t2: OK },
    // … | T2 Set D≠C (accepted)
    Row { begun: RESET, then: &[Set(T2, 1, D)], t1: SHARING_VIOLATION, t2: SHARING_VIOLATION },
];

const RESET: &[Step] = &[Set(T1, 1, C), BeginTx(T1, 1), Reset(T1, 1)];

#[test]
fn a_commit_answers_as_the_table_of_section_4_says() {
    check_table(|who| Commit(who, 1));
}

/// The contract asks the same question of all three.
#[test]
fn a_deeper_begin_and_a_rollback_answer_as_a_commit_does() {
    check_table(|who| BeginTx(who, 1));
    check_table(|who| Rollback(who, 1));
    check_table(|who| RollbackAll(who, 1));
}

/// A word carries a transaction over many threads, whoever of them was first.
#[test]
fn a_transaction_moves_with_its_word() {
    check(&[
        (Begin, OK),
        (Set(T1, 1, C), OK),
        (BeginTx(T1, 1), OK),
        (Reset(T1, 1), OK),
        (Set(T2, 1, C), OK),
        (BeginTx(T2, 1), OK),
        (BeginTx(T1, 1), SHARING_VIOLATION),
        (Reset(T2, 1), OK),
        (Set(BOBS_T1, 1, C), OK),
        (Commit(BOBS_T1, 1), OK),
        (Commit(T2, 1), SHARING_VIOLATION),
        (Reset(BOBS_T1, 1), OK),
        (Set(T1, 1, C), OK),
        (Commit(T1, 1), OK),
        (Commit(T1, 1), NOT_IN_TRANSACTION),
    ]);
}

fn check_table(call: impl Fn(Who) -> Step) {
    for Row { begun, then, t1, t2 } in TABLE {
        for (who, expected) in [(T1, t1), (T2, t2)] {
            let script = [&[Begin], begun, then].concat();
            let found = World::after(&script).code(call(who));
            assert_eq!(found, expected, "{:?} after {begun:?}, {then:?}", call(who));
        }
    }
}
