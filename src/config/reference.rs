//! The page `docs/configuration.md`.

use std::fmt::{self, Write as _};

use crate::config::{KEYS, Key, Takes};

/// The tables of the file, and what each is about.
const SECTIONS: &[(&str, &str)] = &[
    ("", "Before the first table of the file: where it listens, what it keeps, how much it takes."),
    ("log", "What is told on stderr."),
    ("tls", "How clients are spoken to in secret."),
    ("auth", "Who is who, and who may do what."),
    ("otlp", "Where traces go."),
];

/// The whole of `docs/configuration.md`.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for (table, about) in SECTIONS {
        let title = if table.is_empty() { "The server".to_owned() } else { format!("`[{table}]`") };
        push(&mut page, format_args!("\n### {title}\n\n{about}\n\n"));
        page.push_str("| setting | takes | default | effect | what it means, and why |\n");
        page.push_str("|---|---|---|---|---|\n");
        for key in KEYS.iter().filter(|key| table_of(key) == *table) {
            row(&mut page, key);
        }
    }
    push(&mut page, format_args!("{EXAMPLE_HEAD}```toml\n{}```\n", include_str!("example.toml")));
    page
}

fn table_of(key: &Key) -> &'static str {
    key.name.split_once('.').map_or("", |(table, _)| table)
}

fn row(page: &mut String, key: &Key) {
    let flag = match key.name {
        "default_instance" => "--no-default-instance".to_owned(),
        _ => format!("--{}", key.flag()),
    };
    let default = match key.default {
        "" => "–".to_owned(),
        default => format!("`{default}`"),
    };
    let effect = match key.takes {
        Takes::Reload => "reload",
        Takes::Restart => "restart",
    };
    let means = match key.with {
        Some(other) => format!("{}. Means nothing without `{other}`. {}", key.help, key.why),
        None => format!("{}. {}", key.help, key.why),
    };
    let takes = match key.kind.count() {
        Some((_, count)) => format!("{count}, each {}", key.kind.takes()),
        None => key.kind.takes(),
    };
    push(
        page,
        format_args!(
            "| `{}`<br>`{flag}`<br>`{}` | {} | {default} | {effect} | {} |\n",
            key.name,
            key.variable(),
            cell(&takes),
            cell(&means),
        ),
    );
}

const HEAD: &str = "\
# Configuration

<!-- Printed from the table in src/config/keys.rs. Change the table, not this page. -->

Every setting has one name, written four ways: `tls.key` here and in what the server says, `--tls-key` on the
command line, `JET_SESSION_TLS_KEY` in the environment, and `key` in the table `[tls]` of the configuration file.

What is said in several places weighs in this order:

1. the **command line**;
2. the **environment**; a variable that is empty says nothing;
3. the **file**, TOML, named by `--config` or by `JET_SESSION_CONFIG`; none is looked for by itself;
4. the **default**.

A list is taken from one of them as a whole. On the command line its flag is repeated, in the environment its values
are separated by commas, in the file it is an array. Numbers may have `_` between their digits everywhere. Paths that
do not begin with `/` begin in the working directory of the process.

A name that nobody knows is refused, wherever it stands; a value that does not count, because a stronger place has
another, is not looked at. The variables that Kubernetes and docker make for a service named `jet-session` are
known and left alone. Everything that is wrong is told at once, each with the flag, the variable or the line of the file
that says it, and the exit code is 2:

<!-- docs: expect-exit 2 -->
```console
$ jet-session config check --max-sessions 0 --listen 192.0.2.1:50051
error: the configuration is wrong in 2 places:
  --max-sessions: max_sessions = '0' must be a whole number from 1 to 10_000_000
  --listen: listen 192.0.2.1:50051 can be reached from other machines, and calls would be plaintext: listen on a loopback address, give tls.certificate and tls.key, or add --insecure if the network is yours
```

`jet-session config check` takes what `serve` takes, reads every file that a start would read, and looks at the data
directory without changing it. `jet-session serve --print-config` prints what counts, with who said so, as a file that
says the same; what is secret is left out:

```console
$ JET_SESSION_MAX_SESSIONS=500 jet-session serve --print-config --store memory --threads 2
listen = [\"127.0.0.1:50051\"]  # default
insecure = false  # default
store = \"memory\"  # --store
default_instance = true  # default
max_instances = 1024  # default
max_sessions = 500  # JET_SESSION_MAX_SESSIONS
max_connections = 10000  # default
threads = 2  # --threads
drain = \"10s\"  # default

[log]
format = \"auto\"  # default
level = \"info\"  # default
```

## Reload

On SIGHUP, and when a file that the configuration names has changed, or the configuration file itself, everything is
read again. Files are looked at every few seconds ([limits.md](limits.md)), through symbolic links, and one that has
changed is read once it is the same at two looks. What takes effect at a *reload* does so then, for new connections and
new calls; connections go on. Of anything else that has changed the log says that it takes effect at the next start, and
so does a file that is turned on or off: a reload puts one file in the place of another, but never turns TLS or
a policy on or off. If anything is wrong with the new configuration, nothing of it takes effect, the log says
at level `error` what is wrong, and the server goes on as it was.

Flags and variables are those of the start: a process cannot be given others.

## Settings
";

const EXAMPLE_HEAD: &str = "
## A file

";

/// A text as the content of a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn push(page: &mut String, text: fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing to a String does not fail");
}
