//! A configuration that is printed and read again is the same, whatever was said and by whom.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::config::{
    Config, File, KEYS, Key, Kind, Listen, Loaded, Source, Sources, StoreKind, Takes,
};

/// Who says something of a setting.
#[derive(Debug, Clone, Copy)]
enum By {
    Flag,
    Variable,
    File,
}

/// What is said of each setting: by whom, and which texts.
type Said = BTreeMap<&'static str, (By, Vec<String>)>;

fn said() -> impl Strategy<Value = Said> {
    let settings: Vec<_> = KEYS.iter().map(|key| prop::option::of((by(), texts(key)))).collect();
    settings.prop_map(|settings| {
        let said = KEYS.iter().zip(settings);
        let mut said: Said = said.filter_map(|(key, said)| Some((key.name, said?))).collect();
        // Plaintext where nobody else listens, or allowed.
        said.insert("insecure", (By::File, vec!["true".to_owned()]));
        if !said.contains_key("tls.certificate") || !said.contains_key("tls.key") {
            said.remove("tls.certificate");
            said.remove("tls.key");
        }
        if !said.contains_key("auth.policy") {
            said.remove("auth.tokens");
            said.remove("tls.client_ca");
        }
        for _ in 0..KEYS.len() {
            let lonely = |key: &&Key| key.with.is_some_and(|other| !said.contains_key(other));
            match KEYS.iter().filter(lonely).find(|key| said.contains_key(key.name)) {
                Some(key) => drop(said.remove(key.name)),
                None => break,
            }
        }
        said
    })
}

fn by() -> impl Strategy<Value = By> {
    prop_oneof![Just(By::Flag), Just(By::Variable), Just(By::File)]
}

/// Texts that a setting takes. Ports differ by setting, so that nothing is listened on twice.
fn texts(key: &'static Key) -> BoxedStrategy<Vec<String>> {
    let port = KEYS.iter().position(|other| std::ptr::eq(other, key)).unwrap();
    let port = 1 + u16::try_from(port).unwrap();
    let one = |text: String| vec![text];
    // What a shell, a file and a printed line have most trouble with; no NUL, and for lists no comma.
    let path = "[a-z/ \"'\\\\#=\\[\\]{}$\t\u{7f}é€😀\n\u{1}]{1,12}";
    match key.kind {
        Kind::Switch => any::<bool>().prop_map(move |on| one(on.to_string())).boxed(),
        Kind::Number { least, most } => (least..=most, any::<bool>())
            .prop_map(move |(number, grouped)| {
                one(if grouped { crate::config::key::grouped(number) } else { number.to_string() })
            })
            .boxed(),
        Kind::Ratio => prop_oneof![
            (0.0..=1.0_f64).prop_map(|ratio| ratio.to_string()),
            Just("1e-7".to_owned()),
            Just("5e-324".to_owned()),
            Just("1".to_owned()),
            Just("0".to_owned()),
        ]
        .prop_map(one)
        .boxed(),
        Kind::Duration { most } => prop_oneof![
            (0..=most).prop_map(|seconds| seconds.to_string()),
            (0..most, 0..1_000_000_000_u64).prop_map(|(s, ns)| format!("{s}s {ns}ns")),
        ]
        .prop_map(one)
        .boxed(),
        Kind::Word(words) => {
            prop::sample::select(words).prop_map(move |word| one(word.to_owned())).boxed()
        }
        Kind::Address => any::<std::net::IpAddr>()
            .prop_map(move |ip| one(std::net::SocketAddr::new(ip, port).to_string()))
            .boxed(),
        Kind::Path => path.prop_map(one).boxed(),
        Kind::Url => "https?://[a-z]{1,9}:[1-9]{1,4}".prop_map(one).boxed(),
        Kind::Places { most } => prop::collection::btree_set(
            prop_oneof![
                (any::<std::net::IpAddr>(), 1_000..=u16::MAX)
                    .prop_map(|(ip, port)| { std::net::SocketAddr::new(ip, port).to_string() }),
                "unix:[a-z/ \"'\\\\#]{0,8}[a-z]",
            ],
            1..=most,
        )
        .prop_map(|places| places.into_iter().collect())
        .boxed(),
        Kind::Headers { most } => {
            prop::collection::btree_map("[a-z]{1,8}", "[ -+.-~]{0,9}[a-z]", 0..=most)
                .prop_map(|headers| headers.into_iter().map(|(n, v)| format!("{n}={v}")).collect())
                .boxed()
        }
    }
}

