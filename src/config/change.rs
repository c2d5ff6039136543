//! From one configuration to another while a server runs.

use std::path::{Path, PathBuf};

use crate::config::{Config, KEYS, Key};

impl Config {
    /// The settings in which another configuration differs.
    pub fn differences(&self, other: &Self) -> Vec<&'static Key> {
        let (ours, theirs) = (self.values(), other.values());
        KEYS.iter().filter(|key| ours.get(key.name) != theirs.get(key.name)).collect()
    }

    /// This configuration with what a server can take from a new one while it runs: settings that take
    /// effect at a [reload](crate::config::Takes::Reload). What is turned on or off stays as it is.
    pub fn reloaded(&self, new: &Self) -> Self {
        let mut next = self.clone();
        next.log.level = new.log.level;
        replace(&mut next.auth.tokens, new.auth.tokens.as_ref());
        replace(&mut next.auth.policy, new.auth.policy.as_ref());
        if let (Some(tls), Some(new)) = (&mut next.tls, &new.tls) {
            tls.certificate.clone_from(&new.certificate);
            tls.key.clone_from(&new.key);
            if let (Some(clients), Some(new)) = (&mut tls.clients, &new.clients) {
                clients.ca.clone_from(&new.ca);
            }
        }
        next
    }

    /// The files that are named, each with the setting that names it.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        let tls = self.tls.as_ref();
        let clients = tls.and_then(|tls| tls.clients.as_ref());
        let named = [
            ("tls.certificate", tls.map(|tls| &tls.certificate)),
            ("tls.key", tls.map(|tls| &tls.key)),
            ("tls.client_ca", clients.map(|clients| &clients.ca)),
            ("auth.tokens", self.auth.tokens.as_ref()),
            ("auth.policy", self.auth.policy.as_ref()),
        ];
        let named = named.into_iter();
        named.filter_map(|(name, path)| path.map(|path| (name, path.as_path()))).collect()
    }
}

/// Puts another file in the place of one.
fn replace(file: &mut Option<PathBuf>, new: Option<&PathBuf>) {
    if let (Some(file), Some(new)) = (file, new) {
        file.clone_from(new);
    }
}
