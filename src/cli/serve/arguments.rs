//! The flags of a server, made from the table of settings, and the reading of all that was said about it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{CONFIG_VARIABLE, File, KEYS, Key, Kind, Loaded, Mistakes, PREFIX, Sources};
use crate::domain::limits::CONFIG_BYTES_MAX;
use crate::server::read_file;

/// What is said about a server on the command line: a flag for each setting, and the file of the others.
#[derive(Clone, Default)]
pub(in crate::cli) struct ServerArgs {
    flags: BTreeMap<&'static str, Vec<String>>,
    file: Option<PathBuf>,
}

// A flag may be a secret.
impl fmt::Debug for ServerArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerArgs").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The flag by which the default instance is left out, instead of one that says `true` or `false`.
const NO_DEFAULT_INSTANCE: &str = "no-default-instance";

/// The settings that have a flag of their name.
fn flags() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| key.name != "default_instance")
}

impl ServerArgs {
    fn arguments() -> impl Iterator<Item = Arg> {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!(
                "File of settings, as TOML; flags and the environment count before it \
                 [env: {CONFIG_VARIABLE}]"
            ));
        let leave_out = Arg::new(NO_DEFAULT_INSTANCE)
            .long(NO_DEFAULT_INSTANCE)
            .action(ArgAction::SetTrue)
            .help("Do not create and initialise the instance main");
        std::iter::once(file).chain(flags().map(flag)).chain(std::iter::once(leave_out))
    }

    /// The configuration file, if one is named: by whom, and where it is.
    pub(in crate::cli) fn file(&self) -> Option<(&'static str, PathBuf)> {
        let variable = || std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        match &self.file {
            Some(path) => Some(("--config", path.clone())),
            None => variable().map(|path| (CONFIG_VARIABLE, path.into())),
        }
    }

    /// Reads the configuration: this, the environment and the file.
    pub(in crate::cli) fn load(&self) -> Result<Loaded, Mistakes> {
        let file = self.file().map(|(named_by, path)| File {
            name: path.display().to_string(),
            named_by: named_by.to_owned(),
            text: read_file(&path, CONFIG_BYTES_MAX),
        });
        // A name that is no UTF-8 is none of ours, unless it only begins so: then it is unknown.
        let environment =
            std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value));
        let ours = environment.filter(|(name, _)| name.starts_with(PREFIX));
        Loaded::read(&Sources { flags: self.flags.clone(), environment: ours.collect(), file })
    }
}

fn flag(key: &'static Key) -> Arg {
    let mut help = key.help.to_owned();
    if let Kind::Word(_) = key.kind {
        help.push_str(&format!(": {}", key.kind.takes()));
    }
    if !key.default.is_empty() {
        help.push_str(&format!(" [default: {}]", key.default));
    }
    // Whether a value is right is decided where those of the environment and of the file are, so that all
    // mistakes are told at once and in the same words.
    let arg = Arg::new(key.name).long(key.flag()).help(help);
    if key.kind == Kind::Switch {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL")
    } else if key.kind.is_list() {
        arg.value_name(key.value).action(ArgAction::Append)
    } else {
        arg.value_name(key.value)
    }
}

impl Args for ServerArgs {
    fn augment_args(command: Command) -> Command {
        command.args(Self::arguments())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServerArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut read = Self::default();
        read.update_from_arg_matches(matches)?;
        Ok(read)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in flags() {
            if let Some(values) = matches.get_many::<String>(key.name) {
                self.flags.insert(key.name, values.cloned().collect());
            }
        }
        if matches.get_flag(NO_DEFAULT_INSTANCE) {
            self.flags.insert("default_instance", vec!["false".to_owned()]);
        }
        self.file = matches.get_one("config").cloned();
        Ok(())
    }
}
