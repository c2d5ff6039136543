//! The bearer token with which a client says who it is.
//!
//! One from a file is read again when it may have changed, because tokens rotate: a call that finds that
//! the file was last looked at some seconds ago looks again before it goes out, and all others cost a
//! glance at the clock. Nothing runs while no call is made.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use crate::domain::limits::CLIENT_TOKEN_BYTES_MAX;

use super::clock::now;
use super::error::Error;

/// For how long a token that was read from a file is used before the file is looked at again. Tokens that
/// rotate overlap by minutes.
const FRESH: Duration = Duration::from_secs(5);

/// Where a client has its token from.
#[derive(Clone)]
pub(super) enum Source {
    Text(String),
    File(PathBuf),
}

/// A token, ready to be sent.
#[derive(Clone)]
pub(super) enum Token {
    Given(HeaderValue),
    Read(Arc<TokenFile>),
}

/// A file with a token, and what was in it.
pub(super) struct TokenFile {
    path: PathBuf,
    kept: Mutex<Kept>,
    /// Held by the call that looks at the file; others that need to know wait for it.
    looking: tokio::sync::Mutex<()>,
}

struct Kept {
    header: HeaderValue,
    since: Instant,
}

impl Source {
    /// Takes the token from there for the first time.
    pub(super) fn load(self) -> Result<Token, Error> {
        match self {
            Self::Text(text) => header(&text).map(Token::Given).map_err(|rule| {
                // The text itself is not repeated: it is a secret.
                Error::malformed(format!("the token cannot be one: {rule}"))
            }),
            Self::File(path) => {
                let header = read(&path).map_err(|why| {
                    Error::malformed(format!("the token file {}: {why}", path.display()))
                })?;
                let kept = Mutex::new(Kept { header, since: now() });
                Ok(Token::Read(Arc::new(TokenFile { path, kept, looking: Default::default() })))
            }
        }
    }
}

impl Token {
    /// What to send now; `None` if the file has to be looked at first.
    pub(super) fn ready(&self) -> Option<HeaderValue> {
        match self {
            Self::Given(header) => Some(header.clone()),
            Self::Read(file) => file.ready(),
        }
    }

    /// What to send, after a look at the file if need be.
    pub(super) async fn fresh(&self) -> HeaderValue {
        match self {
            Self::Given(header) => header.clone(),
            Self::Read(file) => file.fresh().await,
        }
    }
}

impl TokenFile {
    fn ready(&self) -> Option<HeaderValue> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (now().saturating_duration_since(kept.since) < FRESH).then(|| kept.header.clone())
    }

    async fn fresh(self: &Arc<Self>) -> HeaderValue {
        let _turn = self.looking.lock().await;
        // Another call may have looked meanwhile.
        if let Some(header) = self.ready() {
            return header;
        }
        let file = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || read(&file.path)).await;
        let found = found.unwrap_or_else(|_| Err("it was not read".to_owned()));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.since = now();
        match found {
            Ok(header) => kept.header = header,
            // It may be in the middle of being replaced, and the old token may still do.
            Err(why) => {
                tracing::warn!(file = %self.path.display(), why, "the token stays as it was");
            }
        }
        kept.header.clone()
    }
}

/// Reads a file with nothing but a token in it, and white space around it.
fn read(path: &Path) -> Result<HeaderValue, String> {
    let text = bounded(path, CLIENT_TOKEN_BYTES_MAX).map_err(|error| error.to_string())?;
    // The bytes are not repeated: they may be a secret in the wrong form.
    header(str::from_utf8(&text).map_err(|_| "it holds no text".to_owned())?.trim())
}

/// Reads a file that may have only so many bytes.
pub(super) fn bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A device may have no end.
    std::fs::File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::other(format!("it has more than {max} bytes")));
    }
    Ok(bytes)
}

fn header(token: &str) -> Result<HeaderValue, String> {
    if token.is_empty() {
        return Err("there is none".to_owned());
    }
    if token.len() > CLIENT_TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "it is at most {CLIENT_TOKEN_BYTES_MAX} visible ASCII characters, no spaces"
        ));
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "it is no header".to_owned())?;
    // Neither printed while debugging nor kept in the compression table of the connection.
    header.set_sensitive(true);
    Ok(header)
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(..)"),
            Self::Read(file) => f.debug_tuple("Read").field(&file.path).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn text(header: &HeaderValue) -> &str {
        header.to_str().unwrap()
    }

    #[test]
    fn a_token_is_never_printed() {
        let source = Source::Text("s3cret".to_owned());
        assert_eq!(format!("{source:?}"), "Text(..)");
        let token = source.load().unwrap();
        assert_eq!(format!("{token:?} {:?}", token.ready().unwrap()), "Given(..) Sensitive");
        assert_eq!(text(&token.ready().unwrap()), "Bearer s3cret");
        let refused = Source::Text("s3cret s3cret".to_owned()).load().unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("s3cret"), "{refused:?}");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        let long = "x".repeat(CLIENT_TOKEN_BYTES_MAX + 1);
        for bad in ["", "a b", "a\nb", "ä", "\u{7f}", &long] {
            assert!(Source::Text(bad.to_owned()).load().is_err(), "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let load = || Source::File(file.clone()).load();
        assert!(load().unwrap_err().to_string().contains("No such file"));
        for bad in [&b""[..], b" \n", b"a b", b"\xff", &[b'x'; 2 * CLIENT_TOKEN_BYTES_MAX]] {
            fs::write(&file, bad).unwrap();
            assert!(load().is_err(), "{bad:?}");
        }
        fs::write(&file, "good\n").unwrap();
        assert_eq!(text(&load().unwrap().ready().unwrap()), "Bearer good");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_after_a_while_and_no_sooner() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "first").unwrap();
        let token = Source::File(file.clone()).load().unwrap();

        fs::write(&file, "second").unwrap();
        tokio::time::advance(FRESH - Duration::from_millis(1)).await;
        assert_eq!(text(&token.ready().unwrap()), "Bearer first");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(token.ready(), None);
        assert_eq!(text(&token.fresh().await), "Bearer second");
        assert_eq!(text(&token.ready().unwrap()), "Bearer second");

        // What cannot be read does not take away what there is.
        fs::remove_file(&file).unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(text(&token.fresh().await), "Bearer second");
        assert!(token.ready().is_some(), "a broken file is looked at again and again");
    }
}
