//! Backups in files: what a server streams is written down, and read back to a server.
//!
//! A backup is complete only when the call has ended well. Until then it has another name, so a file
//! that is there is whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::domain::id::InstanceId;
use crate::proto::api::restore_instance_request::Payload;
use crate::proto::api::{BackupInstanceRequest, BackupInstanceResponse, RestoreInstanceRequest};

use super::super::connect::Connection;
use super::super::failure::Failure;
use super::super::output::Output;
use super::{InstanceArg, view};

/// How the name of a backup ends until it is complete.
const PARTIAL: &str = ".partial";

/// What is sent at a time: as much as servers send.
const CHUNK_BYTES: usize = 32 * 1024;

/// Chunks that wait for the server: reading a file goes on while it takes one.
const CHUNKS_AHEAD: usize = 4;

/// The file name that means stdin or stdout.
const STANDARD: &str = "-";

#[derive(Debug, Args)]
pub(in crate::cli) struct BackupArgs {
    #[command(flatten)]
    instance: InstanceArg,
    /// File to write, - for stdout. It is there only once the backup is complete
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RestoreArgs {
    #[command(flatten)]
    instance: InstanceArg,
    /// File to read, - for stdin
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
}

impl BackupArgs {
    /// Streams a backup into a file.
    pub(super) async fn run(
        self,
        server: &Connection,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let name = self.instance.instance.name();
        if self.output == Path::new(STANDARD) {
            let bar = bar(&self.instance.instance, Until::Percent);
            return receive(server, name, &bar, |chunk| out.raw(chunk)).await;
        }
        let mut file = NewFile::create(&self.output, self.force)?;
        let bar = bar(&self.instance.instance, Until::Percent);
        receive(server, name, &bar, |chunk| file.write(chunk)).await?;
        file.finish(self.force)
    }
}

/// Gives every chunk of a backup to `take`. Answers `Ok` only if the backup is complete.
async fn receive(
    server: &Connection,
    name: String,
    bar: &ProgressBar,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let request = server.endless(BackupInstanceRequest { name });
    let mut chunks = server.begun(server.instances().backup_instance(request)).await?;
    loop {
        match chunks.message().await {
            Ok(Some(message)) => {
                let BackupInstanceResponse { chunk, progress } = &message;
                take(chunk)?;
                bar.set_position(u64::try_from(*progress).unwrap_or(0));
            }
            Ok(None) => {
                bar.finish_and_clear();
                return Ok(());
            }
            Err(status) => {
                bar.finish_and_clear();
                return Err(server.failure(status));
            }
        }
    }
}

impl RestoreArgs {
    /// Streams a file into a created instance.
    pub(super) async fn run(
        self,
        server: &Connection,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let input = self.input;
        let failed = |error| Failure::File { path: input.clone(), error };
        let (source, until): (Box<dyn Read + Send>, _) = if input == Path::new(STANDARD) {
            (Box::new(io::stdin()), Until::Unknown)
        } else {
            let file = File::open(&input).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            (Box::new(file), Until::Bytes(size))
        };
        let bar = bar(&self.instance.instance, until);
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let name = self.instance.instance.name();
        let (told, mut outcome) = oneshot::channel();
        // A thread that nobody waits for: what it reads from may never end.
        thread::spawn(move || {
            let sent = send(name, source, &sender);
            // Told before the stream ends, and with it perhaps the call.
            told.send(sent).ok();
            drop(sender);
        });
        // The bar is drawn on this thread only, which has stderr for as long as the command runs.
        let bar_there = bar.clone();
        let messages = ReceiverStream::new(receiver).map(move |message| {
            if let Some(Payload::Chunk(chunk)) = &message.payload {
                bar_there.inc(chunk.len() as u64);
            }
            message
        });
        let request = server.endless(messages);
        let answer = server.begun(server.instances().restore_instance(request)).await;
        bar.finish_and_clear();
        match (answer, outcome.try_recv()) {
            // The server only saw that the stream broke off.
            (_, Ok(Err(error))) => Err(failed(error)),
            (answer, Ok(Ok(())) | Err(_)) => {
                let answer = answer?;
                out.answer("RestoreInstanceResponse", &answer, view::table(&answer.instance))
            }
        }
    }
}

/// Sends the name, and then what is read, until the server takes no more.
fn send(
    name: String,
    mut source: impl Read,
    sender: &mpsc::Sender<RestoreInstanceRequest>,
) -> io::Result<()> {
    let message = |payload| RestoreInstanceRequest { payload: Some(payload) };
    let mut next = message(Payload::Name(name));
    while sender.blocking_send(next).is_ok() {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut filled = 0;
        while filled < chunk.len() {
            match source.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            return Ok(());
        }
        chunk.truncate(filled);
        next = message(Payload::Chunk(chunk));
    }
    Ok(())
}

/// A file that has its name only once it is whole.
struct NewFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    finished: bool,
}

impl NewFile {
    fn create(path: &Path, force: bool) -> Result<Self, Failure> {
        refuse_existing(path, force)?;
        let mut partial = OsString::from(path);
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&partial);
        let file = file.map_err(|error| Failure::File { path: partial.clone(), error })?;
        Ok(Self { path: path.to_owned(), partial, file, finished: false })
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        self.file.write_all(chunk).map_err(|error| self.failed(error))
    }

    fn finish(mut self, force: bool) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| self.failed(error))?;
        refuse_existing(&self.path, force)?;
        fs::rename(&self.partial, &self.path).map_err(|error| self.failed(error))?;
        self.finished = true;
        let dir = match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            Some(_) | None => Path::new("."),
        };
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Failure {
        Failure::File { path: self.partial.clone(), error }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished {
            // What is left of it is of no use; if it stays, its name says so.
            fs::remove_file(&self.partial).ok();
        }
    }
}

fn refuse_existing(path: &Path, force: bool) -> Result<(), Failure> {
    if !force && path.exists() {
        let error =
            io::Error::new(io::ErrorKind::AlreadyExists, "it is there; --force replaces it");
        return Err(Failure::File { path: path.to_owned(), error });
    }
    Ok(())
}

/// How far a transfer can go.
enum Until {
    /// A hundred per cent.
    Percent,
    /// So many bytes.
    Bytes(u64),
    /// The end of a pipe.
    Unknown,
}

/// A bar for whoever looks at a terminal.
fn bar(instance: &InstanceId, until: Until) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match until {
        Until::Percent => (ProgressBar::new(100), "{msg}  {wide_bar}  {percent}%  {eta}"),
        Until::Bytes(size) => {
            (ProgressBar::new(size), "{msg}  {wide_bar}  {bytes} of {total_bytes}  {eta}")
        }
        Until::Unknown => (ProgressBar::new_spinner(), "{spinner} {msg}  {bytes}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    bar.with_style(style).with_message(instance.name())
}
