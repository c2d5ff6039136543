//! The calls of the fake server.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use prost::Message;
use tokio::time::sleep;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use crate::client::DOMAIN;
use crate::client::clock::now;
use crate::domain::id::SessionName;
use crate::proto::api as pb;
use crate::proto::api::session_service_server::SessionService;
use crate::proto::api::thread_service_server::ThreadService;

use super::model::Model;
use super::{Call, Fake, Fault};

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// What a request tells about itself.
struct About {
    method: &'static str,
    request_id: String,
    threads: Vec<String>,
    timeout: Option<Duration>,
    wait_timeout: Option<Duration>,
}

fn about<M>(method: &'static str, request: &Request<M>, id: &str, thread: &str) -> About {
    About {
        method,
        request_id: id.to_owned(),
        threads: vec![thread.to_owned()],
        timeout: timeout(request),
        wait_timeout: None,
    }
}

/// `grpc-timeout`, as tonic writes it: digits and one letter.
fn timeout<M>(request: &Request<M>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().unwrap();
    let (digits, unit) = text.split_at(text.len() - 1);
    let number: u64 = digits.parse().unwrap();
    Some(match unit {
        "n" => Duration::from_nanos(number),
        "u" => Duration::from_micros(number),
        "m" => Duration::from_millis(number),
        "S" => Duration::from_secs(number),
        other => panic!("the unit {other}"),
    })
}

fn sesid(name: &str) -> u64 {
    name.parse::<SessionName>().unwrap().session.get()
}

fn not_set() -> Status {
    let details = ErrorDetails::with_error_info("NOT_SET", DOMAIN, HashMap::new());
    Status::with_error_details(Code::DeadlineExceeded, "Nothing was set.", details)
}

impl Fake {
    /// Notes a call and does to it what the script says.
    async fn serve<T: Message + Default>(
        &self,
        about: About,
        act: impl FnOnce(&mut Model) -> Result<T, Status>,
    ) -> Answer<T> {
        let fault = self.note(&about);
        match fault {
            Some(Fault::Refuse(status)) => return Err(status),
            Some(Fault::LoseRequest) => return self.break_off().await,
            Some(Fault::LoseReply | Fault::Hang | Fault::Delay(_)) | None => {}
        }
        let done = {
            let mut state = self.state();
            let known = state.model.answers.get(&about.request_id);
            match known.filter(|_| !about.request_id.is_empty()) {
                Some(bytes) => Ok(T::decode(bytes.as_slice()).unwrap()),
                None => act(&mut state.model).inspect(|answer| {
                    let bytes = answer.encode_to_vec();
                    state.model.answers.insert(about.request_id.clone(), bytes);
                }),
            }
        };
        self.answer(fault, done).await
    }

    fn note(&self, about: &About) -> Option<Fault> {
        let mut state = self.state();
        state.calls.push(Call {
            method: about.method,
            request_id: about.request_id.clone(),
            at: now(),
            threads: about.threads.clone(),
            timeout: about.timeout,
            wait_timeout: about.wait_timeout,
        });
        let next = state.script.iter().position(|(method, _)| *method == about.method);
        next.and_then(|i| state.script.remove(i)).map(|(_, fault)| fault)
    }

    async fn answer<T>(&self, fault: Option<Fault>, done: Result<T, Status>) -> Answer<T> {
        match fault {
            Some(Fault::LoseReply) => return self.break_off().await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Delay(delay)) => sleep(delay).await,
            Some(Fault::Refuse(_) | Fault::LoseRequest) | None => {}
        }
        done.map(Response::new)
    }

    async fn break_off<T>(&self) -> Answer<T> {
        self.cut();
        std::future::pending().await
    }
}

fn lease(model: &mut Model, thread: &str, ttl: Option<prost_types::Duration>) {
    if let Some(ttl) = ttl {
        model.lease(thread, ttl.try_into().unwrap(), now());
    }
}

#[tonic::async_trait]
impl SessionService for Fake {
    async fn begin_session(
        &self,
        request: Request<pb::BeginSessionRequest>,
    ) -> Answer<pb::BeginSessionResponse> {
        let about = about("BeginSession", &request, &request.get_ref().request_id, "");
        let request = request.into_inner();
        self.serve(about, |model| {
            Ok(pb::BeginSessionResponse { session: Some(model.begin(request.labels)) })
        })
        .await
    }

    async fn batch_begin_sessions(
        &self,
        request: Request<pb::BatchBeginSessionsRequest>,
    ) -> Answer<pb::BatchBeginSessionsResponse> {
        let about = about("BatchBeginSessions", &request, &request.get_ref().request_id, "");
        let request = request.into_inner();
        self.serve(about, |model| {
            let sessions = (0..request.count).map(|_| model.begin(request.labels.clone()));
            Ok(pb::BatchBeginSessionsResponse { sessions: sessions.collect() })
        })
        .await
    }

