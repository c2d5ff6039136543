//! The files of TLS: who may read them, and what is in them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Gid, getegid, getgroups};
use tokio_rustls::rustls::pki_types::pem::{PemObject, SectionKind};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{Clients, Mistake, Tls};
use crate::domain::limits::TLS_FILE_BYTES_MAX;

/// The settings that name files.
pub(super) const CERTIFICATE: &str = "tls.certificate";
pub(super) const KEY: &str = "tls.key";
pub(super) const CLIENT_CA: &str = "tls.client_ca";

/// A file of PEM (RFC 7468), and the setting that names it.
#[derive(Debug)]
pub(super) struct PemFile<'a> {
    setting: &'static str,
    path: &'a Path,
}

/// A section of a file: what it is called, and its bytes.
type Section = (SectionKind, Vec<u8>);

impl<'a> PemFile<'a> {
    pub(super) fn certificate(tls: &'a Tls) -> Self {
        Self { setting: CERTIFICATE, path: &tls.certificate }
    }

    pub(super) fn key(tls: &'a Tls) -> Self {
        Self { setting: KEY, path: &tls.key }
    }

    pub(super) fn client_ca(clients: &'a Clients) -> Self {
        Self { setting: CLIENT_CA, path: &clients.ca }
    }

    /// Something that is wrong with the file.
    pub(super) fn mistake(&self, what: impl std::fmt::Display) -> Mistake {
        let what = format!("{}: {what}", self.path.display());
        Mistake { source: self.setting.to_owned(), what }
    }

    /// All certificates of the file, in their order; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Mistake> {
        let sections = self.sections(Reader::Anybody)?;
        let found: Vec<_> = sections
            .iter()
            .filter(|(kind, _)| *kind == SectionKind::Certificate)
            .map(|(_, der)| CertificateDer::from(der.clone()))
            .collect();
        if found.is_empty() {
            return Err(
                self.mistake(format!("the file holds {}, no certificate", names(&sections)))
            );
        }
        Ok(found)
    }

    /// The one private key of the file, which nobody but us may be able to read.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, Mistake> {
        let sections = self.sections(Reader::Ours)?;
        let mut found =
            sections.iter().filter_map(|(kind, der)| PrivateKeyDer::from_pem(*kind, der.clone()));
        match (found.next(), found.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => {
                Err(self.mistake(format!("the file holds {}, no private key", names(&sections))))
            }
            (Some(_), Some(_)) => Err(self.mistake("the file holds more than one private key")),
        }
    }

    fn sections(&self, reader: Reader) -> Result<Vec<Section>, Mistake> {
        let bytes = self.bytes(reader)?;
        let sections: Result<Vec<_>, _> = Section::pem_slice_iter(&bytes).collect();
        let sections =
            sections.map_err(|error| self.mistake(format!("the file is no PEM: {error}")))?;
        let encrypted = bytes.windows(ENCRYPTED.len()).any(|words| words == ENCRYPTED);
        if sections.is_empty() && encrypted {
            return Err(
                self.mistake("the key is encrypted, and nobody is there to type its password")
            );
        }
        Ok(sections)
    }

    fn bytes(&self, reader: Reader) -> Result<Vec<u8>, Mistake> {
        let unreadable = |error| self.mistake(format!("the file cannot be read: {error}"));
        // Asked before it is opened: to open a pipe is to wait for whoever writes to it.
        if !std::fs::metadata(self.path).map_err(unreadable)?.is_file() {
            return Err(self.mistake("this is no file"));
        }
        let file = File::open(self.path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        if let Reader::Ours = reader {
            kept_secret(about.mode(), about.gid(), &our_groups())
                .map_err(|what| self.mistake(what))?;
        }
        let mut bytes = Vec::new();
        file.take(TLS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > TLS_FILE_BYTES_MAX {
            return Err(self.mistake(format!("the file is larger than {TLS_FILE_BYTES_MAX} bytes")));
        }
        Ok(bytes)
    }
}

/// What the name of a key with a password begins with.
const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY";

/// Who may read a file.
#[derive(Debug, Clone, Copy)]
enum Reader {
    Anybody,
    /// This process and the groups it is of. Kubernetes gives the files of a secret to the group of the
    /// volume (`fsGroup`), so that a process that is not root can read them.
    Ours,
}

/// Whether a file that holds a secret keeps it.
pub(super) fn kept_secret(mode: u32, group: u32, ours: &[u32]) -> Result<(), String> {
    let bits = mode & 0o7777;
    if mode & 0o006 != 0 {
        return Err(format!(
            "everybody on this machine can read or write the file (mode {bits:04o}): a private key is for \
             its server alone (chmod 600; in Kubernetes defaultMode: 0400)"
        ));
    }
    if mode & 0o060 != 0 && !ours.contains(&group) {
        return Err(format!(
            "group {group} can read or write the file (mode {bits:04o}), and this server is not of that \
             group: a private key is for its server alone (chmod 600)"
        ));
    }
    Ok(())
}

/// The groups that this process is of.
fn our_groups() -> Vec<u32> {
    // Without the further ones only more is refused.
    let further = getgroups().unwrap_or_default();
    std::iter::once(getegid()).chain(further).map(Gid::as_raw).collect()
}

/// What a file holds, in words.
fn names(sections: &[Section]) -> String {
    let mut names: Vec<&str> = sections.iter().map(|(kind, _)| name(*kind)).collect();
    names.dedup();
    if names.is_empty() { "nothing that is PEM".to_owned() } else { names.join(" and ") }
}

fn name(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Certificate => "a certificate",
        SectionKind::PublicKey => "a public key",
        SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
            "a private key"
        }
        SectionKind::Crl => "a list of revoked certificates",
        SectionKind::Csr => "a request for a certificate",
        SectionKind::EchConfigList | _ => "something else",
    }
}
