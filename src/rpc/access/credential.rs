//! What a call shows to say who makes it.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::domain::access::{Digest, Tokens, is_token};
use crate::domain::id::Principal;
use crate::rpc::access::Peer;

/// What somebody has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing.
    Nothing,
    /// The token that has this digest.
    Token(Digest),
    /// The certificate of the connection.
    Certificate,
}

/// Why it is not known who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rpc) enum Stranger {
    /// Nothing was shown, and `anonymous` is nobody.
    ShowsNothing,
    /// What was shown is not good, for this reason.
    ShowsWrong(&'static str),
}

const SEVERAL: Stranger = Stranger::ShowsWrong("the metadata has more than one authorization");
const NO_BEARER: Stranger = Stranger::ShowsWrong(
    "authorization must be the word Bearer, a space and a token as RFC 6750 allows it",
);
/// Tokens that were revoked and tokens that never were look the same.
pub(super) const UNKNOWN: Stranger = Stranger::ShowsWrong("the bearer token is not known");

/// Who calls: whose the token is, if one is shown, or else the certificate. A token says who makes this
/// call, and then the certificate says only through whom it comes.
pub(super) fn identify(
    headers: &HeaderMap,
    peer: Option<&Peer>,
    tokens: &Tokens,
) -> Result<(Principal, Shown), Stranger> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    match (shown.next(), shown.next()) {
        (Some(_), Some(_)) => Err(SEVERAL),
        (Some(one), None) => {
            let digest = digest(bearer(one).ok_or(NO_BEARER)?);
            let principal = tokens.principal(&digest).ok_or(UNKNOWN)?;
            Ok((principal.clone(), Shown::Token(digest)))
        }
        (None, _) => match peer {
            Some(Peer::Certified(principal)) => Ok((principal.clone(), Shown::Certificate)),
            Some(Peer::Nameless(why)) => Err(Stranger::ShowsWrong(why)),
            Some(Peer::Unknown) | None => Ok((Principal::anonymous(), Shown::Nothing)),
        },
    }
}

/// The token of `Bearer TOKEN` (RFC 6750, section 2.1). The scheme is of either case (RFC 9110, section
/// 11.1).
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && is_token(token)).then_some(token)
}

/// The digest of a token.
fn digest(token: &str) -> Digest {
    Digest::new(Sha256::digest(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::TOKEN_BYTES_MAX;

    fn headers(values: &[&str]) -> HeaderMap {
        let pair = |value: &&str| (AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        values.iter().map(pair).collect()
    }

    fn tokens() -> Tokens {
        let mut tokens = Tokens::default();
        tokens.add(digest("t0ken-_.~+/="), Principal::new("alice")).unwrap();
        tokens
    }

    fn who(values: &[&str], peer: Option<&Peer>) -> Result<String, Stranger> {
        let found = identify(&headers(values), peer, &tokens());
        found.map(|(principal, _)| principal.as_str().to_owned())
    }

    #[test]
    fn the_digest_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest("abc").to_string(), abc);
    }

    #[test]
    fn a_bearer_token_says_who_calls() {
        for value in ["Bearer t0ken-_.~+/=", "bearer t0ken-_.~+/=", "BEARER   t0ken-_.~+/="] {
            assert_eq!(who(&[value], None).as_deref(), Ok("alice"), "{value}");
        }
        assert_eq!(who(&["Bearer t0ken"], None), Err(UNKNOWN));
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer =",
            "Bearer a b",
            "Bearer t0ken-_.~+/=, Bearer x",
            "Bearer a=b",
            "Basic YTpi",
            "t0ken-_.~+/=",
            &format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1)),
        ] {
            assert_eq!(who(&[value], None), Err(NO_BEARER), "{value}");
        }
        assert_eq!(who(&["Bearer t0ken-_.~+/=", "Bearer t0ken-_.~+/="], None), Err(SEVERAL));
    }

    #[test]
    fn a_token_goes_before_a_certificate_and_a_certificate_before_nothing() {
        let certified = Peer::Certified(Principal::new("spiffe://x/y"));
        let nameless = Peer::Nameless("it has no name");
        let token = ["Bearer t0ken-_.~+/="];
        assert_eq!(who(&[], Some(&certified)).as_deref(), Ok("spiffe://x/y"));
        assert_eq!(who(&token, Some(&certified)).as_deref(), Ok("alice"));
        assert_eq!(who(&token, Some(&nameless)).as_deref(), Ok("alice"));
        assert_eq!(who(&["Bearer x"], Some(&certified)), Err(UNKNOWN), "a bad token is an error");
        assert_eq!(who(&[], Some(&nameless)), Err(Stranger::ShowsWrong("it has no name")));
        for peer in [None, Some(&Peer::Unknown)] {
            assert_eq!(who(&[], peer).as_deref(), Ok("anonymous"));
        }
    }
}
