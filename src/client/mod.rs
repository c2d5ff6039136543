//! The client: what a program needs that asks a server.
//!
//! - `refusal`: what a server says when it says no

mod refusal;

pub use refusal::{DOMAIN, Holder, Refusal};
