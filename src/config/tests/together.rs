//! What is wrong with several settings together, and what is told when several are wrong.

use super::{Says, says};
use crate::config::{File, Sources};

#[test]
fn settings_that_do_not_go_together_are_told() {
    let policy = "auth.policy = \"p\"\n";
    for (file, told) in [
        ("tls.certificate = \"c\"", "tls.certificate means nothing without tls.key"),
        ("tls.key = \"k\"", "tls.key means nothing without tls.certificate"),
        ("tls.min_version = \"1.2\"", "tls.min_version means nothing without tls.certificate"),
        ("tls.client_auth = \"require\"", "tls.client_auth means nothing without tls.client_ca"),
        (
            &*format!("{policy}tls.client_ca = \"c\""),
            "tls.client_ca means nothing without tls.certificate",
        ),
        ("otlp.sample_ratio = 0.5", "otlp.sample_ratio means nothing without otlp.endpoint"),
        ("otlp.headers = [\"a=b\"]", "otlp.headers means nothing without otlp.endpoint"),
        (
            "auth.tokens = \"t\"",
            "auth.tokens needs auth.policy: where clients are told apart, nobody may do anything \
             that no rule allows",
        ),
        ("listen = [\"127.0.0.1:7\", \"127.0.0.1:7\"]", "listen 127.0.0.1:7 is there twice"),
        ("listen = [\"unix:/a\", \"unix:/a\"]", "listen unix:/a is there twice"),
        (
            "listen = \"127.0.0.1:7\"\nhealth_listen = \"127.0.0.1:7\"",
            "health_listen 127.0.0.1:7 is listened on already; it needs its own port",
        ),
        (
            "health_listen = \"127.0.0.1:7\"\nmetrics_listen = \"127.0.0.1:7\"",
            "metrics_listen 127.0.0.1:7 is listened on already; it needs its own port",
        ),
        (
            "otlp.endpoint = \"http://h\"\notlp.headers = [\"a=b\", \"A=c\"]",
            "otlp.headers the header a is there twice",
        ),
        (
            "listen = \"0.0.0.0:1\"",
            "listen 0.0.0.0:1 can be reached from other machines, and calls would be plaintext: \
             listen on a loopback address, give tls.certificate and tls.key, or add --insecure if \
             the network is yours",
        ),
    ] {
        let mistakes = says().file(file).mistakes();
        assert_eq!(mistakes.len(), 1, "{file}: {mistakes:?}");
        assert!(mistakes[0].ends_with(told), "{file}: {mistakes:?}");
    }
    // The system chooses two.
    says().flag("listen", &["127.0.0.1:0", "127.0.0.1:0"]).config();
}

#[test]
fn plaintext_is_for_this_machine_unless_somebody_says_otherwise() {
    let open = || says().flag("listen", &["192.0.2.1:1"]);
    assert_eq!(open().mistakes().len(), 1);
    open().flag("insecure", &["true"]).config();
    open().flag("tls.certificate", &["c"]).flag("tls.key", &["k"]).config();
    says().flag("listen", &["127.0.0.2:1", "[::1]:1", "unix:/a"]).config();
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_nothing_because_of_another() {
    let mistakes = says()
        .flag("listen", &["192.0.2.1:1"])
        .flag("max_sessions", &["0"])
        .variable("JET_SESSION_FOO", "1")
        .file("drain = \"x\"\ninsecur = true\n[auth]\ntokens = \"t\"")
        .mistakes();
    let starts: Vec<_> =
        mistakes.iter().map(|m| m.split(" must").next().unwrap().to_owned()).collect();
    // Whether plaintext is allowed is not known: somebody seems to have said it.
    assert_eq!(
        starts[..4],
        [
            "f.toml:2: there is no setting 'insecur'; did you mean 'insecure'?",
            "JET_SESSION_FOO: there is no setting 'JET_SESSION_FOO'",
            "--max-sessions: max_sessions = '0'",
            "f.toml:1: drain = 'x'",
        ]
    );
    assert!(starts[4].starts_with("f.toml:4: auth.tokens needs auth.policy"), "{starts:?}");
    assert_eq!(starts.len(), 5);

    let both = says().flag("listen", &["1.1.1.1:1"]).flag("max_sessions", &["0"]).mistakes();
    assert!(
        both[0].starts_with("--max-sessions: ") && both[1].starts_with("--listen: "),
        "{both:?}"
    );
    assert_eq!(both.len(), 2);
}

#[test]
fn of_a_file_that_cannot_be_read_nothing_is_guessed() {
    let unread = File {
        name: "/etc/f.toml".to_owned(),
        named_by: "JET_SESSION_CONFIG".to_owned(),
        text: Err("is a directory".to_owned()),
    };
    let lost = "JET_SESSION_CONFIG: /etc/f.toml: is a directory";
    // It may say `insecure`, a key, a policy.
    let with = |says: Says| Says(Sources { file: Some(unread.clone()), ..says.0 });
    assert_eq!(with(says()).mistakes(), [lost]);
    let more = says()
        .flag("listen", &["192.0.2.1:1"])
        .flag("tls.certificate", &["c"])
        .flag("auth.tokens", &["t"]);
    assert_eq!(with(more).mistakes(), [lost]);
    let wrong = with(says().flag("max_sessions", &["0"])).mistakes();
    assert_eq!(wrong.len(), 2, "{wrong:?}");

    for (text, told) in [
        ("max_sessions = 1\nmax_sessions = 2", "f.toml:2: duplicate key"),
        ("max_sessions = 0\n[tls\nkey = 1", "f.toml:2: unclosed table, expected `]`"),
        ("[log]\n[log]", "f.toml:2: duplicate key"),
        ("store = log", "f.toml:1: string values must be quoted, expected literal string"),
    ] {
        assert_eq!(says().file(text).mistakes(), [told], "{text}");
    }
}
