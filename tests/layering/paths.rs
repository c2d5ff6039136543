//! Which paths a source file names. Comments, literals and lifetimes do not count.

use std::collections::{BTreeMap, BTreeSet};

/// A path that a file names, from its root: `crate::engine::watch` or `std::fs::File`.
#[derive(Debug, PartialEq)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
    /// It stands in `#[cfg(test)]` code.
    pub(crate) test: bool,
    /// It is passed on by a `pub use`.
    pub(crate) exported: bool,
}

/// All paths in `text`, the source of the module `module` (empty for the root of the crate).
///
/// Aliases, `self`, `super` and child modules are replaced by what they stand for. A path that begins
/// with a type of the same file is left out: its own import or definition has been seen.
pub(crate) fn paths(module: &[String], text: &str) -> Vec<Mention> {
    let mut reader = Reader { tokens: tokens(text), module: module.to_vec(), ..Reader::default() };
    reader.read();
    let Reader { found, aliases, modules, .. } = reader;
    let names = Names { aliases, modules };
    let resolve = |(module, mention): (Vec<String>, Mention)| {
        let path = names.resolve(&module, &mention.path, 8)?;
        Some(Mention { path, ..mention })
    };
    found.into_iter().filter_map(resolve).collect()
}

/// What the names in each module of a file stand for.
struct Names {
    aliases: BTreeMap<(Vec<String>, String), Vec<String>>,
    modules: BTreeSet<Vec<String>>,
}

impl Names {
    fn resolve(&self, module: &[String], path: &[String], hops: u8) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let from = |root: &str, module: &[String], rest: &[String]| {
            Some([&[root.to_owned()], module, rest].concat())
        };
        match first.as_str() {
            "" => Some(rest.to_vec()),
            "crate" | "jet_session" => from("crate", &[], rest),
            "core" | "alloc" => from("std", &[], rest),
            "self" => from("crate", module, rest),
            "super" => {
                let (_, parent) = module.split_last()?;
                match rest.first().map(String::as_str) {
                    Some("super") => self.resolve(parent, rest, hops),
                    Some(_) | None => from("crate", parent, rest),
                }
            }
            name => {
                // Also what an outer module imports: most inner ones begin with `use super::*`.
                for outer in (0..=module.len()).rev().map(|n| &module[..n]) {
                    let alias = self.aliases.get(&(outer.to_vec(), name.to_owned()));
                    if let Some(alias) = alias.filter(|alias| alias[0] != name && hops > 0) {
                        return self.resolve(outer, &[alias, rest].concat(), hops - 1);
                    }
                    if self.modules.contains(&[outer, &[name.to_owned()]].concat()) {
                        return from("crate", outer, path);
                    }
                }
                let is_crate = name.starts_with(|c: char| c.is_lowercase());
                (is_crate && !BUILT_IN.contains(&name)).then(|| path.to_vec())
            }
        }
    }
}

/// Primitive types, and the tools that attributes name; neither is a crate.
const BUILT_IN: &[&str] = &[
    "bool", "char", "clippy", "f32", "f64", "i128", "i16", "i32", "i64", "i8", "isize", "rustdoc",
    "rustfmt", "str", "u128", "u16", "u32", "u64", "u8", "usize",
];

/// Walks the tokens of one file.
#[derive(Default)]
struct Reader {
    tokens: Vec<Token>,
    at: usize,
    module: Vec<String>,
    found: Vec<(Vec<String>, Mention)>,
    aliases: BTreeMap<(Vec<String>, String), Vec<String>>,
    modules: BTreeSet<Vec<String>>,
}

/// What a brace has opened.
struct Scope {
    module: bool,
    test: bool,
}

