//! The file that `auth.tokens` names: bearer tokens, and whose they are.
//!
//! ```toml
//! [[token]]
//! principal = "worker-3"
//! sha256    = "…64 hexadecimal digits…"
//! ```
//!
//! What stands in the place of a digest is never repeated: it may be the token itself.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::config::sources::Mistake;
use crate::config::tables::Document;
use crate::config::tables::Tables;
use crate::domain::access::{Digest, Tokens, is_token};
use crate::domain::id::{Malformed, Principal};
use crate::domain::limits::{PRINCIPAL_BYTES_MAX, TOKENS_MAX};

const TOKENS: Tables = Tables {
    name: "token",
    keys: &["principal", "sha256"],
    max: TOKENS_MAX,
    none: "nobody would be known by one",
};

/// Reads tokens, or says all that is wrong with them.
pub fn tokens(file: &Document) -> Result<Tokens, Vec<Mistake>> {
    let mut tokens = Tokens::default();
    TOKENS.read(file, |row, wrong| {
        let principal = row.text("principal", wrong).and_then(|principal| {
            let read = token_principal(principal.text);
            let note = |rule| wrong.at(&principal.place, format!("principal: {rule}"));
            read.map_err(note).ok()
        });
        let digest = row.text("sha256", wrong).and_then(|sha256| {
            let read = sha256.text.parse::<Digest>();
            let note = |rule| wrong.at(&sha256.place, format!("sha256: {rule}"));
            Some((read.map_err(note).ok()?, sha256.place))
        });
        let (principal, (digest, place)) = (principal?, digest?);
        let added = tokens.add(digest, principal);
        added.map_err(|rule| wrong.at(&place, format!("sha256: {rule}"))).ok()
    })?;
    Ok(tokens)
}

/// A principal that a token can be of.
pub fn token_principal(name: &str) -> Result<Principal, Malformed> {
    let fits = (1..=PRINCIPAL_BYTES_MAX).contains(&name.len());
    if !fits || name.chars().any(char::is_control) {
        return Err(Malformed("a principal is 1 to 256 bytes of text without control characters"));
    }
    if name == Principal::ANONYMOUS {
        return Err(Malformed("anonymous is who shows no token"));
    }
    if name.contains('*') {
        return Err(Malformed("must not have a *: rules could not tell it from a pattern"));
    }
    Ok(Principal::new(name))
}

/// The entry of a token in the file.
#[derive(Debug)]
pub struct Entry<'a> {
    principal: &'a Principal,
    digest: Digest,
}

impl<'a> Entry<'a> {
    /// The entry of this token, if it can be one.
    pub fn new(principal: &'a Principal, token: &str) -> Result<Self, Malformed> {
        if !is_token(token) {
            return Err(Malformed(
                "a token is 1 to 512 letters, digits and -._~+/, perhaps with = at its end",
            ));
        }
        let digest = Digest::new(Sha256::digest(token.as_bytes()).into());
        Ok(Self { principal, digest })
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let principal = toml_text(self.principal.as_str());
        write!(f, "[[token]]\nprincipal = {principal}\nsha256 = \"{}\"", self.digest)
    }
}

/// A text without control characters, as TOML writes it.
fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tokens, Vec<String>> {
        let file = Document { name: "tokens.toml".to_owned(), text: text.to_owned() };
        tokens(&file).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_entry_is_read_as_it_is_written() {
        for name in ["worker-3", "spiffe://x/ns/a", "a \"quoted\" \\ name", "ü"] {
            let principal = token_principal(name).unwrap();
            let entry = Entry::new(&principal, "abc").unwrap();
            let (text, digest) = (entry.to_string(), entry.digest);
            assert_eq!(read(&text).unwrap().principal(&digest), Some(&principal), "{text}");
            // FIPS 180-2, appendix B.1.
            assert!(
                text.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
            );
        }
        assert!(Entry::new(&Principal::new("a"), "two words").is_err());
    }

    #[test]
    fn all_mistakes_are_told_and_no_secret() {
        let good = "a5".repeat(32);
        let long = "x".repeat(257);
        let text = format!(
            "[[token]]\nprincipal = 'a'\nsha256 = '{good}'\n\
             [[token]]\nprincipal = 'b'\nsha256 = '{good}'\n\
             [[token]]\nprincipal = 'anonymous'\nsha256 = 's3cret-token'\n\
             [[token]]\nprincipal = '{long}'\ntoken = 's3cret-token'\n\
             [[token]]\nprincipal = 7\nsha256 = 7\n\
             [[token]]\nprincipal = 'w-*'\nsha256 = '{}'\n",
            "b5".repeat(32),
        );
        let mistakes = read(&text).unwrap_err();
        let expected = [
            "tokens.toml:12: 'token' is not known here; a token has principal, sha256",
            "tokens.toml:10: this token has no sha256; it needs principal, sha256",
            "tokens.toml:6: sha256: is there twice: a token is of one principal",
            "tokens.toml:8: principal: anonymous is who shows no token",
            "tokens.toml:9: sha256: must be the SHA-256 of a token, as 64 hexadecimal digits",
            "tokens.toml:11: principal: a principal is 1 to 256 bytes of text without control characters",
            "tokens.toml:14: principal must be a text",
            "tokens.toml:15: sha256 must be a text",
            "tokens.toml:17: principal: must not have a *: rules could not tell it from a pattern",
        ];
        assert_eq!(mistakes, expected);
        assert_eq!(read("").unwrap_err().len(), 1, "an empty file would lock everybody out");
    }
}
