//! The client: taking a session, knowing that it is still held, letting it go.
//!
//! ```
//! use std::time::Duration;
//!
//! use jet_session::client::{Client, Error};
//!
//! # use jet_session::config::Config;
//! # use jet_session::server::{self, Ending, Order, Orders};
//! # let (orders, taken) = Orders::channel();
//! # let (ready, address) = std::sync::mpsc::sync_channel(1);
//! # let server = std::thread::spawn(move || {
//! #     let config = Config::new(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
//! #     server::run(&config, || Ok(taken), |is| ready.send(is.address().unwrap()).unwrap())
//! # });
//! # let uri = format!("http://{}", address.recv().unwrap());
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(example(uri)).unwrap();
//! # drop(runtime);
//! # orders.try_send(Order).unwrap();
//! # assert_eq!(server.join().unwrap().unwrap(), Ending::Graceful);
//! # async fn example(uri: String) -> Result<(), Error> {
//! // Such as http://127.0.0.1:50051.
//! let client = Client::builder(uri)
//!     .lease_ttl(Duration::from_secs(10))
//!     .connect()
//!     .await?;
//! let session = client.begin_session(&"main".parse()?).label("pool", "a").await?;
//!
//! let worker = client.thread("worker-3/4711/12")?;
//! let guard = worker.bind(&session, 42).wait(Duration::from_secs(5)).await?;
//! tokio::select! {
//!     () = work(guard.token()) => {}
//!     loss = guard.lost() => eprintln!("lost the session: {loss:?}"),
//! }
//! guard.release().await?;
//! # Ok(())
//! # }
//! # async fn work(token: u64) {}
//! ```
//!
//! A server that wants to know who asks is shown a token or a certificate ([`Builder::token_file`], [`Tls`]):
//!
//! ```
//! # use jet_session::client::{Client, Error};
//! use jet_session::client::Tls;
//!
//! # async fn example() -> Result<(), Error> {
//! let client = Client::builder("https://jet-session.example:50051")
//!     // Whom to trust; without it, whom the system trusts.
//!     .tls(Tls::new().ca_file("/etc/jet-session/ca.pem"))
//!     // Read again when it changes, as Kubernetes changes the tokens of a pod.
//!     .token_file("/var/run/secrets/tokens/jet-session")
//!     .connect()
//!     .await?;
//!
//! let with_certificate = Client::builder("https://jet-session.example:50051")
//!     .tls(Tls::new().identity_files("/etc/jet-session/me.crt", "/etc/jet-session/me.key"))
//!     .connect()
//!     .await?;
//!
//! // On the same machine: whoever may open the socket.
//! let nearby = Client::connect("unix:/run/jet-session/socket").await?;
//! # Ok(())
//! # }
//! ```
//!
//! What it takes care of:
//!
//! - **Exact retries.** Each change has a request id of its own and keeps it over its retries, so a lost
//!   answer costs time and nothing else. A call is sent again only where its status says that it helps.
//! - **One heartbeat** for all threads of a process, if it wants leases ([`Builder::lease_ttl`]).
//! - **Losses.** [`Guard::lost`] resolves when the session is not held any more: the server says so, or no
//!   renewal that was *sent* within one time to live has succeeded.
//! - **Fencing.** What a session guards refuses late writers by their tokens ([`fence`]).
//! - **Order.** A guard that is dropped resets its session in the background, and so does a call that was
//!   given up before its answer.
//! - **Identity.** Tokens and certificates that rotate, also in the heartbeat and in watches. No token is shown
//!   in plaintext to another machine, none is ever printed, and a call that is denied is not repeated.
//! - **Errors that say** whether the thing may have been done all the same ([`Error::kind`]), who holds what
//!   is wanted, and what would help.
//!
//! It holds no server state and decides nothing that the server decides. Time is tokio's, randomness is
//! given from outside ([`Chance`]): a test under a paused clock or a simulation drives both.
//!
//! In reading order: `connect`, `thread` and `bind`, `guard`; `address`, `dial` and `tls` for how a server is
//! reached, `transport` and `token` for what goes along with every call; then `call` and `retry` for what becomes of
//! a call, `heartbeat`, `registry` and `loss` for leases, `background` for what is put in order later;
//! `session` and `watch` for the other calls; `error` and `refusal` for what went wrong; [`fence`] for the
//! other side.

mod address;
mod background;
mod bind;
mod call;
mod chance;
mod clock;
mod connect;
mod dial;
mod error;
pub mod fence;
mod guard;
mod heartbeat;
mod loss;
mod refusal;
mod registry;
mod retry;
mod session;
#[cfg(test)]
mod tests;
mod thread;
mod tls;
mod token;
mod transport;
mod watch;

pub use bind::{Bind, Claim};
pub use chance::{Chance, SeededChance, SystemChance};
pub use connect::{Builder, Client};
pub(crate) use dial::Trouble;
pub use error::{Error, ErrorKind};
pub use guard::Guard;
pub use loss::{Loss, LossCause};
pub use refusal::{DOMAIN, Holder, Refusal};
pub use session::{BeginSession, BeginSessions, ListSessions};
pub use thread::Thread;
pub use tls::Tls;
pub use transport::Transport;
pub use watch::Watch;
