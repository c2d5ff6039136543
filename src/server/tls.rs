//! TLS: who we are to clients, and whose certificates they show us.
//!
//! ```text
//! tls.rs              what a new connection is greeted with, and how that is replaced
//! tls/files.rs        the files: who may read them, and what is in them
//! tls/certificate.rs  what a certificate says: how long it is good, and whose it is
//! ```
//!
//! rustls does the work, driven directly (docs/adr/0008). What was decided on top of it:
//!
//! - Of what a client offers by ALPN only `h2` is taken, and one that offers other protocols alone is refused.
//!   One that offers none is served: every gRPC library offers `h2`, but proxies need not (Envoy does not
//!   unless told to), and the HTTP/2 preface says the same a moment later.
//! - Where clients show certificates, no session is resumed. rustls would take the word of the earlier
//!   handshake for who the client is, so a certificate would be good beyond its end.
//! - A new configuration is for new connections; those that are there go on as they began.

mod certificate;
mod files;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::config::{self, ClientAuth, Clients, Config, Mistake, TlsVersion};
use crate::engine::Environment;
use crate::rpc::access::Peer;
use crate::server::environment::System;
use crate::server::tls::certificate::Certificate;
use crate::server::tls::files::PemFile;

/// The protocol that is spoken within (RFC 9113, section 3.1).
const H2: &[u8] = b"h2";

/// What new connections are greeted with, until a reload.
#[derive(Debug)]
pub(super) struct Tls(watch::Sender<Greeting>);

/// What a connection is greeted with.
#[derive(Debug, Clone)]
struct Greeting {
    config: Arc<ServerConfig>,
    not_after: UnixTime,
}

impl Tls {
    /// Reads the files that the configuration names; `None` if it names none. Otherwise everything that is
    /// wrong with any of them.
    pub(super) fn load(config: &Config) -> Result<Option<Self>, Vec<Mistake>> {
        let Some(tls) = &config.tls else {
            return Ok(None);
        };
        let greeting = read(tls, now())?;
        let tls = Self(watch::Sender::new(greeting));
        tls.say_so();
        Ok(Some(tls))
    }

    /// What is wrong with the files that the configuration names, if anything is.
    pub(super) fn check(config: &Config) -> Result<(), Vec<Mistake>> {
        config.tls.as_ref().map_or(Ok(()), |tls| read(tls, now()).map(drop))
    }

    /// Reads the files again, for connections from now on. If anything is wrong with them nothing changes.
    pub(super) fn reload(&self, config: &Config) -> Result<(), Vec<Mistake>> {
        let Some(tls) = &config.tls else {
            return Err(vec![Mistake {
                source: files::CERTIFICATE.to_owned(),
                what: "TLS is turned off only by a restart; it goes on as it was".to_owned(),
            }]);
        };
        let greeting = read(tls, now())?;
        self.0.send_replace(greeting);
        self.say_so();
        Ok(())
    }

    fn say_so(&self) {
        let not_after = certificate::text(self.not_after());
        tracing::info!(%not_after, "TLS: new connections are shown this certificate");
    }

    /// When the certificate, or one of those between it and its root, expires.
    pub(super) fn not_after(&self) -> UnixTime {
        self.0.borrow().not_after
    }

    /// Shakes hands with a client; answers what it then says in secret, and who it is.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Peer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.borrow().config);
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let (_, session) = stream.get_ref();
        let peer = session.peer_certificates().and_then(<[_]>::first);
        let peer = peer.map_or(Peer::Unknown, |certificate| certificate::peer(certificate));
        Ok((stream, peer))
    }
}

/// What time it is, for certificates that are good until some time.
fn now() -> UnixTime {
    let micros = u64::try_from(System::new().now().micros()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_micros(micros))
}

