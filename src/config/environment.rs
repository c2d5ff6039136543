//! What the environment says.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::config::KEYS;
use crate::config::key::{Key, OTHER_VARIABLES, PREFIX};
use crate::config::sources::{Gathered, Source, shown};

/// Reads all variables that are ours.
pub(super) fn read(environment: &BTreeMap<String, OsString>, gathered: &mut Gathered) {
    let ours = environment.range(PREFIX.to_owned()..);
    for (variable, value) in ours.take_while(|(variable, _)| variable.starts_with(PREFIX)) {
        // An empty variable is one that somebody could not remove.
        if value.is_empty() || OTHER_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        if let Some(key) = KEYS.iter().find(|key| key.variable() == *variable) {
            gathered.say(key, texts(key, value), Source::Variable(variable.clone()));
        } else if !is_service_link(variable, value) {
            // `_` stands for `.`, too; that of a name that is known is of no matter.
            let name = variable[PREFIX.len()..].to_ascii_lowercase();
            gathered.unknown(shown(variable), &name, spelt);
        }
    }
}

fn spelt(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('.', "_").to_ascii_uppercase())
}

fn texts(key: &Key, value: &OsStr) -> Result<Vec<String>, String> {
    let value = value.to_str().ok_or_else(|| "must be UTF-8".to_owned())?;
    Ok(if key.kind.is_list() {
        value.split(',').map(|one| one.trim().to_owned()).collect()
    } else {
        vec![value.to_owned()]
    })
}

/// Whether Kubernetes or docker put a variable there because a service is called `jet-session` or begins
/// so: `JET_SESSION_SERVICE_HOST`, `JET_SESSION_PORT_50051_TCP_ADDR` and the like. What a person may type,
/// such as `JET_SESSION_PORT=50051`, is none.
fn is_service_link(variable: &str, value: &OsStr) -> bool {
    let words: Vec<&str> = variable.split('_').collect();
    let of_a_port = |three: &[&str]| {
        matches!(three, ["PORT", port, "TCP" | "UDP" | "SCTP"]
            if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
    };
    words.ends_with(&["SERVICE", "HOST"])
        || words.windows(2).any(|two| two == ["SERVICE", "PORT"])
        || words.windows(3).any(of_a_port)
        || words.ends_with(&["PORT"]) && value.to_str().is_some_and(|value| value.contains("://"))
}
