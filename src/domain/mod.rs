//! The contract, as pure code: values in, values out.
//!
//! Nothing here knows a clock, randomness, a thread, a file, a socket, a log line or a generated
//! type; whatever is needed of those comes in as an argument. That is why every phase and every call
//! can be tried in milliseconds.
//!
//! In reading order:
//!
//! - [`lifecycle`]: the phases of an instance, one total function
//! - [`session`]: a session, its context and its transaction
//! - [`event`]: what can happen to sessions
//! - [`table`]: sessions as the fold of what happened
//! - [`lease`]: how a thread that is no more gives back what it held
//! - [`queue`]: who waits for which session, in order
//! - [`handover`]: what a change means for those who wait
//! - [`watch`]: what those who watch are told
//! - [`request`]: what a call answered, for when it comes again
//! - [`replay`], [`gone`]: the same of calls on an instance itself, also when it is no more
//! - [`instance`]: record, phase and sessions together; calls are decided here
//! - [`access`]: roles, and who has them
//! - [`backup`]: why a backup is not taken or not read in
//! - [`call`]: one type per JET call, with what it answers and why it is refused
//! - [`refusal`]: what every refusal can say about itself
//! - [`jet_err`]: all codes
//! - [`id`], [`time`], [`limits`]: words, moments, bounds

pub mod access;
pub mod backup;
pub mod call;
pub mod event;
pub mod gone;
pub mod handover;
pub mod id;
pub mod instance;
pub mod jet_err;
pub mod lease;
pub mod lifecycle;
pub mod limits;
pub mod queue;
pub mod refusal;
pub mod replay;
pub mod request;
pub mod session;
pub mod table;
#[cfg(test)]
mod tests;
pub mod time;
pub mod watch;
