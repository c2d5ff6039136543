//! Holds every path that the sources name against the table of layers.
//!
//! The arrows between the layers are a promise of ARCHITECTURE.md; this is the proof. A path counts
//! wherever it stands: in a `use`, in an expression, under an alias, through `super::`. What a
//! module re-exports is named by its own path, so import from where a thing is defined.

#[path = "layering/paths.rs"]
mod paths;

use std::fs;
use std::path::Path;

use paths::{Mention, paths};

/// The table: a layer, the modules it may use besides its own, and why. The longest name that a
/// module lies under is its layer.
const TABLE: &str = "
    domain     |                                                   | it is pure: its tests need no runtime and take milliseconds
    store      | domain proto::storage                             | a store is judged by the conformance suite alone
    engine     | domain store                                      | it decides with the domain and remembers through the `Store` trait
    rpc        | domain engine proto telemetry                     | it translates between the wire and the engine and tells of it
    server     | *                                                 | it puts the parts together
    config     | domain                                            | a configuration is values and their bounds
    telemetry  | domain config                                     | it stands before there is anything to tell of
    proto      |                                                   | generated code knows nothing of ours
    client     | domain::id domain::jet_err domain::limits config proto | the client half holds no server state
    cli        | domain::id domain::jet_err config proto client telemetry | only `cli::serve` starts a server; the other commands are clients
    cli::serve | domain::id domain::jet_err domain::limits config proto server telemetry | it starts the server and knows nothing of what is inside
    cli::log   | domain config proto store::log                    | it reads a directory that no server has; it is no client
    bench      | domain::id domain::jet_err config proto client    | it drives any server, so it is a client
    main       | domain::id domain::jet_err config cli telemetry   | it parses, runs and turns the outcome into an exit code
    lib        | *                                                 | it lists the modules
";

struct Layer {
    home: &'static str,
    may: Vec<&'static str>,
    because: &'static str,
}

fn layer_of(home: &[String]) -> Option<Layer> {
    let rows = TABLE.lines().filter_map(|line| {
        let [home, may, because] = line.split('|').collect::<Vec<_>>().try_into().ok()?;
        let may = may.split_whitespace().collect();
        Some(Layer { home: home.trim(), may, because: because.trim() })
    });
    rows.filter(|row| under(home, row.home)).max_by_key(|row| row.home.len())
}

/// The crates that the domain may use, and those that its tests may use besides: `prop` is what
/// the prelude of proptest calls proptest.
const DOMAIN_CRATES: &[&str] = &["std", "thiserror"];
const DOMAIN_TEST_CRATES: &[&str] = &["expect_test", "prop", "proptest"];

/// What must not be named in the modules `inside`, other than in those of `except`.
struct Ban {
    names: &'static str,
    inside: &'static str,
    except: &'static str,
    in_tests: bool,
    because: &'static str,
}

const STORES: &str = "crate::store::etcd crate::store::log crate::store::memory";

const BANS: &[Ban] = &[
    Ban {
        names: "std::env std::fs std::io std::net std::os std::process std::thread
            std::time::Instant std::time::SystemTime std::time::UNIX_EPOCH",
        inside: "domain",
        except: "",
        in_tests: true,
        because: "the domain is pure: clock, disk, network and surroundings are arguments",
    },
    Ban {
        names: "http tonic tonic_types tower",
        inside: "engine store",
        except: "",
        in_tests: true,
        because: "no change of a message may reach the core by accident",
    },
    Ban {
        names: STORES,
        inside: "*",
        except: "cli::log server store",
        in_tests: false,
        because: "only `server`, `store` and `cli::log` name a concrete store; all others use the trait",
    },
    // Some constructors of `Status` name a code without saying `Code`.
    Ban {
        names: "tonic::Code tonic::Status::aborted tonic::Status::already_exists
            tonic::Status::cancelled tonic::Status::data_loss tonic::Status::deadline_exceeded
            tonic::Status::failed_precondition tonic::Status::internal
            tonic::Status::invalid_argument tonic::Status::not_found tonic::Status::ok
            tonic::Status::out_of_range tonic::Status::permission_denied
            tonic::Status::resource_exhausted tonic::Status::unauthenticated
            tonic::Status::unavailable tonic::Status::unimplemented tonic::Status::unknown",
        inside: "*",
        except: "cli client rpc::status",
        in_tests: true,
        because: "only rpc::status and the client side choose a gRPC code",
    },
];

#[test]
fn the_sources_keep_to_their_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    read_sources(root, "src", &mut files);
    let seen = |name: &str| files.iter().any(|(file, _)| file == name);
    assert!(seen("src/main.rs") && seen("src/domain/lifecycle.rs"), "the walk misses files");

    let broken: Vec<String> =
        files.iter().flat_map(|(file, text)| violations(file, text)).collect();

    assert!(broken.is_empty(), "{} broken:\n{}\n", broken.len(), broken.join("\n"));
}

