//! The program `jet-session`: parse the command line, run it, answer with an exit code.

use std::process::ExitCode;

use jet_session::cli;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(command) => command.run().into(),
        Err(exit) => exit.into(),
    }
}
