//! A caller: let in at the door, and looked at again when it is known what for.

use std::sync::Arc;

use http::Extensions;
use tonic::Status;

use crate::domain::access::{Policy, Role, Scope};
use crate::domain::id::{InstanceId, Principal};
use crate::domain::request::Request;
use crate::engine::Asker;
use crate::rpc::access::act::Act;
use crate::rpc::access::credential::{Shown, Stranger, UNKNOWN};
use crate::rpc::access::standing::{ChangingScope, Standing};
use crate::rpc::access::{Access, Guard, Rules};
use crate::rpc::layers::RequestId;
use crate::rpc::method::{self, Method};
use crate::rpc::status::{self, About};
use crate::rpc::telemetry::LoggedCall;

/// Who came in at the door, and for what.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) principal: Principal,
    pub(super) shown: Shown,
    /// Nothing where nobody is kept from anything: then it need not be known.
    pub(super) method: Option<&'static Method>,
    pub(super) act: Option<Act>,
    /// What the log is told of the call, if it may be an operator's act.
    pub(super) logged: LoggedCall,
}

impl Visitor {
    /// Somebody who is kept from nothing.
    pub(super) fn anybody(method: Option<&'static Method>) -> Self {
        let (principal, shown) = (Principal::anonymous(), Shown::Nothing);
        Self { principal, shown, method, act: None, logged: LoggedCall::default() }
    }
}

/// What a request wants beyond what its method tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::rpc) struct Wish {
    /// The role that it takes, where that is not the same for all requests of the method.
    pub(in crate::rpc) role: Option<Role>,
    /// Somebody who is to have the session next.
    pub(in crate::rpc) successor: Option<Principal>,
}

/// Why a call is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Barred {
    /// Nobody knows who calls.
    Stranger(Stranger),
    /// It is known who calls, and that is not enough.
    Denied(Denied),
}

/// Who lacks which role, and where. Whether there is such an instance is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rpc) struct Denied {
    pub(in crate::rpc) role: Role,
    pub(in crate::rpc) principal: Principal,
    /// The instance that was named; nothing if the role is missing everywhere.
    pub(in crate::rpc) instance: Option<InstanceId>,
}

impl From<Stranger> for Barred {
    fn from(stranger: Stranger) -> Self {
        Self::Stranger(stranger)
    }
}

impl Barred {
    pub(super) fn status(&self, about: &About) -> Status {
        match self {
            Self::Stranger(stranger) => status::unauthenticated(stranger, about),
            Self::Denied(denied) => status::denied(denied, about),
        }
    }
}

/// Of whom a caller may learn in a refusal or an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::rpc) enum Sight {
    /// Of nobody.
    #[default]
    Nobody,
    /// Of itself.
    Own(Principal),
    /// Of everybody.
    Everybody,
}

impl Sight {
    /// Whether it may learn of this principal and the names of its threads.
    pub(in crate::rpc) fn sees(&self, principal: &Principal) -> bool {
        match self {
            Self::Nobody => false,
            Self::Own(own) => own == principal,
            Self::Everybody => true,
        }
    }
}

/// What a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Somewhere(Role),
    There(Role),
}

fn takes(method: &Method, wish: &Wish) -> Takes {
    match (method.access, wish.role) {
        (_, Some(role)) => Takes::There(role),
        (method::Access::Open | method::Access::Known, None) => Takes::Nothing,
        (method::Access::Somewhere(role), None) => Takes::Somewhere(role),
        (method::Access::There(role), None) => Takes::There(role),
        // A request that does not say which is held to the one that allows more.
        (method::Access::ThereAs(one, other), None) => Takes::There(one.max(other)),
    }
}

impl Rules {
    /// Whether the visitor is still who it was: its token may have been revoked since it was let in.
    fn knows(&self, visitor: &Visitor) -> Result<(), Stranger> {
        match visitor.shown {
            Shown::Token(digest) => match self.tokens.principal(&digest) {
                Some(principal) if *principal == visitor.principal => Ok(()),
                Some(_) | None => Err(UNKNOWN),
            },
            Shown::Certificate | Shown::Nothing if self.policy.knows(&visitor.principal) => Ok(()),
            Shown::Certificate | Shown::Nothing => Err(Stranger::ShowsNothing),
        }
    }

