//! A configuration as a file that says the same, and who said what.

use std::fmt::Write;

use crate::config::Loaded;
use crate::config::key::Kind;
use crate::config::read::Setting;

impl Loaded {
    /// The configuration as TOML, each line with who said so. What is secret is left out.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut within = "";
        for setting in &self.settings {
            let (table, name) = setting.key.name.rsplit_once('.').unwrap_or(("", setting.key.name));
            if table != within {
                within = table;
                put(&mut text, &format!("\n[{table}]"));
            }
            let source = &setting.source;
            if setting.key.secret {
                put(&mut text, &format!("# {name} = [redacted]  # {source}"));
            } else {
                put(&mut text, &format!("{name} = {}  # {source}", value(setting)));
            }
        }
        text
    }
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes everything");
}

fn value(setting: &Setting) -> String {
    let quoted = |text: &String| {
        let bare = match setting.key.kind {
            Kind::Switch | Kind::Number | Kind::Fraction => true,
            Kind::Duration => text.bytes().all(|b| b.is_ascii_digit()),
            Kind::Text | Kind::List => false,
        };
        if bare { text.clone() } else { format!("{:?}", without_userinfo(text)) }
    };
    match setting.key.kind {
        Kind::List => {
            let all: Vec<String> = setting.values.iter().map(quoted).collect();
            format!("[{}]", all.join(", "))
        }
        Kind::Switch | Kind::Number | Kind::Fraction | Kind::Duration | Kind::Text => {
            setting.values.first().map(quoted).unwrap_or_default()
        }
    }
}

/// A URL without the name and password that may stand before its host.
fn without_userinfo(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.find('/').unwrap_or(rest.len());
            match rest[..authority].rfind('@') {
                Some(at) => format!("{scheme}://[redacted]@{}", &rest[at + 1..]),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}
