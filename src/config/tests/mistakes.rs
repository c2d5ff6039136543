//! What is wrong by itself: values, types, names; and how it is told.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{refused, says};

#[test]
fn a_wrong_value_is_told_with_what_it_must_be() {
    for (line, told) in [
        ("max_sessions = 0", "max_sessions = '0' must be a whole number from 1 to 10_000_000"),
        ("max_sessions = -1", "max_sessions = '-1' must be a whole number from 1 to 10_000_000"),
        (
            "max_instances = 99999999999999999999999999",
            "max_instances = '99999999999999999999999999' must be a whole number from 1 to 100_000",
        ),
        ("threads = 1025", "threads = '1025' must be a whole number from 1 to 1_024"),
        (
            "drain = \"soon\"",
            "drain = 'soon' must be seconds, or a duration such as 500ms or 1m30s, of at most 1h",
        ),
        (
            "drain = 3601",
            "drain = '3601' must be seconds, or a duration such as 500ms or 1m30s, of at most 1h",
        ),
        (
            "log.level = \"loud\"",
            "log.level = 'loud' must be off, error, warn, info, debug or trace",
        ),
        ("log.format = \"JSON\"", "log.format = 'JSON' must be auto, pretty or json"),
        ("store = \"disk\"", "store = 'disk' must be log or memory"),
        ("store = \"etcd\"", "store = 'etcd' is not part of this release yet; use log, or memory"),
        ("data_dir = \"\"", "data_dir = '' must be a path"),
        ("data_dir = \"a\\u0000\"", "data_dir = 'a\\u{0}' must be a path"),
        (
            "listen = [\"localhost:1\"]",
            "listen = 'localhost:1' must be IP:PORT, such as 127.0.0.1:50051 or [::1]:50051, or \
             unix:PATH",
        ),
        (
            "listen = [\"unix:\"]",
            "listen = 'unix:' must be IP:PORT, such as 127.0.0.1:50051 or [::1]:50051, or unix:PATH",
        ),
        ("listen = []", "listen must be 1 to 16 places, not 0"),
        (
            "health_listen = \":1\"",
            "health_listen = ':1' must be IP:PORT, such as 127.0.0.1:9464 or [::]:9464",
        ),
        (
            "otlp.endpoint = \"h:4317\"",
            "otlp.endpoint = 'h:4317' must be a URL such as http://localhost:4317",
        ),
    ] {
        assert_eq!(refused(line), told, "{line}");
    }
    for ratio in ["1.1", "-0.1", "nan", "inf", "-inf"] {
        let file = format!("otlp.endpoint = \"http://h:1\"\notlp.sample_ratio = {ratio}");
        let told = format!("f.toml:2: otlp.sample_ratio = '{ratio}' must be a number from 0 to 1");
        assert_eq!(says().file(&file).mistakes(), [told]);
    }
}

#[test]
fn a_value_of_a_wrong_type_is_told_with_what_it_is() {
    for (line, told) in [
        ("insecure = \"true\"", "insecure must be true or false, not a text"),
        ("insecure = 1", "insecure must be true or false, not a whole number"),
        ("max_sessions = \"9\"", "max_sessions must be a whole number, not a text"),
        ("max_sessions = 1.5", "max_sessions must be a whole number, not a number with a fraction"),
        ("store = [\"log\"]", "store must be a text in quotes, not an array"),
        ("store = 2020-01-01", "store must be a text in quotes, not a date"),
        (
            "drain = 1.5",
            "drain must be a whole number of seconds, or a text in quotes such as \"10s\", not a \
             number with a fraction",
        ),
        ("listen = [1]", "listen must be an array of texts in quotes, not a whole number"),
        ("listen.tls = true", "listen must be an array of texts in quotes, not a table"),
        ("tls = true", "tls must be a table of settings, not true or false"),
        ("log = [1]", "log must be a table of settings, not an array"),
    ] {
        assert_eq!(refused(line), told, "{line}");
    }
    assert_eq!(
        says().file("[tls]\ncertificate = \"a\"\nkey = \"b\"\nmin_version = 1.3").mistakes(),
        ["f.toml:4: tls.min_version must be a text in quotes, not a number with a fraction"]
    );
    assert_eq!(
        says().variable("JET_SESSION_DATA_DIR", OsString::from_vec(vec![b'/', 0xff])).mistakes(),
        ["JET_SESSION_DATA_DIR: data_dir must be UTF-8"]
    );
}

