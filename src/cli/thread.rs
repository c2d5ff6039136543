//! Which thread a person at a terminal is.

use std::{env, fs};

use clap::Args;

use crate::domain::id::ThreadId;

/// The thread that a command calls as.
#[derive(Debug, Args)]
pub(super) struct CallingThread {
    /// Thread to call as, 1 to 128 visible ASCII characters [default: cli/USER@HOST]
    ///
    /// The context that a thread sets only that thread can reset, so the default is the same for all
    /// commands of one user on one host. A script that shares a host with others names its own.
    #[arg(long, value_name = "ID", env = "JET_SESSION_THREAD")]
    thread: Option<ThreadId>,
}

impl CallingThread {
    /// The thread id, for a request.
    pub(super) fn id(&self) -> String {
        match &self.thread {
            Some(thread) => thread.to_string(),
            None => person(user().as_deref(), host().as_deref()),
        }
    }
}

/// The same text for the same person at the same machine, and always a thread id.
fn person(user: Option<&str>, host: Option<&str>) -> String {
    let part = |text: Option<&str>, other: &str| -> String {
        let text = text.map(str::trim).filter(|text| !text.is_empty());
        let visible = |c: char| if c.is_ascii_graphic() { c } else { '_' };
        // 4 + 60 + 1 + 60 characters fit into the 128 of a thread id.
        text.unwrap_or(other).chars().map(visible).take(60).collect()
    };
    format!("cli/{}@{}", part(user, "nobody"), part(host, "localhost"))
}

fn user() -> Option<String> {
    ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| env::var(name).ok())
}

fn host() -> Option<String> {
    // The standard library does not ask the system for the name, so read what it wrote down.
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .or_else(|| env::var("HOSTNAME").ok())
        .or_else(|| env::var("COMPUTERNAME").ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_always_a_thread() {
        let long = "x".repeat(500);
        for (user, host, wanted) in [
            (Some("ada"), Some("engine\n"), "cli/ada@engine"),
            (None, None, "cli/nobody@localhost"),
            (Some(" "), Some(""), "cli/nobody@localhost"),
            (Some("a da"), Some("é"), "cli/a_da@_"),
        ] {
            assert_eq!(person(user, host), wanted);
        }
        let longest = person(Some(&long), Some(&long));
        assert!(longest.parse::<ThreadId>().is_ok());
    }
}
