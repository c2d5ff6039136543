//! The order of results.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::limits::PIPELINE_RESULTS_MAX;
use crate::proto::api as pb;

/// Puts results into the order of their operations. Only a stream that names several instances needs it:
/// one instance answers in order.
#[derive(Default)]
pub(super) struct Order {
    /// The place of the next operation.
    operations: u64,
    /// The place of the next result.
    results: u64,
    /// Results whose turn has not come.
    early: BTreeMap<u64, pb::PipelineResult>,
    ready: VecDeque<pb::PipelineResult>,
}

impl Order {
    /// The place of an operation.
    pub(super) fn next(&mut self) -> u64 {
        let place = self.operations;
        self.operations += 1;
        place
    }

    /// A result: of an operation that has a place, or of one that waits.
    pub(super) fn put(&mut self, place: Option<u64>, result: pb::PipelineResult) {
        match place {
            None => self.ready.push_back(result),
            Some(place) if place == self.results => {
                self.ready.push_back(result);
                self.results += 1;
                while let Some(result) = self.early.remove(&self.results) {
                    self.ready.push_back(result);
                    self.results += 1;
                }
            }
            Some(place) => {
                self.early.insert(place, result);
            }
        }
    }

    /// What can be sent: a message full of it at most.
    pub(super) fn take(&mut self) -> Vec<pb::PipelineResult> {
        let count = self.ready.len().min(PIPELINE_RESULTS_MAX);
        self.ready.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_operations_that_do_not_wait() {
        let mut order = Order::default();
        let [first, second, third] = [order.next(), order.next(), order.next()];
        let result = |id| pb::PipelineResult { id, result: None };
        let ids = |order: &mut Order| order.take().iter().map(|r| r.id).collect::<Vec<_>>();
        order.put(Some(third), result(3));
        assert_eq!(ids(&mut order), [0_u64; 0]);
        order.put(None, result(9));
        assert_eq!(ids(&mut order), [9], "one that waits holds nobody up and nobody holds it up");
        order.put(Some(first), result(1));
        assert_eq!(ids(&mut order), [1]);
        order.put(Some(second), result(2));
        assert_eq!(ids(&mut order), [2, 3]);
    }

    #[test]
    fn a_message_has_a_bounded_number_of_results() {
        let mut order = Order::default();
        for id in 0..PIPELINE_RESULTS_MAX as u64 + 1 {
            let place = Some(order.next());
            order.put(place, pb::PipelineResult { id, result: None });
        }
        assert_eq!(order.take().len(), PIPELINE_RESULTS_MAX);
        assert_eq!(order.take().len(), 1);
    }
}
