//! What must hold in every state, and what must be so in one.

use stateright::Property;

use super::{Protocol, Scope, State};
use crate::TTL;
use crate::monitor::Promise;
use crate::server::{Came, Refusal};

pub(super) fn promises() -> Vec<Property<Protocol>> {
    macro_rules! promises {
        ($($name:literal => $promise:ident,)*) => {
            vec![$(Property::always($name, |_, state: &State| {
                state.monitor.keeps(Promise::$promise)
            })),*]
        };
    }
    let mut promises = promises! {
        "one holder at most" => OneHolder,
        "only the holder lets go" => OnlyTheHolderLetsGo,
        "revisions rise, for ever" => TokensRise,
        "a stale token changes nothing" => StaleTokensChangeNothing,
        "a stale write is refused once a newer was seen" => StaleWritesAreRefused,
        "one effect per request id" => OneEffectPerRequestId,
        "one answer per request id" => OneAnswerPerRequestId,
        "an answer is durable" => AnswersAreDurable,
        "first come, first served" => FirstComeFirstServed,
        "who left is not granted anything" => WhoLeftIsNotGranted,
        "a lease lasts its time as its holder counts" => LeaseLastsForItsHolder,
        "a lease lasts its time as the server serves" => LeaseLastsInServingTime,
        "three restarts give a lease its full time" => RestartGivesFullTime,
        "a lease ends, whatever restarts come between" => LeaseEnds,
    };
    promises.push(Property::always("a holder changes by an event only", |_, state: &State| {
        let bound = state.server.disk.binding.map(|held| (held.thread, held.token));
        bound == state.monitor.holder
    }));
    promises
}

impl Protocol {
    /// What must be possible, or the promises are kept by a world in which nothing happens.
    pub(super) fn possible(&self) -> Vec<Property<Self>> {
        let mut possible = vec![Property::sometimes("a session is taken", |_, state: &State| {
            state.server.disk.binding.is_some()
        })];
        let mut when = |wanted: bool, property| {
            if wanted {
                possible.push(property);
            }
        };
        let Scope { threads, calls, retries, crashes, queue, transfers, forces, writes, .. } =
            self.scope;
        let taken_away = self.scope.time || forces > 0;
        when(
            queue > 0 && threads > 1,
            Property::sometimes("a waiter is woken", |_, state: &State| state.came(Came::Waited)),
        );
        when(
            queue > 0 && usize::from(threads) > queue + 1,
            Property::sometimes("a queue is full", |_, state: &State| {
                state.told(Refusal::QueueFull)
            }),
        );
        when(
            transfers,
            Property::sometimes("a session is handed over", |_, state: &State| {
                state.came(Came::Transferred)
            }),
        );
        when(
            taken_away,
            Property::sometimes("a session is taken away", |_, state: &State| {
                state.server.disk.abandoned
            }),
        );
        when(
            taken_away && calls > 1 && threads > 1,
            Property::sometimes("a stale token is refused", |_, state: &State| {
                state.told(Refusal::StaleToken)
            }),
        );
        when(
            writes > 0,
            Property::sometimes("a stale write is refused", |_, state: &State| {
                state.guarded.refused
            }),
        );
        when(
            retries > 0,
            Property::sometimes("a retry is answered from memory", |_, state: &State| {
                state.replies().any(|reply| reply.remembered)
            }),
        );
        when(
            retries > 0 && crashes > 0,
            Property::sometimes(
                "a retry is answered after a restart",
                |model: &Self, state: &State| {
                    state.left.crashes < model.scope.crashes
                        && state.replies().any(|reply| reply.remembered)
                },
            ),
        );
        when(
            crashes > 0 && self.scope.time,
            Property::sometimes("a restart gives a lease its full time", |_, state: &State| {
                state.restarts() > 0 && state.server.lease_remaining() == Some(TTL.cast_signed())
            }),
        );
        when(
            crashes > 3 && self.scope.time,
            Property::sometimes(
                "from the fourth restart on, used time counts",
                |_, state: &State| {
                    state.restarts() > 3 && state.server.lease_remaining() == Some(0)
                },
            ),
        );
        possible
    }
}
