//! What a start would look at, without starting: nothing is bound, made, locked or changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::config::{Config, Listen, Mistake, Mistakes, StoreKind};
use crate::server::access;
use crate::server::tls::Tls;

/// Looks whether a server could start with this configuration, and tells all that would stop it.
pub fn check(config: &Config) -> Result<(), Mistakes> {
    let mut mistakes = files(config).err().map_or_else(Vec::new, |Mistakes(mistakes)| mistakes);
    let mut look = |name: &str, path: &Path, seen: Result<(), String>| {
        if let Err(why) = seen {
            let what = format!("{}: {why}", path.display());
            mistakes.push(Mistake { source: name.to_owned(), what });
        }
    };
    if let StoreKind::Log(dir) = &config.store {
        look("data_dir", dir, can_be_used(dir));
    }
    for place in &config.listen {
        if let Listen::Unix(path) = place {
            look("listen", path, can_be_made_in(&directory_of(path)));
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
}

/// Reads every file that the configuration names as a start would, and tells all that is wrong with any.
pub(super) fn files(config: &Config) -> Result<(), Mistakes> {
    let mut mistakes = Tls::check(config).err().unwrap_or_default();
    mistakes.extend(access::load(config).err().unwrap_or_default());
    if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
}

/// Whether a directory can be used, or made.
fn can_be_used(dir: &Path) -> Result<(), String> {
    let mut above = dir.to_owned();
    // The root is there, and so is whatever a process works in.
    while let Err(error) = fs::symlink_metadata(&above)
        && error.kind() == io::ErrorKind::NotFound
    {
        above = directory_of(&above);
    }
    let why = match can_be_made_in(&above) {
        Ok(()) => return Ok(()),
        Err(why) => why,
    };
    if above == dir { Err(why) } else { Err(format!("cannot be made: {}: {why}", above.display())) }
}

/// Whether a directory is there in which files can be made.
fn can_be_made_in(dir: &Path) -> Result<(), String> {
    if !fs::metadata(dir).map_err(|error| error.to_string())?.is_dir() {
        return Err("is not a directory".to_owned());
    }
    let needed = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    allowed(dir, needed).map_err(|error| format!("cannot be written: {error}"))
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    }
}

/// Asks the system whether this process may. It also knows of a file system that is mounted read-only.
fn allowed(path: &Path, access: Access) -> io::Result<()> {
    Ok(accessat(CWD, path, access, AtFlags::EACCESS)?)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::path::Path;

    use super::*;
    use crate::config::{Clients, Tls};

    fn config(dir: &Path) -> Config {
        let mut config = Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.store = StoreKind::Log(dir.to_owned());
        config
    }

    fn told(config: &Config) -> Vec<String> {
        let Err(Mistakes(mistakes)) = check(config) else { return Vec::new() };
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_data_directory_is_there_or_can_be_made_and_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let not_a_directory = format!("data_dir: {}: is not a directory", file.display());
        let below = file.join("below");

        assert_eq!(told(&config(dir.path())), [""; 0]);
        assert_eq!(told(&config(&dir.path().join("not/yet/there"))), [""; 0]);
        assert_eq!(told(&config(Path::new("not-yet-there"))), [""; 0]);
        assert_eq!(told(&config(&file)), [not_a_directory]);
        let why = told(&config(&below)).concat();
        assert!(why.starts_with(&format!("data_dir: {}: ", below.display())), "{why}");
        assert!(why.contains("Not a directory"), "{why}");

        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn every_file_and_directory_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        let nothing = there.display().to_string();
        fs::write(&there, "").unwrap();
        let mut config = config(dir.path());
        config.listen.push(Listen::Unix(dir.path().join("socket")));
        config.listen.push(Listen::Unix("/nowhere/socket".into()));
        config.tls = Some(Tls {
            certificate: there,
            key: "/nowhere/key".into(),
            clients: Some(Clients { ca: dir.path().to_owned(), auth: Default::default() }),
            min_version: Default::default(),
        });
        config.auth.policy = Some("/nowhere/policy".into());

        let missing = "No such file or directory (os error 2)";
        assert_eq!(
            told(&config),
            [
                format!(
                    "tls.certificate: {nothing}: the file holds nothing that is PEM, no certificate"
                ),
                format!("tls.key: /nowhere/key: the file cannot be read: {missing}"),
                format!("tls.client_ca: {}: this is no file", dir.path().display()),
                format!("auth.policy: /nowhere/policy: the file cannot be read: {missing}"),
                format!("listen: /nowhere/socket: {missing}"),
            ]
        );
        assert_eq!(files(&config).map_err(|Mistakes(mistakes)| mistakes.len()), Err(4));
    }
}
