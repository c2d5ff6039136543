//! The code generated from `proto/`, fenced with its own lint allowances.

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm,
    reason = "generated; the documentation is in the .proto files"
)]
mod generated {
    tonic::include_proto!("jet.session.v1");
}

/// Package `jet.session.v1`, the public API.
pub mod api {
    pub use super::generated::*;
}

/// Package `storage.v1`, what is written to disk. No message of the API holds one of these.
pub(crate) mod storage {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated; the documentation is in the .proto files"
    )]
    tonic::include_proto!("storage.v1");
}

/// Every message of the public API and all it imports, as a serialised `FileDescriptorSet`: what
/// reflection serves and the command line prints JSON with.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/jet_session.bin"));
