//! What is said, and what it comes to.

use std::ffi::OsString;
use std::time::Duration;

use super::*;

mod mistakes;
mod round_trip;
mod table;
mod together;

/// What somebody says in a test.
#[derive(Default)]
struct Says(Sources);

impl Says {
    fn flag(mut self, name: &'static str, values: &[&str]) -> Self {
        let values = values.iter().map(ToString::to_string).collect();
        self.0.flags.insert(name, values);
        self
    }

    fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.0.environment.insert(name.to_owned(), value.into());
        self
    }

    fn file(mut self, text: &str) -> Self {
        let (name, named_by) = ("f.toml".to_owned(), "--config".to_owned());
        self.0.file = Some(File { name, named_by, text: Ok(text.to_owned()) });
        self
    }

    fn loaded(self) -> Loaded {
        Loaded::read(&self.0).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    fn config(self) -> Config {
        self.loaded().config
    }

    fn mistakes(self) -> Vec<String> {
        let Err(Mistakes(mistakes)) = Loaded::read(&self.0) else { panic!("nothing is wrong") };
        mistakes.iter().map(ToString::to_string).collect()
    }
}

fn says() -> Says {
    Says::default()
}

/// The one mistake in a file of one line.
fn refused(line: &str) -> String {
    let mut mistakes = says().file(line).mistakes();
    assert_eq!(mistakes.len(), 1, "{line}: {mistakes:?}");
    let mistake = mistakes.remove(0);
    mistake.strip_prefix("f.toml:1: ").map(str::to_owned).unwrap_or(mistake)
}

#[test]
fn who_says_nothing_gets_the_defaults() {
    let expected = Config {
        store: StoreKind::Log(DATA_DIR.into()),
        ..Config::new("127.0.0.1:50051".parse().unwrap())
    };
    assert_eq!(says().config(), expected);
    for file in ["", "\n", "# nothing\n", "\u{feff}", "[tls]\n[auth]\n"] {
        assert_eq!(says().file(file).config(), expected, "{file:?}");
    }
}

#[test]
fn a_flag_outweighs_a_variable_and_a_variable_the_file() {
    let file = || says().file("\nmax_sessions = 1\n[tls]\n[log]\nlevel = \"warn\"");
    let variable = || file().variable("JET_SESSION_MAX_SESSIONS", "2");
    let flag = || variable().flag("max_sessions", &["3"]);
    let key = Key::of("max_sessions").unwrap();
    for (says, sessions, source) in [
        (says(), 10_000, Source::Default),
        (file(), 1, Source::File("f.toml".to_owned(), 2)),
        (variable(), 2, Source::Variable("JET_SESSION_MAX_SESSIONS".to_owned())),
        (flag(), 3, Source::Flag("--max-sessions".to_owned())),
    ] {
        let loaded = says.loaded();
        assert_eq!(loaded.config.max_sessions, sessions);
        assert_eq!(*loaded.source(key), source);
    }
    let level = Key::of("log.level").unwrap();
    assert_eq!(*flag().loaded().source(level), Source::File("f.toml".to_owned(), 5));
}

#[test]
fn a_list_is_taken_from_one_source_as_a_whole() {
    let file = || says().file("listen = [\"127.0.0.1:1\", \"unix:/a b\"]");
    let (one, path) = (Listen::Tcp("127.0.0.1:1".parse().unwrap()), Listen::Unix("/a b".into()));
    assert_eq!(file().config().listen, [one.clone(), path]);
    let variable = file().variable("JET_SESSION_LISTEN", "[::1]:2, 127.0.0.1:1");
    assert_eq!(variable.config().listen, [Listen::Tcp("[::1]:2".parse().unwrap()), one.clone()]);
    let by_flag = file().flag("listen", &["127.0.0.1:1"]).config();
    assert_eq!(by_flag.listen, std::slice::from_ref(&one));
    assert_eq!(says().file("listen = \"127.0.0.1:1\"").config().listen, [one]);
}

