//! `jet-session log`: looks into a data directory that no server has, and repairs it.
//!
//! No client of a server: it reads the files itself, and takes the lock of the directory so that no
//! server writes them meanwhile.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::config::DATA_DIR;
use crate::domain::id::{InstanceId, Revision};
use crate::domain::jet_err::JetErr;
use crate::store::log::disk::{Disk, ReadOnlyDisk, RealDisk};
use crate::store::log::fault::Fault;
use crate::store::log::inspect::Inspection;
use crate::store::log::inspect::repair::{Done, Plan};
use crate::store::log::inspect::verify::{Checked, Trouble, Verdict};
use crate::store::log::lock::{DirLock, NotLocked};

use super::failure::Failure;
use super::notation;
use super::output::{Output, View};

mod line;

/// The directory that is meant, and what in it.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Data directory; no server may have it
    #[arg(value_name = "DIR", default_value = DATA_DIR)]
    dir: PathBuf,

    /// Only this instance: main or instances/main [default: all]
    #[arg(long, value_name = "INSTANCE", value_parser = notation::instance)]
    instance: Option<InstanceId>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read every byte and say of each file whether it is whole; exit with 0 only if a server will open
    /// the directory with everything that was acknowledged
    Verify(Place),
    /// Print what happened, one event a line, in the order of its revisions
    Dump {
        #[command(flatten)]
        place: Place,
        /// Begin with this revision
        #[arg(long, value_name = "REVISION", default_value_t = 0)]
        from: u64,
        /// Leave out what is no event: segments, taken numbers, seals
        #[arg(long)]
        events_only: bool,
    },
    /// Say what is damaged and what would be lost; with --accept-loss, make it open again
    Repair {
        #[command(flatten)]
        place: Place,
        /// Cut off what is damaged and all that follows it. What is replaced is put aside
        #[arg(long)]
        accept_loss: bool,
    },
}

impl Command {
    /// Does it and shows what was found.
    pub(super) fn run(self, out: &mut Output<'_>) -> Result<(), Failure> {
        match self {
            Self::Verify(place) => verify(&place, out),
            Self::Dump { place, from, events_only } => {
                dump(&place, Revision::new(from), events_only, out)
            }
            Self::Repair { place, accept_loss } => repair(&place, accept_loss, out),
        }
    }
}

fn verify(place: &Place, out: &mut Output<'_>) -> Result<(), Failure> {
    let directory = Inspection::new(ReadOnlyDisk, &place.dir)?;
    let _lock = DirLock::look(&place.dir)?;
    let checked = directory.verify(place.instance.as_ref())?;
    let [mut sound, mut left, mut spoilt, mut refused] = [0_usize; 4];
    for file in &checked {
        *match &file.verdict {
            Verdict::Sound(_) => &mut sound,
            Verdict::Leftover(_) => &mut left,
            Verdict::Spoilt(_) => &mut spoilt,
            Verdict::Refused(_) => &mut refused,
        } += 1;
    }
    let summary = format!(
        "{sound} sound, {left} left over, {spoilt} damaged but not needed, {refused} refused"
    );
    let files: Vec<Value> = checked.iter().map(as_json).collect();
    let rows = View::Table(&["FILE", "BYTES", "VERDICT"], checked.iter().map(as_row).collect());
    let whole = json!({
        "opens": refused == 0,
        "sound": sound,
        "leftOver": left,
        "damagedNotNeeded": spoilt,
        "refused": refused,
        "files": files,
    });
    out.value(&whole, &format!("{rows}\n\n{summary}"))?;
    let first = checked.iter().find_map(|file| match &file.verdict {
        Verdict::Refused(trouble) => Some((file, trouble)),
        Verdict::Sound(_) | Verdict::Leftover(_) | Verdict::Spoilt(_) => None,
    });
    match first {
        None => Ok(()),
        Some((file, trouble)) => Err(Failure::Directory(format!(
            "a server will refuse this: {}{}: {} ({}); {}",
            file.path.display(),
            at_byte(trouble.at),
            trouble.reason,
            code(trouble.error),
            trouble.advice,
        ))),
    }
}

fn as_row(file: &Checked) -> Vec<String> {
    let damage = |trouble: &Trouble| {
        let Trouble { error, at, reason, advice } = trouble;
        format!("{}{reason} ({}); {advice}", prefix(*at), code(*error))
    };
    let verdict = match &file.verdict {
        Verdict::Sound(what) => format!("ok: {what}"),
        Verdict::Leftover(why) => format!("left over: {why}"),
        Verdict::Spoilt(trouble) => format!("damaged, not needed: {}", damage(trouble)),
        Verdict::Refused(trouble) => format!("REFUSED: {}", damage(trouble)),
    };
    let bytes = file.bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
    vec![file.path.display().to_string(), bytes, verdict]
}

fn as_json(file: &Checked) -> Value {
    let (verdict, what) = match &file.verdict {
        Verdict::Sound(what) => ("sound", json!(what)),
        Verdict::Leftover(why) => ("leftOver", json!(why)),
        Verdict::Spoilt(trouble) => ("damagedNotNeeded", json!(trouble.reason)),
        Verdict::Refused(trouble) => ("refused", json!(trouble.reason)),
    };
    let mut object = json!({
        "path": file.path.display().to_string(),
        "bytes": file.bytes,
        "verdict": verdict,
        "what": what,
    });
    if let Verdict::Spoilt(trouble) | Verdict::Refused(trouble) = &file.verdict {
        object["at"] = json!(trouble.at);
        object["jetError"] = json!(trouble.error.code());
        object["jetErrorName"] = json!(trouble.error.name());
        object["advice"] = json!(trouble.advice);
    }
    object
}