fn read_sources(root: &Path, folder: &str, files: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(root.join(folder)).expect("a source folder can be read");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a folder entry can be read").file_name())
        .map(|name| name.into_string().expect("names of sources are UTF-8"))
        .collect();
    names.sort();
    for name in names {
        let path = format!("{folder}/{name}");
        if root.join(&path).is_dir() {
            read_sources(root, &path, files);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(root.join(&path)).expect("a source can be read");
            files.push((path, text));
        }
    }
}

/// What is broken in one file, as `file:line: path: rule`.
fn violations(file: &str, text: &str) -> Vec<String> {
    let home = module_of(file);
    let Some(layer) = layer_of(&home) else {
        return vec![format!("{file}: belongs to no layer: give it a row in tests/layering.rs")];
    };
    let module = if home == ["lib"] { &[] } else { home.as_slice() };
    let tests = home.iter().any(|part| part == "tests");
    let mut found = Vec::new();
    for mention in paths(module, text) {
        let mention = Mention { test: mention.test || tests, ..mention };
        for rule in rules_broken(&layer, &home, &mention) {
            let (line, path) = (mention.line, mention.path.join("::"));
            found.push(format!("{file}:{line}: `{path}`: {rule}"));
        }
    }
    found
}

fn rules_broken(layer: &Layer, home: &[String], mention: &Mention) -> Vec<String> {
    let mut broken = Vec::new();
    let (who, because) = (layer.home, layer.because);
    let path = mention.path.as_slice();
    if let Some(("crate", path)) = path.split_first().map(|(root, path)| (root.as_str(), path)) {
        if path.first() != home.first() && !layer.may.iter().any(|may| under(path, may)) {
            let may = if layer.may.is_empty() { "no other layer" } else { &layer.may.join(", ") };
            broken.push(format!("{who} may use {may}: {because}"));
        }
    } else if who == "domain" {
        let krate = path[0].as_str();
        let for_tests = mention.test && DOMAIN_TEST_CRATES.contains(&krate);
        if !DOMAIN_CRATES.contains(&krate) && !for_tests {
            let crates = DOMAIN_CRATES.join(", ");
            broken.push(format!("{who} may use only the crates {crates}: {because}"));
        }
    }
    for ban in BANS {
        let applies =
            any(ban.inside, |it| under(home, it)) && !any(ban.except, |it| under(home, it));
        if applies && (ban.in_tests || !mention.test) && any(ban.names, |it| names(path, it)) {
            broken.push(ban.because.to_owned());
        }
    }
    let elsewhere = |store: &str| !under(home, store.trim_start_matches("crate::"));
    if who == "store" && mention.exported && any(STORES, |it| names(path, it) && elsewhere(it)) {
        broken.push("a re-export would hide which store is meant".to_owned());
    }
    broken
}

/// Whether it holds for one of the words.
fn any(words: &str, holds: impl Fn(&str) -> bool) -> bool {
    words.split_whitespace().any(holds)
}

/// Whether `path` names `what`, something inside it, or everything beside it.
fn names(path: &[String], what: &str) -> bool {
    match path {
        [parent @ .., last] if last == "*" => {
            under(parent, what)
                || what.rsplit_once("::").is_some_and(|it| it.0 == parent.join("::"))
        }
        path => under(path, what),
    }
}

/// Whether `path` is `prefix` or lies under it; everything lies under `*`.
fn under(path: &[String], prefix: &str) -> bool {
    let mut path = path.iter();
    prefix == "*" || prefix.split("::").all(|part| path.next().is_some_and(|it| it == part))
}

/// `src/engine/owner.rs` → `engine::owner`. The two roots are called `lib` and `main`.
fn module_of(file: &str) -> Vec<String> {
    let stem = file.trim_start_matches("src/").trim_end_matches(".rs");
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    stem.split('/').map(str::to_owned).collect()
}

