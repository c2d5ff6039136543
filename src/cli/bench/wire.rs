//! The messages of a pipeline, as far as a benchmark looks at them.
//!
//! They are on the wire what `PipelineSessionContextsRequest` and `…Response` are. But a request that
//! is the same each time is encoded once and shared, and of a response only its kind is read: the time
//! of the machine belongs to the server, and whoever wants a session from an answer can pay for it.

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic_types::pb::Status;

/// `PipelineSessionContextsRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(super) operations: Vec<Operation>,
}

/// `PipelineOperation`, with the request of a Set or of a Reset, encoded.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Operation {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) set: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) reset: Option<Bytes>,
}

/// `PipelineSessionContextsResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(message, repeated, tag = "1")]
    pub(super) results: Vec<Result>,
}

/// `PipelineResult`. The responses of a Set and of a Reset are not looked into.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Result {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) set: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) reset: Option<Bytes>,
    #[prost(message, optional, tag = "7")]
    pub(super) error: Option<Status>,
}

/// The path of the call.
pub(super) fn path() -> PathAndQuery {
    PathAndQuery::from_static("/jet.session.v1.SessionService/PipelineSessionContexts")
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use crate::proto::api::session_service_server::SERVICE_NAME;
    use crate::proto::api::{self, pipeline_operation, pipeline_result};

    use super::*;

    #[test]
    fn requests_are_the_bytes_that_the_api_has() {
        let set = api::SetSessionContextRequest {
            session: "instances/main/sessions/1".to_owned(),
            thread_id: "bench/1".to_owned(),
            context: 7,
            ..Default::default()
        };
        let reset = api::ResetSessionContextRequest {
            session: "instances/main/sessions/1".to_owned(),
            thread_id: "bench/1".to_owned(),
            ..Default::default()
        };
        let ours = Request {
            operations: vec![
                Operation { id: 0, set: Some(set.encode_to_vec().into()), reset: None },
                Operation { id: 300, set: None, reset: Some(reset.encode_to_vec().into()) },
            ],
        };
        let operation = |id, operation| api::PipelineOperation { id, operation: Some(operation) };
        let theirs = api::PipelineSessionContextsRequest {
            operations: vec![
                operation(0, pipeline_operation::Operation::Set(set)),
                operation(300, pipeline_operation::Operation::Reset(reset)),
            ],
        };
        assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec());
    }

    #[test]
    fn results_are_read_as_the_api_has_them() {
        let error = Status { code: 9, message: "held".to_owned(), details: vec![] };
        let result = |id, result| api::PipelineResult { id, result: Some(result) };
        let theirs = api::PipelineSessionContextsResponse {
            results: vec![
                result(1, pipeline_result::Result::Set(Default::default())),
                result(2, pipeline_result::Result::Reset(Default::default())),
                result(3, pipeline_result::Result::Error(error.clone())),
                result(4, pipeline_result::Result::Check(Default::default())),
            ],
        };
        let ours = Response::decode(theirs.encode_to_vec().as_slice()).unwrap();
        let seen = ours
            .results
            .into_iter()
            .map(|result| (result.id, result.set.is_some(), result.reset.is_some(), result.error));
        let wanted = [
            (1, true, false, None),
            (2, false, true, None),
            (3, false, false, Some(error)),
            (4, false, false, None),
        ];
        assert_eq!(seen.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn the_path_is_that_of_the_service() {
        assert_eq!(path().path(), format!("/{SERVICE_NAME}/PipelineSessionContexts"));
    }
}
