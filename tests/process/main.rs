//! The real program as a process: killed, told to end, started twice, given directories that it cannot
//! have.
//!
//! In reading order:
//!
//! - `server`: the program, serving a directory
//! - `directory`: directories that a server cannot have
//! - `model`: what one session is, and what each call makes of it
//! - `ledger`: what clients were told, and whether what is found after a restart agrees
//! - `clients`: 64 of them, at work
//! - `campaign`: servers on one directory, one after the other
//! - `kill`: what survives kill -9
//! - `linear`: whether what clients were told at once can have happened one after the other
//! - `watch`: what a watcher was told survives it too
//! - `crowd`: clients that go on over restarts, and never do a thing twice
//! - `ending`: how a server leaves, whatever its peers do
//! - `probes`: health for kubelets
//! - `rolling`: restarts that nobody notices but by waiting
//! - `stopped`: leases on a server that is stopped for a while
//! - `configuration`: a configuration that changes while the program runs

mod campaign;
mod clients;
mod configuration;
mod crowd;
mod directory;
mod ending;
mod kill;
mod ledger;
mod linear;
mod model;
mod probes;
mod random;
mod rolling;
mod server;
mod stopped;
mod watch;