/// What the files say, or all that is wrong with them.
fn read(tls: &config::Tls, now: UnixTime) -> Result<Greeting, Vec<Mistake>> {
    let provider = Arc::new(ring::default_provider());
    let mut mistakes = Vec::new();
    let chain = noted(chain(&PemFile::certificate(tls), now), &mut mistakes);
    let key = noted(PemFile::key(tls).private_key().map_err(one), &mut mistakes);
    let certified = chain.zip(key).and_then(|((chain, not_after), key)| {
        let certified = certified(tls, chain, key, &provider).map_err(one);
        noted(certified, &mut mistakes).map(|certified| (certified, not_after))
    });
    let verifier = match &tls.clients {
        None => Some(None),
        Some(clients) => {
            noted(verifier(clients, &provider, now).map_err(one), &mut mistakes).map(Some)
        }
    };
    match (certified, verifier) {
        (Some((certified, not_after)), Some(verifier)) => {
            let config = server_config(provider, tls.min_version, certified, verifier);
            Ok(Greeting { config: Arc::new(config), not_after })
        }
        _ => Err(mistakes),
    }
}

fn one(mistake: Mistake) -> Vec<Mistake> {
    vec![mistake]
}

/// The value, if there is one; what is wrong otherwise joins what else is wrong.
fn noted<T>(read: Result<T, Vec<Mistake>>, mistakes: &mut Vec<Mistake>) -> Option<T> {
    read.map_err(|more| mistakes.extend(more)).ok()
}

/// The server's certificate and those that lead to its root, and when the first of them expires.
type Chain = (Vec<CertificateDer<'static>>, UnixTime);

fn chain(file: &PemFile<'_>, now: UnixTime) -> Result<Chain, Vec<Mistake>> {
    let chain = file.certificates().map_err(one)?;
    let mut not_after = UnixTime::since_unix_epoch(Duration::MAX);
    let mut mistakes = Vec::new();
    for (number, der) in (1..).zip(&chain) {
        let wrong = |what| file.mistake(format!("certificate {number} of the file {what}"));
        match Certificate::read(der) {
            Ok(certificate) => {
                not_after = not_after.min(certificate.not_after());
                mistakes.extend(certificate.good_at(now).err().map(wrong));
            }
            Err(what) => mistakes.push(wrong(what)),
        }
    }
    if mistakes.is_empty() { Ok((chain, not_after)) } else { Err(mistakes) }
}

/// The certificate with its key, which must be its own.
fn certified(
    tls: &config::Tls,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Mistake> {
    use tokio_rustls::rustls::Error;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        let what = if error == Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
            let certificate = tls.certificate.display();
            format!("the key does not belong to the first certificate of {certificate}")
        } else {
            format!("the key cannot be used: {error}")
        };
        PemFile::key(tls).mistake(what)
    })
}

/// Who is asked whether a client's certificate is good. Roots that have expired are left out: an old one may
/// stand in the file beside its successor, and must not keep the server from starting.
fn verifier(
    clients: &Clients,
    provider: &Arc<CryptoProvider>,
    now: UnixTime,
) -> Result<Arc<dyn ClientCertVerifier>, Mistake> {
    let file = PemFile::client_ca(clients);
    let mut roots = RootCertStore::empty();
    for (number, der) in (1..).zip(file.certificates()?) {
        let wrong = |what| file.mistake(format!("certificate {number} of the file {what}"));
        let good = Certificate::read(&der).map_err(wrong)?.good_at(now);
        if let Err(what) = good {
            tracing::warn!(file = %clients.ca.display(), number, "a root {what}; nobody is believed because of it");
            continue;
        }
        roots.add(der).map_err(|error| wrong(format!("cannot be a root: {error}")))?;
    }
    if roots.is_empty() {
        return Err(file.mistake("every certificate of the file has expired or is not valid yet"));
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
    let verifier = match clients.auth {
        ClientAuth::Require => verifier,
        ClientAuth::Optional => verifier.allow_unauthenticated(),
    };
    verifier.build().map_err(|error| file.mistake(format!("the roots cannot be used: {error}")))
}

fn server_config(
    provider: Arc<CryptoProvider>,
    min_version: TlsVersion,
    certified: CertifiedKey,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> ServerConfig {
    let versions: &[_] = match min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring has ciphers for every version");
    let shows_certificates = verifier.is_some();
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![H2.to_vec()];
    if shows_certificates {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config
}
