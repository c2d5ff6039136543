//! Where settings come from, and which of them counts: flags, then the environment, then the file, then
//! defaults.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

use crate::config::key::{KEYS, Key, Kind, OTHER_VARIABLES, PREFIX};

/// Everything that was said about a server.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// What the command line says: by name of the setting, as typed.
    pub flags: BTreeMap<&'static str, Vec<String>>,
    /// The environment, all of it.
    pub environment: BTreeMap<String, String>,
    /// The file, if there is one.
    pub file: Option<File>,
}

/// A configuration file that was read.
#[derive(Debug, Clone)]
pub struct File {
    /// How it was named.
    pub name: String,
    /// What is in it.
    pub text: String,
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
            Self::File(name, line) => write!(f, "{name}:{line}"),
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

/// What one source says of one setting: a text, or several of a list.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) values: Vec<String>,
    pub(super) source: Source,
}

/// What is said of each setting by whoever counts, and what of it nobody can use.
pub(super) fn gather(sources: &Sources) -> (BTreeMap<&'static str, Said>, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let mut said = BTreeMap::new();
    if let Some(file) = &sources.file {
        read_file(file, &mut said, &mut mistakes);
    }
    read_environment(&sources.environment, &mut said, &mut mistakes);
    for (name, values) in &sources.flags {
        let key = Key::of(name).expect("flags are made from the table of settings");
        let source = Source::Flag(format!("--{}", key.flag()));
        said.insert(key.name, Said { values: values.clone(), source });
    }
    (said, mistakes)
}

fn read_environment(
    environment: &BTreeMap<String, String>,
    said: &mut BTreeMap<&'static str, Said>,
    mistakes: &mut Vec<Mistake>,
) {
    let ours = environment.range(PREFIX.to_owned()..);
    for (variable, value) in ours.take_while(|(variable, _)| variable.starts_with(PREFIX)) {
        if let Some(key) = KEYS.iter().find(|key| key.variable() == *variable) {
            // An empty variable is one that somebody could not remove.
            if !value.is_empty() {
                let values = match key.kind {
                    Kind::List => value.split(',').map(|one| one.trim().to_owned()).collect(),
                    Kind::Switch | Kind::Number | Kind::Fraction | Kind::Duration | Kind::Text => {
                        vec![value.clone()]
                    }
                };
                said.insert(key.name, Said { values, source: Source::Variable(variable.clone()) });
            }
        } else if !OTHER_VARIABLES.contains(&variable.as_str()) && !is_service_link(variable) {
            let what = unknown(variable, KEYS.iter().map(Key::variable));
            mistakes.push(Mistake { source: variable.clone(), what });
        }
    }
}

/// Whether Kubernetes or docker put a variable there because a service is called `jet-session` or begins
/// so: `JET_SESSION_SERVICE_HOST`, `JET_SESSION_PORT_50051_TCP_ADDR` and the like.
fn is_service_link(variable: &str) -> bool {
    let words: Vec<&str> = variable.split('_').collect();
    let ends = |tail: &[&str]| words.ends_with(tail);
    ends(&["SERVICE", "HOST"])
        || words.windows(2).any(|two| two == ["SERVICE", "PORT"])
        || ends(&["PORT"])
        || words.windows(3).any(|three| {
            matches!(three, ["PORT", port, "TCP" | "UDP" | "SCTP"]
                if port.bytes().all(|b| b.is_ascii_digit()))
        })
}

fn read_file(file: &File, said: &mut BTreeMap<&'static str, Said>, mistakes: &mut Vec<Mistake>) {
    let line = |at: usize| file.text[..at.min(file.text.len())].matches('\n').count() + 1;
    let source = |at: usize| Source::File(file.name.clone(), line(at));
    match DeTable::parse(&file.text) {
        Ok(table) => {
            read_table("", table.get_ref(), &source, said, mistakes);
        }
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            mistakes
                .push(Mistake { source: source(at).to_string(), what: error.message().to_owned() });
        }
    }
}

fn read_table(
    within: &str,
    table: &DeTable<'_>,
    source: &impl Fn(usize) -> Source,
    said: &mut BTreeMap<&'static str, Said>,
    mistakes: &mut Vec<Mistake>,
) {
    for (name, value) in table {
        let name = match within {
            "" => name.get_ref().to_string(),
            within => format!("{within}.{}", name.get_ref()),
        };
        let at = source(value.span().start);
        let mut wrong = |what: String| mistakes.push(Mistake { source: at.to_string(), what });
        let Some(key) = Key::of(&name) else {
            let below = format!("{name}.");
            match value.get_ref() {
                DeValue::Table(table) if KEYS.iter().any(|key| key.name.starts_with(&below)) => {
                    read_table(&name, table, source, said, mistakes);
                }
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => {
                    wrong(unknown(&name, KEYS.iter().map(|key| key.name.to_owned())))
                }
            }
            continue;
        };
        match texts(key.kind, value.get_ref()) {
            Ok(values) => {
                said.insert(key.name, Said { values, source: at });
            }
            Err(must) => {
                wrong(format!("{name} must be {must}, not {}", type_of(value.get_ref())));
            }
        }
    }
}

/// The texts of a value, or what it must be.
fn texts(kind: Kind, value: &DeValue<'_>) -> Result<Vec<String>, &'static str> {
    let one = match (kind, value) {
        (Kind::Switch, DeValue::Boolean(on)) => on.to_string(),
        (Kind::Number | Kind::Duration, DeValue::Integer(number)) => plain(number.as_str()),
        (Kind::Fraction, DeValue::Integer(number)) => plain(number.as_str()),
        (Kind::Fraction, DeValue::Float(number)) => plain(number.as_str()),
        (Kind::Text | Kind::Duration | Kind::List, DeValue::String(text)) => text.to_string(),
        (Kind::List, DeValue::Array(array)) => {
            let text = |item: &DeValue<'_>| item.as_str().map(str::to_owned);
            let texts: Option<_> = array.iter().map(|item| text(item.get_ref())).collect();
            return texts.ok_or("an array of texts");
        }
        (Kind::Switch, _) => return Err("true or false"),
        (Kind::Number, _) => return Err("a whole number"),
        (Kind::Fraction, _) => return Err("a number"),
        (Kind::Duration, _) => return Err("a number of seconds or a text such as \"10s\""),
        (Kind::Text, _) => return Err("a text"),
        (Kind::List, _) => return Err("an array of texts"),
    };
    Ok(vec![one])
}

/// A number as others write it: TOML allows `10_000`.
fn plain(number: &str) -> String {
    number.replace('_', "")
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// What to say of a name that nobody knows.
fn unknown(name: &str, known: impl Iterator<Item = String>) -> String {
    let near = known
        .map(|known| (strsim::jaro_winkler(&known, name), known))
        .filter(|(likeness, _)| *likeness > 0.9)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match near {
        Some((_, near)) => format!("there is no setting '{name}'; did you mean '{near}'?"),
        None => format!("there is no setting '{name}'"),
    }
}
