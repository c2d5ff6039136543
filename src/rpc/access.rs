//! Who calls, and whether they may.
//!
//! As long as nothing is configured that tells callers apart, everybody is `anonymous` and may do
//! everything ([`Access::Open`]); credentials are not looked at. With tokens, a client CA or a policy
//! ([`Access::Ruled`]) this holds:
//!
//! 1. **Who** a caller is says its bearer token (`authorization: Bearer TOKEN`), call by call. Without one it
//!    is the name in the certificate of its connection, and without that `anonymous`. Credentials that
//!    are shown and not good are an error and never as if none were shown: two `authorization`s, another scheme,
//!    an unknown token, a certificate that names nobody. UNAUTHENTICATED, `CREDENTIALS_INVALID`.
//! 2. **`anonymous` is nobody** unless a rule names it, exactly; `*` does not. UNAUTHENTICATED,
//!    `CREDENTIALS_MISSING`. Methods that do not exist are told to those who are known.
//! 3. **At the door** (`Guard::admit`, before the message is read) whoever has the role of the method for no
//!    instance at all is turned away; **when the request is understood** (`Entry::caller`) whoever has not got it
//!    for the instance that is named. PERMISSION_DENIED, `ROLE_MISSING`, in the same bytes whether the
//!    instance exists or not: nobody has looked yet. So a handler gets a `Caller` from a check only.
//! 4. **Calls that span instances** take a [`Scope`](crate::domain::access::Scope) from the caller: they touch and
//!    show what is inside it, as if there was nothing else.
//! 5. **A session is handed to another principal** only if that one may use it there; nobody else could ever let
//!    it go.
//! 6. **EndSession** takes `use`, and with `force` instead `operate`.
//! 7. **Health** of the server and its services is open to everybody, that of an instance takes `observe`.
//! 8. **Who may not observe** an instance learns there of nobody else: neither names of other principals nor of
//!    their threads stand in its refusals and answers (`Sight`).
//! 9. **What lasts** (streams, and calls that wait) is looked at again when the rules or the tokens change, and
//!    ends with the same statuses.
//! 10. **Operators' acts** are logged at `info` with their outcome, refused ones at `warn`. Nothing else is.
//!
//! - `credential`: what a call shows
//! - `caller`: whether it may
//! - `standing`: what goes on, and what becomes of it when the rules change
//! - `act`: what operators do, in the log

mod act;
mod caller;
mod credential;
mod standing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Extensions, HeaderMap, Request};
use tokio::sync::watch;
use tonic::Status;

use crate::domain::access::{Policy, Role, Tokens};
use crate::domain::id::Principal;
use crate::rpc::access::act::{Act, Acting};
use crate::rpc::access::caller::{Barred, Visitor, warn};
use crate::rpc::access::credential::identify;
use crate::rpc::method::{self, Method};
use crate::rpc::status::{self, About};
use crate::rpc::telemetry::LoggedCall;

pub(super) use caller::{Caller, Denied, Entry, Sight, Wish};
pub(super) use credential::Stranger;
pub(super) use standing::{ChangingScope, Standing};

/// What the connection of a call knows of its caller. The server puts it among the extensions of each
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// No certificate was shown.
    Unknown,
    /// The certificate is this principal's.
    Certified(Principal),
    /// The certificate is good and names nobody: why.
    Nameless(&'static str),
}

/// What is asked of callers.
#[derive(Debug)]
pub enum Access {
    /// Nothing.
    Open,
    /// To be known, and to have a role.
    Ruled(Rules),
}

/// Who is known, and who may do what.
#[derive(Debug, Default)]
pub struct Rules {
    tokens: Tokens,
    policy: Arc<Policy>,
}

impl Rules {
    /// These principals by their tokens, and whoever else is known; under this policy.
    pub fn new(tokens: Tokens, policy: Policy) -> Self {
        Self { tokens, policy: Arc::new(policy) }
    }

