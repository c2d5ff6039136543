//! Which operations of a pipeline are under way: ids given out, and results matched with them.

use std::collections::VecDeque;

use super::OPERATIONS_MAX;
use super::stats::Operation;
use super::window::Nanos;

/// What the ids of a stream stand for: in rounds, all of its clients set their contexts, one after the
/// other, and then all of them reset theirs. A stream keeps the order of what concerns one session, so
/// nothing has to be waited for in between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script {
    clients: u64,
}

impl Script {
    /// The script of a stream with so many clients, at least one.
    pub(super) fn new(clients: usize) -> Self {
        Self { clients: clients.max(1) as u64 }
    }

    /// What an operation asks for, and which of the clients.
    pub(super) fn operation(self, id: u64) -> (Operation, usize) {
        let reset = (id / self.clients) % 2 == 1;
        let client = usize::try_from(id % self.clients).expect("there are as many clients");
        (if reset { Operation::Reset } else { Operation::Set }, client)
    }

    /// How many operations are left before whatever was set is reset, when `next` is the next one.
    pub(super) fn left_in_round(self, next: u64) -> u64 {
        let round = 2 * self.clients;
        (round - next % round) % round
    }
}

/// The operations that are sent and not yet answered. Ids count up from 0, so all operations of one
/// message are found by division.
#[derive(Debug)]
pub(super) struct Flight {
    operations: u64,
    room: usize,
    next: u64,
    /// From the oldest message that is not answered in full to the newest.
    messages: VecDeque<Sent>,
    /// The number of the first of them.
    oldest: u64,
    unanswered: u64,
}

#[derive(Debug)]
struct Sent {
    began: Nanos,
    left: u64,
    answered: [u64; OPERATIONS_MAX / 64],
}

/// A result that belongs to no operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stray {
    NeverSent,
    AnsweredTwice,
}

impl Stray {
    /// What is wrong, as a sentence.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::NeverSent => "a result has an id that was never sent",
            Self::AnsweredTwice => "an operation has two results",
        }
    }
}

impl Flight {
    /// A flight of at most `room` messages, each with so many operations.
    pub(super) fn new(room: usize, operations: usize) -> Self {
        assert!((1..=OPERATIONS_MAX).contains(&operations), "the options are in their bounds");
        Self {
            operations: operations as u64,
            room,
            next: 0,
            messages: VecDeque::with_capacity(room),
            oldest: 0,
            unanswered: 0,
        }
    }

    /// Whether one more message may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.messages.len() < self.room
    }

    /// The id of the next operation.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many operations have no result.
    pub(super) fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Sends the next message. Only the last one of a stream may have fewer operations than the others.
    pub(super) fn send(&mut self, operations: u64, began: Nanos) {
        debug_assert!(self.has_room() && self.next.is_multiple_of(self.operations));
        debug_assert!((1..=self.operations).contains(&operations));
        self.next += operations;
        self.unanswered += operations;
        let answered = [0; OPERATIONS_MAX / 64];
        self.messages.push_back(Sent { began, left: operations, answered });
    }

    /// Takes a result. Answers when its operation began.
    pub(super) fn answer(&mut self, id: u64) -> Result<Nanos, Stray> {
        if id >= self.next {
            return Err(Stray::NeverSent);
        }
        let (message, bit) = (id / self.operations, id % self.operations);
        let place = message.checked_sub(self.oldest).and_then(|place| usize::try_from(place).ok());
        let sent = place.and_then(|place| self.messages.get_mut(place));
        let sent = sent.ok_or(Stray::AnsweredTwice)?;
        let (word, bit) = (&mut sent.answered[(bit / 64) as usize], 1 << (bit % 64));
        if *word & bit != 0 {
            return Err(Stray::AnsweredTwice);
        }
        *word |= bit;
        sent.left -= 1;
        let began = sent.began;
        self.unanswered -= 1;
        while self.messages.front().is_some_and(|sent| sent.left == 0) {
            self.messages.pop_front();
            self.oldest += 1;
        }
        Ok(began)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_clients_set_and_then_all_reset() {
        let script = Script::new(2);
        let first: Vec<_> = (0..5).map(|id| script.operation(id)).collect();
        use Operation::{Reset, Set};
        assert_eq!(first, [(Set, 0), (Set, 1), (Reset, 0), (Reset, 1), (Set, 0)]);
        let left: Vec<_> = (0..5).map(|id| script.left_in_round(id)).collect();
        assert_eq!(left, [0, 3, 2, 1, 0]);
    }

    #[test]
    fn a_message_makes_room_when_its_last_result_is_there() {
        let mut flight = Flight::new(2, 2);
        flight.send(2, 10);
        flight.send(2, 20);
        assert!(!flight.has_room());
        assert_eq!(flight.answer(1), Ok(10));
        assert!(!flight.has_room());
        assert_eq!(flight.answer(0), Ok(10));
        assert!(flight.has_room());
        flight.send(1, 30);
        assert_eq!((flight.next(), flight.unanswered()), (5, 3));
        assert_eq!(flight.answer(4), Ok(30));
        // The oldest is still under way, so what is kept does not grow.
        assert!(!flight.has_room());
    }

    #[test]
    fn results_that_belong_to_nothing_are_told_apart() {
        let mut flight = Flight::new(2, 2);
        assert_eq!(flight.answer(0), Err(Stray::NeverSent));
        flight.send(2, 10);
        assert_eq!(flight.answer(0), Ok(10));
        assert_eq!(flight.answer(0), Err(Stray::AnsweredTwice));
        assert_eq!(flight.answer(1), Ok(10));
        assert_eq!(flight.answer(1), Err(Stray::AnsweredTwice), "its message is forgotten");
        assert_eq!(flight.answer(2), Err(Stray::NeverSent));
        assert_eq!(flight.answer(u64::MAX), Err(Stray::NeverSent));
        assert_eq!(flight.unanswered(), 0);
    }

    proptest! {
        /// In whatever order results come: each operation is answered once, with its own beginning.
        #[test]
        fn every_operation_is_answered_once(
            room in 1..5_usize,
            operations in 1..=OPERATIONS_MAX,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..400),
        ) {
            let mut flight = Flight::new(room, operations);
            let (mut out, mut time) = (Vec::new(), 0);
            for pick in picks {
                while flight.has_room() {
                    let first = flight.next();
                    flight.send(operations as u64, time);
                    out.extend((first..flight.next()).map(|id| (id, time)));
                    time += 1;
                }
                let (id, began) = out.swap_remove(pick.index(out.len()));
                prop_assert_eq!(flight.answer(id), Ok(began));
                prop_assert_eq!(flight.answer(id), Err(Stray::AnsweredTwice));
                prop_assert_eq!(flight.unanswered(), out.len() as u64);
            }
        }
    }
}
