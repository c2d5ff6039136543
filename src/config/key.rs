//! What a setting is: its name, what it takes, its default, what it means, and why.

use std::time::Duration;

/// What a setting takes, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Switch,
    /// A whole number, from `least` to `most`.
    Number {
        /// The smallest that is taken.
        least: u64,
        /// The largest that is taken.
        most: u64,
    },
    /// A number from 0 to 1.
    Ratio,
    /// A number of seconds, or a text such as `1m30s`; at most so many seconds.
    Duration {
        /// The most that is taken, in seconds.
        most: u64,
    },
    /// One of a few words.
    Word(&'static [&'static str]),
    /// An address with its port.
    Address,
    /// A path of a file or a directory.
    Path,
    /// Where somebody else listens.
    Url,
    /// Places to listen at: an array in the file, separated by commas in the environment, a flag each.
    Places {
        /// How many there may be.
        most: usize,
    },
    /// Headers, as `NAME=VALUE`; written as places are.
    Headers {
        /// How many there may be.
        most: usize,
    },
}

impl Kind {
    /// Whether it takes several values.
    pub fn is_list(self) -> bool {
        match self {
            Self::Places { .. } | Self::Headers { .. } => true,
            Self::Switch
            | Self::Number { .. }
            | Self::Ratio
            | Self::Duration { .. }
            | Self::Word(_)
            | Self::Address
            | Self::Path
            | Self::Url => false,
        }
    }

    /// What is taken, as it follows "must be". Of a list: each of its values.
    pub fn takes(self) -> String {
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Number { least, most } => {
                format!("a whole number from {} to {}", grouped(least), grouped(most))
            }
            Self::Ratio => "a number from 0 to 1".to_owned(),
            Self::Duration { most } => format!(
                "seconds, or a duration such as 500ms or 1m30s, of at most {}",
                humantime::format_duration(Duration::from_secs(most))
            ),
            Self::Word([words @ .., last]) if !words.is_empty() => {
                format!("{} or {last}", words.join(", "))
            }
            Self::Word(words) => words.concat(),
            Self::Address => "IP:PORT, such as 127.0.0.1:9464 or [::]:9464".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Url => "a URL such as http://localhost:4317".to_owned(),
            Self::Places { .. } => {
                "IP:PORT, such as 127.0.0.1:50051 or [::1]:50051, or unix:PATH".to_owned()
            }
            Self::Headers { .. } => "NAME=VALUE".to_owned(),
        }
    }

    /// How many values a list has, as it follows "must be".
    pub(super) fn count(self) -> Option<(std::ops::RangeInclusive<usize>, String)> {
        match self {
            Self::Places { most } => Some((1..=most, format!("1 to {most} places"))),
            Self::Headers { most } => Some((0..=most, format!("at most {most} headers"))),
            Self::Switch
            | Self::Number { .. }
            | Self::Ratio
            | Self::Duration { .. }
            | Self::Word(_)
            | Self::Address
            | Self::Path
            | Self::Url => None,
        }
    }

    /// How it is written in the file, as it follows "must be".
    pub(super) fn written(self) -> &'static str {
        match self {
            Self::Switch => "true or false",
            Self::Number { .. } => "a whole number",
            Self::Ratio => "a number",
            Self::Duration { .. } => {
                "a whole number of seconds, or a text in quotes such as \"10s\""
            }
            Self::Word(_) | Self::Address | Self::Path | Self::Url => "a text in quotes",
            Self::Places { .. } | Self::Headers { .. } => "an array of texts in quotes",
        }
    }
}

/// A number with `_` between its thousands, as it may also be typed.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

/// When a change of a setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// At the next reload: SIGHUP, or a change of a file. Of one that names a file: if it named one before
    /// and names one now; what is turned on or off takes a start.
    Reload,
    /// At the next start.
    Restart,
}

/// A setting.
#[derive(Debug)]
pub struct Key {
    /// Its name, such as `tls.key`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What stands for its value in help, such as `FILE`; empty for a switch.
    pub value: &'static str,
    /// Its value if nobody gives one, as it would be written; empty if it then has none.
    pub default: &'static str,
    /// The setting without which this one means nothing, if there is one.
    pub with: Option<&'static str>,
    /// What it means, as a line of help.
    pub help: &'static str,
    /// Why it has its default, or its bounds, and what else an operator should know.
    pub why: &'static str,
    /// When a change takes effect.
    pub takes: Takes,
    /// Whether nobody may read its value.
    pub secret: bool,
}

impl Key {
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        value: &'static str,
        help: &'static str,
    ) -> Self {
        let (default, with, why) = ("", None, "");
        Self { name, kind, value, default, with, help, why, takes: Takes::Restart, secret: false }
    }

    pub(super) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    pub(super) const fn with(self, other: &'static str) -> Self {
        Self { with: Some(other), ..self }
    }

    pub(super) const fn why(self, why: &'static str) -> Self {
        Self { why, ..self }
    }

    pub(super) const fn live(self) -> Self {
        Self { takes: Takes::Reload, ..self }
    }

    pub(super) const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    /// The variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// The key of this name.
    pub fn of(name: &str) -> Option<&'static Self> {
        super::KEYS.iter().find(|key| key.name == name)
    }
}

/// What all our variables begin with.
pub const PREFIX: &str = "JET_SESSION_";

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "JET_SESSION_CONFIG";

/// Variables that begin so and are not settings of a server: most are the command line's own.
pub(super) const OTHER_VARIABLES: &[&str] = &[
    // Of the build: cargo passes it on to what it runs.
    "JET_SESSION_COMMIT",
    "JET_SESSION_CA",
    "JET_SESSION_CERT",
    CONFIG_VARIABLE,
    "JET_SESSION_INSTANCE",
    "JET_SESSION_KEY",
    "JET_SESSION_SERVER",
    "JET_SESSION_SERVER_NAME",
    "JET_SESSION_THREAD",
    "JET_SESSION_TOKEN",
    "JET_SESSION_TOKEN_FILE",
];
