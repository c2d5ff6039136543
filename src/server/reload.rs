//! A new configuration for a server that runs.
//!
//! On SIGHUP, and when a file that the configuration names has changed, what was said is read again. What can
//! take effect does; of the rest the log says that it waits for the next start. If anything is wrong, the server
//! goes on as it was.
//!
//! All of it happens on a thread of its own, which may wait for a disk as long as it takes.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, Loaded, Mistake, Mistakes};
use crate::domain::limits::FILES_LOOKED_AT_SECONDS;
use crate::server::check;
use crate::server::files::Stamp;
use crate::server::metrics::Reloads;

/// Gives a part of the server its new configuration, or says what is wrong with it; then the part stays as it
/// was.
pub type Apply = Box<dyn Fn(&Config) -> Result<(), Vec<Mistake>> + Send>;

/// How what was said is read again.
type Read = Box<dyn Fn() -> Result<Loaded, Mistakes> + Send>;

/// How a server that runs gets a new configuration.
pub struct Reload {
    read: Read,
    /// The configuration file, as it was when it was first named.
    file: Option<(PathBuf, Stamp)>,
    every: Duration,
    parts: Vec<(&'static str, Apply)>,
}

impl Reload {
    /// Reads what was said with `read`.
    pub fn new(read: impl Fn() -> Result<Loaded, Mistakes> + Send + 'static) -> Self {
        let every = Duration::from_secs(FILES_LOOKED_AT_SECONDS);
        Self { read: Box::new(read), file: None, every, parts: Vec::new() }
    }

    /// Looks at the configuration file, too. To be called before it is read.
    pub fn watching(self, file: Option<PathBuf>) -> Self {
        let file = file.map(|path| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        });
        Self { file, ..self }
    }

    /// Looks at files so often.
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Gives a new configuration to this part, too. Parts are given it in the order in which they are named.
    pub fn part(
        mut self,
        name: &'static str,
        apply: impl Fn(&Config) -> Result<(), Vec<Mistake>> + Send + 'static,
    ) -> Self {
        self.parts.push((name, Box::new(apply)));
        self
    }

    /// Begins to watch files, and to take SIGHUP for a wish. Files are to be read after this.
    pub(super) fn begin(self, config: &Config) -> io::Result<Begun> {
        let hangups = signal(SignalKind::hangup())?;
        Ok(Begun { hangups, reloader: Reloader::new(self, config) })
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.parts.iter().map(|(name, _)| *name).collect();
        f.debug_struct("Reload").field("file", &self.file).field("parts", &parts).finish()
    }
}

/// A reload that knows what there was before anything was read.
pub(super) struct Begun {
    hangups: Signal,
    reloader: Reloader,
}

impl Begun {
    /// Gives a new configuration to this part, too.
    pub(super) fn part(
        mut self,
        name: &'static str,
        apply: impl Fn(&Config) -> Result<(), Vec<Mistake>> + Send + 'static,
    ) -> Self {
        self.reloader.reload = self.reloader.reload.part(name, apply);
        self
    }

    /// Counts reloads there.
    pub(super) fn counted(mut self, count: Arc<Reloads>) -> Self {
        self.reloader.count = count;
        self
    }

    /// Reloads from now on, until the runtime ends.
    pub(super) fn go_on(self) -> io::Result<()> {
        let Self { mut hangups, reloader } = self;
        // One wish that waits is as good as many.
        let (wish, wishes) = sync_channel(1);
        thread::Builder::new().name("reload".to_owned()).spawn(move || reloader.run(&wishes))?;
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                wish.try_send(()).ok();
            }
        });
        Ok(())
    }
}

struct Reloader {
    reload: Reload,
    /// What is in force.
    config: Config,
    count: Arc<Reloads>,
    /// What was seen of each file before it was last read.
    known: Vec<(PathBuf, Stamp)>,
    /// What was seen at the last look, if it was something else.
    unsettled: Option<Vec<(PathBuf, Stamp)>>,
}

