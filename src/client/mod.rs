//! The client: what a program needs that asks a server.
//!
//! - `refusal`: what a server says when it says no
//! - [`fence`]: how a resource turns away a holder that lost its session

pub mod fence;
mod refusal;

pub use refusal::{DOMAIN, Holder, Refusal};
