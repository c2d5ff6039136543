//! Backups on their way out and in. Both are asked for by the owner and carried by whoever asked.

use std::fmt;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::domain::backup::{BackupRefusal, RestoreRefusal};
use crate::domain::lifecycle::PhaseRefusal;
use crate::domain::table::SessionTable;
use crate::engine::watch::InstanceView;
use crate::engine::{Engine, Unanswered};
use crate::store::Progress;
use crate::store::snapshot::{About, Decoder, Encoder, NotASnapshot};

/// What an owner gives to whoever takes a backup: its sessions as they are between two batches.
pub(super) struct Begun {
    pub(super) about: About,
    pub(super) table: SessionTable,
    pub(super) ended: oneshot::Receiver<PhaseRefusal>,
}

/// A backup that is being taken. While it lives no other one is taken of its instance; what happens to
/// the instance meanwhile is not in it.
#[derive(Debug)]
pub struct Backup {
    engine: Engine,
    encoder: Encoder,
    /// Tells why the backup ends before its end. Once it is dropped the owner knows that it is over.
    ended: Option<oneshot::Receiver<PhaseRefusal>>,
}

/// A piece of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes, at most [`BACKUP_CHUNK_BYTES_MAX`] of them.
    ///
    /// [`BACKUP_CHUNK_BYTES_MAX`]: crate::domain::limits::BACKUP_CHUNK_BYTES_MAX
    pub bytes: Vec<u8>,
    /// How much of the backup has come with it, in per cent.
    pub percent: u8,
}

impl Backup {
    pub(super) fn new(engine: Engine, begun: Begun) -> Self {
        let Begun { about, table, ended } = begun;
        Self { engine, encoder: Encoder::backup(about, table), ended: Some(ended) }
    }

    /// The next piece; nothing after the last one. After an error there is none. Made only now, and
    /// never two without letting others run.
    pub async fn next(&mut self) -> Option<Result<Piece, Unanswered<BackupRefusal>>> {
        tokio::task::yield_now().await;
        let ended = self.ended.as_mut()?;
        let error = match ended.try_recv() {
            Ok(refusal) => Some(Unanswered::Refused(refusal.into())),
            Err(TryRecvError::Closed) => Some(Unanswered::ShuttingDown),
            Err(TryRecvError::Empty) => self.engine.draining().then_some(Unanswered::ShuttingDown),
        };
        let piece = match error {
            Some(error) => Some(Err(error)),
            None => self.encoder.next().map(|bytes| Ok(self.piece(bytes))),
        };
        if !matches!(piece, Some(Ok(_))) {
            self.ended = None;
        }
        piece
    }

    fn piece(&self, bytes: Vec<u8>) -> Piece {
        Piece { bytes, percent: self.encoder.percent() }
    }
}

/// A backup that was read, or why it was not.
pub(super) type Uploaded = Result<SessionTable, Unanswered<RestoreRefusal>>;

/// A backup that is being read in. If it is dropped, the instance is as it was before.
#[must_use = "the instance waits for the end of the upload"]
pub struct Upload {
    decoder: Decoder,
    max_sessions: u32,
    broken: Option<NotASnapshot>,
    progress: Progress,
    uploaded: oneshot::Sender<Uploaded>,
    answer: oneshot::Receiver<Result<InstanceView, Unanswered<RestoreRefusal>>>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("max_sessions", &self.max_sessions).finish_non_exhaustive()
    }
}

impl Upload {
    pub(super) fn new(
        max_sessions: u32,
        progress: Progress,
        uploaded: oneshot::Sender<Uploaded>,
        answer: oneshot::Receiver<Result<InstanceView, Unanswered<RestoreRefusal>>>,
    ) -> Self {
        let decoder = Decoder::of_backup(max_sessions.into());
        Self { decoder, max_sessions, broken: None, progress, uploaded, answer }
    }

    /// Takes the next bytes. Answers whether more are of use; if not, [`finish`](Self::finish) says why.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        if self.broken.is_none() {
            self.broken = self.decoder.push(bytes).err();
            self.progress.report(self.decoder.percent());
        }
        self.broken.is_none()
    }

    /// That was all: answers when the instance has become what was read in, or is again what it was.
    pub async fn finish(self) -> Result<InstanceView, Unanswered<RestoreRefusal>> {
        let max = self.max_sessions;
        let read = match self.broken {
            Some(broken) => Err(broken),
            None => self.decoder.finish(),
        };
        let uploaded = read
            .map(|(_, table)| table)
            .map_err(|error| Unanswered::Refused(not_a_backup(&error, max)));
        drop(self.uploaded.send(uploaded));
        self.answer.await.unwrap_or(Err(Unanswered::ShuttingDown))
    }

    /// Nothing more will come: waits until the instance is again what it was.
    pub async fn abandon(self) {
        drop(self.uploaded);
        self.answer.await.ok();
    }
}

fn not_a_backup(error: &NotASnapshot, max: u32) -> RestoreRefusal {
    let what = error.to_string();
    match error {
        NotASnapshot::Foreign => RestoreRefusal::Foreign(what),
        NotASnapshot::Newer(_) => RestoreRefusal::Newer(what),
        NotASnapshot::Damaged { .. } | NotASnapshot::Truncated(_) => RestoreRefusal::Damaged(what),
        NotASnapshot::TooManySessions { found, .. } => {
            RestoreRefusal::TooManySessions { found: *found, max }
        }
    }
}