impl Reader {
    fn read(&mut self) {
        let mut scopes: Vec<Scope> = Vec::new();
        // Whether the item that begins is marked `#[cfg(test)]`, is exported, opens a module.
        let (mut marked, mut exported, mut opens_module) = (false, false, false);
        let (mut whole_file, mut round) = (false, 0);
        while self.at < self.tokens.len() {
            let test = whole_file || marked || scopes.last().is_some_and(|scope| scope.test);
            match self.word(0) {
                "#" => {
                    whole_file |= self.is(&["#", "!", "[", "cfg", "(", "test", ")"]);
                    marked |= self.is(&["#", "[", "cfg", "(", "test", ")"])
                        || self.is(&["#", "[", "cfg", "(", "all", "(", "test"]);
                    self.at += 1;
                }
                "pub" => {
                    exported = true;
                    self.at += 1;
                    if self.word(0) == "(" {
                        while !matches!(self.word(0), ")" | "") {
                            self.at += 1;
                        }
                        self.at += 1;
                    }
                }
                "mod" if self.is_name(1) => {
                    let child = [self.module.as_slice(), &[self.word(1).to_owned()]].concat();
                    self.modules.insert(child.clone());
                    if self.word(2) == "{" {
                        opens_module = true;
                        self.module = child;
                    }
                    exported = false;
                    self.at += 2;
                }
                // The other `use` is the list of captures in `impl Trait + use<'a>`.
                "use" if self.word(1) != "<" => {
                    self.at += 1;
                    self.use_tree(&[], test, exported);
                    (marked, exported) = (false, false);
                }
                "{" => {
                    scopes.push(Scope { module: opens_module, test });
                    (marked, exported, opens_module) = (false, false, false);
                    self.at += 1;
                }
                "}" => {
                    if scopes.pop().is_some_and(|scope| scope.module) {
                        self.module.pop();
                    }
                    self.at += 1;
                }
                bracket @ ("(" | "[" | ")" | "]") => {
                    round += if matches!(bracket, "(" | "[") { 1 } else { -1 };
                    self.at += 1;
                }
                ";" | "," => {
                    // Inside brackets the marked item goes on.
                    marked &= round != 0;
                    exported = false;
                    self.at += 1;
                }
                _ if self.is_name(0) || self.word(0) == "::" => self.path(test),
                _ => self.at += 1,
            }
        }
    }

    /// A path outside a `use`. One name alone says nothing that its import has not said.
    fn path(&mut self, test: bool) {
        let line = self.tokens[self.at].line;
        let mut path = Vec::new();
        if self.word(0) == "::" {
            path.push(String::new());
        } else {
            path.push(self.word(0).to_owned());
            self.at += 1;
        }
        while self.word(0) == "::" && self.is_name(1) {
            path.push(self.word(1).to_owned());
            self.at += 2;
        }
        if self.word(0) == "::" {
            self.at += 1;
        }
        if path.len() > 1 {
            self.mention(Mention { line, path, test, exported: false });
        }
    }

