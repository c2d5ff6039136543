//! The page `docs/limits.md`: every constant of `src/domain/limits.rs`, with what stands above it.

use std::collections::BTreeMap;
use std::fmt::Write;

const HEAD: &str = "\
# Limits

<!-- Printed from src/domain/limits.rs. Change that file, not this page. -->

Every bound in the program, with its reason. Those that can be configured are marked by `…_DEFAULT` and by the
largest value that a setting takes; [configuration.md](configuration.md) has the settings. The others are fixed.

| limit | value | what, and why |
|---|---:|---|
";

/// The whole of `docs/limits.md`.
pub(super) fn page(source: &str) -> String {
    let mut page = HEAD.to_owned();
    let constants = constants(source);
    let texts = constants.iter().map(|constant| (&*constant.name, &*constant.value)).collect();
    for Constant { name, about, value } in &constants {
        let number = worth(value, &texts);
        let (shown, about) = (shown(name, number), about.replace('|', "\\|"));
        writeln!(page, "| `{name}` | {shown} | {about} |").expect("a String takes it");
    }
    page
}

struct Constant {
    name: String,
    about: String,
    value: String,
}

/// Every public constant of the file, in its order. Panics over one that is written otherwise than the others.
fn constants(source: &str) -> Vec<Constant> {
    let mut constants = Vec::new();
    let mut about: Vec<&str> = Vec::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("/// ") {
            about.push(text);
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let mut rest = rest.to_owned();
            while !rest.ends_with(';') {
                rest.push_str(lines.next().expect("a constant ends"));
            }
            let (name, rest) = rest.split_once(':').expect("a constant has a type");
            let (_, value) = rest.split_once('=').expect("a constant has a value");
            assert!(!about.is_empty(), "{name} says nothing of itself");
            let about = std::mem::take(&mut about).join(" ");
            // What a link of rustdoc shows.
            let about = about.replace("[`", "`").replace("`]", "`");
            let (name, value) = (name.to_owned(), value.trim_end_matches(';').to_owned());
            constants.push(Constant { name, about, value });
        } else {
            about.clear();
        }
    }
    let all = source.lines().filter(|line| line.starts_with("pub const ")).count();
    assert!(all > 100 && constants.len() == all, "{} of {all}", constants.len());
    constants
}

/// Names, numbers and signs, without conversions, which change no value here.
fn words(text: &str) -> Vec<String> {
    let spaced: String = text.chars().fold(String::new(), |mut spaced, char| {
        if "()+-*/".contains(char) {
            spaced.extend([' ', char, ' ']);
        } else {
            spaced.push(char);
        }
        spaced
    });
    let mut words: Vec<String> = Vec::new();
    let mut of = spaced.split_whitespace();
    while let Some(word) = of.next() {
        if word == "as" {
            of.next().expect("a type follows");
        } else {
            words.push(word.to_owned());
        }
    }
    words
}

/// What a constant comes to: sums, differences and products of numbers and of other constants.
fn worth(text: &str, texts: &BTreeMap<&str, &str>) -> u64 {
    let mut reading = Reading { words: words(text), at: 0, texts };
    let sum = reading.sum();
    assert_eq!(reading.at, reading.words.len(), "{text}");
    sum
}

struct Reading<'a> {
    words: Vec<String>,
    at: usize,
    texts: &'a BTreeMap<&'a str, &'a str>,
}

impl Reading<'_> {
    fn sum(&mut self) -> u64 {
        let mut sum = self.product();
        while let Some(sign @ ("+" | "-")) = self.words.get(self.at).map(String::as_str) {
            let plus = sign == "+";
            self.at += 1;
            let next = self.product();
            sum = if plus { sum + next } else { sum - next };
        }
        sum
    }

    fn product(&mut self) -> u64 {
        let mut product = self.factor();
        while self.words.get(self.at).is_some_and(|word| word == "*") {
            self.at += 1;
            product *= self.factor();
        }
        product
    }

    fn factor(&mut self) -> u64 {
        let word = self.words.get(self.at).expect("a number or a name").clone();
        self.at += 1;
        if word == "(" {
            let sum = self.sum();
            assert_eq!(self.words[self.at], ")");
            self.at += 1;
            return sum;
        }
        if let Some(text) = self.texts.get(&*word) {
            return worth(text, self.texts);
        }
        let number = word.replace('_', "").parse();
        number.unwrap_or_else(|_| panic!("{word} is no number, and no constant"))
    }
}

/// A number with its unit, which its name says.
fn shown(name: &str, number: u64) -> String {
    let mut digits = number.to_string();
    for thousands in 1..=(digits.len() - 1) / 3 {
        digits.insert(digits.len() - 4 * thousands + 1, ',');
    }
    let has = |unit: &str| name.split('_').any(|word| word == unit);
    match number {
        bytes if has("BYTES") && bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => {
            format!("{} MiB", bytes >> 20)
        }
        bytes if has("BYTES") && bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => {
            format!("{} KiB", bytes >> 10)
        }
        _ if has("BYTES") => format!("{digits} B"),
        _ if has("SECONDS") => format!("{digits} s"),
        _ if has("MS") => format!("{digits} ms"),
        _ => digits,
    }
}

#[test]
fn a_constant_is_worked_out() {
    let source = |value: &str| worth(value, &BTreeMap::from([("A", "B * 32"), ("B", "32")]));
    assert_eq!(source("10_000"), 10_000);
    assert_eq!(source("64 * 1024"), 65_536);
    assert_eq!(source("(A - B) as usize"), 992);
    assert_eq!(source("2 * A as usize"), 2_048);
    assert_eq!(source("A - 16 * 2 + 1"), 993);
    assert_eq!(shown("X_BYTES_MAX", 1 << 20), "1 MiB");
    assert_eq!(shown("X_SECONDS_MAX", 86_400), "86,400 s");
    assert_eq!(shown("X_MAX", 1_234_567), "1,234,567");
}