fn sources(said: &Said) -> Sources {
    let mut sources = Sources::default();
    let mut lines = String::new();
    for (name, (by, values)) in said {
        let key = Key::of(name).unwrap();
        match by {
            By::Flag => drop(sources.flags.insert(key.name, values.clone())),
            // Nothing at all cannot be said in a variable.
            By::Variable if values.is_empty() => {}
            By::Variable => {
                sources.environment.insert(key.variable(), values.join(",").into());
            }
            By::File => {
                let bare = matches!(key.kind, Kind::Switch | Kind::Number { .. } | Kind::Ratio);
                let quote = |value: &String| {
                    if bare { value.clone() } else { super::super::print::quoted(value) }
                };
                let values: Vec<String> = values.iter().map(quote).collect();
                let value = if key.kind.is_list() {
                    format!("[{}]", values.join(","))
                } else {
                    values.concat()
                };
                lines.push_str(&format!("{name} = {value}\n"));
            }
        }
    }
    sources.file = Some(file(lines));
    sources
}

fn file(text: String) -> File {
    // Such a name must not end the comment that it stands in.
    File { name: "a\nb = 1.toml".to_owned(), named_by: "--config".to_owned(), text: Ok(text) }
}

fn loaded(said: &Said) -> Loaded {
    let sources = sources(said);
    Loaded::read(&sources)
        .unwrap_or_else(|mistakes| panic!("{mistakes}\n{}", sources.file.unwrap().text.unwrap()))
}

/// All but the secrets, which are not printed.
fn printable(config: &Config) -> Config {
    let mut config = config.clone();
    config.otlp.iter_mut().for_each(|otlp| otlp.headers.clear());
    config
}

proptest! {
    #[test]
    fn what_is_printed_says_the_same(said in said()) {
        let first = loaded(&said);
        let text = first.to_toml();
        let again = Loaded::read(&Sources { file: Some(file(text.clone())), ..Sources::default() });
        let again = again.unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
        prop_assert_eq!(printable(&first.config), again.config.clone(), "{}", text);
        for (name, (by, values)) in &said {
            let source = first.source(Key::of(name).unwrap());
            let right = match (by, source) {
                (By::Flag, Source::Flag(_)) | (By::Variable, Source::Variable(_)) => true,
                (By::File, Source::File(..)) => true,
                (By::Variable, Source::Default) => values.is_empty(),
                _ => false,
            };
            prop_assert!(right, "{} by {:?} came from {}", name, by, source);
        }
        // Of a listed setting the text is there, unless another takes its meaning.
        for key in KEYS.iter().filter(|key| said.contains_key(key.name) && key.name != "data_dir") {
            let name = key.name.rsplit('.').next().unwrap();
            prop_assert!(text.contains(&format!("{name} = ")) || key.secret, "{} in {}", key.name, text);
        }
    }

    #[test]
    fn a_reload_takes_what_it_may_and_nothing_else(old in said(), new in said()) {
        let (old, new) = (loaded(&old).config, loaded(&new).config);
        let next = old.reloaded(&new);
        for key in old.differences(&next) {
            prop_assert_eq!(key.takes, Takes::Reload, "{} was changed", key.name);
        }
        let (has, had) = (next.values(), new.values());
        for key in next.differences(&new) {
            let turned = has.contains_key(key.name) != had.contains_key(key.name);
            prop_assert!(key.takes == Takes::Restart || turned, "{} was not taken", key.name);
        }
        prop_assert_eq!(next.reloaded(&new), next);
    }
}

#[test]
fn a_path_that_is_hard_to_write_is_printed_as_it_is() {
    let path = "a \"b\" \\ # é \u{7f}\t\n";
    let mut said = Said::new();
    said.insert("data_dir", (By::Flag, vec![path.to_owned()]));
    said.insert("listen", (By::Flag, vec![format!("unix:{path}")]));
    let config = loaded(&said).config;
    assert_eq!(config.store, StoreKind::Log(path.into()));
    assert_eq!(config.listen, [Listen::Unix(path.into())]);
    assert!(loaded(&said).to_toml().contains(r#"data_dir = "a \"b\" \\ # é \u007F\u0009\u000A""#));
}
