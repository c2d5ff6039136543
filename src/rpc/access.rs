//! Who calls, and whether they may.

use crate::domain::id::Principal;

/// What the connection of a call knows of its caller. The server puts it among the extensions of each
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// No certificate was shown.
    Unknown,
    /// The certificate is this principal's.
    Certified(Principal),
    /// The certificate is good and names nobody: why.
    Nameless(&'static str),
}
