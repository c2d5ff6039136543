//! What is wrong with a command line, in one sentence.

use std::io::{self, Write};

use clap::error::ErrorKind;

use super::failure::Exit;

/// Prints what clap has to say: help and the version in full, a mistake as one sentence.
pub(super) fn print(error: &clap::Error) -> Exit {
    let (exit, printed) = match error.exit_code() {
        0 => (Exit::Done, error.print()),
        _ if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            (Exit::Usage, error.print())
        }
        _ => {
            let text = sentence(&error.render().to_string());
            (Exit::Usage, writeln!(io::stderr(), "{text}"))
        }
    };
    // `| head` may have closed stdout, and a closed stderr has no reader: the exit code is enough.
    drop(printed);
    exit
}

/// Makes one line of clap's block: the mistake and its tip, without the usage.
fn sentence(block: &str) -> String {
    let mut said = String::new();
    for paragraph in block.split("\n\n") {
        if paragraph.starts_with("Usage:") || paragraph.starts_with("For more information") {
            break;
        }
        let mut lines = paragraph.lines().map(str::trim).filter(|l| !l.is_empty());
        let first = lines.next().unwrap_or_default();
        let rest: Vec<&str> = lines.collect();
        if !said.is_empty() {
            said.push_str("; ");
        }
        said.push_str(first);
        if !rest.is_empty() {
            said.push(' ');
            said.push_str(&rest.join(", "));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line_with_its_tip() {
        check(
            "error: unexpected argument '--jsn' found\n\n  tip: a similar argument exists: \
             '--json'\n\nUsage: x\n\nFor more information, try '--help'.\n",
            "error: unexpected argument '--jsn' found; tip: a similar argument exists: '--json'",
        );
        check(
            "error: the following required arguments were not provided:\n  <SESSION>\n  \
             <CONTEXT>\n\nUsage: x\n\nFor more information, try '--help'.\n",
            "error: the following required arguments were not provided: <SESSION>, <CONTEXT>",
        );
        check(
            "error: invalid value 'x' for '<SESSION>': no\n\nFor more information, try '--help'.",
            "error: invalid value 'x' for '<SESSION>': no",
        );
    }

    fn check(block: &str, wanted: &str) {
        assert_eq!(sentence(block), wanted);
    }
}
