//! Writes down what clients ask and are told.

use std::sync::Mutex;
use std::time::Instant;

use super::history::{Act, Nanos, Operation, Outcome, Refusal, Thread};
use crate::clients::lock;
use crate::server::now;

/// One clock for everybody, and one history.
pub(crate) struct Recorder {
    begun: Instant,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    history: Vec<Operation>,
    /// The refusal of this number is written down as a grant, to see whether that is found.
    forge: Option<u64>,
}

/// A call that has been sent, or is about to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    session: u64,
    pub(crate) by: Thread,
    pub(crate) act: Act,
    invoked: Nanos,
}

impl Recorder {
    pub(crate) fn new(forge: Option<u64>) -> Self {
        let written = Mutex::new(Written { forge, ..Written::default() });
        Self { begun: now(), written }
    }

    pub(crate) fn nanos(&self) -> Nanos {
        let since = now().duration_since(self.begun).as_nanos();
        Nanos::try_from(since).expect("a campaign ends within 500 years")
    }

    /// To be called before the call is sent for the first time.
    pub(crate) fn asks(&self, session: u64, by: Thread, act: Act) -> Asked {
        Asked { session, by, act, invoked: self.nanos() }
    }

    /// To be called when the answer is there, or when nobody waits for it any more.
    pub(crate) fn told(&self, asked: Asked, outcome: Outcome) {
        let Asked { session, by, act, invoked } = asked;
        let returned = match outcome {
            Outcome::Unknown => Nanos::MAX,
            Outcome::Made(_) | Outcome::Ok | Outcome::Saw(_) | Outcome::Refused(_) => self.nanos(),
        };
        let mut written = lock(&self.written);
        let outcome = written.forged(by, outcome);
        written.history.push(Operation { session, by, act, invoked, returned, outcome });
    }

    /// The server was dead by then: what nobody had an answer to has been made before that, or never.
    /// To be called when all its clients have stopped.
    pub(crate) fn died(&self, by: Nanos) {
        let mut written = lock(&self.written);
        let lost = written.history.iter_mut().filter(|one| one.is_unknown());
        for one in lost.filter(|one| one.returned == Nanos::MAX) {
            one.returned = by;
        }
    }

    pub(crate) fn history(&self) -> Vec<Operation> {
        lock(&self.written).history.clone()
    }
}

impl Written {
    /// Makes a second holder of somebody who was refused because there is one already.
    fn forged(&mut self, by: Thread, outcome: Outcome) -> Outcome {
        match (outcome, &mut self.forge) {
            (Outcome::Refused(Refusal::AlreadySet { holder, token }), Some(left))
                if holder != by =>
            {
                *left -= 1;
                if *left > 0 {
                    return outcome;
                }
                self.forge = None;
                Outcome::Made(token + 1)
            }
            _ => outcome,
        }
    }
}
