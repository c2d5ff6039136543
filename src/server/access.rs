//! Who is known and who may do what, from the files that the configuration names.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::config::{self, Config, Document, Mistake};
use crate::domain::id::Principal;
use crate::domain::limits::AUTH_FILE_BYTES_MAX;
use crate::rpc::access::{Access, Guard, Rules};

/// What callers are asked, or everything that is wrong with the files that say so.
pub(super) fn load(config: &Config) -> Result<Access, Vec<Mistake>> {
    if !config.restricts() {
        return Ok(Access::Open);
    }
    let mut mistakes = Vec::new();
    let tokens = read("auth.tokens", config.auth.tokens.as_deref(), config::tokens, &mut mistakes);
    let policy = read("auth.policy", config.auth.policy.as_deref(), config::policy, &mut mistakes);
    let identifies = config.auth.tokens.is_some()
        || config.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
    if let (Some(policy), Some(path)) = (&policy, &config.auth.policy)
        && !identifies
        && !policy.knows(&Principal::anonymous())
    {
        mistakes.push(Mistake {
            source: path.display().to_string(),
            what:
                "without auth.tokens or tls.client_ca everybody is anonymous, which no rule names: \
                   nobody could do anything"
                    .to_owned(),
        });
    }
    // Without a file: of tokens there are none, and of rules none either, which allows nothing.
    let (tokens, policy) = (tokens.unwrap_or_default(), policy.unwrap_or_default());
    if mistakes.is_empty() { Ok(Access::Ruled(Rules::new(tokens, policy))) } else { Err(mistakes) }
}

/// Lets the guard go by the files as they are now. If anything is wrong with them it goes on as it did.
pub(super) fn reload(guard: &Guard, config: &Config) -> Result<(), Vec<Mistake>> {
    guard.replace(load(config)?);
    Ok(())
}

fn read<T>(
    key: &str,
    path: Option<&Path>,
    parse: impl FnOnce(&Document) -> Result<T, Vec<Mistake>>,
    mistakes: &mut Vec<Mistake>,
) -> Option<T> {
    let path = path?;
    let name = path.display().to_string();
    let parsed = match text(path) {
        Ok(text) => parse(&Document { name, text }),
        Err(what) => Err(vec![Mistake { source: key.to_owned(), what: format!("{name}: {what}") }]),
    };
    parsed.map_err(|wrong| mistakes.extend(wrong)).ok()
}

/// What is in a file that an operator alone can have written.
fn text(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("the file cannot be read: {error}");
    // Before it is opened: a pipe would keep us waiting.
    let looked = fs::metadata(path).map_err(cannot)?;
    if !looked.is_file() {
        return Err("is no file".to_owned());
    }
    let file = fs::File::open(path).map_err(cannot)?;
    if others_write(&file.metadata().map_err(cannot)?) {
        return Err(
            "others may write to the file, and with it give themselves any role: chmod o-w"
                .to_owned(),
        );
    }
    let mut text = String::new();
    let read = file.take(AUTH_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
    if read as u64 > AUTH_FILE_BYTES_MAX {
        return Err(format!("the file is larger than {AUTH_FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

#[cfg(unix)]
fn others_write(file: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.permissions().mode() & 0o002 != 0
}

#[cfg(not(unix))]
fn others_write(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests;
