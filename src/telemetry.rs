//! What a server tells of itself: logs for people, traces for whoever follows one call over many
//! machines, and the parts that numbers are made of.
//!
//! - `log`: lines on stderr, and how many of them
//! - [`context`]: the trace that a call belongs to (W3C Trace Context)
//! - [`traces`]: spans, told to a collector
//! - [`histogram`]: how often something took how long, without a lock
//!
//! Nothing here is global but the subscriber of `tracing`, which is set once.

pub mod context;
pub mod histogram;
mod log;
pub mod traces;

pub use log::{Telemetry, start};
