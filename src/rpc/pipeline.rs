//! PipelineSessionContexts: many operations a message, many messages a stream.
//!
//! An operation is the unary call of its name: parsed, decided and answered by the same code. The stream
//! adds only order and bounds. Operations reach their instance in the order in which they came; results
//! go back as they come, as many to a message as there are, in the order of their operations. An
//! operation that waits is the exception: its result comes when it comes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use futures_util::{FutureExt, Stream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{Request, Status, Streaming};

use crate::domain::call::Call;
use crate::domain::call::context::{ResetContext, SetContext};
use crate::domain::call::ownership::{CheckContext, TransferContext};
use crate::domain::call::pool::ClaimContext;
use crate::domain::id::{InstanceId, Principal};
use crate::domain::limits::{PIPELINE_OPERATIONS_MAX, PIPELINE_RESULTS_MAX};
use crate::domain::refusal::Refusal;
use crate::engine::patience::Patience;
use crate::engine::pipeline::{Answered, Calls, Tray};
use crate::engine::{Asker, Engine};
use crate::proto::api as pb;
use crate::proto::api::pipeline_operation::Operation;
use crate::proto::api::pipeline_result::Result as Told;
use crate::rpc::convert::{self, Addressed, Parse, Parsed, Patient, Reply};
use crate::rpc::layers::{Deadline, RequestId, WaitingRoom};
use crate::rpc::status::{self, About};
use crate::rpc::telemetry::Observer;

/// The path of the method, for statuses about messages that cannot be taken.
const PATH: &str = "/jet.session.v1.SessionService/PipelineSessionContexts";

/// The results of a stream of operations.
pub(super) fn results(
    engine: &Engine,
    request: Request<Streaming<pb::PipelineSessionContextsRequest>>,
) -> impl Stream<Item = Result<pb::PipelineSessionContextsResponse, Status>> + Send + use<> {
    let (_, extensions, operations) = request.into_parts();
    let tray = Arc::new(Tray::default());
    let pipeline = Pipeline {
        engine: engine.clone(),
        principal: extensions.get::<Principal>().cloned().unwrap_or_else(Principal::anonymous),
        request_id: extensions.get::<RequestId>().cloned(),
        observer: extensions.get::<Observer>().cloned(),
        room: extensions.get::<WaitingRoom>().map(WaitingRoom::permits),
        deadline: extensions.get::<Deadline>().map(|deadline| deadline.at()),
        operations: Some(operations),
        calls: Calls::new(&tray),
        tray,
        waiting: nobody(),
        taken: Vec::new(),
        order: Order::default(),
        in_flight: 0,
        end: None,
    };
    stream::unfold(Some(pipeline), |pipeline| async move {
        let mut pipeline = pipeline?;
        match pipeline.next().await {
            Some(Ok(results)) => Some((Ok(results), Some(pipeline))),
            Some(Err(status)) => Some((Err(status), None)),
            None => None,
        }
    })
}

struct Pipeline {
    engine: Engine,
    principal: Principal,
    request_id: Option<RequestId>,
    /// Who counts refusals.
    observer: Option<Observer>,
    /// What other calls of the connection leave of those that may wait there.
    room: Option<Arc<Semaphore>>,
    /// When the stream ends, whatever waits in it.
    deadline: Option<Instant>,
    /// Nothing when no more are taken.
    operations: Option<Streaming<pb::PipelineSessionContextsRequest>>,
    calls: Calls<Answer>,
    tray: Arc<Tray<Answer>>,
    waiting: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Emptied and filled again, to keep its room.
    taken: Vec<Answer>,
    order: Order,
    /// Operations whose result has not been sent.
    in_flight: usize,
    /// What the stream ends with when the last result has been sent.
    end: Option<Status>,
}

/// What an operation was answered, not yet on its way: it is put into words on the thread of its
/// connection, and not on that of its owner.
struct Answer {
    /// The place among operations that do not wait.
    place: Option<u64>,
    id: u64,
    instance: InstanceId,
    about: About,
    what: What,
}

enum What {
    Set(Answered<SetContext>),
    Reset(Answered<ResetContext>),
    Transfer(Answered<TransferContext>),
    Check(Answered<CheckContext>),
    Claim(Answered<ClaimContext>),
}

impl Answer {
    /// The result on the wire.
    fn result(self, observer: Option<&Observer>) -> pb::PipelineResult {
        let Self { place: _, id, instance, about, what } = self;
        let context = (&instance, &about, observer);
        let result = match what {
            What::Set(answered) => told(&context, answered, Told::Set),
            What::Reset(answered) => told(&context, answered, Told::Reset),
            What::Transfer(answered) => told(&context, answered, Told::Transfer),
            What::Check(answered) => told(&context, answered, Told::Check),
            What::Claim(answered) => told(&context, answered, Told::Claim),
        };
        pb::PipelineResult { id, result: Some(result) }
    }
}

fn told<A, E: Refusal, R: Reply<A>>(
    (instance, about, observer): &(&InstanceId, &About, Option<&Observer>),
    answered: Result<A, E>,
    told: fn(R) -> Told,
) -> Told {
    match answered {
        Ok(answer) => told(R::reply(instance, answer)),
        Err(refusal) => error(&status::refused(&refusal, about), *observer),
    }
}

