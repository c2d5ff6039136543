//! From an act to a message, and from an answer to an outcome.

use bytes::Bytes;
use jet_session::proto::api as pb;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::history::{Act, Outcome, Refusal, Thread, Unset};
use crate::clients::{MAIN, fact, jet_error};

const WORD: u64 = 7;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

pub(crate) fn session_name(session: u64) -> String {
    format!("{MAIN}/sessions/{session}")
}

pub(crate) fn thread_id(thread: Thread) -> String {
    format!("thread-{thread}")
}

fn thread(id: &str) -> Thread {
    let number = id.strip_prefix("thread-").and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("A HOLDER THAT NOBODY IS: {id:?}"))
}

/// The method and the message of a call. A wait and a lease are in the act; the request id is empty
/// where there is none.
pub(crate) fn request(
    session: u64,
    by: Thread,
    act: Act,
    wait: u64,
    request_id: &str,
) -> (&'static str, Bytes) {
    let (session, thread_id) = (session_name(session), self::thread_id(by));
    let request_id = request_id.to_owned();
    match act {
        Act::Set { wait: waits, lease } => {
            let request = pb::SetSessionContextRequest {
                session,
                thread_id,
                context: WORD,
                request_id,
                wait_timeout: waits.then(|| duration(wait)),
                lease_ttl: lease.map(duration),
            };
            ("/jet.session.v1.SessionService/SetSessionContext", encoded(&request))
        }
        Act::Reset { token } => {
            let request = pb::ResetSessionContextRequest {
                session,
                thread_id,
                fencing_token: token,
                request_id,
            };
            ("/jet.session.v1.SessionService/ResetSessionContext", encoded(&request))
        }
        Act::Transfer { to, token, .. } => {
            let request = pb::TransferSessionContextRequest {
                session,
                thread_id,
                to_thread_id: self::thread_id(to),
                fencing_token: token,
                request_id,
                ..Default::default()
            };
            ("/jet.session.v1.SessionService/TransferSessionContext", encoded(&request))
        }
        Act::ForceReset { token } => {
            let request = pb::ForceResetSessionContextRequest {
                session,
                fencing_token: token,
                reason: "a test".to_owned(),
                request_id,
            };
            ("/jet.session.v1.SessionService/ForceResetSessionContext", encoded(&request))
        }
        Act::Check { token } => {
            let request =
                pb::CheckSessionContextRequest { session, thread_id, fencing_token: token };
            ("/jet.session.v1.SessionService/CheckSessionContext", encoded(&request))
        }
        Act::Look => {
            let request = pb::GetSessionRequest { name: session };
            ("/jet.session.v1.SessionService/GetSession", encoded(&request))
        }
        Act::KeepAlive { ttl } => {
            let request = pb::KeepThreadsAliveRequest {
                thread_ids: vec![thread_id],
                lease_ttl: Some(duration(ttl)),
                ..Default::default()
            };
            ("/jet.session.v1.ThreadService/KeepThreadsAlive", encoded(&request))
        }
        Act::End => {
            let request =
                pb::EndSessionRequest { session, thread_id, request_id, ..Default::default() };
            ("/jet.session.v1.SessionService/EndSession", encoded(&request))
        }
    }
}

/// What an answer says. Whatever the server did not say itself leaves it open what was made.
pub(crate) fn outcome(act: Act, answer: Result<Bytes, Status>) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(status) => return refusal(act, &status).map_or(Outcome::Unknown, Outcome::Refused),
    };
    match act {
        Act::Set { .. } => {
            Outcome::Made(decoded::<pb::SetSessionContextResponse>(answer).fencing_token)
        }
        Act::Reset { .. } => {
            Outcome::Made(decoded::<pb::ResetSessionContextResponse>(answer).revision)
        }
        Act::Transfer { .. } => {
            Outcome::Made(decoded::<pb::TransferSessionContextResponse>(answer).fencing_token)
        }
        Act::ForceReset { .. } => {
            Outcome::Made(decoded::<pb::ForceResetSessionContextResponse>(answer).revision)
        }
        Act::Look => {
            let session = decoded::<pb::GetSessionResponse>(answer).session;
            let binding = session.expect("the answer has a session").binding;
            Outcome::Saw(binding.map(|held| (thread(&held.thread_id), held.fencing_token)))
        }
        Act::Check { .. } | Act::KeepAlive { .. } | Act::End => Outcome::Ok,
    }
}

fn refusal(act: Act, status: &Status) -> Option<Refusal> {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    if matches!(reason, "WAIT_QUEUE_FULL" | "NOT_SET") {
        return Some(Refusal::NotSaid);
    }
    assert_ne!(status.code(), Code::Unimplemented, "NOT SERVED: {act:?}: {}", status.message());
    let refusal = match jet_error(status)? {
        -1912 => Refusal::AlreadySet {
            holder: thread(&fact(status, "holder_thread_id")),
            token: fact(status, "fencing_token").parse().expect("a token"),
        },
        -1913 if reason == "STALE_FENCING_TOKEN" => Refusal::StaleToken,
        -1913 => Refusal::NotSetByThisThread(match fact(status, "cause").as_str() {
            "never_set" | "already_reset" => Unset::Free,
            "held_by_other" => Unset::HeldByOther,
            "lease_expired" | "forced" | "transferred" => Unset::TakenAway,
            cause => panic!("A WRONG REFUSAL: {act:?}: {cause:?}: {status:?}"),
        }),
        -1914 => Refusal::InUse,
        -1104 => Refusal::Ended,
        code => panic!("A WRONG REFUSAL: {act:?}: {code}: {status:?}"),
    };
    Some(refusal)
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn decoded<M: Message + Default>(answer: Bytes) -> M {
    M::decode(answer).expect("the answer is a message")
}

fn duration(nanos: u64) -> prost_types::Duration {
    let seconds = i64::try_from(nanos / NANOS_PER_SECOND).expect("short");
    let nanos = i32::try_from(nanos % NANOS_PER_SECOND).expect("below a second");
    prost_types::Duration { seconds, nanos }
}