    /// Whether the visitor may do what it wants to, and whom it may learn of.
    fn judge(
        &self,
        visitor: &Visitor,
        takes: Takes,
        instance: Option<&InstanceId>,
        successor: Option<&Principal>,
    ) -> Result<Sight, Barred> {
        self.knows(visitor)?;
        let principal = &visitor.principal;
        let denied = |role, principal: &Principal| {
            let (principal, instance) = (principal.clone(), instance.cloned());
            Err(Barred::Denied(Denied { role, principal, instance }))
        };
        let (role, instance) = match (takes, instance) {
            (Takes::Nothing, _) => return Ok(Sight::Own(principal.clone())),
            (Takes::Somewhere(role), _) if self.policy.anywhere(principal).has(role) => {
                return Ok(Sight::Own(principal.clone()));
            }
            (Takes::There(role), Some(instance)) => (role, instance),
            (Takes::Somewhere(role), _) | (Takes::There(role), None) => {
                return denied(role, principal);
            }
        };
        let roles = self.policy.roles(principal, instance);
        if !roles.has(role) {
            return denied(role, principal);
        }
        // Whoever could do nothing with the session could never let it go either.
        if let Some(successor) = successor
            && !self.policy.roles(successor, instance).has(Role::Use)
        {
            return denied(Role::Use, successor);
        }
        let sees_all = roles.has(Role::Observe);
        Ok(if sees_all { Sight::Everybody } else { Sight::Own(principal.clone()) })
    }
}

/// A visitor on its way to the caller of something.
#[derive(Debug, Clone)]
pub(in crate::rpc) struct Entry {
    guard: Guard,
    visitor: Visitor,
}

impl Guard {
    /// Who came in at the door with the extensions of this request. Where callers are told apart, nobody
    /// comes in otherwise.
    pub(in crate::rpc) fn entry(
        &self,
        extensions: &Extensions,
        about: &About,
    ) -> Result<Entry, Status> {
        let visitor = match (extensions.get::<Visitor>(), &**self.access()) {
            (Some(visitor), _) => visitor.clone(),
            (None, Access::Open) => Visitor::anybody(None),
            (None, Access::Ruled(_)) => {
                return Err(Barred::from(Stranger::ShowsNothing).status(about));
            }
        };
        Ok(Entry { guard: self.clone(), visitor })
    }

    /// Somebody who wants to know how an instance is: a method for everybody tells that only to those
    /// who may observe it.
    pub(in crate::rpc) fn observer(
        &self,
        headers: &http::HeaderMap,
        extensions: &Extensions,
        instance: InstanceId,
    ) -> Result<Standing, Status> {
        let request_id = extensions.get::<RequestId>().cloned();
        let about = About { instance: Some(instance), request_id, ..About::default() };
        let method = Method::of("/grpc.health.v1.Health/Check");
        let visitor = match &**self.access() {
            Access::Open => Visitor::anybody(method),
            Access::Ruled(rules) => rules
                .visitor(headers, extensions, method)
                .map_err(|stranger| Barred::from(stranger).status(&about))?,
        };
        let entry = Entry { guard: self.clone(), visitor };
        let wish = Wish { role: Some(Role::Observe), successor: None };
        entry.check(entry.visitor.method, &about, &wish)?;
        Ok(entry.standing(entry.visitor.method, about, wish))
    }
}

impl Entry {
    /// The caller's name.
    pub(in crate::rpc) fn principal(&self) -> &Principal {
        &self.visitor.principal
    }