/// A refusal among the results, counted like that of a unary call.
fn error(refusal: &Status, observer: Option<&Observer>) -> Told {
    if let Some(observer) = observer {
        observer.refused(refusal);
    }
    Told::Error(status::as_message(refusal))
}

impl Pipeline {
    /// The next results, or the end.
    async fn next(&mut self) -> Option<Result<pb::PipelineSessionContextsResponse, Status>> {
        loop {
            self.tray.take(&mut self.taken);
            for answer in self.taken.drain(..) {
                self.order.put(answer.place, answer.result(self.observer.as_ref()));
            }
            let results = self.order.take();
            if !results.is_empty() {
                self.in_flight -= results.len();
                return Some(Ok(pb::PipelineSessionContextsResponse { results }));
            }
            if self.operations.is_none() && self.in_flight == 0 {
                return self.end.take().map(Err);
            }
            tokio::select! {
                biased;
                () = self.tray.arrived() => {}
                Some(answer) = self.waiting.next() => {
                    self.order.put(None, answer.result(self.observer.as_ref()));
                }
                message = message(&mut self.operations), if self.in_flight < PIPELINE_OPERATIONS_MAX => {
                    self.take(message).await;
                }
                () = self.engine.drained(), if self.operations.is_some() => {
                    self.operations = None;
                    self.end = Some(status::draining(&self.about()));
                }
            }
        }
    }

    /// Takes the next message, or what is there instead of one.
    async fn take(&mut self, message: Result<Option<pb::PipelineSessionContextsRequest>, Status>) {
        match message {
            Ok(Some(message)) => {
                for operation in message.operations {
                    self.operate(operation).await;
                }
                self.calls.send().await;
            }
            Ok(None) => self.operations = None,
            Err(failed) => {
                self.operations = None;
                let ours = status::of_untaken_message(&failed, PATH, &self.about());
                self.end = Some(ours.unwrap_or(failed));
            }
        }
    }

    async fn operate(&mut self, operation: pb::PipelineOperation) {
        self.in_flight += 1;
        let id = operation.id;
        match operation.operation {
            Some(Operation::Set(set)) => self.call(id, set, What::Set).await,
            Some(Operation::Reset(reset)) => self.call(id, reset, What::Reset).await,
            Some(Operation::Transfer(transfer)) => self.call(id, transfer, What::Transfer).await,
            Some(Operation::Check(check)) => self.call(id, check, What::Check).await,
            Some(Operation::Claim(claim)) => self.call(id, claim, What::Claim).await,
            None => {
                let rule = "must be one of set, reset, transfer, check, claim";
                let bad = status::BadField { field: "operation".to_owned(), rule: rule.to_owned() };
                let place = Some(self.order.next());
                self.refuse(place, id, &status::malformed(vec![bad], &self.about()));
            }
        }
    }

    async fn call<W, C>(&mut self, id: u64, request: W, what: fn(Answered<C>) -> What)
    where
        W: Parse<Command: Into<Patient<C>>>,
        C: Call + Send + 'static,
        C::Answer: Send,
        C::Refusal: Send,
    {
        let Parsed { command, request, about } = match convert::parse(request) {
            Ok(parsed) => parsed,
            Err(malformed) => {
                let place = Some(self.order.next());
                let status = malformed.status(self.request_id.clone());
                return self.refuse(place, id, &status);
            }
        };
        let about = About { request_id: self.request_id.clone(), ..about };
        let Patient { addressed: Addressed { instance, call }, wait } = command.into();
        let asker = Asker { by: self.principal.clone(), request };
        if wait.is_zero() {
            let place = Some(self.order.next());
            let of = instance.clone();
            let made =
                move |answered| Answer { place, id, instance: of, about, what: what(answered) };
            self.calls.add(&self.engine, &instance, asker, call, made).await;
        } else {
            let patience = Patience { wait, deadline: self.deadline, room: self.room.clone() };
            let answered =
                self.calls.add_patiently(&self.engine, &instance, asker, call, patience).await;
            let made =
                move |answered| Answer { place: None, id, instance, about, what: what(answered) };
            self.waiting.push(answered.map(made).boxed());
        }
    }

    fn refuse(&mut self, place: Option<u64>, id: u64, refusal: &Status) {
        let result = Some(error(refusal, self.observer.as_ref()));
        self.order.put(place, pb::PipelineResult { id, result });
    }

    fn about(&self) -> About {
        About { request_id: self.request_id.clone(), ..About::default() }
    }
}

/// Operations that wait: at most as many as are in flight.
#[expect(clippy::disallowed_methods, reason = "PIPELINE_OPERATIONS_MAX bounds it")]
fn nobody() -> FuturesUnordered<BoxFuture<'static, Answer>> {
    FuturesUnordered::new()
}

/// The next message; for ever if no more are taken.
async fn message(
    operations: &mut Option<Streaming<pb::PipelineSessionContextsRequest>>,
) -> Result<Option<pb::PipelineSessionContextsRequest>, Status> {
    match operations {
        Some(operations) => operations.message().await,
        None => std::future::pending().await,
    }
}

/// Puts results into the order of their operations. Only a stream that names several instances needs it:
/// one instance answers in order.
#[derive(Default)]
struct Order {
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
    fn next(&mut self) -> u64 {
        let place = self.operations;
        self.operations += 1;
        place
    }

    fn put(&mut self, place: Option<u64>, result: pb::PipelineResult) {
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
    fn take(&mut self) -> Vec<pb::PipelineResult> {
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
