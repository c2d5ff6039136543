//! What a watch begins with: a snapshot, or what the log remembers.
//!
//! Both need the sessions of some moment, which are large, so few are fed at a time and the others wait
//! their turn. A feed makes a piece ready only when the one before has been taken. A reader that takes
//! nothing for long loses its turn, and the memory is given back although nobody asks its stream any
//! more: that is why a feed is a task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::domain::call::session::SessionFilter;
use crate::domain::id::{Revision, SessionId};
use crate::domain::limits::{LAZY_SYNC_MS_MAX, WATCH_PIECE_EVENTS, WATCH_STALL_SECONDS_MAX};
use crate::domain::session::{Session, SessionView};
use crate::domain::table::SessionTable;
use crate::domain::watch::{WatchRefusal, recall};
use crate::engine::owner::Message;
use crate::engine::sessions::ring::{Cursor, Place, Ring};
use crate::engine::sessions::{Look, Snapshot, Stage, Watched};
use crate::engine::{Engine, Handle, Unanswered};
use crate::store::{History, NoHistory, Past, with_causes};

/// Why a feed ends before its end.
type Ended = Unanswered<WatchRefusal>;

/// Pieces that wait for the reader, beside the one that it is reading.
const PIECES_MAX: usize = 1;

/// What a feed needs of the server.
pub(super) struct Feed {
    owner: mpsc::Sender<Message>,
    ring: Arc<Ring>,
    /// The time of serving that the watch is of.
    period: u64,
    snapshots: Arc<Semaphore>,
    histories: Arc<Semaphore>,
    draining: watch::Receiver<bool>,
    filter: SessionFilter,
}

impl Feed {
    pub(super) fn new(engine: &Engine, handle: &Handle, filter: SessionFilter) -> Self {
        let watches = &engine.shared.watches;
        Self {
            owner: handle.owner.clone(),
            ring: Arc::clone(&handle.ring),
            period: handle.ring.period(),
            snapshots: Arc::clone(&watches.snapshots),
            histories: Arc::clone(&watches.histories),
            draining: engine.shared.draining.subscribe(),
            filter,
        }
    }

    /// Begins to feed a watch.
    pub(super) fn start(self, from: Revision) -> Stage {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let (tell, then) = oneshot::channel();
        let reader = Reader(sender);
        tokio::spawn(async move {
            let ended = tokio::select! {
                biased;
                ended = self.ended() => Err(ended),
                () = reader.0.closed() => return,
                ended = self.run(from, &reader) => ended,
            };
            drop(tell.send(ended));
        });
        Stage::Fed { pieces, piece: Vec::new().into_iter(), then }
    }

    /// Waits until there is nothing more to be told: the phase has changed, or the server drains.
    async fn ended(&self) -> Ended {
        let mut draining = self.draining.clone();
        let drained = async {
            // An error would mean that the server is gone.
            draining.wait_for(|draining| *draining).await.ok();
        };
        let mut heard = self.ring.listen();
        let closed = async {
            loop {
                heard.mark_unchanged();
                if let Err(refusal) = self.ring.serves(self.period) {
                    return refusal;
                }
                if heard.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            () = drained => Unanswered::ShuttingDown,
            refusal = closed => Unanswered::Refused(refusal),
        }
    }

    /// Feeds the watch until the ring has the rest. Answers from where on.
    async fn run(&self, from: Revision, reader: &Reader) -> Result<Cursor, Ended> {
        let mut next = from;
        if from == Revision::ZERO {
            next = self.snapshot(reader).await?.next();
        }
        loop {
            match self.ring.place(next).map_err(Unanswered::Refused)? {
                Place::Here(cursor) => return Ok(cursor),
                // While the snapshot was told too much has happened, or the watch asks for the past.
                Place::Before { oldest, begin } => {
                    next = self.past(next, oldest, begin, reader).await?;
                }
            }
        }
    }

    /// Tells the sessions that there are. Answers their revision.
    async fn snapshot(&self, reader: &Reader) -> Result<Revision, Ended> {
        let _turn = self.snapshots.acquire().await.map_err(|_| Unanswered::ShuttingDown)?;
        let Snapshot { table, plain } = self.look(Look::Snapshot).await?;
        let revision = table.revision();
        let mut after = None;
        loop {
            let (sessions, last) = self.some(&table, after);
            if !sessions.is_empty() {
                let views = if plain { plainly(sessions) } else { self.now(sessions).await? };
                let present = |view| Watched::Present(revision, Box::new(view));
                reader.give(views.into_iter().map(present).collect()).await?;
            }
            let Some(last) = last else {
                break;
            };
            after = Some(last);
        }
        // Given back before anything is waited for.
        drop(table);
        reader.give(vec![Watched::UpTo(revision)]).await?;
        Ok(revision)
    }

    /// The next sessions that pass the filter, and the last that was looked at if there are more.
    fn some(
        &self,
        table: &SessionTable,
        after: Option<SessionId>,
    ) -> (Vec<Session>, Option<SessionId>) {
        let mut found = Vec::new();
        let mut looked_at = 0;
        for session in table.after(after) {
            if self.filter.passes(session) {
                found.push(session.clone());
            }
            looked_at += 1;
            if looked_at == WATCH_PIECE_EVENTS {
                return (found, Some(session.id));
            }
        }
        (found, None)
    }

    async fn now(&self, sessions: Vec<Session>) -> Result<Vec<SessionView>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.ask(Look::Now(sessions, reply)).await?;
        answer.await.map_err(|_| self.lost())
    }

