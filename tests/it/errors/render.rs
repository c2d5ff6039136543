//! A refusal as text.

use std::fmt::Write as _;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;
use tonic::Status;

use super::gather::Told;
use crate::support::Refusal;

/// All of them, one under the other.
pub(super) fn page(all: &[Told]) -> String {
    let pool = DescriptorPool::decode(jet_session::proto::FILE_DESCRIPTOR_SET)
        .expect("our own descriptors can be read");
    let mut page =
        "What a client is told, refusal by refusal. Times are masked as <held>. To renew \
                    it: UPDATE_EXPECT=1 cargo test --test it errors\n"
            .to_owned();
    for told in all {
        write!(page, "\n# {}\n{}", told.title, status(&pool, &told.status)).expect("a String");
    }
    page
}

fn status(pool: &DescriptorPool, status: &Status) -> String {
    let mut text = format!("{:?}: {}\n", status.code(), status.message());
    for (name, value) in trailers(status) {
        writeln!(text, "{name}: {value}").expect("a String");
    }
    let whole = tonic_types::pb::Status::decode(status.details()).expect("details");
    for any in &whole.details {
        let name = any.type_url.strip_prefix("type.googleapis.com/").expect("a known prefix");
        let kind = pool.get_message_by_name(name).expect("a message that reflection knows");
        let detail = DynamicMessage::decode(kind, &*any.value).expect("a detail");
        let value = serde_json::to_value(detail).expect("a message can be shown as JSON");
        writeln!(text, "{name}").expect("a String");
        flat(&mut text, "", &value);
    }
    let held = status.fact("held_for");
    if held.is_empty() { text } else { text.replace(&held, "<held>") }
}

/// The trailers that are ours: the rest is HTTP's.
fn trailers(status: &Status) -> Vec<(String, String)> {
    let mut trailers: Vec<_> = status
        .metadata()
        .clone()
        .into_headers()
        .iter()
        .filter(|(name, _)| !["content-type", "date", "content-length"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    trailers.sort();
    trailers
}

/// Every leaf on a line of its own.
fn flat(text: &mut String, path: &str, value: &Value) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            for (key, value) in fields {
                flat(text, &below(key), value);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                flat(text, &below(&i.to_string()), item);
            }
        }
        Value::String(leaf) => writeln!(text, "    {path}: {leaf}").expect("a String"),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            writeln!(text, "    {path}: {value}").expect("a String");
        }
    }
}
