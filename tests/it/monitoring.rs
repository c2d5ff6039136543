//! Names of metrics, wherever they are written down, against those that a server tells.

use std::collections::BTreeSet;

use crate::support::metrics::{Page, start};

/// Every name that is told, as Prometheus keeps it.
async fn names() -> BTreeSet<String> {
    let server = start().await;
    let page = Page::read(server.metrics()).await;
    page.families.into_keys().collect()
}

#[tokio::test]
async fn every_metric_is_documented_and_no_other() {
    let told = names().await;
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/telemetry.md"));
    let text = text.unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let prefixes = ["grpc_", "jet_", "process_"];
    let documented = rows
        .map(|(name, _)| name.to_owned())
        .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    assert_eq!(documented.collect::<BTreeSet<_>>(), told);
}

/// Names of metrics in an expression, as Prometheus keeps them.
fn named(expression: &str) -> BTreeSet<String> {
    const LABELS: [&str; 5] =
        ["grpc_code", "grpc_method", "grpc_service", "grpc_type", "jet_error"];
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = |word: &&str| {
        ["grpc_", "jet_", "process_"].iter().any(|prefix| word.starts_with(prefix))
            && !LABELS.contains(word)
    };
    words.filter(ours).map(str::to_owned).collect()
}

/// The family that a name belongs to: a histogram has three series.
fn family(name: &str, told: &BTreeSet<String>) -> Option<String> {
    let parts = ["", "_bucket", "_sum", "_count"];
    parts.iter().find_map(|part| told.get(name.strip_suffix(part)?)).cloned()
}

/// Every expression in a dashboard.
fn expressions(of: &serde_json::Value, found: &mut Vec<String>) {
    match of {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if ["expr", "query", "definition"].contains(&&**name) => {
                        found.push(text.to_owned());
                    }
                    _ => expressions(value, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}

fn deployed(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path);
    std::fs::read_to_string(path).expect("it is there")
}

#[tokio::test]
async fn the_dashboard_shows_what_is_told_and_all_of_it() {
    let told = names().await;
    let dashboard: serde_json::Value =
        serde_json::from_str(&deployed("grafana/jet-session.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    let mut missing = told.clone();
    // Memory that was asked for says little, and shows where something else is looked into.
    missing.remove("process_virtual_memory_bytes");
    for name in found.iter().flat_map(|text| named(text)) {
        let family = family(&name, &told).unwrap_or_else(|| panic!("{name} is not told"));
        missing.remove(&family);
    }
    assert_eq!(missing, BTreeSet::new(), "they are told and not shown");

    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} comes twice", panel["id"]);
        let place = &panel["gridPos"];
        let [x, width] = ["x", "w"].map(|side| place[side].as_u64().unwrap());
        assert!(x + width <= 24, "{} is off the page", panel["title"]);
    }
}

#[tokio::test]
async fn alerts_ask_for_what_is_told() {
    let told = names().await;
    // Sentences for people are not asked of Prometheus. That the rest is YAML, and fires when it should, is
    // asked by tests/prometheus.
    let asked = deployed("prometheus/alerts.yaml");
    let asked = asked.lines().map(str::trim).filter(|line| {
        !["#", "summary:", "description:", "- name:"].iter().any(|of| line.starts_with(of))
    });
    let names: BTreeSet<String> = asked.flat_map(named).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(family(&name, &told).is_some(), "{name} is not told");
    }
}
