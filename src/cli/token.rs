//! `jet-session token`: bearer tokens, without a server and without openssl.

use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args as ClapArgs;
use serde_json::json;

use crate::config::{Entry, token_principal};
use crate::domain::id::Principal;

use super::failure::Failure;
use super::output::Output;

/// Random bytes of a token: as many as its SHA-256 has.
const RANDOM_BYTES: usize = 32;

/// More than any token has, in bytes.
const READ_BYTES_MAX: u64 = 4 * 1024;

/// What `token` takes.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Whose token it is: what the rules of auth.policy call its client
    #[arg(long, value_name = "NAME", default_value = "NAME", value_parser = principal)]
    principal: Principal,

    /// Read a token from stdin instead of drawing one, and print its entry
    #[arg(long)]
    hash: bool,
}

fn principal(name: &str) -> Result<Principal, String> {
    token_principal(name).map_err(|rule| rule.to_string())
}

impl Args {
    /// Prints the token, which is for the client and nobody else, and shows beside it the entry for
    /// `auth.tokens`; or with `--hash` the entry alone.
    pub(super) fn run(&self, out: &mut Output<'_>) -> Result<(), Failure> {
        if self.hash {
            let token = read(io::stdin().lock())?;
            let entry = self.entry(&token)?;
            return out.value(&json!({ "entry": entry }), &entry);
        }
        let token = draw()?;
        let entry = self.entry(&token)?;
        out.value(&json!({ "token": token, "entry": entry }), &token)?;
        out.note(&format!("the entry for the file of auth.tokens:\n\n{entry}"))
    }

    fn entry(&self, token: &str) -> Result<String, Failure> {
        let entry = Entry::new(&self.principal, token);
        entry.map(|entry| entry.to_string()).map_err(|rule| Failure::Usage(rule.to_string()))
    }
}

/// A token that nobody can guess.
fn draw() -> Result<String, Failure> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::Runtime(io::Error::other(format!("the system gives no random bytes: {error}")))
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The token in a text that may end its line.
fn read(input: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    input
        .take(READ_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::File { path: "stdin".into(), error })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(json: bool) -> (String, String) {
        let args = Args { principal: Principal::new("worker-3"), hash: false };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        args.run(&mut Output::new(json, &mut stdout, &mut stderr)).unwrap();
        (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    #[test]
    fn a_token_is_drawn_with_its_entry_beside_it() {
        let (token, note) = run(false);
        let token = token.strip_suffix('\n').unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(token).unwrap().len(), RANDOM_BYTES);
        assert!(!note.contains(token), "the entry does not tell the token");
        let principal = Principal::new("worker-3");
        let entry = Entry::new(&principal, token).unwrap().to_string();
        assert!(note.ends_with(&format!("\n\n{entry}\n")), "{note}");
        assert_ne!(run(false).0, run(false).0, "each is another one");
        let (json, nothing) = run(true);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(json["token"].is_string() && json["entry"].is_string() && nothing.is_empty());
    }

    #[test]
    fn a_token_is_read_with_or_without_the_end_of_its_line() {
        for text in ["abc", "abc\n", "abc\r\n"] {
            assert_eq!(read(text.as_bytes()).unwrap(), "abc");
        }
        let args = Args { principal: Principal::new("a"), hash: true };
        assert!(args.entry(&read("two words\n".as_bytes()).unwrap()).is_err());
        assert!(args.entry(&read(&b""[..]).unwrap()).is_err());
    }
}