impl Reloader {
    fn new(reload: Reload, config: &Config) -> Self {
        let mut known: Vec<_> = reload.file.clone().into_iter().collect();
        known
            .extend(config.files().into_iter().map(|(_, path)| (path.to_owned(), Stamp::of(path))));
        Self { reload, config: config.clone(), count: Arc::default(), known, unsettled: None }
    }

    fn run(mut self, wishes: &Receiver<()>) {
        loop {
            match wishes.recv_timeout(self.reload.every) {
                Ok(()) => {
                    tracing::info!("SIGHUP");
                    self.reload();
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    /// Reloads if a file is not what it was, and is what it was at the last look.
    fn look(&mut self) {
        let seen: Vec<(PathBuf, Stamp)> =
            self.known.iter().map(|(path, _)| (path.clone(), Stamp::of(path))).collect();
        if seen == self.known {
            self.unsettled = None;
        } else if self.unsettled.as_ref() == Some(&seen) {
            for ((path, now), (_, before)) in seen.iter().zip(&self.known) {
                if now != before {
                    tracing::info!(file = %path.display(), "a file has changed");
                }
            }
            self.reload();
        } else {
            self.unsettled = Some(seen);
        }
    }

    fn reload(&mut self) {
        self.unsettled = None;
        // Before they are read: what changes meanwhile is seen as a change.
        for (path, stamp) in &mut self.known {
            *stamp = Stamp::of(path);
        }
        let read = guarded(|| (self.reload.read)()).and_then(|read| read.map_err(|wrong| wrong.0));
        let taken = match read {
            Ok(new) => self.take(&new.config),
            Err(mistakes) => refuse(&mistakes),
        };
        self.count.reloaded(taken);
    }

    /// Puts into force what can be of a new configuration; answers whether every part took it.
    fn take(&mut self, new: &Config) -> bool {
        let next = self.config.reloaded(new);
        let mut named: Vec<PathBuf> =
            self.reload.file.iter().map(|(path, _)| path.clone()).collect();
        for config in [&next, new] {
            named.extend(config.files().into_iter().map(|(_, path)| path.to_owned()));
        }
        named.sort();
        named.dedup();
        let stamp = |path: PathBuf| {
            let known = self.known.iter().find(|(known, _)| *known == path);
            let stamp = known.map_or_else(|| Stamp::of(&path), |(_, stamp)| *stamp);
            (path, stamp)
        };
        self.known = named.into_iter().map(stamp).collect();

        // Everything is looked at before anything is changed.
        let checked = guarded(|| check::files(new)).and_then(|checked| checked.map_err(|m| m.0));
        if let Err(mistakes) = checked {
            return refuse(&mistakes);
        }
        let (mut taken, mut all) = (Vec::new(), true);
        for (name, apply) in &self.reload.parts {
            match guarded(|| apply(&next)).and_then(|applied| applied) {
                Ok(()) => taken.push(*name),
                Err(mistakes) => all = refuse(&mistakes),
            }
        }
        let changed: Vec<&str> =
            self.config.differences(&next).into_iter().map(|key| key.name).collect();
        for key in next.differences(new) {
            tracing::warn!(setting = key.name, "a changed setting takes effect at the next start");
        }
        self.config = next;
        tracing::info!(
            parts = taken.join(", "),
            changed = changed.join(", "),
            "the configuration was reloaded"
        );
        all
    }
}

/// Tells the log why not.
fn refuse(mistakes: &[Mistake]) -> bool {
    for mistake in mistakes {
        tracing::error!(%mistake, "not reloaded; the server goes on as it was");
    }
    false
}

/// What a part does; if it panics, that is what is wrong. A server must not end because it was to be reloaded.
fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, Vec<Mistake>> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| {
        let what = format!("a panic: {}", said_by(&*panic));
        vec![Mistake { source: "reload".to_owned(), what }]
    })
}

fn said_by(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
