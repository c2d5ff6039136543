//! What every row of the table must keep to.

use super::says;
use crate::config::{KEYS, Key, Kind, Takes, key};

#[test]
fn a_name_is_written_four_ways() {
    let key = Key::of("tls.client_ca").unwrap();
    assert_eq!(key.flag(), "tls-client-ca");
    assert_eq!(key.variable(), "JET_SESSION_TLS_CLIENT_CA");
    let mut variables: Vec<_> = KEYS.iter().map(Key::variable).collect();
    variables.extend(key::OTHER_VARIABLES.iter().map(ToString::to_string));
    let count = variables.len();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), count, "two settings share a variable");
}

#[test]
fn every_setting_says_what_it_means_and_why() {
    for key in KEYS {
        assert!(!key.help.is_empty() && !key.help.ends_with('.'), "{}", key.name);
        assert!(key.why.ends_with('.'), "{}", key.name);
        assert_eq!(key.value.is_empty(), key.kind == Kind::Switch, "{}", key.name);
        assert!(key.with.is_none_or(|other| Key::of(other).is_some()), "{}", key.name);
    }
}

#[test]
fn the_tables_of_the_file_lie_together() {
    let tables = KEYS.iter().map(|key| key.name.rsplit_once('.').map_or("", |(table, _)| table));
    let mut seen: Vec<&str> = tables.collect();
    seen.dedup();
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "{seen:?}");
    assert_eq!(seen[0], "");
}

#[test]
fn the_example_of_the_page_is_right() {
    let loaded = says().file(include_str!("../example.toml")).loaded();
    assert_eq!(loaded.config.listen.len(), 2);
    assert!(loaded.config.restricts());
}

#[test]
fn every_file_that_is_read_again_is_among_the_files() {
    let config = says().file(include_str!("../example.toml")).config();
    let named: Vec<&str> = config.files().into_iter().map(|(name, _)| name).collect();
    let live = KEYS.iter().filter(|key| key.kind == Kind::Path && key.takes == Takes::Reload);
    assert_eq!(named, live.map(|key| key.name).collect::<Vec<_>>());
}

#[test]
fn numbers_are_grouped_as_they_may_be_typed() {
    for (number, text) in [(0, "0"), (999, "999"), (1_000, "1_000"), (1_234_567, "1_234_567")] {
        assert_eq!(key::grouped(number), text);
    }
}
