//! PipelineSessionContexts: many operations a message, many messages a stream.
//!
//! An operation is the unary call of its name: parsed, decided and answered by the same code. The stream
//! adds only order and bounds. Operations reach their instance in the order in which they came; results
//! go back as they come, as many to a message as there are, in the order of their operations. An
//! operation that waits is the exception: its result comes when it comes. Whether its caller may have an
//! operation is asked for each by itself, when it is taken.

mod order;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use futures_util::{FutureExt as _, Stream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{Request, Status, Streaming};

use crate::domain::call::Call;
use crate::domain::call::context::{ResetContext, SetContext};
use crate::domain::call::ownership::{CheckContext, TransferContext};
use crate::domain::call::pool::ClaimContext;
use crate::domain::id::InstanceId;
use crate::domain::limits::PIPELINE_OPERATIONS_MAX;
use crate::domain::refusal::Refusal;
use crate::engine::patience::Patience;
use crate::engine::pipeline::{Answered, Calls, Tray};
use crate::engine::{Asker, Engine};
use crate::proto::api as pb;
use crate::proto::api::pipeline_operation::Operation;
use crate::proto::api::pipeline_result::Result as Told;
use crate::rpc::access::{Entry, Guard, Wish};
use crate::rpc::convert::{self, Addressed, Parse, Parsed, Patient, Reply};
use crate::rpc::layers::{Deadline, RequestId, WaitingRoom};
use crate::rpc::method::Method;
use crate::rpc::pipeline::order::Order;
use crate::rpc::status::{self, About};
use crate::rpc::telemetry::Observer;

/// The path of the method, for statuses about messages that cannot be taken.
const PATH: &str = "/jet.session.v1.SessionService/PipelineSessionContexts";

/// The results of a stream of operations.
pub(super) fn results(
    guard: &Guard,
    engine: &Engine,
    request: Request<Streaming<pb::PipelineSessionContextsRequest>>,
) -> Result<
    impl Stream<Item = Result<pb::PipelineSessionContextsResponse, Status>> + Send + use<>,
    Status,
> {
    let (_, extensions, operations) = request.into_parts();
    let request_id = extensions.get::<RequestId>().cloned();
    let about = About { request_id: request_id.clone(), ..About::default() };
    let entry = guard.entry(&extensions, &about)?;
    entry.check(entry.method(), &about, &Wish::default())?;
    let standing = entry.standing(entry.method(), about, Wish::default());
    let tray = Arc::new(Tray::default());
    let pipeline = Pipeline {
        engine: engine.clone(),
        entry,
        methods: Methods::find(),
        request_id,
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
    let results = stream::unfold(Some(pipeline), |pipeline| async move {
        let mut pipeline = pipeline?;
        match pipeline.next().await {
            Some(Ok(results)) => Some((Ok(results), Some(pipeline))),
            Some(Err(status)) => Some((Err(status), None)),
            None => None,
        }
    });
    Ok(standing.over(results))
}

/// The methods that operations are calls of: whoever may make the call may have the operation.
#[derive(Clone, Copy)]
struct Methods {
    set: Option<&'static Method>,
    reset: Option<&'static Method>,
    transfer: Option<&'static Method>,
    check: Option<&'static Method>,
    claim: Option<&'static Method>,
}

impl Methods {
    fn find() -> Self {
        let of = |name| Method::of(&format!("/jet.session.v1.SessionService/{name}"));
        Self {
            set: of("SetSessionContext"),
            reset: of("ResetSessionContext"),
            transfer: of("TransferSessionContext"),
            check: of("CheckSessionContext"),
            claim: of("ClaimSessionContext"),
        }
    }
}

struct Pipeline {
    engine: Engine,
    entry: Entry,
    methods: Methods,
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
    /// It waited until its caller might not have it any more.
    Barred(Box<Status>),
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
            What::Barred(status) => error(&status, observer),
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
        Ok(answer) => told(R::reply(instance, &about.sight, answer)),
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
        let by = self.methods;
        match operation.operation {
            Some(Operation::Set(set)) => self.call(by.set, id, set, What::Set).await,
            Some(Operation::Reset(reset)) => self.call(by.reset, id, reset, What::Reset).await,
            Some(Operation::Transfer(transfer)) => {
                self.call(by.transfer, id, transfer, What::Transfer).await;
            }
            Some(Operation::Check(check)) => self.call(by.check, id, check, What::Check).await,
            Some(Operation::Claim(claim)) => self.call(by.claim, id, claim, What::Claim).await,
            None => {
                let rule = "must be one of set, reset, transfer, check, claim";
                let bad = status::BadField { field: "operation".to_owned(), rule: rule.to_owned() };
                let place = Some(self.order.next());
                self.refuse(place, id, &status::malformed(vec![bad], &self.about()));
            }
        }
    }

    async fn call<W, C>(
        &mut self,
        method: Option<&'static Method>,
        id: u64,
        request: W,
        what: fn(Answered<C>) -> What,
    ) where
        W: Parse<Command: Into<Patient<C>>>,
        C: Call + Send + 'static,
        C::Answer: Send,
        C::Refusal: Send,
    {
        let Allowed { command, request, about, wish } = match self.allowed(method, request) {
            Ok(allowed) => allowed,
            Err(status) => {
                let place = Some(self.order.next());
                return self.refuse(place, id, &status);
            }
        };
        let Patient { addressed: Addressed { instance, call }, wait } = command.into();
        let asker = Asker { by: self.entry.principal().clone(), request };
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
            let mut standing = self.entry.standing(method, about.clone(), wish);
            let made = async move {
                let what = tokio::select! {
                    biased;
                    answered = answered => what(answered),
                    status = standing.ended() => What::Barred(Box::new(status)),
                };
                Answer { place: None, id, instance, about, what }
            };
            self.waiting.push(made.boxed());
        }
    }

    /// An operation that was understood and may be had, or why not. As with a call by itself, that it may
    /// be had comes first.
    fn allowed<W: Parse>(
        &self,
        method: Option<&'static Method>,
        request: W,
    ) -> Result<Allowed<W::Command>, Box<Status>> {
        let request_id = || self.request_id.clone();
        match convert::parse(request) {
            Ok(Parsed { command, request, about, wish }) => {
                let about = About { request_id: request_id(), ..about };
                let sight = self.entry.check(method, &about, &wish)?;
                Ok(Allowed { command, request, about: About { sight, ..about }, wish })
            }
            Err(malformed) => {
                let (about, wish) = malformed.about();
                let about = About { request_id: request_id(), ..about.clone() };
                if about.instance.is_some() {
                    self.entry.check(method, &about, wish)?;
                }
                Err(malformed.status(request_id()).into())
            }
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

/// An operation that was understood and may be had.
struct Allowed<C> {
    command: C,
    request: Option<crate::domain::request::Request>,
    about: About,
    wish: Wish,
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