#[test]
fn a_name_that_nobody_knows_is_told_with_the_one_that_was_meant() {
    for (line, told) in [
        ("lisen = 1", "there is no setting 'lisen'; did you mean 'listen'?"),
        ("max-sessions = 1", "there is no setting 'max-sessions'; did you mean 'max_sessions'?"),
        ("certificate = 1", "there is no setting 'certificate'; did you mean 'tls.certificate'?"),
        ("level = 1", "there is no setting 'level'; did you mean 'log.level'?"),
        ("tls.client-ca = 1", "there is no setting 'tls.client-ca'; did you mean 'tls.client_ca'?"),
        ("address = 1", "there is no setting 'address'"),
        ("\"a\\nb\" = 1", "there is no setting 'a\\nb'"),
        ("[tsl]", "there is no table '[tsl]'; did you mean '[tls]'?"),
        ("[server]", "there is no table '[server]'"),
        ("[log.file]", "there is no table '[log.file]'"),
    ] {
        assert_eq!(refused(line), told, "{line}");
    }
    for (variable, told) in [
        ("JET_SESSION_LISTENS", "; did you mean 'JET_SESSION_LISTEN'?"),
        ("JET_SESSION_CERTIFICATE", "; did you mean 'JET_SESSION_TLS_CERTIFICATE'?"),
        ("JET_SESSION_TLS_CERT", "; did you mean 'JET_SESSION_TLS_CERTIFICATE'?"),
        ("JET_SESSION_MAXSESSIONS", "; did you mean 'JET_SESSION_MAX_SESSIONS'?"),
        ("JET_SESSION_FOO", ""),
        ("JET_SESSION_", ""),
    ] {
        let told = format!("{variable}: there is no setting '{variable}'{told}");
        assert_eq!(says().variable(variable, "1").mistakes(), [told]);
    }
}

#[test]
fn a_setting_of_one_value_is_given_once() {
    assert_eq!(
        says().flag("store", &["log", "memory"]).mistakes(),
        ["--store: store = 'log,memory' may be given once"]
    );
    assert_eq!(
        says().flag("listen", &["127.0.0.1:0"; 17]).mistakes(),
        ["--listen: listen must be 1 to 16 places, not 17"]
    );
}

#[test]
fn what_somebody_wrote_is_shown_on_one_line_and_not_at_length() {
    let long = "x".repeat(1_000);
    let told = says().flag("store", &[&format!("a\n\u{1b}[2J{long}")]).mistakes();
    assert!(told[0].starts_with("--store: store = 'a\\n\\u{1b}[2Jxxx"), "{told:?}");
    assert!(told[0].contains("x…' must be") && told[0].len() < 200, "{told:?}");
    let name = format!("\"{long}\" = 1");
    assert!(says().file(&name).mistakes()[0].len() < 200);
}

#[test]
fn a_secret_is_never_shown() {
    const SECRET: &str = "hunter2";
    let good = || {
        says()
            .file("[otlp]\nendpoint = \"http://h:1\"\nheaders = [\"authorization=hunter2\"]")
            .variable("JET_SESSION_OTLP_HEADERS", format!("authorization={SECRET}"))
            .flag("otlp.headers", &["authorization=hunter2"])
    };
    let told = format!("{:?}", good().0);
    assert!(!told.contains(SECRET), "{told}");
    let loaded = good().loaded();
    assert_eq!(loaded.config.otlp.as_ref().unwrap().headers[0].1.reveal(), SECRET);
    let told = format!("{loaded:?}\n{}", loaded.to_toml());
    assert!(!told.contains(SECRET), "{told}");
    assert!(told.contains("# headers = [redacted]  # --otlp-headers"), "{told}");

    for wrong in [
        says().file("otlp.headers = [\"hunter2\"]"),
        says().file("otlp.headers = [\"a b=hunter2\"]"),
        says().file("otlp.headers = [\"a=hunter2\\n\"]"),
        says().file("otlp.headers = [\"a=hunter2"),
        says().file("otlp.headers = \"a=b\"hunter2"),
        says().file("otlp.heders = [\"a=hunter2\"]"),
        says().file("otlp.headers = {a = \"hunter2\"}"),
        says().file("headers = hunter2"),
        says().file("otlp.endpoint = \"http://user:hunter2@h:1\""),
        says().file("otlp.endpoint = \"user:hunter2@h:1\""),
        says()
            .file("otlp.endpoint = \"http://h:1\"\notlp.headers = [\"a=hunter2\", \"a=hunter2\"]"),
        says().flag("otlp.headers", &["hunter2"]),
        says().flag("otlp.headers", &["=hunter2"]),
        says().variable("JET_SESSION_OTLP_HEADERS", "a=b,hunter2"),
        says().variable("JET_SESSION_OTLP_HEADER", "a=hunter2"),
    ] {
        let told = wrong.mistakes();
        assert!(!told.concat().contains(SECRET), "{told:?}");
    }
}