    /// Tells what the log remembers from `next` on, until the ring has the rest. Answers from where on.
    async fn past(
        &self,
        mut next: Revision,
        bound: Revision,
        begin: Revision,
        reader: &Reader,
    ) -> Result<Revision, Ended> {
        let _turn = self.histories.acquire().await.map_err(|_| Unanswered::ShuttingDown)?;
        let history = self.history().await?;
        if next < oldest(&*history, bound, begin).await? {
            // It was kept when the watch began, or when the snapshot was taken.
            return Err(Unanswered::Refused(WatchRefusal::TooSlow));
        }
        let Past { mut table, mut changes } =
            history.since(next).await.map_err(|refusal| not_kept(refusal, begin))?;
        loop {
            let read = changes.next().await.map_err(|refusal| not_kept(refusal, begin))?;
            let nothing = read.is_empty();
            let mut read = read.into_iter().peekable();
            while read.peek().is_some() {
                let (mut piece, mut here) = (Vec::new(), None);
                for change in read.by_ref().take(WATCH_PIECE_EVENTS) {
                    // What is in the log may not be synced yet, and then nobody may hear of it. All that
                    // comes before the ring was told once.
                    let place = self.ring.place(change.revision).map_err(Unanswered::Refused)?;
                    if let Place::Here(_) = place {
                        here = Some(change.revision);
                        break;
                    }
                    next = change.revision.next();
                    let told = recall(&mut table, change);
                    let told = told.filter(|told| told.passes(&self.filter));
                    piece.extend(told.map(|told| Watched::Event(Box::new(told))));
                }
                if !piece.is_empty() {
                    reader.give(piece).await?;
                }
                if let Some(here) = here {
                    return Ok(here);
                }
                tokio::task::consume_budget().await;
            }
            match self.ring.place(next).map_err(Unanswered::Refused)? {
                Place::Here(_) => return Ok(next),
                Place::Before { .. } if nothing => {
                    // What was answered before its sync is not in the log yet.
                    tokio::time::sleep(Duration::from_millis(LAZY_SYNC_MS_MAX)).await;
                }
                Place::Before { .. } => {}
            }
        }
    }

    pub(super) async fn history(&self) -> Result<Box<dyn History>, Ended> {
        self.look(Look::History).await
    }

    async fn look<T>(
        &self,
        look: impl FnOnce(oneshot::Sender<Result<T, WatchRefusal>>) -> Look,
    ) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        self.ask(look(reply)).await?;
        match answer.await {
            Ok(found) => found.map_err(Unanswered::Refused),
            Err(_) => Err(self.lost()),
        }
    }

    async fn ask(&self, look: Look) -> Result<(), Ended> {
        self.owner.send(Message::Look(look)).await.map_err(|_| self.lost())
    }

    /// What to say when the owner took a question with it.
    fn lost(&self) -> Ended {
        match self.ring.serves(self.period) {
            Err(refusal) => Unanswered::Refused(refusal),
            Ok(()) => Unanswered::ShuttingDown,
        }
    }
}

/// The first revision that can be asked for: the first in the log, but none before `bound`; `begin` if
/// nothing is kept but what is in the ring.
pub(super) async fn oldest(
    history: &dyn History,
    bound: Revision,
    begin: Revision,
) -> Result<Revision, Ended> {
    let oldest = history.oldest().await.map_err(|refusal| not_kept(refusal, begin))?;
    Ok(oldest.map_or(begin, |oldest| oldest.max(bound)))
}

/// What the log does not tell can be had from where the ring begins.
fn not_kept(refusal: NoHistory, begin: Revision) -> Ended {
    let oldest = match refusal {
        NoHistory::Before(oldest) => oldest,
        NoHistory::Unreadable(error) => {
            tracing::warn!(cause = with_causes(&error), "the past cannot be read for a watch");
            begin
        }
    };
    Unanswered::Refused(WatchRefusal::Compacted { oldest })
}

fn plainly(sessions: Vec<Session>) -> Vec<SessionView> {
    let view = |session| SessionView { session, waiters: 0, lease: None };
    sessions.into_iter().map(view).collect()
}

/// Where pieces go.
struct Reader(mpsc::Sender<Vec<Watched>>);

impl Reader {
    /// Gives a piece once there is room for it. A reader that has gone, or takes nothing, is given no more.
    async fn give(&self, piece: Vec<Watched>) -> Result<(), Ended> {
        let patience = Duration::from_secs(WATCH_STALL_SECONDS_MAX);
        match tokio::time::timeout(patience, self.0.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unanswered::Refused(WatchRefusal::TooSlow)),
        }
    }
}
