//! What a command shows: data on stdout, notes on stderr.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use prost::Message;

use super::failure::Failure;
use super::json;

/// How an answer looks to a person.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum View {
    /// It worked, and there is nothing to tell.
    Nothing,
    /// One value, as a script takes it.
    Value(String),
    /// Many things with the same columns.
    Table(&'static [&'static str], Vec<Vec<String>>),
    /// One thing, property by property.
    Properties(Vec<(String, String)>),
}

impl View {
    /// One thing, property by property.
    pub(super) fn properties<L: Into<String>>(rows: impl IntoIterator<Item = (L, String)>) -> Self {
        Self::Properties(rows.into_iter().map(|(label, text)| (label.into(), text)).collect())
    }
}

/// Where answers go, and in which form.
pub(super) struct Output<'a> {
    json: bool,
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
}

impl<'a> Output<'a> {
    /// Shows answers as JSON or to people.
    pub(super) fn new(json: bool, stdout: &'a mut dyn Write, stderr: &'a mut dyn Write) -> Self {
        Self { json, stdout, stderr }
    }

    /// Whether programs read it.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Shows an answer: the message called `name` of the API, or what it looks like to a person.
    pub(super) fn answer(
        &mut self,
        name: &str,
        message: &impl Message,
        view: View,
    ) -> Result<(), Failure> {
        let text = if self.json { json::pretty(name, message) } else { view.to_string() };
        self.print(&text)
    }

    /// Shows one of many answers as soon as it comes: one line each.
    pub(super) fn event(
        &mut self,
        name: &str,
        message: &impl Message,
        line: String,
    ) -> Result<(), Failure> {
        let text = if self.json { json::line(name, message) } else { line };
        self.print(&text)?;
        Ok(self.stdout.flush()?)
    }

    /// Shows an answer that is no message of ours.
    pub(super) fn value(&mut self, json: &serde_json::Value, text: &str) -> Result<(), Failure> {
        if self.json { self.print(&json.to_string()) } else { self.print(text) }
    }

    /// Writes bytes that are data of their own.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stdout.write_all(bytes)?)
    }

    /// Tells a person something that is not data. Programs read it in the data.
    pub(super) fn note(&mut self, note: &str) -> Result<(), Failure> {
        if !self.json {
            writeln!(self.stderr, "note: {note}")?;
        }
        Ok(())
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        Ok(writeln!(self.stdout, "{text}")?)
    }
}

impl std::fmt::Display for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Value(value) => f.write_str(value),
            Self::Table(head, rows) => {
                let head = head.iter().map(|cell| (*cell).to_owned()).collect();
                f.write_str(&columns(Some(head), rows.clone()))
            }
            Self::Properties(rows) => {
                let rows = rows.iter().map(|(k, v)| vec![k.clone(), v.clone()]);
                f.write_str(&columns(None, rows.collect()))
            }
        }
    }
}

/// Cells in columns two blanks apart, without borders, however wide the terminal is: one thing stays
/// on one line for `grep` and `awk`.
fn columns(head: Option<Vec<String>>, rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(head) = head {
        table.set_header(head);
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A cell that is never empty, so that columns can be counted.
pub(super) fn cell(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// Labels as they are typed, `a=b,c=d`.
pub(super) fn labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let pairs = labels.into_iter().map(|(k, v)| format!("{k}={v}"));
    cell(&pairs.collect::<Vec<_>>().join(","))
}

/// A word for an answer.
pub(super) fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// A moment to the second, or a dash.
pub(super) fn moment(time: Option<&prost_types::Timestamp>) -> String {
    match time {
        Some(time) => prost_types::Timestamp { seconds: time.seconds, nanos: 0 }.to_string(),
        None => cell(""),
    }
}

/// The last part of an enum's name: `READY` of `STATE_READY`.
pub(super) fn word<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// A closed pipe is the reader's way of saying "enough"; what else goes wrong is a failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::EnoughRead
        } else {
            Self::Output(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_columns_and_nothing_else() {
        let rows = vec![
            vec!["main/1".to_owned(), "0".to_owned(), cell("")],
            vec!["main/1234567".to_owned(), "7".to_owned(), cell("pool=a")],
        ];
        expect_test::expect![[r#"
            SESSION       LEVEL  LABELS
            main/1        0      -
            main/1234567  7      pool=a"#]]
        .assert_eq(&View::Table(&["SESSION", "LEVEL", "LABELS"], rows).to_string());
    }

    #[test]
    fn an_empty_table_is_its_head() {
        assert_eq!(View::Table(&["SESSION"], vec![]).to_string(), "SESSION");
    }

    #[test]
    fn a_reader_who_has_enough_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut sink = io::sink();
        let outcome = Output::new(false, &mut Closed, &mut sink).print("x");
        assert!(matches!(outcome, Err(Failure::EnoughRead)), "{outcome:?}");
    }

    #[test]
    fn notes_are_for_people() {
        for (json, wanted) in [(false, "note: x\n"), (true, "")] {
            let (mut stdout, mut stderr) = (io::sink(), Vec::new());
            let told = Output::new(json, &mut stdout, &mut stderr).note("x");
            assert!(told.is_ok());
            assert_eq!(stderr, wanted.as_bytes());
        }
    }
}
