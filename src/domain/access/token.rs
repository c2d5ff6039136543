//! Bearer tokens, of which only digests are known here.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::domain::id::{Malformed, Principal};
use crate::domain::limits::TOKEN_BYTES_MAX;

/// The SHA-256 of a token.
///
/// Whoever reads one can do nothing with it, as long as the token has been drawn at random. It is compared
/// like any value: who guesses tokens cannot steer their digests, so how long a comparison takes tells
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; Self::BYTES]);

impl Digest {
    const BYTES: usize = 32;

    /// The digest that consists of these bytes.
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Digest {
    type Err = Malformed;

    /// Reads 64 hexadecimal digits, of either case.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        const RULE: Malformed =
            Malformed("must be the SHA-256 of a token, as 64 hexadecimal digits");
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::BYTES {
            return Err(RULE);
        }
        let value = |digit: u8| {
            let value = char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
            value.ok_or(RULE)
        };
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a text can be a bearer token: letters, digits and `-._~+/`, perhaps with `=` at its end (RFC 6750,
/// section 2.1), and not longer than what is looked at.
pub fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    !body.is_empty() && text.len() <= TOKEN_BYTES_MAX && body.bytes().all(plain)
}

/// Whose tokens are whose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens(BTreeMap<Digest, Principal>);

impl Tokens {
    /// Adds a token, unless it is there already.
    pub fn add(&mut self, digest: Digest, principal: Principal) -> Result<(), Malformed> {
        if self.0.contains_key(&digest) {
            return Err(Malformed("is there twice: a token is of one principal"));
        }
        self.0.insert(digest, principal);
        Ok(())
    }

    /// Whose token it is.
    pub fn principal(&self, digest: &Digest) -> Option<&Principal> {
        self.0.get(digest)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let text = "00ff".to_owned() + &"a5".repeat(30);
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
        for bad in ["", &text[..62], &format!("{text}00"), &"g".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_has_only_letters_that_rfc_6750_allows() {
        for good in ["a", "t0ken-_.~+/=", "a==", &"x".repeat(TOKEN_BYTES_MAX)] {
            assert!(is_token(good), "{good}");
        }
        for bad in ["", "=", "a b", "a=b", "a,b", "ü", "a\n", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert!(!is_token(bad), "{bad}");
        }
    }

    #[test]
    fn a_token_is_of_one_principal() {
        let digest = |byte| Digest::new([byte; 32]);
        let mut tokens = Tokens::default();
        assert!(tokens.is_empty());
        tokens.add(digest(1), Principal::new("alice")).unwrap();
        tokens.add(digest(2), Principal::new("alice")).unwrap();
        assert!(tokens.add(digest(1), Principal::new("bob")).is_err());
        assert_eq!(tokens.principal(&digest(1)), Some(&Principal::new("alice")));
        assert_eq!((tokens.principal(&digest(3)), tokens.len()), (None, 2));
    }
}
