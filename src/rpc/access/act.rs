//! What operators do, in the log: who, what, to which instance, and how it ended.

use std::sync::{Arc, OnceLock};

use http::Response;
use tonic::Status;

use crate::domain::id::{InstanceId, Principal};
use crate::rpc::telemetry::LoggedCall;

/// A call that may turn out to be an operator's act. It is one when it has been allowed as such.
#[derive(Debug, Clone, Default)]
pub(super) struct Act(Arc<OnceLock<InstanceId>>);

impl Act {
    /// It is one, and concerns this instance.
    pub(super) fn begins(&self, instance: InstanceId) {
        // A call is allowed once; were it twice, the first would count.
        self.0.set(instance).ok();
    }
}

/// Tells the log how an act ended; if nobody says, because its caller went away, then that.
#[derive(Debug)]
pub(in crate::rpc) struct Acting {
    act: Act,
    principal: Principal,
    method: &'static str,
    logged: LoggedCall,
    told: bool,
}

impl Acting {
    pub(super) fn new(
        act: Act,
        principal: Principal,
        method: &'static str,
        logged: LoggedCall,
    ) -> Self {
        Self { act, principal, method, logged, told: false }
    }

    /// The call was answered, or its answer has begun.
    pub(in crate::rpc) fn answered<B>(mut self, response: &Response<B>) {
        self.told = true;
        if self.act.0.get().is_none() {
            return;
        }
        // A refusal is a response that has its trailers among its headers.
        match Status::from_header_map(response.headers()) {
            Some(status) => self.tell(&format!("{:?}", status.code())),
            None => self.tell("Ok"),
        }
    }

    fn tell(&self, outcome: &str) {
        if let Some(instance) = self.act.0.get() {
            tracing::info!(
                principal = self.principal.as_str(),
                method = self.method,
                instance = instance.as_str(),
                request_id = self.logged.request_id(),
                trace_id = self.logged.trace_id(),
                outcome,
                "an operator acted"
            );
        }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if !self.told {
            self.tell("the caller went away; it may or may not have been done");
        }
    }
}