/// A file, a line planted in it, and words of the rule that must find it.
const PLANTED: &str = r#"
src/domain/id.rs     => use tokio::time;                                => only the crates std, thiserror
src/domain/id.rs     => fn f() { tracing::info!(x) }                    => only the crates std, thiserror
src/domain/id.rs     => use proptest::prelude::*;                       => only the crates std, thiserror
src/domain/id.rs     => use crate::engine::Engine;                      => may use no other layer
src/domain/id.rs     => use super::super::store::Store;                 => may use no other layer
src/domain/id.rs     => use std::{fmt, time::Instant};                  => the domain is pure
src/domain/id.rs     => use std::time; fn f() { time::SystemTime::x() } => the domain is pure
src/domain/id.rs     => use std::time::*;                               => the domain is pure
src/domain/id.rs     => fn f() { core::net::IpAddr::x() }               => the domain is pure
src/domain/id.rs     => #[cfg(test)] mod tests { use std::fs; }         => the domain is pure
src/store/memory.rs  => use crate::engine::Engine;                      => store may use domain
src/store/mod.rs     => mod log; pub use log::LogStore;                 => a re-export would hide
src/store/mod.rs     => use tonic::Status;                              => no change of a message
src/engine/mod.rs    => use crate::store::memory::MemoryStore;          => name a concrete store
src/engine/mod.rs    => use crate::store; fn f() { store::log::open() } => name a concrete store
src/engine/mod.rs    => use crate::store::*;                            => name a concrete store
src/engine/owner.rs  => use crate::proto::api;                          => engine may use domain, store
src/engine/owner.rs  => fn f() { tonic::Status::ok("") }                => no change of a message
src/rpc/session.rs   => use crate::store::Store;                        => rpc may use
src/rpc/session.rs   => use crate::server::Server;                      => rpc may use
src/rpc/session.rs   => use tonic::{Code, Status};                      => choose a gRPC code
src/rpc/session.rs   => use tonic::Status as S; fn f() { S::unknown() } => choose a gRPC code
src/rpc/layers.rs    => use tonic::*;                                   => choose a gRPC code
src/server.rs        => fn f() { tonic::Code::Ok }                      => choose a gRPC code
src/cli/session.rs   => use crate::server::Server;                      => cli may use
src/cli/serve.rs     => use crate::engine::Engine;                      => cli::serve may use
src/cli/session.rs   => use crate::store::log::LogStore;                => name a concrete store
src/cli/log.rs       => use crate::store::memory::MemoryStore;          => cli::log may use
src/cli/log.rs       => use crate::server::Server;                      => cli::log may use
src/client/mod.rs    => use crate::domain::session::Session;            => client may use
src/main.rs          => use jet_session::engine::Engine;                => main may use
src/main.rs          => use jet_session::*;                             => main may use
src/config.rs        => use crate::store::memory::MemoryStore;          => config may use domain
src/config.rs        => use crate::store::memory::MemoryStore;          => name a concrete store
"#;

#[test]
fn planted_violations_are_found() {
    for planted in PLANTED.trim().lines() {
        let parts: Vec<&str> = planted.split("=>").map(str::trim).collect();
        let [file, line, rule] = parts[..] else { panic!("three parts: {planted}") };

        let found = violations(file, &format!("//! A module.\n\n{line}\n"));

        let hit = |it: &String| it.starts_with(&format!("{file}:3: `")) && it.contains(rule);
        assert!(found.iter().any(hit), "{planted}\ngives {found:?}");
    }
    assert_eq!(violations("src/misc.rs", "").len(), 1, "a file without a layer is found");
}

/// A file, and a line in it that breaks nothing.
const ALLOWED: &str = r#"
src/domain/instance.rs      => use super::limits; use crate::domain::{id, lifecycle::Phase};
src/domain/jet_err.rs       => #[derive(thiserror::Error)] enum E { A } use E::*;
src/domain/time.rs          => use std::time::Duration; const A: u64 = u64::MAX;
src/domain/mod.rs           => mod id; pub use id::SessionId; use std::collections::BTreeMap;
src/domain/session/tests.rs => use proptest::prelude::*;
src/domain/tests/model.rs   => use proptest::prelude::*; fn f() { prop::collection::vec() }
src/store/mod.rs            => pub mod memory; use crate::domain::id::SessionId;
src/engine/mod.rs           => use crate::store::Store; // never crate::store::memory
src/engine/mod.rs           => #[cfg(test)] mod tests { use crate::store::memory::MemoryStore; }
src/engine/tests.rs         => use crate::store::memory::MemoryStore;
src/rpc/status.rs           => use tonic::{Code, Status};
src/rpc/status/details.rs   => use tonic::{Code, Status};
src/rpc/session.rs          => use tonic::Status; use crate::domain::Code; fn f() { Code::X }
src/server/mod.rs           => use crate::{engine::Engine, store::memory::MemoryStore};
src/cli/serve.rs            => use crate::{cli::Exit, server::Server};
src/cli/log.rs              => use crate::store::log::inspect::Inspection;
src/client/mod.rs           => use crate::domain::jet_err::{self, JetErr}; use tonic::Code;
src/main.rs                 => use jet_session::{cli, telemetry};
"#;

#[test]
fn what_is_allowed_passes() {
    for allowed in ALLOWED.trim().lines() {
        let (file, line) = allowed.split_once("=>").expect("two parts");

        assert_eq!(violations(file.trim(), line), Vec::<String>::new(), "{allowed}");
    }
}
