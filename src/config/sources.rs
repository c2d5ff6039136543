//! Where settings come from, and which of them counts: flags, then the environment, then the file, then
//! defaults.
//!
//! A value that does not count is not looked at, so that a flag can stand in for a file that is wrong. A name
//! that nobody knows is a mistake wherever it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;

use crate::config::key::Key;
use crate::config::{KEYS, environment, file};
use crate::domain::limits::SHOWN_CHARACTERS_MAX;

/// Everything that was said about a server.
#[derive(Clone, Default)]
pub struct Sources {
    /// What the command line says: by name of the setting, as typed.
    pub flags: BTreeMap<&'static str, Vec<String>>,
    /// The environment, all of it.
    pub environment: BTreeMap<String, OsString>,
    /// The file, if there is one.
    pub file: Option<File>,
}

// Any of it may be a secret, also under a name that was misspelt.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("flags", &self.flags.keys())
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A configuration file.
#[derive(Clone)]
pub struct File {
    /// How it was named.
    pub name: String,
    /// Who named it: a flag or a variable.
    pub named_by: String,
    /// What is in it, or why that cannot be told.
    pub text: Result<String, String>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Who said what a setting is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line, with its dashes.
    Flag(String),
    /// A variable.
    Variable(String),
    /// The file and the line in it.
    File(String, usize),
    /// Nobody.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => f.write_str(name),
            Self::File(name, line) => write!(f, "{}:{line}", shown(name)),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Something that is wrong, with who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Who said it: a flag, a variable, a line of the file.
    pub source: String,
    /// What is wrong, as a sentence without its end.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.what)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "the configuration is wrong: {one}"),
            many => {
                write!(f, "the configuration is wrong in {} places:", many.len())?;
                many.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for Mistakes {}

/// What one source says of one setting.
#[derive(Clone)]
pub(super) struct Said {
    /// A text, or several of a list; or what it must be, and is not.
    pub(super) values: Result<Vec<String>, String>,
    pub(super) source: Source,
}

/// What was said of each setting by whoever counts.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) said: BTreeMap<&'static str, Said>,
    /// Whether the file may say more than could be read: of a setting that nobody else speaks of nothing is
    /// known, not even that it has its default.
    pub(super) unsure: bool,
    /// Settings that somebody seems to have meant by a name that nobody knows: the same goes for them.
    pub(super) meant: BTreeSet<&'static str>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Gathered {
    pub(super) fn from(sources: &Sources) -> Self {
        let mut gathered = Self::default();
        if let Some(file) = &sources.file {
            file::read(file, &mut gathered);
        }
        environment::read(&sources.environment, &mut gathered);
        for (name, values) in &sources.flags {
            let key = Key::of(name).expect("flags are made from the table of settings");
            let source = Source::Flag(format!("--{}", key.flag()));
            gathered.say(key, Ok(values.clone()), source);
        }
        gathered
    }

    /// Takes down what a source says that counts more than those before it.
    pub(super) fn say(
        &mut self,
        key: &'static Key,
        values: Result<Vec<String>, String>,
        source: Source,
    ) {
        self.said.insert(key.name, Said { values, source });
    }

    /// Takes down a setting that nobody knows. `name` is its name as we speak of it, `spelt` how this source
    /// writes names.
    pub(super) fn unknown(
        &mut self,
        source: impl Into<String>,
        name: &str,
        spelt: impl Fn(&str) -> String,
    ) {
        // Somebody who forgot the table knows the rest.
        let last = |key: &&Key| key.name.ends_with(&format!(".{name}"));
        let named = |key: &'static Key| (key.name, key);
        let meant =
            KEYS.iter().find(last).map(named).or_else(|| nearest(name, KEYS.iter().map(named)));
        let mut what = format!("there is no setting '{}'", shown(&spelt(name)));
        if let Some((near, key)) = meant {
            what.push_str(&format!("; did you mean '{}'?", spelt(near)));
            self.meant.insert(key.name);
        }
        self.wrong(source, what);
    }

    /// What is said of a setting. Nothing if that cannot be told; `Some(None)` if nobody says anything.
    pub(super) fn of(&self, key: &Key) -> Option<Option<&Said>> {
        match self.said.get(key.name) {
            Some(said) => Some(Some(said)),
            None if self.unsure || self.meant.contains(key.name) => None,
            None => Some(None),
        }
    }

    pub(super) fn wrong(&mut self, source: impl Into<String>, what: String) {
        self.mistakes.push(Mistake { source: source.into(), what });
    }
}

/// A text that somebody else wrote, on one line and not too long.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for char in text.chars().take(SHOWN_CHARACTERS_MAX) {
        // Quotes stay as they are.
        if char.is_control() { shown.extend(char.escape_default()) } else { shown.push(char) }
    }
    if text.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// How alike two names must be for one to be taken for the other (Jaro-Winkler: 0 nothing, 1 the same).
const ALIKE: f64 = 0.87;

/// The name that somebody may have meant who wrote this one.
pub(super) fn nearest<'a, T>(
    name: &str,
    known: impl Iterator<Item = (&'a str, T)>,
) -> Option<(&'a str, T)> {
    known
        .map(|(known, of)| (likeness(known, name), (known, of)))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, found)| found)
}

/// How alike two names are. One slip of a finger makes no other name, however short it is.
fn likeness(one: &str, other: &str) -> f64 {
    // A variable has `_` for both.
    let (one, other) = (one.replace('.', "_"), other.replace('.', "_"));
    if strsim::osa_distance(&one, &other) <= 1 { 1.0 } else { strsim::jaro_winkler(&one, &other) }
}
