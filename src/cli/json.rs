//! Messages as proto3 JSON, by the descriptors that the server reflects.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Serializer, Value};

use crate::proto::FILE_DESCRIPTOR_SET;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the build writes a valid descriptor set")
});

/// Every field is there, also one at its default: `.transactionLevel` is 0 and not missing.
const EVERY_FIELD: SerializeOptions = SerializeOptions::new().skip_default_fields(false);

/// A message of the API as one line of JSON.
pub(super) fn line(name: &str, message: &impl Message) -> String {
    let mut text = Vec::new();
    fields(name, message)
        .serialize_with_options(&mut Serializer::new(&mut text), &EVERY_FIELD)
        .expect("memory takes what is written");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// A message of the API as JSON on several lines.
pub(super) fn pretty(name: &str, message: &impl Message) -> String {
    let mut text = Vec::new();
    fields(name, message)
        .serialize_with_options(&mut Serializer::pretty(&mut text), &EVERY_FIELD)
        .expect("memory takes what is written");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// A message of the API, field by field.
pub(super) fn fields(name: &str, message: &impl Message) -> DynamicMessage {
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(descriptor(name), bytes.as_slice())
        .expect("what is encoded by a type can be decoded by its descriptor")
}

/// A detail of a refusal, with its type in `@type`; `None` if nothing here knows its type.
pub(super) fn detail(type_url: &str, bytes: &[u8]) -> Option<Value> {
    let name = type_url.rsplit('/').next()?;
    let message = DynamicMessage::decode(POOL.get_message_by_name(name)?, bytes).ok()?;
    let value = message.serialize_with_options(serde_json::value::Serializer, &EVERY_FIELD).ok()?;
    let Value::Object(mut fields) = value else {
        return None;
    };
    fields.insert("@type".to_owned(), type_url.into());
    Some(Value::Object(fields))
}

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("jet.session.v1.{name}")).expect("the API has the message")
}

#[cfg(test)]
mod tests {
    use crate::proto::api::{ContextBinding, GetSessionResponse, Session};

    use super::*;

    #[test]
    fn every_field_is_there_and_64_bit_numbers_are_text() {
        let response = GetSessionResponse {
            session: Some(Session {
                name: "instances/main/sessions/1".to_owned(),
                sesid: 1,
                binding: Some(ContextBinding {
                    context: u64::MAX - 1,
                    set_time: Some(prost_types::Timestamp::default()),
                    ..ContextBinding::default()
                }),
                ..Session::default()
            }),
        };
        expect_test::expect![[r#"{"session":{"name":"instances/main/sessions/1","sesid":"1","labels":{},"transactionLevel":0,"binding":{"threadId":"","context":"18446744073709551614","fencingToken":"0","setTime":"1970-01-01T00:00:00Z","principal":""},"waiters":0,"abandoned":false,"revision":"0"}}"#]]
        .assert_eq(&line("GetSessionResponse", &response));
    }

    #[test]
    fn details_of_types_unknown_here_are_left_out() {
        assert_eq!(detail("type.googleapis.com/some.Other", b""), None);
        let retry = detail("type.googleapis.com/google.rpc.RetryInfo", b"\x0a\x02\x08\x02");
        assert_eq!(retry.unwrap()["retryDelay"], "2s");
    }
}
