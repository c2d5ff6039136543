//! The contract over the wire: real servers on ports of their own, asked by real clients.
//!
//! Every test starts its own server, in this process, and ends it. What a refusal looks like is in
//! `snapshots/refusals.txt`; that nothing changed is shown by comparing everything the server tells
//! before and after.

mod support;

mod access;
mod backups;
mod bench;
mod cli;
mod client;
mod contention;
mod contexts;
mod errors;
mod fencing;
mod health;
mod instance_retries;
mod jet_err;
mod leases;
mod lifecycle;
mod lists;
mod pipeline;
mod pools;
mod reflection;
mod retries;
mod shape;
mod shutdown;
mod threads;
mod transactions;
mod transfer;
mod waiting;
mod watch;
mod watch_sessions;
mod wire;
