//! TLS: whom a client trusts, and how it shows who it is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::domain::limits::PEM_BYTES_MAX;

use super::token::bounded;

/// What HTTP/2 is called while TLS is negotiated.
pub(super) const HTTP_2: &[u8] = b"h2";

/// How a client that connects to an `https://` address makes sure of the server, and shows who it is
/// itself. TLS 1.3 is spoken, or 1.2 with a server that knows no better.
///
/// Files are read at once, and again whenever a connection is made anew: certificates rotate. If they
/// cannot be read then, what was read before stays.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    roots: Option<Pem>,
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
}

/// Certificates or a key, as text or in a file.
#[derive(Clone)]
enum Pem {
    Text(Arc<[u8]>),
    File(PathBuf),
}

/// What [`Tls`] comes to.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) config: Arc<ClientConfig>,
    /// Who has to have signed the server's certificate, to be told when nobody of them has.
    pub(super) authority: String,
}

impl Tls {
    /// Trusts whom the system trusts, and shows no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts only servers whose certificate one of these authorities has signed, PEM.
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots = Some(Pem::text(pem));
        self
    }

    /// Trusts only servers whose certificate one of the authorities in this PEM file has signed.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots = Some(Pem::File(path.into()));
        self
    }

    /// Shows the server this certificate, the chain first, and proves with the key that it is its own;
    /// both PEM.
    pub fn identity_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.identity = Some((Pem::text(chain), Pem::text(key)));
        self
    }

    /// Shows the server the certificate in the first PEM file, and proves it with the key in the second.
    pub fn identity_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((Pem::File(chain.into()), Pem::File(key.into())));
        self
    }

    /// The name that must be in the server's certificate, where it is another than that of its address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The name that must be in the certificate of the server at `host`.
    pub(super) fn name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        ServerName::try_from(name).map_err(|_| "the server's name cannot be one".to_owned())
    }

    /// Whether something is to be read anew for a new connection.
    pub(super) fn may_change(&self) -> bool {
        let file = |pem: &Pem| matches!(pem, Pem::File(_));
        let identity = self.identity.as_ref();
        self.roots.as_ref().is_some_and(file) || identity.is_some_and(|(c, k)| file(c) || file(k))
    }

    /// Reads what there is to read, and puts it together.
    pub(super) fn load(&self) -> Result<Loaded, String> {
        let (roots, authority) = match &self.roots {
            Some(pem) => (pem.roots()?, pem.authority()),
            None => (system_roots()?, "an authority that this system trusts".to_owned()),
        };
        let mut config = self.identify(
            ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(roots),
        )?;
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(Loaded { config: Arc::new(config), authority })
    }

    fn identify(
        &self,
        config: ConfigBuilder<ClientConfig, WantsClientCert>,
    ) -> Result<ClientConfig, String> {
        let Some((chain, key)) = &self.identity else {
            return Ok(config.with_no_client_auth());
        };
        let (certificates, private) = (chain.certificates()?, key.key()?);
        config
            .with_client_auth_cert(certificates, private)
            .map_err(|error| format!("{chain} and {key} do not make an identity: {error}"))
    }
}

impl Pem {
    fn text(pem: impl AsRef<[u8]>) -> Self {
        Self::Text(pem.as_ref().into())
    }

    fn bytes(&self) -> Result<Arc<[u8]>, String> {
        match self {
            Self::Text(text) => Ok(Arc::clone(text)),
            Self::File(path) => read(path).map_err(|error| format!("{self}: {error}")),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let bytes = self.bytes()?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(format!("{self}: it holds no certificate in PEM form")),
            Err(error) => Err(format!("{self}: {error}")),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(&self.bytes()?).map_err(|_| {
            format!("{self}: it holds no private key in PEM form that is not encrypted")
        })
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| format!("{self}: {error}"))?;
        }
        Ok(roots)
    }

    fn authority(&self) -> String {
        match self {
            Self::Text(_) => "an authority that this client was given".to_owned(),
            Self::File(path) => format!("an authority in {}", path.display()),
        }
    }
}

fn read(path: &Path) -> io::Result<Arc<[u8]>> {
    bounded(path, PEM_BYTES_MAX).map(Into::into)
}

/// Whom the system trusts. One bad certificate among them does not spoil the others.
fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (known, _) = roots.add_parsable_certificates(found.certs);
    if known == 0 {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!("this system trusts no authority, and no other was given{why}"));
    }
    Ok(roots)
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("the PEM text"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It may be a key.
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}
