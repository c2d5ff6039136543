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
mod configuration;
mod connections;
mod contention;
mod contexts;
mod errors;
mod fencing;
mod health;
mod identity;
mod instance_retries;
mod jet_err;
mod leases;
mod lifecycle;
mod lists;
mod metrics;
mod monitoring;
mod pipeline;
mod pools;
mod probes;
mod reflection;
mod retries;
mod shape;
mod shutdown;
mod threads;
mod tls;
mod traces;
mod transactions;
mod transfer;
mod unix;
mod waiting;
mod watch;
mod watch_sessions;
mod wire;
