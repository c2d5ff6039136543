//! Many clients, one session: what the contract is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use jet_session::proto::api as pb;
use tokio::sync::{Mutex, Semaphore};

use crate::support::TestServer;
use crate::support::call::path;
use crate::support::raw::Raw;

const CONNECTIONS: usize = 8;
const CLIENTS: usize = 64;
const WINS: usize = 10_000;

/// How many clients ask at a time once the crowd has been seen off. With all 64 nearly every call
/// would be a refusal; by turns each of them meets every other in the end.
const PLACES: usize = 2;

/// How many wins the whole crowd fights for.
const WINS_OF_THE_CROWD: usize = 20;

/// What all clients share.
struct Game {
    session: String,
    connections: Vec<Raw>,
    /// Whether somebody believes to hold the session.
    taken: AtomicBool,
    /// The tokens, in the order in which they were granted: only the holder writes.
    tokens: Mutex<Vec<u64>>,
}

/// How often a client won and lost.
struct Score {
    won: usize,
    lost: usize,
}

/// Lets all clients compete until they have made this many wins together; so many ask at a time.
async fn play(game: &Arc<Game>, places: usize, wins: usize) -> Vec<Score> {
    let places = Arc::new(Semaphore::new(places));
    let clients = (0..CLIENTS).map(|client| {
        let (game, places) = (Arc::clone(game), Arc::clone(&places));
        tokio::spawn(async move { compete(&game, client, &places, wins).await })
    });
    join_all(clients).await.into_iter().map(|score| score.expect("no client fails")).collect()
}

async fn compete(game: &Game, client: usize, places: &Semaphore, wins: usize) -> Score {
    let connection = &game.connections[client % CONNECTIONS];
    let thread_id = format!("host/{client}");
    let mut score = Score { won: 0, lost: 0 };
    let set = pb::SetSessionContextRequest {
        session: game.session.clone(),
        thread_id: thread_id.clone(),
        context: 7,
        ..Default::default()
    };
    let (set_path, reset_path) =
        (path("SessionService/SetSessionContext"), path("SessionService/ResetSessionContext"));
    loop {
        let place = places.acquire().await.expect("nobody closes the game");
        if game.tokens.lock().await.len() >= wins {
            return score;
        }
        let answer = connection.call(&set_path, &[], &set).await;
        if let Some(code) = answer.headers.get("jet-error") {
            assert_eq!(code, "-1912", "{:?}", answer.status());
            score.lost += 1;
        } else {
            let fencing_token = answer.message::<pb::SetSessionContextResponse>().fencing_token;
            score.won += 1;
            assert!(!game.taken.swap(true, Ordering::SeqCst), "two winners at a time");
            game.tokens.lock().await.push(fencing_token);
            assert!(game.taken.swap(false, Ordering::SeqCst), "somebody else let go");
            let reset = pb::ResetSessionContextRequest {
                session: game.session.clone(),
                thread_id: thread_id.clone(),
                fencing_token,
                ..Default::default()
            };
            let answer = connection.call(&reset_path, &[], &reset).await;
            assert!(!answer.headers.contains_key("jet-error"), "{:?}", answer.status());
        }
        drop(place);
    }
}

#[tokio::test]
async fn of_many_who_compete_exactly_one_wins_each_time() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let first = session.look().await.unwrap();
    let connect = (0..CONNECTIONS).map(|_| Raw::connect(server.address()));
    let game = Arc::new(Game {
        session: session.name().to_owned(),
        connections: join_all(connect).await,
        taken: AtomicBool::new(false),
        tokens: Mutex::new(Vec::with_capacity(WINS + CLIENTS)),
    });

    let crowd = play(&game, CLIENTS, WINS_OF_THE_CROWD).await;
    let turns = play(&game, PLACES, WINS).await;

    let tokens = game.tokens.lock().await;
    assert!(tokens.len() >= WINS);
    assert!(tokens.is_sorted_by(|a, b| a < b), "tokens do not rise in the order of the grants");
    let won: usize = crowd.iter().chain(&turns).map(|score| score.won).sum();
    assert_eq!(won, tokens.len());
    assert!(crowd.iter().all(|score| score.lost > 0), "somebody met no competitor");
    assert!(turns.iter().all(|score| score.won > 0), "somebody never won");
    // A win is a set and a reset; a loss is nothing.
    let last = session.look().await.unwrap();
    assert_eq!(last.revision, first.revision + 2 * u64::try_from(won).unwrap());
    assert_eq!(last.binding, None);
}
