//! A reload, step by step: what each look and each wish comes to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::config::{File, LogLevel, Sources};
use crate::server::read_file;

/// A directory with a configuration file, and what a part of the server was given.
struct World {
    dir: TempDir,
    given: Arc<Mutex<Vec<Config>>>,
}

impl World {
    fn new(text: &str) -> Self {
        let world =
            Self { dir: tempfile::tempdir().unwrap(), given: Arc::new(Mutex::new(Vec::new())) };
        world.write("f.toml", text);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a policy that anybody could live with, and this remark.
    fn write_policy(&self, name: &str, remark: &str) {
        let rule = "[[rule]]\nprincipals = ['anonymous']\ninstances = ['*']\nroles = ['use']";
        self.write(name, &format!("{rule} # {remark}\n"));
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A reload of this file, with one part.
    fn reload(&self) -> Reload {
        let (path, given) = (self.path("f.toml"), Arc::clone(&self.given));
        Reload::new(move || loaded(&path)).watching(Some(self.path("f.toml"))).part(
            "a part",
            move |config| {
                given.lock().unwrap().push(config.clone());
                Ok(())
            },
        )
    }

    fn begin(&self, reload: Reload) -> Reloader {
        Reloader::new(reload, &loaded(&self.path("f.toml")).unwrap().config)
    }

    fn given(&self) -> usize {
        self.given.lock().unwrap().len()
    }

    fn level(&self) -> Option<LogLevel> {
        self.given.lock().unwrap().last().map(|config| config.log.level)
    }
}

fn loaded(path: &Path) -> Result<Loaded, Mistakes> {
    let file = File {
        name: path.display().to_string(),
        named_by: "--config".to_owned(),
        text: read_file(path, 1_000),
    };
    let (flags, environment) = (BTreeMap::new(), BTreeMap::new());
    Loaded::read(&Sources { flags, environment, file: Some(file) })
}

#[test]
fn a_file_that_has_changed_is_read_when_it_has_settled() {
    let world = World::new("log.level = \"info\"");
    let mut reloader = world.begin(world.reload());

    reloader.look();
    reloader.look();
    assert_eq!(world.given(), 0, "nothing has changed");

    world.write("f.toml", "log.level = \"wa");
    reloader.look();
    world.write("f.toml", "log.level = \"warn\"");
    reloader.look();
    assert_eq!(world.given(), 0, "somebody is still writing it");
    reloader.look();
    assert_eq!(world.level(), Some(LogLevel::Warn));
    reloader.look();
    reloader.look();
    assert_eq!(world.given(), 1, "it has been read");
}

#[test]
fn a_symbolic_link_that_is_swapped_is_a_change() {
    // As Kubernetes does it: file -> ..data/file, ..data -> ..1.
    let world = World::new("auth.policy = \"POLICY\"");
    let policy = world.path("policy.toml");
    for (version, text) in [("..1", "first"), ("..2", "other")] {
        fs::create_dir(world.path(version)).unwrap();
        world.write_policy(&format!("{version}/policy.toml"), text);
    }
    symlink("..1", world.path("..data")).unwrap();
    symlink("..data/policy.toml", &policy).unwrap();
    world.write("f.toml", &format!("auth.policy = \"{}\"", policy.display()));
    let mut reloader = world.begin(world.reload());

    symlink("..2", world.path("..tmp")).unwrap();
    fs::rename(world.path("..tmp"), world.path("..data")).unwrap();
    reloader.look();
    reloader.look();

    assert_eq!(world.given(), 1);
}

#[test]
fn a_file_that_a_reload_names_for_the_first_time_is_watched_from_then_on() {
    let world = World::new("");
    for name in ["one", "two"] {
        world.write_policy(name, "p");
    }
    let policy = |name: &str| format!("auth.policy = \"{}\"", world.path(name).display());
    world.write("f.toml", &policy("one"));
    let mut reloader = world.begin(world.reload());

    world.write("f.toml", &policy("two"));
    reloader.reload();
    assert_eq!(world.given(), 1);
    world.write_policy("two", "longer");
    reloader.look();
    reloader.look();
    assert_eq!(world.given(), 2);
    world.write_policy("one", "nobody reads it any more");
    reloader.look();
    reloader.look();
    assert_eq!(world.given(), 2);
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let world = World::new("log.level = \"info\"");
    let mut reloader = world.begin(world.reload());
    let before = reloader.config.clone();

    for wrong in [
        "log.level = \"loud\"",
        "log.level = \"warn\"\nmax_sessions = 0",
        "log.level = \"warn\"\nauth.policy = \"/nowhere/policy.toml\"",
        "log.level = \"warn",
    ] {
        world.write("f.toml", wrong);
        reloader.reload();
        assert_eq!((world.given(), &reloader.config), (0, &before), "{wrong}");
    }
    fs::remove_file(world.path("f.toml")).unwrap();
    reloader.reload();
    assert_eq!((world.given(), &reloader.config), (0, &before), "no file");

    // It goes on watching.
    world.write("f.toml", "log.level = \"warn\"");
    reloader.look();
    reloader.look();
    assert_eq!(world.level(), Some(LogLevel::Warn));
}

#[test]
fn a_wrong_file_is_read_once_and_again_when_it_is_made_good() {
    let world = World::new("");
    let reads = Arc::new(Mutex::new(0));
    let (path, count) = (world.path("f.toml"), Arc::clone(&reads));
    let reload = Reload::new(move || {
        *count.lock().unwrap() += 1;
        loaded(&path)
    });
    let mut reloader = world.begin(reload.watching(Some(world.path("f.toml"))));
    let mut looks = |expected: usize| {
        for _ in 0..4 {
            reloader.look();
        }
        assert_eq!(*reads.lock().unwrap(), expected);
    };

    world.write("f.toml", "wrong");
    looks(1);
    world.write("f.toml", "# right");
    looks(2);
    // Who may read it is a change, too.
    let mut permissions = fs::metadata(world.path("f.toml")).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(world.path("f.toml"), permissions).unwrap();
    looks(3);
}

#[test]
fn what_waits_for_the_next_start_is_not_given_to_anybody() {
    let world = World::new("log.level = \"info\"\nmax_sessions = 1");
    let mut reloader = world.begin(world.reload());

    world.write("f.toml", "log.level = \"warn\"\nmax_sessions = 2");
    reloader.reload();

    let given = world.given.lock().unwrap();
    assert_eq!((given[0].log.level, given[0].max_sessions), (LogLevel::Warn, 1));
    assert_eq!(reloader.config, given[0]);
}

#[test]
fn a_part_that_refuses_or_panics_is_alone_in_it() {
    let world = World::new("");
    let refuses = |_: &Config| {
        let (source, what) = ("tls.key".to_owned(), "does not match".to_owned());
        Err(vec![Mistake { source, what }])
    };
    let path = world.path("f.toml");
    let first = Reload::new(move || {
        assert!(!path.with_file_name("panic").exists(), "as it is told to");
        loaded(&path)
    });
    let given = Arc::clone(&world.given);
    let reload = first
        .part("refuses", refuses)
        .part("panics", |_| panic!("{}", "as it is told to"))
        .part("takes", move |config| {
            given.lock().unwrap().push(config.clone());
            Ok(())
        });
    let mut reloader = world.begin(reload);

    reloader.reload();
    assert_eq!(world.given(), 1);
    world.write("panic", "");
    reloader.reload();
    assert_eq!(world.given(), 1, "what panics has read nothing");
    fs::remove_file(world.path("panic")).unwrap();
    reloader.reload();
    assert_eq!(world.given(), 2);
}