    async fn set_session_context(
        &self,
        request: Request<pb::SetSessionContextRequest>,
    ) -> Answer<pb::SetSessionContextResponse> {
        let wait = request.get_ref().wait_timeout.map(|wait| wait.try_into().unwrap());
        let told = request.get_ref();
        let about = About {
            wait_timeout: wait,
            ..about("SetSessionContext", &request, &told.request_id, &told.thread_id)
        };
        let request = request.into_inner();
        let sesid = sesid(&request.session);
        let granted = |model: &mut Model, fencing_token| {
            lease(model, &request.thread_id, request.lease_ttl);
            let session = model.sessions.contains_key(&sesid).then(|| model.show(sesid));
            let abandoned = session.as_ref().is_some_and(|session| session.abandoned);
            pb::SetSessionContextResponse { fencing_token, abandoned, session }
        };
        let waits = {
            let mut state = self.state();
            let free = state.model.holder(sesid).is_none();
            let remembered = state.model.answers.contains_key(&request.request_id);
            let wait = wait.filter(|_: &Duration| !free && !remembered);
            wait.map(|_| state.model.wait(sesid, &request.thread_id, request.context))
        };
        let (Some(grant), Some(wait)) = (waits, wait) else {
            return self
                .serve(about, |model| {
                    let token = model.set(sesid, &request.thread_id, request.context)?;
                    Ok(granted(model, token))
                })
                .await;
        };
        let fault = self.note(&about);
        let patience = about.timeout.map(|left| left.saturating_sub(Duration::from_millis(20)));
        let done = tokio::select! {
            Ok(token) = grant => {
                let mut state = self.state();
                let answer = granted(&mut state.model, token);
                state.model.answers.insert(about.request_id.clone(), answer.encode_to_vec());
                Ok(answer)
            }
            () = sleep(wait) => {
                let mut state = self.state();
                state.model.set(sesid, &request.thread_id, request.context)
                    .map(|token| granted(&mut state.model, token))
            }
            () = sleep(patience.unwrap_or(Duration::MAX)) => Err(not_set()),
        };
        self.answer(fault, done).await
    }

    async fn claim_session_context(
        &self,
        request: Request<pb::ClaimSessionContextRequest>,
    ) -> Answer<pb::ClaimSessionContextResponse> {
        let told = request.get_ref();
        let about = about("ClaimSessionContext", &request, &told.request_id, &told.thread_id);
        let request = request.into_inner();
        self.serve(about, |model| {
            let sesid = model.free(&request.labels).ok_or_else(|| {
                let jet = crate::domain::jet_err::JetErr::SessionContextAlreadySet;
                super::refused(Code::FailedPrecondition, jet, &jet.reason(), &[], None)
            })?;
            let fencing_token = model.set(sesid, &request.thread_id, request.context)?;
            lease(model, &request.thread_id, request.lease_ttl);
            let session = Some(model.show(sesid));
            Ok(pb::ClaimSessionContextResponse { fencing_token, abandoned: false, session })
        })
        .await
    }

    async fn reset_session_context(
        &self,
        request: Request<pb::ResetSessionContextRequest>,
    ) -> Answer<pb::ResetSessionContextResponse> {
        let told = request.get_ref();
        let about = about("ResetSessionContext", &request, &told.request_id, &told.thread_id);
        let request = request.into_inner();
        self.serve(about, |model| {
            let sesid = sesid(&request.session);
            model.owns(sesid, &request.thread_id, request.fencing_token)?;
            Ok(pb::ResetSessionContextResponse { revision: model.free_it(sesid) })
        })
        .await
    }

    async fn transfer_session_context(
        &self,
        request: Request<pb::TransferSessionContextRequest>,
    ) -> Answer<pb::TransferSessionContextResponse> {
        let told = request.get_ref();
        let about = about("TransferSessionContext", &request, &told.request_id, &told.thread_id);
        let request = request.into_inner();
        self.serve(about, |model| {
            let sesid = sesid(&request.session);
            model.owns(sesid, &request.thread_id, request.fencing_token)?;
            let fencing_token = model.transfer(sesid, &request.to_thread_id);
            Ok(pb::TransferSessionContextResponse { fencing_token })
        })
        .await
    }

    async fn check_session_context(
        &self,
        request: Request<pb::CheckSessionContextRequest>,
    ) -> Answer<pb::CheckSessionContextResponse> {
        let about = about("CheckSessionContext", &request, "", &request.get_ref().thread_id);
        let request = request.into_inner();
        self.serve(about, |model| {
            let sesid = sesid(&request.session);
            model.owns(sesid, &request.thread_id, request.fencing_token)?;
            Ok(pb::CheckSessionContextResponse { session: Some(model.show(sesid)) })
        })
        .await
    }

    async fn begin_transaction(
        &self,
        request: Request<pb::BeginTransactionRequest>,
    ) -> Answer<pb::BeginTransactionResponse> {
        let told = request.get_ref();
        let about = about("BeginTransaction", &request, &told.request_id, &told.thread_id);
        let sesid = sesid(&told.session);
        self.serve(about, |model| {
            Ok(pb::BeginTransactionResponse { transaction_level: model.level(sesid, 1) })
        })
        .await
    }

