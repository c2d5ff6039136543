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
    let mut page = "What a client is told, refusal by refusal. Times are masked. To renew \
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
    masked(text, status)
}

/// The text without what is different each time.
fn masked(mut text: String, status: &Status) -> String {
    for fact in ["held_for", "lease_remaining", "time"] {
        let value = status.fact(fact);
        if !value.is_empty() {
            text = text.replace(&value, &format!("<{fact}>"));
        }
    }
    let delay = text.find("retryDelay: ").filter(|_| !status.fact("lease_remaining").is_empty());
    if let Some(at) = delay {
        text.replace_range(at.., "retryDelay: <lease_remaining>\n");
    }
    text
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
