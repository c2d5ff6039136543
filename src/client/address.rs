//! Where a server is: what a program says of it, read once.

use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;

use super::error::Error;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A host and a port; with TLS if the scheme is https.
    Network(Uri),
    /// A socket in the file system of this machine.
    Socket(PathBuf),
}

impl Address {
    /// Reads `https://HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            // gRPC also writes unix:///absolute/path.
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(Error::malformed("unix: needs a path after it")),
                path => Ok(Self::Socket(path.into())),
            };
        }
        let uri: Uri = text.parse().map_err(|error| {
            Error::malformed(format!("the address '{text}' cannot be read: {error}"))
        })?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        if known && uri.host().is_some_and(|host| !host.is_empty()) {
            Ok(Self::Network(uri))
        } else {
            Err(Error::malformed(
                "an address is written https://HOST:PORT, http://HOST:PORT or unix:PATH",
            ))
        }
    }

    /// Whom requests are addressed to.
    pub(super) fn origin(&self) -> Uri {
        match self {
            Self::Network(uri) => uri.clone(),
            // As gRPC libraries say it of a socket.
            Self::Socket(_) => Uri::from_static("http://localhost"),
        }
    }

    /// Whether TLS is spoken there.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Network(uri) if uri.scheme_str() == Some("https"))
    }

    /// Whether what is sent there never leaves this machine.
    pub(super) fn is_local(&self) -> bool {
        let Self::Network(uri) = self else {
            return true;
        };
        let host = host(uri);
        let address = host.parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

/// The host of an address; one of IPv6 without its brackets.
pub(super) fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_decides_how_a_server_is_spoken_to() {
        for (text, encrypted, local) in [
            ("http://127.0.0.1:50051", false, true),
            ("http://127.8.9.1:1", false, true),
            ("http://[::1]:1", false, true),
            ("http://[::ffff:127.0.0.1]:1", false, true),
            ("http://LocalHost:1", false, true),
            ("http://localhost.example:1", false, false),
            ("http://127.0.0.1.example:1", false, false),
            ("http://10.0.0.1:1", false, false),
            ("http://0.0.0.0:1", false, false),
            ("https://10.0.0.1:1", true, false),
            ("https://localhost:1", true, true),
            ("unix:run/jet.sock", false, true),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.is_encrypted(), address.is_local()), (encrypted, local), "{text}");
        }
        for text in ["unix:/run/jet.sock", "unix:///run/jet.sock"] {
            assert_eq!(Address::parse(text).unwrap(), Address::Socket("/run/jet.sock".into()));
        }
        for bad in ["", "unix:", "unix://", "localhost:1", "ftp://localhost:1", "http://", "a b"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
