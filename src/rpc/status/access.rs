//! What is said to callers who are not known, or may not do what they want.

use tonic::{Code, Status};

use crate::domain::id::InstanceId;
use crate::rpc::access::{Denied, Stranger};
use crate::rpc::status::About;
use crate::rpc::status::details::Answer;

/// What a caller can show, as `WWW-Authenticate` would say it.
const ADVICE: &str = "Send metadata `authorization: Bearer TOKEN`, or connect with a client certificate that \
                      this server trusts.";

/// The status of a call of whom nobody knows who makes it.
pub(in crate::rpc) fn unauthenticated(stranger: &Stranger, about: &About) -> Status {
    let (reason, message) = match stranger {
        Stranger::ShowsNothing => {
            ("CREDENTIALS_MISSING", format!("The call shows no credentials. {ADVICE}"))
        }
        Stranger::ShowsWrong(why) => {
            ("CREDENTIALS_INVALID", format!("The call's credentials are not good: {why}. {ADVICE}"))
        }
    };
    Answer::ours(Code::Unauthenticated, reason, message).status(about)
}

/// The status of a call that its caller may not make. It is the same whether there is such an instance or
/// not, and such a session (AIP-211).
pub(in crate::rpc) fn denied(denied: &Denied, about: &About) -> Status {
    let Denied { role, principal, instance } = denied;
    let place = match instance {
        Some(instance) => format!("on {} (or it might not exist)", instance.name()),
        None => "on any instance".to_owned(),
    };
    let message = format!("Permission {role} denied {place} to {principal}.");
    let also = vec![
        ("role", role.as_str().to_owned()),
        ("principal", principal.as_str().to_owned()),
        ("instance", instance.as_ref().map(InstanceId::name).unwrap_or_default()),
    ];
    let answer = Answer::ours(Code::PermissionDenied, "ROLE_MISSING", message);
    Answer { also, ..answer }.status(about)
}
