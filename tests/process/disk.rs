//! Small file systems that fill up, lose their power and come back.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own, unmounted when dropped.
pub(crate) struct Disk {
    at: PathBuf,
    image: Option<PathBuf>,
    _dir: tempfile::TempDir,
}

/// What is still written when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastWords {
    /// All that is in memory.
    All = 0,
    /// The journal of the file system.
    Journal = 1,
    /// Nothing.
    None = 2,
}

impl Disk {
    /// A file system in memory.
    pub(crate) fn tmpfs(mib: u64) -> Result<Self, String> {
        let disk = Self::new(None);
        let size = format!("size={mib}m");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", path(&disk.at)])?;
        Ok(disk)
    }

    /// A file system in a file, which is never asked to keep anything for root.
    pub(crate) fn ext4(mib: u64) -> Result<Self, String> {
        let mut disk = Self::new(None);
        let image = disk.at.with_file_name("image");
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mib * 1024 * 1024).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", path(&image)])?;
        disk.image = Some(image);
        disk.mount()?;
        Ok(disk)
    }

    fn new(image: Option<PathBuf>) -> Self {
        let dir = tempfile::tempdir().expect("a directory to mount on");
        let at = dir.path().join("mounted");
        fs::create_dir(&at).expect("a directory to mount on");
        Self { at, image, _dir: dir }
    }

    fn mount(&self) -> Result<(), String> {
        let image = self.image.as_ref().expect("it is in a file");
        run("mount", &["-o", "loop", path(image), path(&self.at)])
    }

    /// Where a server may keep its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.at.join("data")
    }

    /// Leaves no room for anything.
    pub(crate) fn fill(&self) {
        const BLOCK: [u8; 4096] = [1; 4096];
        let ballast = File::options().append(true).create(true).open(self.ballast());
        let mut ballast = ballast.expect("a file to fill the disk with");
        let mut refused = 0;
        // What was promised room may turn out not to need it once it is written.
        while refused < 3 {
            match ballast.write_all(&BLOCK) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    refused += 1;
                    ballast.sync_all().expect("what was taken can be written");
                }
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
    }

    /// There is room again.
    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).expect("the file that fills the disk");
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// From now on every access fails, and what was not written is lost.
    pub(crate) fn lose_power(&self, last: LastWords) -> Result<(), String> {
        let helper = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/lose-power");
        run(path(&helper), &[path(&self.at), &(last as u8).to_string()])
    }

    /// The machine starts again.
    pub(crate) fn come_back(&self) {
        run("umount", &[path(&self.at)]).expect("nobody uses the disk any more");
        self.mount().expect("the disk comes back");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that a failed test leaves behind is about to be killed.
        run("umount", &["--lazy", path(&self.at)]).ok();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(arguments).output();
    let ran = ran.map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), said.trim()))
}
