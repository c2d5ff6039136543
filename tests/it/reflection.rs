//! Server reflection, both versions, as grpcurl uses it.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorProto;

use crate::support::TestServer;

/// What grpcurl must be able to list.
const SERVICES: [&str; 7] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "jet.session.v1.ErrorService",
    "jet.session.v1.InstanceService",
    "jet.session.v1.SessionService",
    "jet.session.v1.ThreadService",
];

/// What grpcurl must be able to decode: our messages, and the details of a refusal.
const SYMBOLS: [(&str, &str); 12] = [
    ("jet.session.v1.SessionService", "jet/session/v1/session.proto"),
    ("jet.session.v1.SessionService.SetSessionContext", "jet/session/v1/session.proto"),
    ("jet.session.v1.Instance", "jet/session/v1/instance.proto"),
    ("jet.session.v1.JetError", "jet/session/v1/error.proto"),
    ("jet.session.v1.Thread", "jet/session/v1/thread.proto"),
    ("google.rpc.Status", "google/rpc/status.proto"),
    ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
    ("google.rpc.ResourceInfo", "google/rpc/error_details.proto"),
    ("google.rpc.PreconditionFailure", "google/rpc/error_details.proto"),
    ("google.rpc.RetryInfo", "google/rpc/error_details.proto"),
    ("google.protobuf.Duration", "google/protobuf/duration.proto"),
    ("grpc.health.v1.Health", "health.proto"),
];

/// The same questions to either version; the two differ in nothing but their package.
macro_rules! both {
    ($version:ident) => {
        mod $version {
            use super::*;
            use pb::server_reflection_client::ServerReflectionClient;
            use pb::server_reflection_request::MessageRequest;
            use pb::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$version as pb;

            async fn ask(server: &TestServer, question: MessageRequest) -> MessageResponse {
                let mut client = ServerReflectionClient::new(server.channel());
                let request = pb::ServerReflectionRequest {
                    message_request: Some(question),
                    ..Default::default()
                };
                let questions = tokio_stream::once(request);
                let answers = client.server_reflection_info(questions).await;
                let mut answers = answers.expect("reflection answers").into_inner();
                let answer = crate::support::within("an answer", answers.message()).await;
                let answer = answer.expect("reflection answers").expect("an answer");
                answer.message_response.expect("the answer says something")
            }

            #[tokio::test]
            async fn every_service_is_listed() {
                let server = TestServer::start().await;
                let answer = ask(&server, MessageRequest::ListServices(String::new())).await;
                let MessageResponse::ListServicesResponse(list) = answer else {
                    panic!("not a list: {answer:?}");
                };
                let names: BTreeSet<_> = list.service.iter().map(|found| &*found.name).collect();
                assert_eq!(names, BTreeSet::from(SERVICES));
            }

            #[tokio::test]
            async fn messages_and_the_details_of_refusals_are_described() {
                let server = TestServer::start().await;
                for (symbol, file) in SYMBOLS {
                    let question = MessageRequest::FileContainingSymbol(symbol.to_owned());
                    let answer = ask(&server, question).await;
                    let MessageResponse::FileDescriptorResponse(found) = answer else {
                        panic!("{symbol} is not described: {answer:?}");
                    };
                    let files = found.file_descriptor_proto.iter().map(|bytes| {
                        FileDescriptorProto::decode(&**bytes).expect("a file descriptor")
                    });
                    let names: Vec<_> = files.map(|file| file.name.unwrap_or_default()).collect();
                    assert!(
                        names.iter().any(|name| name.ends_with(file)),
                        "{symbol} is in {file}, not in {names:?}",
                    );
                }
            }

            #[tokio::test]
            async fn what_is_imported_can_be_asked_for_by_the_name_it_is_imported_by() {
                let server = TestServer::start().await;
                let mut open = vec![
                    "jet/session/v1/instance.proto".to_owned(),
                    "jet/session/v1/session.proto".to_owned(),
                ];
                let mut seen = BTreeSet::new();
                while let Some(name) = open.pop() {
                    if !seen.insert(name.clone()) {
                        continue;
                    }
                    let answer = ask(&server, MessageRequest::FileByFilename(name.clone())).await;
                    let MessageResponse::FileDescriptorResponse(found) = answer else {
                        panic!("{name} is not there: {answer:?}");
                    };
                    for bytes in &found.file_descriptor_proto {
                        let file = FileDescriptorProto::decode(&**bytes).unwrap();
                        open.extend(file.dependency);
                    }
                }
                assert!(seen.contains("google/rpc/status.proto"), "{seen:?}");
                assert!(seen.contains("google/protobuf/any.proto"), "{seen:?}");
            }
        }
    };
}

both!(v1);
both!(v1alpha);