#[test]
fn what_people_type_is_understood() {
    for (text, drain) in [
        ("drain = 90", Duration::from_secs(90)),
        ("drain = 1_0", Duration::from_secs(10)),
        ("drain = 0", Duration::ZERO),
        ("drain = \"90\"", Duration::from_secs(90)),
        ("drain = \"1m30s\"", Duration::from_secs(90)),
        ("drain = \"1m 30s\"", Duration::from_secs(90)),
        ("drain = \"500ms\"", Duration::from_millis(500)),
        ("drain = \"1h\"", Duration::from_secs(3600)),
    ] {
        assert_eq!(says().file(text).config().drain, drain, "{text}");
    }
    for (text, sessions) in
        [("1_000", 1_000), ("10_000_000", 10_000_000), ("0xff", 255), ("0b11", 3), ("+7", 7)]
    {
        let file = says().file(&format!("max_sessions = {text}"));
        assert_eq!(file.config().max_sessions, sessions, "{text}");
    }
    assert_eq!(says().flag("max_sessions", &["1_000"]).config().max_sessions, 1_000);
    let off = says().variable("JET_SESSION_DEFAULT_INSTANCE", "false");
    assert!(!off.config().default_instance);
    let exact = says().file("otlp.endpoint = \"http://h:1\"\notlp.sample_ratio = 1");
    assert_eq!(exact.config().otlp.unwrap().sample_ratio, 1.0);
}

#[test]
fn variables_that_others_made_are_left_alone() {
    let made = [
        ("JET_SESSION_SERVICE_HOST", "10.0.0.1"),
        ("JET_SESSION_SERVICE_PORT", "50051"),
        ("JET_SESSION_SERVICE_PORT_GRPC", "50051"),
        ("JET_SESSION_PORT", "tcp://10.0.0.1:50051"),
        ("JET_SESSION_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("JET_SESSION_PORT_50051_TCP_PROTO", "tcp"),
        ("JET_SESSION_PORT_50051_TCP_PORT", "50051"),
        ("JET_SESSION_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("JET_SESSION_METRICS_SERVICE_HOST", "10.0.0.2"),
        ("JET_SESSION_METRICS_PORT", "tcp://10.0.0.2:9464"),
        ("JET_SESSION_CONFIG", "f.toml"),
        ("JET_SESSION_SERVER", "http://localhost:50051"),
        ("JET_SESSION_THREAD", "a"),
        ("JET_SESSION_INSTANCE", "main"),
        ("JET_SESSION_MAX_SESSIONS", ""),
        ("JET_SESSION_WHATEVER", ""),
        ("JET_SESSIONS", "1"),
        ("PATH", "/bin"),
    ];
    let all = made.iter().fold(says(), |says, (name, value)| says.variable(name, *value));
    assert_eq!(all.config(), says().config());
    // A person types this.
    assert_eq!(
        says().variable("JET_SESSION_PORT", "50051").mistakes(),
        ["JET_SESSION_PORT: there is no setting 'JET_SESSION_PORT'"]
    );
    for key in KEYS {
        let file = says().variable(&key.variable(), "");
        assert_eq!(file.config(), says().config(), "an empty {}", key.variable());
    }
}

#[test]
fn a_value_that_does_not_count_is_not_looked_at() {
    let file = says().file("max_sessions = \"many\"\n[log]\nlevel = \"loud\"");
    let config =
        file.flag("max_sessions", &["5"]).variable("JET_SESSION_LOG_LEVEL", "warn").config();
    assert_eq!((config.max_sessions, config.log.level), (5, LogLevel::Warn));
}

#[test]
fn a_reload_puts_a_file_in_the_place_of_one_but_turns_nothing_on_or_off() {
    let example = says().file(include_str!("example.toml")).config();
    let bare = says().flag("log.level", &["debug"]).config();

    let next = example.reloaded(&bare);
    let with_level =
        Config { log: Log { level: LogLevel::Debug, ..example.log }, ..example.clone() };
    assert_eq!(next, with_level, "it still knows who is who, and who may do what");
    assert_eq!(bare.reloaded(&example).tls, None);

    let mut moved = example.clone();
    moved.auth.policy = Some("elsewhere".into());
    moved.max_sessions = 1;
    let next = example.reloaded(&moved);
    assert_eq!(next.auth.policy, moved.auth.policy);
    assert_eq!(next.max_sessions, example.max_sessions);
    let names = |keys: Vec<&'static Key>| keys.iter().map(|key| key.name).collect::<Vec<_>>();
    assert_eq!(names(next.differences(&moved)), ["max_sessions"]);
    assert_eq!(names(example.differences(&next)), ["auth.policy"]);
}
