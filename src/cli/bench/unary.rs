//! A client that makes one call after the other: Set, Reset, Set, Reset.

use crate::domain::jet_err::JetErr;

use super::super::connect::Connection;
use super::load::{Came, Client, Site};
use super::outcome::Trouble;
use super::pace::Pace;
use super::stats::Operation;

/// What a client knows of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    No,
    Yes,
    /// A call failed, and may have been carried out.
    Unknown,
}

/// Sets and resets until the window is closed, and leaves the session free.
pub(super) async fn run(site: &Site<'_>, server: &Connection, client: &Client, mut pace: Pace) {
    let mut sessions = server.sessions();
    let mut held = Held::No;
    while let Some(began) = site.turn(&mut pace).await {
        let (operation, failure) = match held {
            Held::Unknown => {
                site.rest().await;
                if free(site, server, client).await {
                    held = Held::No;
                }
                continue;
            }
            Held::No => {
                let request = server.request(client.set.clone());
                let answer = server.answer(sessions.set_session_context(request)).await;
                (Operation::Set, answer.err())
            }
            Held::Yes => {
                let request = server.request(client.reset.clone());
                let answer = server.answer(sessions.reset_session_context(request)).await;
                (Operation::Reset, answer.err())
            }
        };
        site.sent(u64::from(site.window.holds(began)));
        let answer = match &failure {
            None => Ok(()),
            Some(failure) => Err(Trouble::from(failure)),
        };
        held = match (operation, site.record(operation, answer, began, site.clock.now())) {
            (Operation::Set, Came::Done) => Held::Yes,
            (Operation::Reset, Came::Done) | (_, Came::Refused) => Held::No,
            (_, Came::Failed) => Held::Unknown,
        };
    }
    if held != Held::No {
        free(site, server, client).await;
    }
}

/// Resets the session if the client has it. Answers whether it is certain now that it has not.
pub(super) async fn free(site: &Site<'_>, server: &Connection, client: &Client) -> bool {
    let request = server.request(client.reset.clone());
    let answer = server.answer(server.sessions().reset_session_context(request)).await;
    match answer.as_ref().map_err(Trouble::from) {
        Ok(_) => true,
        Err(trouble) if trouble.jet_err() == Some(JetErr::SessionContextNotSetByThisThread) => true,
        Err(trouble) => {
            site.fail(trouble, 1);
            false
        }
    }
}
