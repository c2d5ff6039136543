//! What a certificate says: how long it is good, and whose it is.

use std::time::{Duration, UNIX_EPOCH};

use tokio_rustls::rustls::pki_types::UnixTime;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use crate::domain::id::Principal;
use crate::domain::limits::PRINCIPAL_BYTES_MAX;
use crate::rpc::access::Peer;

/// A certificate (RFC 5280). Whether it is signed by whom it says is not looked at here.
#[derive(Debug)]
pub(super) struct Certificate(x509_cert::Certificate);

impl Certificate {
    /// The certificate, or what is wrong with it.
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        let read = x509_cert::Certificate::from_der(der);
        read.map(Self).map_err(|error| format!("cannot be read: {error}"))
    }

    /// When it expires.
    pub(super) fn not_after(&self) -> UnixTime {
        unix_time(self.0.tbs_certificate().validity().not_after)
    }

    /// Whether it is good now, or why not.
    pub(super) fn good_at(&self, now: UnixTime) -> Result<(), String> {
        let not_before = unix_time(self.0.tbs_certificate().validity().not_before);
        if now < not_before {
            return Err(format!("is not valid before {}", text(not_before)));
        }
        if now > self.not_after() {
            return Err(format!("has expired at {}", text(self.not_after())));
        }
        Ok(())
    }

    /// Whose it is: the one URI, as of an X.509-SVID (SPIFFE), or else the first DNS name. What is called the
    /// subject is not looked at (RFC 9525, section 1.2).
    fn principal(&self) -> Result<Principal, &'static str> {
        let found = self.0.tbs_certificate().get_extension::<SubjectAltName>();
        let names = match found.map_err(|_| "its names cannot be read")? {
            Some((_, SubjectAltName(names))) => names,
            None => return Err("it has neither a URI nor a DNS name"),
        };
        let mut uris = names.iter().filter_map(|name| {
            if let GeneralName::UniformResourceIdentifier(uri) = name {
                Some(uri.as_str())
            } else {
                None
            }
        });
        let mut hosts = names.iter().filter_map(|name| {
            if let GeneralName::DnsName(host) = name { Some(host.as_str()) } else { None }
        });
        let name = match (uris.next(), uris.next()) {
            (Some(uri), None) => uri,
            (Some(_), Some(_)) => return Err("it has more than one URI"),
            (None, _) => hosts.next().ok_or("it has neither a URI nor a DNS name")?,
        };
        named(name)
    }
}

/// Whom a client's certificate names.
pub(super) fn peer(der: &[u8]) -> Peer {
    let read = Certificate::read(der).map_err(|_| "it cannot be read");
    match read.and_then(|certificate| certificate.principal()) {
        Ok(principal) => Peer::Certified(principal),
        Err(why) => Peer::Nameless(why),
    }
}

/// The principal of this name, if it can be one.
fn named(name: &str) -> Result<Principal, &'static str> {
    if name.is_empty() || name.len() > PRINCIPAL_BYTES_MAX {
        return Err("its name is empty or too long");
    }
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its name has characters that are not visible");
    }
    if name.starts_with("*.") {
        return Err("its name stands for many");
    }
    if name.eq_ignore_ascii_case(Principal::anonymous().as_str()) {
        return Err("its name is that of whoever has none");
    }
    Ok(Principal::new(name))
}

fn unix_time(time: Time) -> UnixTime {
    UnixTime::since_unix_epoch(time.to_unix_duration())
}

/// A time as people write it (RFC 3339).
pub(super) fn text(time: UnixTime) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.as_secs())).to_string()
}
