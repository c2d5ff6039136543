//! Every error code of ESE: its number, its name, our sentence for the user, and what to do next.
//!
//! The facts (value, name, category, whether retrying can help, who may see the code) are those of
//! the `jet_err` list of the Extensible Storage Engine and of its error reference. The sentences are
//! ours. From a row everything a refusal needs is computed here: its [`Kind`], which `rpc` turns
//! into exactly one gRPC code, its [`RetryAdvice`], its [`Effect`], its reason for `ErrorInfo`, and
//! the page `docs/errors.md` ([`markdown`]).
//!
//! This module must never decide *whether* a call is refused, name a transport's types, or carry
//! anything about one particular refusal: who holds a context is the business of the refusal itself.
//! A number, once given to a name, never changes: clients have it compiled in.
//!
//! In reading order:
//!
//! - [`JetErr`]: the code and its lookups, here
//! - `table`: one row per code
//! - `category`: how ESE files a code: [`Category`], [`Retryable`], [`Visibility`]
//! - `verdict`: what we make of it: [`Kind`], [`RetryAdvice`], [`Effect`]
//! - `markdown`: the page

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// Makes [`JetErr`] and its lookups out of the rows in `table`.
macro_rules! jet_errs {
    ($($name:ident = $value:literal, $category:ident, $retryable:ident, $visibility:ident,
       $message:literal;)+) => {
        use super::{Category, Retryable, Row, Visibility};

        /// One code of ESE's error list. The discriminant is the code, so the order is by number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        pub enum JetErr {
            $(#[doc = $message] $name = $value,)+
        }

        /// All rows, in the list's order.
        pub(super) const ALL: &[JetErr] = &[$(JetErr::$name),+];

        /// The row of a code.
        pub(super) const fn row(err: JetErr) -> &'static Row {
            match err {
                $(JetErr::$name => &Row {
                    name: concat!("JET_err", stringify!($name)),
                    category: Category::$category,
                    retryable: Retryable::$retryable,
                    visibility: Visibility::$visibility,
                    message: $message,
                },)+
            }
        }

        /// The code with this number.
        pub(super) const fn from_code(code: i32) -> Option<JetErr> {
            match code {
                $($value => Some(JetErr::$name),)+
                _ => None,
            }
        }
    };
}

mod category;
mod markdown;
mod table;
#[cfg(test)]
mod tests;
mod verdict;

pub use category::{Category, Retryable, Visibility};
pub use markdown::markdown;
pub use table::JetErr;
pub use verdict::{Effect, Kind, RetryAdvice, Verdict};

/// What every name in ESE's headers begins with.
const PREFIX: &str = "JET_err";

impl JetErr {
    /// Every code, in the order of ESE's list: success first, then by falling number.
    pub const ALL: &'static [JetErr] = table::ALL;

    /// The code with this number, if ESE has one.
    pub const fn from_code(code: i32) -> Option<JetErr> {
        table::from_code(code)
    }

    /// The code with this name, written with or without `JET_err`. Case matters.
    pub fn from_name(name: &str) -> Option<JetErr> {
        let short = name.strip_prefix(PREFIX).unwrap_or(name);
        Self::ALL.iter().copied().find(|err| err.short_name() == short)
    }

    /// The number, as in `-1912`; 0 for success and negative for all others.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The full name, as in `JET_errSessionContextAlreadySet`.
    pub const fn name(self) -> &'static str {
        table::row(self).name
    }

    /// The name without its prefix, as in `SessionContextAlreadySet`.
    pub const fn short_name(self) -> &'static str {
        self.name().split_at(PREFIX.len()).1
    }

    /// The short name in UPPER_SNAKE, as in `SESSION_CONTEXT_ALREADY_SET`: the reason in `ErrorInfo`.
    pub fn reason(self) -> String {
        upper_snake(self.short_name())
    }

    /// Where ESE files the code.
    pub const fn category(self) -> Category {
        table::row(self).category
    }

    /// ESE's own word on whether retrying can help. For what to tell a caller see [`JetErr::retry`].
    pub const fn retryable(self) -> Retryable {
        table::row(self).retryable
    }

    /// Whether callers of ESE may meet the code.
    pub const fn visibility(self) -> Visibility {
        table::row(self).visibility
    }

    /// What is true and what to do, in one or two sentences of plain English for a user.
    pub const fn message(self) -> &'static str {
        table::row(self).message
    }
}

/// Prints `JET_errSessionContextAlreadySet (-1912)`: for logs. A user gets [`JetErr::message`].
impl fmt::Display for JetErr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

/// So that a code can be the `source` of a refusal.
impl Error for JetErr {}

impl FromStr for JetErr {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::from_name(name).ok_or(UnknownName)
    }
}

/// The name is not that of any code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownName;

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no JET error has this name")
    }
}

impl Error for UnknownName {}

/// What the table holds about one code beside its number.
#[derive(Debug)]
struct Row {
    name: &'static str,
    category: Category,
    retryable: Retryable,
    visibility: Visibility,
    message: &'static str,
}

/// A break before a capital that follows a lower-case letter or digit, and before the last capital
/// of a run followed by a lower-case letter.
fn upper_snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + name.len() / 2);
    let mut before: Option<char> = None;
    let mut rest = name.chars().peekable();
    while let Some(letter) = rest.next() {
        if let Some(before) = before
            && letter.is_ascii_uppercase()
        {
            let starts_word = before.is_ascii_lowercase() || before.is_ascii_digit();
            let ends_run =
                before.is_ascii_uppercase() && rest.peek().is_some_and(char::is_ascii_lowercase);
            if starts_word || ends_run {
                out.push('_');
            }
        }
        out.push(letter.to_ascii_uppercase());
        before = Some(letter);
    }
    out
}
