//! jet-session: who may use this session right now?
//!
//! A gRPC service with the session contract of the Extensible Storage Engine (ESE, "JET Blue") for
//! clients on many machines. The one idea of the code: *decide in pure code, remember in a store,
//! answer at the edge.*
//!
//! ```text
//!  request ─▶ rpc ─▶ engine: the owner task of the instance ─────────────▶ answer
//!             parse   decide (domain) ─▶ commit (store) ─▶ apply, answer    rpc: convert
//! ```
//!
//! | module | what it does | may use |
//! |---|---|---|
//! | [`domain`] | the contract: phases, sessions, calls, JET errors; pure | std, thiserror |
//! | [`store`] | remembering: the trait and its backends | domain |
//! | [`engine`] | one owner per instance: decide, commit, answer | domain, the store trait |
//! | [`rpc`] | gRPC services: parse, ask, convert; errors become statuses in one file | domain, engine, proto |
//! | [`server`] | the composition root: configuration to running server to drained server | everything above |
//! | [`config`] | how a server is to be: flags, environment and file as one typed value | domain |
//! | [`client`] | the Rust client: guards, exact retries, leases, losses | domain ids, errors and limits; proto |
//! | `cli` | the command line, a client like any other beside `serve` | client, proto, server |
//! | [`proto`] | generated code | – |
//!
//! Where would a new JET call go? Its messages into `proto/`, its type, decision and refusals into
//! `domain/call/`, its parsing and its answer into `rpc/convert/`, and one line into the service in
//! `rpc/`. Nothing else changes.

pub mod cli;
pub mod client;
pub mod config;
pub mod domain;
pub mod engine;
pub mod proto;
pub mod rpc;
pub mod server;
pub mod store;
pub mod telemetry;