    async fn commit_transaction(
        &self,
        request: Request<pb::CommitTransactionRequest>,
    ) -> Answer<pb::CommitTransactionResponse> {
        let told = request.get_ref();
        let about = about("CommitTransaction", &request, &told.request_id, &told.thread_id);
        let sesid = sesid(&told.session);
        self.serve(about, |model| {
            Ok(pb::CommitTransactionResponse { transaction_level: model.level(sesid, -1) })
        })
        .await
    }

    async fn end_session(
        &self,
        request: Request<pb::EndSessionRequest>,
    ) -> Answer<pb::EndSessionResponse> {
        let told = request.get_ref();
        let about = about("EndSession", &request, &told.request_id, &told.thread_id);
        let sesid = sesid(&told.session);
        self.serve(about, |model| {
            model.end(sesid);
            Ok(pb::EndSessionResponse {})
        })
        .await
    }

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Answer<pb::GetSessionResponse> {
        let about = about("GetSession", &request, "", "");
        let sesid = sesid(&request.get_ref().name);
        self.serve(about, |model| Ok(pb::GetSessionResponse { session: Some(model.show(sesid)) }))
            .await
    }

    type PipelineSessionContextsStream = Answers<pb::PipelineSessionContextsResponse>;
    type WatchSessionsStream = Answers<pb::WatchSessionsResponse>;

    async fn watch_sessions(
        &self,
        request: Request<pb::WatchSessionsRequest>,
    ) -> Answer<Self::WatchSessionsStream> {
        let mut state = self.state();
        state.watched_from.push(request.get_ref().from_revision);
        let Some((events, end)) = state.watches.pop_front() else {
            return Ok(Response::new(Box::pin(tokio_stream::pending())));
        };
        let events =
            events.into_iter().map(|event| Ok(pb::WatchSessionsResponse { event: Some(event) }));
        let goes_on = end.is_none();
        let all: Vec<_> = events.chain(end.map(Err)).collect();
        let all = tokio_stream::iter(all);
        let answers: Self::WatchSessionsStream =
            if goes_on { Box::pin(all.chain(tokio_stream::pending())) } else { Box::pin(all) };
        Ok(Response::new(answers))
    }

    async fn duplicate_session(
        &self,
        _: Request<pb::DuplicateSessionRequest>,
    ) -> Answer<pb::DuplicateSessionResponse> {
        Err(Status::unimplemented("not part of the model"))
    }

    async fn list_sessions(
        &self,
        _: Request<pb::ListSessionsRequest>,
    ) -> Answer<pb::ListSessionsResponse> {
        Err(Status::unimplemented("not part of the model"))
    }

    async fn force_reset_session_context(
        &self,
        _: Request<pb::ForceResetSessionContextRequest>,
    ) -> Answer<pb::ForceResetSessionContextResponse> {
        Err(Status::unimplemented("not part of the model"))
    }

    async fn rollback_transaction(
        &self,
        _: Request<pb::RollbackTransactionRequest>,
    ) -> Answer<pb::RollbackTransactionResponse> {
        Err(Status::unimplemented("not part of the model"))
    }

    async fn pipeline_session_contexts(
        &self,
        _: Request<Streaming<pb::PipelineSessionContextsRequest>>,
    ) -> Answer<Self::PipelineSessionContextsStream> {
        Err(Status::unimplemented("not part of the model"))
    }
}

#[tonic::async_trait]
impl ThreadService for Fake {
    async fn keep_threads_alive(
        &self,
        request: Request<pb::KeepThreadsAliveRequest>,
    ) -> Answer<pb::KeepThreadsAliveResponse> {
        let told = request.get_ref();
        let about = About {
            threads: told.thread_ids.clone(),
            ..about("KeepThreadsAlive", &request, "", "")
        };
        let request = request.into_inner();
        self.serve(about, |model| {
            let kept = request.thread_ids.into_iter().map(|thread_id| {
                lease(model, &thread_id, request.lease_ttl);
                let held_count = i32::try_from(model.held_by(&thread_id).len()).unwrap();
                let lost = model.lost(&thread_id);
                pb::KeptThread { thread_id, held_count, lost, ..pb::KeptThread::default() }
            });
            Ok(pb::KeepThreadsAliveResponse { threads: kept.collect() })
        })
        .await
    }

    async fn end_threads(
        &self,
        request: Request<pb::EndThreadsRequest>,
    ) -> Answer<pb::EndThreadsResponse> {
        let threads = request.get_ref().thread_ids.clone();
        let about = About { threads: threads.clone(), ..about("EndThreads", &request, "", "") };
        self.serve(about, |model| {
            for thread in &threads {
                for sesid in model.held_by(thread) {
                    model.free_it(sesid);
                }
            }
            Ok(pb::EndThreadsResponse {})
        })
        .await
    }

    async fn get_thread(&self, _: Request<pb::GetThreadRequest>) -> Answer<pb::GetThreadResponse> {
        Err(Status::unimplemented("not part of the model"))
    }

    async fn list_threads(
        &self,
        _: Request<pb::ListThreadsRequest>,
    ) -> Answer<pb::ListThreadsResponse> {
        Err(Status::unimplemented("not part of the model"))
    }
}