    /// The method that was called, if that is known.
    pub(in crate::rpc) fn method(&self) -> Option<&'static Method> {
        self.visitor.method
    }

    /// Whether the visitor may do by `method` what a request is about, and whom it may learn of.
    pub(in crate::rpc) fn check(
        &self,
        method: Option<&'static Method>,
        about: &About,
        wish: &Wish,
    ) -> Result<Sight, Status> {
        let access = self.guard.access();
        let Access::Ruled(rules) = &**access else {
            return Ok(Sight::Everybody);
        };
        let (instance, successor) = (about.instance.as_ref(), wish.successor.as_ref());
        let judged = match method {
            Some(method) => rules.judge(&self.visitor, takes(method, wish), instance, successor),
            // It came in before anybody was told from anybody else.
            None => Err(Stranger::ShowsNothing.into()),
        };
        judged.map_err(|barred| {
            if let Barred::Denied(denied) = &barred {
                warn(denied, method, &self.visitor.logged);
            }
            barred.status(about)
        })
    }

    /// The caller of a request that was understood, if it may make it.
    pub(in crate::rpc) fn caller(
        self,
        request: Option<Request>,
        about: About,
        wish: Wish,
    ) -> Result<Caller, Status> {
        let method = self.visitor.method;
        let sight = self.check(method, &about, &wish)?;
        if let (Some(act), Some(instance), Some(method)) =
            (&self.visitor.act, &about.instance, method)
            && let Takes::There(role) = takes(method, &wish)
            && role.is_operators()
        {
            act.begins(instance.clone());
        }
        let asker = Asker { by: self.visitor.principal.clone(), request };
        let about = About { sight, ..about };
        Ok(Caller { asker, about, wish, entry: self })
    }

    /// Watches over it that this goes on to be allowed.
    pub(in crate::rpc) fn standing(
        &self,
        method: Option<&'static Method>,
        about: About,
        wish: Wish,
    ) -> Standing {
        Standing::new(self.clone(), method, about, wish, self.guard.changes())
    }
}

/// Tells the log of an operator's act that was refused.
pub(super) fn warn(denied: &Denied, method: Option<&'static Method>, logged: &LoggedCall) {
    if denied.role.is_operators() {
        tracing::warn!(
            principal = denied.principal.as_str(),
            method = method.map(|method| method.name),
            instance = denied.instance.as_ref().map(InstanceId::as_str),
            role = denied.role.as_str(),
            request_id = logged.request_id(),
            trace_id = logged.trace_id(),
            "an operator's act was refused"
        );
    }
}

/// Somebody who may make the call. Only a check makes one.
#[derive(Debug)]
pub(in crate::rpc) struct Caller {
    /// Who asks.
    pub(in crate::rpc) asker: Asker,
    /// What about.
    pub(in crate::rpc) about: About,
    wish: Wish,
    entry: Entry,
}

impl Caller {
    /// The instances that a call concerns which names none.
    pub(in crate::rpc) fn scope(&self) -> Scope {
        self.entry.guard.scope(&self.entry.visitor, &self.wish)
    }

    /// Whether the caller may do the same to this instance.
    pub(in crate::rpc) fn may_also(&self, role: Role, instance: &InstanceId) -> Result<(), Status> {
        let about = About { instance: Some(instance.clone()), ..self.about.clone() };
        let wish = Wish { role: Some(role), ..self.wish.clone() };
        self.entry.check(self.entry.visitor.method, &about, &wish).map(drop)
    }

    /// Watches over it that this goes on to be allowed.
    pub(in crate::rpc) fn standing(&self) -> Standing {
        self.entry.standing(self.entry.visitor.method, self.about.clone(), self.wish.clone())
    }

    /// The scope of the caller, as it changes.
    pub(in crate::rpc) fn changing_scope(&self) -> ChangingScope {
        let (guard, visitor) = (self.entry.guard.clone(), self.entry.visitor.clone());
        ChangingScope::new(guard, visitor, self.wish.clone())
    }
}

impl Guard {
    pub(super) fn scope(&self, visitor: &Visitor, wish: &Wish) -> Scope {
        match (&**self.access(), visitor.method.map(|method| takes(method, wish))) {
            (Access::Open, _) => Scope::All,
            (Access::Ruled(rules), Some(Takes::Somewhere(role) | Takes::There(role))) => {
                let (policy, principal) = (Arc::clone(&rules.policy), visitor.principal.clone());
                Scope::Where { policy, principal, role }
            }
            (Access::Ruled(_), Some(Takes::Nothing) | None) => Scope::Where {
                policy: Arc::new(Policy::default()),
                principal: visitor.principal.clone(),
                role: Role::Admin,
            },
        }
    }
}
