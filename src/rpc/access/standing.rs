//! What goes on, and what becomes of it when the rules change.

use std::collections::BTreeSet;

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tonic::Status;

use crate::domain::access::{Role, Scope};
use crate::domain::id::InstanceId;
use crate::rpc::access::Guard;
use crate::rpc::access::caller::{Entry, Visitor, Wish};
use crate::rpc::method::Method;
use crate::rpc::status::About;

/// The instances that somebody may watch, whose rights may change meanwhile.
#[derive(Debug)]
pub(in crate::rpc) struct ChangingScope {
    guard: Guard,
    visitor: Visitor,
    wish: Wish,
    scope: Scope,
    changes: watch::Receiver<()>,
}

impl ChangingScope {
    pub(super) fn new(guard: Guard, visitor: Visitor, wish: Wish) -> Self {
        // In this order: what changes in between is looked at twice.
        let changes = guard.changes();
        let scope = guard.scope(&visitor, &wish);
        Self { guard, visitor, wish, scope, changes }
    }

    /// Whether this instance is among them.
    pub(in crate::rpc) fn holds(&self, instance: &InstanceId) -> bool {
        self.scope.holds(instance)
    }

    /// Waits until it may have changed. Cancel-safe.
    pub(in crate::rpc) async fn changed(&mut self) {
        // An error would mean that the guard is gone, and this holds it.
        self.changes.changed().await.ok();
        self.scope = self.guard.scope(&self.visitor, &self.wish);
    }
}

/// What goes on only as long as it is allowed: a call that waits, or a stream.
#[derive(Debug)]
pub(in crate::rpc) struct Standing {
    entry: Entry,
    method: Option<&'static Method>,
    about: About,
    wish: Wish,
    /// Instances that are concerned besides.
    also: BTreeSet<InstanceId>,
    changes: watch::Receiver<()>,
}

impl Standing {
    pub(super) fn new(
        entry: Entry,
        method: Option<&'static Method>,
        about: About,
        wish: Wish,
        mut changes: watch::Receiver<()>,
    ) -> Self {
        // What changed since it was looked at is looked at now.
        changes.mark_changed();
        Self { entry, method, about, wish, also: BTreeSet::new(), changes }
    }

    /// The same, of these instances too.
    pub(in crate::rpc) fn and(self, role: Role, also: BTreeSet<InstanceId>) -> Self {
        let wish = if also.is_empty() { self.wish } else { Wish { role: Some(role), ..self.wish } };
        Self { also, wish, ..self }
    }

    fn check(&self) -> Result<(), Status> {
        if self.also.is_empty() {
            return self.entry.check(self.method, &self.about, &self.wish).map(drop);
        }
        self.also.iter().try_for_each(|instance| {
            let about = About { instance: Some(instance.clone()), ..self.about.clone() };
            self.entry.check(self.method, &about, &self.wish).map(drop)
        })
    }

    /// Waits until it is not allowed any more, and says why. Cancel-safe.
    pub(in crate::rpc) async fn ended(&mut self) -> Status {
        loop {
            if self.changes.changed().await.is_err() {
                // The guard would be gone, and this holds it.
                std::future::pending::<()>().await;
            }
            if let Err(status) = self.check() {
                return status;
            }
        }
    }

    /// The stream until its end, or until it is not allowed any more and then the status that says so.
    pub(in crate::rpc) fn over<T>(
        self,
        stream: impl Stream<Item = Result<T, Status>> + Send,
    ) -> impl Stream<Item = Result<T, Status>> + Send {
        let state = Some((Box::pin(stream), self));
        stream::unfold(state, |state| async {
            let (mut stream, mut standing) = state?;
            // A stream that always has something is stopped too.
            if standing.changes.has_changed().unwrap_or(false) {
                standing.changes.mark_unchanged();
                if let Err(status) = standing.check() {
                    return Some((Err(status), None));
                }
            }
            tokio::select! {
                biased;
                item = stream.next() => item.map(|item| (item, Some((stream, standing)))),
                status = standing.ended() => Some((Err(status), None)),
            }
        })
    }
}