fn dump(
    place: &Place,
    from: Revision,
    events_only: bool,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let directory = Inspection::new(ReadOnlyDisk, &place.dir)?;
    let _lock = DirLock::look(&place.dir)?;
    let mut failed = None;
    for id in chosen(&directory, place)? {
        if !events_only && !out.is_json() {
            out.value(&Value::Null, &format!("# {}", id.name()))?;
        }
        let told = directory.dump(&id, from, |at, entry| match line::line(&id, at, entry) {
            (object, Some(text)) => out.value(&object, &text),
            _ if events_only => Ok(()),
            (object, None) => out.value(&object, &line::comment(at, entry)),
        });
        match told {
            Ok(()) => {}
            // The others are shown all the same.
            Err(Failure::Directory(sentence)) => {
                failed.get_or_insert(sentence);
            }
            Err(failure) => return Err(failure),
        }
    }
    failed.map_or(Ok(()), |sentence| Err(Failure::Directory(sentence)))
}

fn repair(place: &Place, accept: bool, out: &mut Output<'_>) -> Result<(), Failure> {
    if accept {
        let directory = Inspection::new(RealDisk, &place.dir)?;
        let _lock = DirLock::take(&place.dir)?;
        mend(&directory, place, true, out)
    } else {
        let directory = Inspection::new(ReadOnlyDisk, &place.dir)?;
        let _lock = DirLock::look(&place.dir)?;
        mend(&directory, place, false, out)
    }
}

fn mend<D: Disk>(
    directory: &Inspection<D>,
    place: &Place,
    accept: bool,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let (mut found, mut failed) = (0_usize, None);
    let ids = chosen(directory, place)?;
    // The floor comes first: numbers of instances rest on it.
    for target in std::iter::once(None).chain(ids.iter().map(Some)) {
        let plan = match target {
            None => directory.plan_floor(),
            Some(id) => directory.plan(id),
        };
        let done = match plan {
            Ok(None) => continue,
            Ok(Some(plan)) => {
                found += 1;
                let (text, object) = (plan_text(&plan), plan_json(&plan));
                let done = accept.then(|| directory.repair(plan)).transpose();
                done.map(|done| (text, object, done))
            }
            Err(fault) => Err(fault),
        };
        match done {
            Ok((mut text, mut object, done)) => {
                if let Some(done) = &done {
                    text.push_str(&done_text(done));
                    object["putAside"] = json!(paths(done));
                    object["numbersAbove"] = json!(done.floor.revision.get().to_string());
                }
                object["repaired"] = json!(done.is_some());
                out.value(&object, &text)?;
            }
            Err(fault) => {
                // The others can be repaired all the same.
                failed.get_or_insert(Failure::from(fault));
            }
        }
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    if found == 0 {
        out.note("nothing is damaged that a server needs")?;
    } else if !accept {
        let sentence =
            "nothing was changed; with --accept-loss this is done, and what is lost is lost";
        return Err(Failure::Directory(sentence.to_owned()));
    }
    Ok(())
}

fn target(plan: &Plan) -> String {
    plan.instance.as_ref().map_or("the floor of the directory".to_owned(), InstanceId::name)
}

fn plan_text(plan: &Plan) -> String {
    let mut text = target(plan);
    let faults = plan.faults.iter().map(sentence);
    let rows = faults.map(|row| ("damaged", row));
    let rows = rows.chain(plan.kept.iter().map(|row| ("kept", row.clone())));
    for (label, row) in rows.chain(plan.lost.iter().map(|row| ("lost", row.clone()))) {
        text.push_str(&format!("\n  {label:9}  {row}"));
    }
    text
}

fn plan_json(plan: &Plan) -> Value {
    json!({
        "target": target(plan),
        "damaged": plan.faults.iter().map(sentence).collect::<Vec<_>>(),
        "kept": plan.kept,
        "lost": plan.lost,
    })
}

fn done_text(done: &Done) -> String {
    let mut text = String::new();
    for path in paths(done) {
        text.push_str(&format!("\n  put aside  {path}"));
    }
    text.push_str(&format!("\n  numbers    go on above revision {}", done.floor.revision));
    text
}

fn paths(done: &Done) -> Vec<String> {
    done.aside.iter().map(|path| path.display().to_string()).collect()
}

fn chosen<D: Disk>(directory: &Inspection<D>, place: &Place) -> Result<Vec<InstanceId>, Failure> {
    let all = directory.instances()?;
    match &place.instance {
        None => Ok(all),
        Some(only) if all.contains(only) => Ok(vec![only.clone()]),
        Some(only) => Err(Failure::Directory(format!(
            "there is no {} in {}",
            only.name(),
            place.dir.display()
        ))),
    }
}

/// A fault in one sentence.
fn sentence(fault: &Fault) -> String {
    let path: &Path = fault.path();
    let at = fault.at().filter(|at| *at > 0);
    format!("{}{}: {} ({})", path.display(), at_byte(at), fault.reason(), code(fault.jet_err()))
}

fn at_byte(at: Option<u64>) -> String {
    at.map_or(String::new(), |at| format!(" at byte {at}"))
}

fn prefix(at: Option<u64>) -> String {
    at.map_or(String::new(), |at| format!("at byte {at}: "))
}

fn code(error: JetErr) -> String {
    format!("{} {}", error.name(), error.code())
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Directory(sentence(&fault))
    }
}

impl From<NotLocked> for Failure {
    fn from(error: NotLocked) -> Self {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
        Self::Directory(format!("{error}{cause}"))
    }
}