    /// One branch of a `use`, with the sign behind it unless that closes the branch above.
    fn use_tree(&mut self, prefix: &[String], test: bool, exported: bool) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut path = prefix.to_vec();
        let mut name = None;
        while self.at < self.tokens.len() {
            match self.word(0) {
                "::" if path.is_empty() => path.push(String::new()),
                "::" => {}
                "self" if !path.is_empty() => {}
                "as" => {
                    self.at += 1;
                    name = Some(self.word(0).to_owned());
                }
                "{" => {
                    self.at += 1;
                    while !matches!(self.word(0), "}" | "") {
                        self.use_tree(&path, test, exported);
                    }
                    self.at += 1;
                    if matches!(self.word(0), "," | ";") {
                        self.at += 1;
                    }
                    return;
                }
                "}" => break,
                "," | ";" => {
                    self.at += 1;
                    break;
                }
                part => path.push(part.to_owned()),
            }
            self.at += 1;
        }
        let Some(last) = path.last() else { return };
        let name = name.unwrap_or_else(|| last.clone());
        if name != "*" {
            self.aliases.insert((self.module.clone(), name), path.clone());
        }
        self.mention(Mention { line, path, test, exported });
    }

    fn mention(&mut self, mention: Mention) {
        self.found.push((self.module.clone(), mention));
    }

    /// The token at this distance; empty behind the end.
    fn word(&self, distance: usize) -> &str {
        self.tokens.get(self.at + distance).map_or("", |token| &token.text)
    }

    fn is(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, word)| self.word(n) == *word)
    }

    fn is_name(&self, distance: usize) -> bool {
        self.word(distance).starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

struct Token {
    text: String,
    line: usize,
}

/// Names, `::` and single signs.
fn tokens(text: &str) -> Vec<Token> {
    let text: Vec<char> = text.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < text.len() {
        let (end, token) = token(&text, at);
        let end = end.min(text.len());
        if let Some(text) = token {
            found.push(Token { text, line });
        }
        line += text[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    found
}

/// Where the token that begins at `at` ends, and its text if it counts.
fn token(text: &[char], at: usize) -> (usize, Option<String>) {
    let word = |c: &char| c.is_alphanumeric() || *c == '_';
    let run = |from: usize, keep: &dyn Fn(&char) -> bool| {
        from + text[from.min(text.len())..].iter().take_while(|c| keep(c)).count()
    };
    match (text[at], text.get(at + 1)) {
        ('/', Some('/')) => (run(at, &|c| *c != '\n'), None),
        ('/', Some('*')) => (end_of_comment(text, at), None),
        ('"', _) => (end_of_string(text, at), None),
        ('\'', Some('\\')) => (run(at + 3, &|c| *c != '\'') + 1, None),
        ('\'', _) if text.get(at + 2) == Some(&'\'') => (at + 3, None),
        ('\'', _) => (run(at + 1, &word), None),
        (':', Some(':')) => (at + 2, Some("::".to_owned())),
        (c, _) if word(&c) => {
            let end = run(at, &word);
            let name: String = text[at..end].iter().collect();
            let quote = run(end, &|c| *c == '#');
            let raw = matches!(name.as_str(), "r" | "br" | "cr");
            if raw && text.get(quote) == Some(&'"') {
                (end_of_raw_string(text, quote + 1, quote - end), None)
            } else if raw && quote == end + 1 {
                (quote, None)
            } else {
                (end, (!c.is_numeric()).then_some(name))
            }
        }
        (c, _) => (at + 1, (!c.is_whitespace()).then(|| c.to_string())),
    }
}

fn end_of_comment(text: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_string(text: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn end_of_raw_string(text: &[char], start: usize, hashes: usize) -> usize {
    let closes = |at: usize| {
        text[at] == '"' && text[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    (start..text.len()).find(|at| closes(*at)).map_or(text.len(), |at| at + 1 + hashes)
}

/// `crate::a::b` for every path of a file that lies at `src/engine/mod.rs`.
#[cfg(test)]
fn in_engine(text: &str) -> Vec<String> {
    let found = paths(&["engine".to_owned()], text);
    found.iter().map(|mention| mention.path.join("::")).collect()
}

#[test]
fn comments_and_literals_name_nothing() {
    let text = r####"
        // use crate::a; and crate::a::b
        /* crate::a /* nested crate::b */ crate::c */
        /// [`crate::doc::link`]
        fn f<'a>(x: &'a str) -> char {
            let _ = ("crate::a \" crate::b", r#"crate::"a""#, b"crate::a", br##"crate::"#"##, '"');
            let _ = ('\'', '\u{7f}', ':', 1u64, 0x1f, 1..2);
            crate::real::thing('"', "still in step");
        }
    "####;
    assert_eq!(in_engine(text), ["crate::real::thing"]);
}

#[test]
fn a_use_is_taken_apart() {
    let text = "use crate::{a::{self, b as c, d::*}, e,};\nuse ::tokio::sync;\nuse core::fmt;";
    let expected =
        ["crate::a", "crate::a::b", "crate::a::d::*", "crate::e", "tokio::sync", "std::fmt"];
    assert_eq!(in_engine(text), expected);
}

#[test]
fn an_alias_stands_for_what_it_imports() {
    let text = "use tonic as t; use t::Status as S;\nfn f() { S::internal(u64::MAX); Local::x() }
        #[expect(clippy::todo)] fn g() {}";
    assert_eq!(in_engine(text), ["tonic", "tonic::Status", "tonic::Status::internal"]);
}

#[test]
fn super_and_child_modules_are_followed() {
    let text = "mod owner; pub(crate) use owner::Owner;
        mod inner { use super::super::store; mod deep { fn f() { super::super::x::y(); store::z() } } }
        fn f() { self::owner::g(); owner::h::<u8>(super::top::level) }";
    let expected = [
        "crate::engine::owner::Owner",
        "crate::store",
        "crate::engine::x::y",
        "crate::store::z",
        "crate::engine::owner::g",
        "crate::engine::owner::h",
        "crate::top::level",
    ];
    assert_eq!(in_engine(text), expected);
}

#[test]
fn test_code_and_exports_are_known() {
    let text = "pub use a::b;
        #[cfg(test)] use a::c;
        use a::d;
        #[cfg(test)] mod tests { fn f(x: [u8; 2]) { a::e() } }
        #[cfg(test)] fn g(x: [u8; 2]) -> a::f { a::g() }
        pub fn h(x: a::h) { #[cfg(test)] a::i(); a::j() }
        #[cfg(not(test))] fn i() { a::k() }";
    let found = paths(&[], text);
    let last = |mention: &Mention| mention.path[1].clone();
    let test: Vec<_> = found.iter().filter(|m| m.test).map(last).collect();
    assert_eq!(test, ["c", "e", "f", "g", "i"]);
    let exported: Vec<_> = found.iter().filter(|m| m.exported).map(last).collect();
    assert_eq!(exported, ["b"]);
    assert_eq!(found.len(), 10);
    assert!(paths(&[], "#![cfg(test)] use a::b;")[0].test);
}
