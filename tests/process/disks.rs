//! The campaign of the real program on file systems that fill up or lose their power. Needs root:
//! tests/disks runs it.

mod campaign;
mod clients;
mod disk;
mod failures;
mod full;
mod ledger;
mod model;
mod operator;
mod power;
mod random;
mod server;

/// Says loudly what this machine does not allow to check.
#[expect(clippy::print_stderr, reason = "it is for whoever reads the run")]
fn not_checked(what: &str, reason: &str) {
    eprintln!("NOT CHECKED: {what}: {reason}");
}
