//! Files that are lists of tables of one kind, such as rules and tokens.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::sources::{Mistake, Source};

/// A file of rules or tokens, as it was read.
#[derive(Debug, Clone)]
pub struct Document {
    /// How it was named.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// What such a file is to have.
pub(super) struct Tables {
    /// What its tables are called: `rule` for `[[rule]]`.
    pub(super) name: &'static str,
    /// The keys of each, all of them needed.
    pub(super) keys: &'static [&'static str],
    /// How many there may be.
    pub(super) max: usize,
    /// What it means that there is none.
    pub(super) none: &'static str,
}

/// Everything that is wrong with a file, as it is found.
pub(super) struct Wrong<'a> {
    file: &'a Document,
    mistakes: Vec<Mistake>,
}

impl Wrong<'_> {
    /// Notes what is wrong at this place.
    pub(super) fn at(&mut self, place: &Range<usize>, what: String) {
        let before = &self.file.text.as_bytes()[..place.start.min(self.file.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let source = Source::File(self.file.name.clone(), line).to_string();
        self.mistakes.push(Mistake { source, what });
    }
}

/// One table.
pub(super) struct Row<'a> {
    values: BTreeMap<&'a str, &'a Spanned<DeValue<'a>>>,
}

/// A text, and where it stands.
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) place: Range<usize>,
}

impl Tables {
    /// Reads all tables, each with `read`, which notes what is wrong with it. All mistakes are told.
    pub(super) fn read<T>(
        &self,
        file: &Document,
        mut read: impl FnMut(&Row<'_>, &mut Wrong<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Vec<Mistake>> {
        let mut wrong = Wrong { file, mistakes: Vec::new() };
        let mut found = Vec::new();
        match DeTable::parse(&file.text) {
            Err(error) => wrong.at(&error.span().unwrap_or_default(), error.message().to_owned()),
            Ok(table) => {
                for row in self.rows(table.get_ref(), &mut wrong) {
                    found.extend(read(&row, &mut wrong));
                }
            }
        }
        if wrong.mistakes.is_empty() { Ok(found) } else { Err(wrong.mistakes) }
    }

    fn rows<'a>(&self, table: &'a DeTable<'a>, wrong: &mut Wrong<'_>) -> Vec<Row<'a>> {
        let Self { name, max, none, .. } = self;
        let mut rows = Vec::new();
        let mut count = 0;
        for (key, value) in table {
            if key.get_ref() != name {
                let what =
                    format!("'{}' is not known here; there is only [[{name}]]", key.get_ref());
                wrong.at(&key.span(), what);
                // Whatever it is, the file is not empty.
                count = count.max(1);
                continue;
            }
            let DeValue::Array(array) = value.get_ref() else {
                wrong.at(&key.span(), format!("must be [[{name}]], with two brackets"));
                return rows;
            };
            count = array.len();
            for item in array.iter().take(*max) {
                match item.get_ref().as_table() {
                    Some(table) => rows.push(self.row(table, item.span(), wrong)),
                    None => wrong.at(&item.span(), format!("must be a table, as after [[{name}]]")),
                }
            }
            if let Some(one_more) = array.get(*max) {
                wrong.at(&one_more.span(), format!("there may be {max} of [[{name}]] and no more"));
            }
        }
        if count == 0 {
            wrong.at(&(0..0), format!("has no [[{name}]]: {none}"));
        }
        rows
    }

    fn row<'a>(
        &self,
        table: &'a DeTable<'a>,
        place: Range<usize>,
        wrong: &mut Wrong<'_>,
    ) -> Row<'a> {
        let all = self.keys.join(", ");
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            if self.keys.contains(&name) {
                values.insert(name, value);
            } else {
                let what = format!("'{name}' is not known here; a {} has {all}", self.name);
                wrong.at(&key.span(), what);
            }
        }
        for key in self.keys.iter().filter(|key| !values.contains_key(**key)) {
            wrong.at(&place, format!("this {} has no {key}; it needs {all}", self.name));
        }
        Row { values }
    }
}

impl<'a> Row<'a> {
    /// The text of a key. Nothing if there is none, which has been noted.
    pub(super) fn text(&self, key: &str, wrong: &mut Wrong<'_>) -> Option<Text<'a>> {
        let value = self.values.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            wrong.at(&value.span(), format!("{key} must be a text"));
        }
        Some(Text { text: text?, place: value.span() })
    }

    /// The texts of a key, at least one and at most `max`.
    pub(super) fn texts(
        &self,
        key: &str,
        max: usize,
        wrong: &mut Wrong<'_>,
    ) -> Option<Vec<Text<'a>>> {
        let value = self.values.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            wrong.at(&value.span(), format!("{key} must be an array of texts"));
            return None;
        };
        if !(1..=max).contains(&array.len()) {
            wrong.at(&value.span(), format!("{key} must have 1 to {max} texts"));
            return None;
        }
        let mut texts = Vec::with_capacity(array.len());
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(Text { text, place: item.span() }),
                None => wrong.at(&item.span(), format!("{key} must be an array of texts")),
            }
        }
        Some(texts)
    }
}
