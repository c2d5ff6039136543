//! What stands between a client and a server that is there: the wrong protocol, or certificates.

use std::error::Error;
use std::io;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

/// Why a connection does not come about, or breaks before the first call got through, although something
/// answers at the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// Nobody whom we trust has signed it.
    #[error("the server's certificate is not signed by {0}")]
    NotSigned(String),
    /// It is for other names.
    #[error("the server's certificate is {presented} and not for {expected}")]
    OtherName { expected: String, presented: String },
    /// It is of another time, or cannot be used for another reason.
    #[error("the server's certificate {0}")]
    BadCertificate(String),
    /// The server wants to know who we are.
    #[error("the server asks for a client certificate, and none was given")]
    Unidentified,
    /// The server does not take who we say we are.
    #[error("the server does not accept the client certificate ({0})")]
    NotAccepted(String),
    /// Plaintext is spoken there.
    #[error("no TLS is spoken there")]
    NoTls,
    /// It may be that plaintext is spoken there.
    #[error("the server closed the connection instead of speaking TLS")]
    HungUpOnTls,
    /// TLS is spoken there.
    #[error("TLS is spoken there, and no plaintext")]
    OnlyTls,
    /// It may be that TLS is spoken there.
    #[error("the server closed the connection instead of answering plaintext")]
    HungUpOnPlaintext,
    /// It may have too many connections.
    #[error("the server closed the connection without a word")]
    HungUp,
    /// A web server, or a proxy that is not set up for gRPC.
    #[error("HTTP/2 is not spoken there, which gRPC needs")]
    NoHttp2,
    /// Another failure of TLS.
    #[error("TLS failed: {0}")]
    Tls(String),
}

/// What comes in front of what a server says of our certificate.
const NOT_ACCEPTED: &str = "the server does not accept the client certificate (";

impl Trouble {
    /// The trouble among the causes of an error, if there is one.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = error;
        loop {
            if let Some(trouble) = cause.downcast_ref::<Self>() {
                return Some(trouble.clone());
            }
            let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(trouble) = inner.and_then(|inner| inner.downcast_ref::<Self>()) {
                return Some(trouble.clone());
            }
            match cause.source() {
                Some(source) => cause = source,
                // h2 keeps only the words of an I/O error.
                None => return Self::in_words(&cause.to_string()),
            }
        }
    }

    /// The trouble that has these words, if a connection can break with it.
    fn in_words(words: &str) -> Option<Self> {
        let plain = [
            Self::Unidentified,
            Self::OnlyTls,
            Self::HungUpOnPlaintext,
            Self::HungUp,
            Self::NoHttp2,
        ];
        let known = plain.into_iter().find(|trouble| words == trouble.to_string());
        let alert = || words.strip_prefix(NOT_ACCEPTED)?.strip_suffix(')');
        known.or_else(|| alert().map(|alert| Self::NotAccepted(alert.to_owned())))
    }

    /// What a failed handshake comes to; `authority` has to have signed the server's certificate.
    pub(super) fn in_handshake(error: &io::Error, authority: &str) -> Option<Self> {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => Some(Self::certificate(why, authority)),
            Some(error) => Some(Self::tls(error)),
            None if is_end(error) => Some(Self::HungUpOnTls),
            None => None,
        }
    }

    /// What an error of an established connection comes to, if it is one of TLS.
    pub(super) fn in_stream(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<rustls::Error>().map(Self::tls)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what rustls says is said in its words")]
    fn certificate(why: &CertificateError, authority: &str) -> Self {
        match why {
            // The latter where an authority of the same name is trusted, such as one that was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::NotSigned(authority.to_owned())
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let presented = match presented.as_slice() {
                    [] => "for no name".to_owned(),
                    names => {
                        let names: Vec<_> = names.iter().map(|name| plain(name)).collect();
                        format!("for {}", names.join(", "))
                    }
                };
                Self::OtherName { expected: expected.to_str().into_owned(), presented }
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::BadCertificate(format!("expired at {}", time(not_after.as_secs())))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::BadCertificate(format!("is not valid before {}", time(not_before.as_secs())))
            }
            other => Self::BadCertificate(format!("does not pass: {other}")),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what rustls says is said in its words")]
    fn tls(error: &rustls::Error) -> Self {
        use AlertDescription as Alert;
        match error {
            rustls::Error::AlertReceived(Alert::CertificateRequired) => Self::Unidentified,
            rustls::Error::AlertReceived(
                alert @ (Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError),
            ) => Self::NotAccepted(format!("{alert:?}")),
            rustls::Error::AlertReceived(Alert::NoApplicationProtocol) => Self::NoHttp2,
            rustls::Error::AlertReceived(alert) => {
                Self::Tls(format!("the server ended it with {alert:?}"))
            }
            rustls::Error::InvalidMessage(_) => Self::NoTls,
            other => Self::Tls(other.to_string()),
        }
    }

    /// Whether one side does not take who the other one says it is.
    pub(crate) fn is_distrust(&self) -> bool {
        match self {
            Self::NotSigned(_)
            | Self::OtherName { .. }
            | Self::BadCertificate(_)
            | Self::Unidentified
            | Self::NotAccepted(_) => true,
            Self::NoTls
            | Self::HungUpOnTls
            | Self::OnlyTls
            | Self::HungUpOnPlaintext
            | Self::HungUp
            | Self::NoHttp2
            | Self::Tls(_) => false,
        }
    }

    /// Whether it shows that the server has not read a single request of the connection.
    pub(crate) fn is_before_all(&self) -> bool {
        // A server may die after a request that it read and before its first byte is heard.
        !matches!(self, Self::HungUpOnPlaintext | Self::HungUp | Self::Tls(_))
    }

    /// Whether another try meets the same. Certificates change while a program runs; what is spoken at
    /// an address does not.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Self::NoTls | Self::OnlyTls | Self::NoHttp2)
    }
}

/// The name in `DnsName("name")`, as rustls tells of what a certificate is for.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// Whether the other side hung up.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// A moment as certificates tell it.
fn time(seconds: u64) -> String {
    // Beyond the year 9999 nothing can be written; nobody lives to see such a certificate expire.
    const LAST: u64 = 253_402_300_799;
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(LAST));
    humantime::format_rfc3339_seconds(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_found_again_among_the_causes_of_an_error() {
        let all = [
            Trouble::Unidentified,
            Trouble::OnlyTls,
            Trouble::HungUpOnPlaintext,
            Trouble::HungUp,
            Trouble::NoHttp2,
            Trouble::NotAccepted("UnknownCA".to_owned()),
        ];
        for trouble in all {
            let typed = io::Error::other(trouble.clone());
            let words = io::Error::other(trouble.to_string());
            for error in [typed, words] {
                let status = tonic::Status::from_error(Box::new(error));
                assert_eq!(Trouble::of(&status), Some(trouble.clone()));
            }
        }
        let other = tonic::Status::from_error("Connection refused".into());
        assert_eq!(Trouble::of(&other), None);
    }
}
