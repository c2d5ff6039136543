//! Panics of handlers: one call ends with INTERNAL, and everything else goes on.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::rpc::telemetry::LoggedCall;

/// How many handlers have panicked, whoever asks.
#[derive(Debug, Clone, Default)]
pub struct Panics(Arc<AtomicU64>);

impl Panics {
    /// How many there have been.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Tells the log of one, and counts it. What it says is for the log only: it may name anything.
    pub(super) fn tell(&self, method: &str, logged: &LoggedCall, panic: &(dyn Any + Send)) {
        self.0.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            method,
            panic = message(panic),
            request_id = logged.request_id(),
            trace_id = logged.trace_id(),
            "a handler panicked"
        );
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
