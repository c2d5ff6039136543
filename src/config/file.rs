//! What the file says.

use toml::de::{DeTable, DeValue};

use crate::config::KEYS;
use crate::config::key::{Key, Kind};
use crate::config::sources::{File, Gathered, Source, nearest, shown};

/// Reads a file.
pub(super) fn read(file: &File, gathered: &mut Gathered) {
    let text = match &file.text {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(why) => {
            gathered.unsure = true;
            gathered.wrong(&file.named_by, format!("{}: {why}", shown(&file.name)));
            return;
        }
    };
    let line = |at: usize| {
        let before = text.as_bytes().iter().take(at);
        before.filter(|byte| **byte == b'\n').count() + 1
    };
    let source = |at: usize| Source::File(file.name.clone(), line(at));
    match DeTable::parse(text) {
        Ok(table) => read_table("", table.get_ref(), &source, gathered),
        // What follows a mistake of form would only be guessed.
        Err(error) => {
            gathered.unsure = true;
            let at = error.span().map_or(0, |span| span.start);
            gathered.wrong(source(at).to_string(), shown(error.message()));
        }
    }
}

fn read_table(
    within: &str,
    table: &DeTable<'_>,
    source: &impl Fn(usize) -> Source,
    gathered: &mut Gathered,
) {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let source_of = source(name.span().start);
        let name = match within {
            "" => name.get_ref().to_string(),
            within => format!("{within}.{}", name.get_ref()),
        };
        match (Key::of(&name), value.get_ref()) {
            (Some(key), value) => gathered.say(key, texts(key.kind, value), source_of),
            (None, DeValue::Table(table)) if is_table(&name) => {
                read_table(&name, table, source, gathered);
            }
            (None, DeValue::Table(_)) => unknown_table(&name, &source_of, gathered),
            (None, value) if is_table(&name) => {
                let what = format!("{name} must be a table of settings, not {}", type_of(value));
                gathered.wrong(source_of.to_string(), what);
                gathered.meant.extend(settings_of(&name));
            }
            (None, _) => gathered.unknown(source_of.to_string(), &name, str::to_owned),
        }
    }
}

fn unknown_table(name: &str, source: &Source, gathered: &mut Gathered) {
    let tables = KEYS.iter().filter_map(|key| key.name.rsplit_once('.')).map(|(table, _)| table);
    let mut what = format!("there is no table '[{}]'", shown(name));
    if let Some((near, ())) = nearest(name, tables.map(|table| (table, ()))) {
        what.push_str(&format!("; did you mean '[{near}]'?"));
        gathered.meant.extend(settings_of(near));
    }
    gathered.wrong(source.to_string(), what);
}

fn is_table(name: &str) -> bool {
    settings_of(name).next().is_some()
}

/// The settings in the table of this name.
fn settings_of(table: &str) -> impl Iterator<Item = &'static str> {
    let names = KEYS.iter().map(|key| key.name);
    names.filter(move |name| name.rsplit_once('.').is_some_and(|(within, _)| within == table))
}

/// The texts of a value, or what it must be.
fn texts(kind: Kind, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let wrong = |found| format!("must be {}, not {}", kind.written(), type_of(found));
    let text = match (kind, value) {
        (Kind::Switch, DeValue::Boolean(on)) => on.to_string(),
        (Kind::Number { .. } | Kind::Duration { .. } | Kind::Ratio, DeValue::Integer(number)) => {
            // TOML also counts by 2, 8 and 16; what has too many digits is too large in any case.
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            decimal.map_or_else(|_| number.to_string(), |number| number.to_string())
        }
        (Kind::Ratio, DeValue::Float(number)) => number.as_str().to_owned(),
        (
            Kind::Word(_)
            | Kind::Address
            | Kind::Path
            | Kind::Url
            | Kind::Duration { .. }
            | Kind::Places { .. }
            | Kind::Headers { .. },
            DeValue::String(text),
        ) => text.to_string(),
        (Kind::Places { .. } | Kind::Headers { .. }, DeValue::Array(array)) => {
            let items = array.iter().map(|item| {
                let item = item.get_ref();
                item.as_str().map(str::to_owned).ok_or_else(|| wrong(item))
            });
            return items.collect();
        }
        (_, other) => return Err(wrong(other)),
    };
    Ok(vec![text])
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
