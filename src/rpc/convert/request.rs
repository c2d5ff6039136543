//! Requests that their client can make again.

use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use crate::domain::request::{Fingerprint, Request, RequestId};
use crate::rpc::convert::Fields;

impl Fields {
    /// Notes what the client calls its request, if it says so. `body` is the request without that name and
    /// without how long it waits: all that must be the same when it comes again.
    pub(super) fn request(&mut self, method: &str, id: &str, body: &impl Message) {
        if id.is_empty() {
            return;
        }
        if let Some(id) = self.take("request_id", id.parse::<RequestId>()) {
            self.request = Some(Request { id, body: fingerprint(method, body) });
        }
    }
}

/// The fingerprint of a request. It is remembered on disk, so it is the same in every release: the encoding
/// is that of the wire, where fields stand in order, maps are sorted and what is not said takes no room; and
/// the hash has no seed.
fn fingerprint(method: &str, body: &impl Message) -> Fingerprint {
    let mut hash = Xxh3::new();
    hash.update(method.as_bytes());
    hash.update(&[0]);
    hash.update(&body.encode_to_vec());
    Fingerprint::new(hash.digest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::api;

    fn begin(pool: &str) -> api::BeginSessionRequest {
        let pairs = [("pool", pool), ("zone", "b"), ("arch", "x")];
        api::BeginSessionRequest {
            instance: "instances/main".to_owned(),
            labels: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_fingerprint_is_the_same_in_every_release() {
        let remembered = 12_880_825_269_896_979_834;
        assert_eq!(fingerprint("BeginSession", &begin("blue")).get(), remembered);
    }

    #[test]
    fn whatever_is_asked_otherwise_has_another_fingerprint() {
        let blue = fingerprint("BeginSession", &begin("blue"));
        assert_eq!(fingerprint("BeginSession", &begin("blue")), blue);
        assert_ne!(fingerprint("BeginSession", &begin("red")), blue);
        assert_ne!(fingerprint("DuplicateSession", &begin("blue")), blue);
    }

    #[test]
    fn a_request_without_a_name_is_made_once() {
        let mut fields = Fields::default();
        fields.request("BeginSession", "", &begin("blue"));
        assert!(fields.request.is_none() && fields.bad.is_empty());
        fields.request("BeginSession", "two words", &begin("blue"));
        assert!(fields.request.is_none());
        assert_eq!(fields.bad[0].field, "request_id");
        fields.request("BeginSession", "r-1", &begin("blue"));
        assert_eq!(fields.request.unwrap().id.to_string(), "r-1");
    }
}