    /// Who calls.
    fn visitor(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        method: Option<&'static Method>,
    ) -> Result<Visitor, Stranger> {
        let (principal, shown) = identify(headers, extensions.get::<Peer>(), &self.tokens)?;
        if !self.policy.knows(&principal) {
            return Err(Stranger::ShowsNothing);
        }
        let logged = LoggedCall::default();
        Ok(Visitor { principal, shown, method, act: None, logged })
    }

    /// Whether the visitor could do somewhere what it came for.
    fn is_of_use(&self, visitor: &Visitor) -> Result<(), Denied> {
        let roles: &[Role] = match visitor.method.map(|method| method.access) {
            None | Some(method::Access::Open | method::Access::Known) => return Ok(()),
            Some(method::Access::Somewhere(role) | method::Access::There(role)) => &[role],
            Some(method::Access::ThereAs(one, other)) => &[one, other],
        };
        let has = self.policy.anywhere(&visitor.principal);
        if roles.iter().any(|role| has.has(*role)) {
            return Ok(());
        }
        Err(Denied { role: roles[0], principal: visitor.principal.clone(), instance: None })
    }
}

/// Stands at the door of a server. It is shared, and what it goes by can be replaced at any time.
#[derive(Debug, Clone)]
pub struct Guard {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    access: ArcSwap<Access>,
    changes: watch::Sender<()>,
}

impl Guard {
    /// A guard that goes by this.
    pub fn new(access: Access) -> Self {
        let access = ArcSwap::from_pointee(access);
        Self { shared: Arc::new(Shared { access, changes: watch::Sender::new(()) }) }
    }

    /// From now on it goes by this. What is going on and allowed no longer ends soon.
    pub fn replace(&self, access: Access) {
        self.shared.access.store(Arc::new(access));
        self.shared.changes.send_replace(());
    }

    fn access(&self) -> arc_swap::Guard<Arc<Access>> {
        self.shared.access.load()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.shared.changes.subscribe()
    }

    /// Lets a call of a method in, or says why not; what has no row among the methods is served to nobody. The answer is
    /// to be told to what comes back.
    pub(super) fn admit<B>(
        &self,
        method: Option<&'static Method>,
        request: &mut Request<B>,
        about: &About,
    ) -> Result<Option<Acting>, Status> {
        let mut visitor = match &**self.access() {
            // Whoever comes in without a visitor is anybody; to know the method is of use only to what lasts
            // until the rules have changed, and to acts.
            Access::Open => match method {
                Some(method) if method.longest.is_none() || may_be_act(method) => {
                    Visitor::anybody(Some(method))
                }
                Some(_) => return Ok(None),
                None => return Err(status::unknown_method(request.uri().path(), about)),
            },
            Access::Ruled(rules) => {
                if method.is_some_and(|method| method.access == method::Access::Open) {
                    return Ok(None);
                }
                let visitor = rules
                    .visitor(request.headers(), request.extensions(), method)
                    .map_err(|stranger| Barred::from(stranger).status(about))?;
                if method.is_none() {
                    return Err(status::unknown_method(request.uri().path(), about));
                }
                rules.is_of_use(&visitor).map_err(|denied| {
                    warn(&denied, method, &LoggedCall::of(request.extensions()));
                    Barred::Denied(denied).status(about)
                })?;
                visitor
            }
        };
        let acting = method.filter(|method| may_be_act(method)).map(|method| {
            let act = Act::default();
            visitor.act = Some(act.clone());
            visitor.logged = LoggedCall::of(request.extensions());
            let logged = visitor.logged.clone();
            Acting::new(act, visitor.principal.clone(), method.name, logged)
        });
        request.extensions_mut().insert(visitor);
        Ok(acting)
    }
}

/// Whether a call of the method can be an operator's act.
fn may_be_act(method: &Method) -> bool {
    match method.access {
        method::Access::Open | method::Access::Known => false,
        method::Access::Somewhere(role) | method::Access::There(role) => role.is_operators(),
        method::Access::ThereAs(one, other) => one.is_operators() || other.is_operators(),
    }
}
