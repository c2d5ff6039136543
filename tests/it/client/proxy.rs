//! Something between a client and a server that loses answers and breaks connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};

/// A way to a server. What it has opened is closed with it.
pub(super) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// The next thing that the server says breaks the connection instead of arriving.
    loses: AtomicBool,
    connections: Mutex<Vec<AbortHandle>>,
}

impl Proxy {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else {
                    continue;
                };
                let pump = tokio::spawn(pump(client, server, Arc::clone(&shared)));
                shared.connections.lock().expect("nobody panics here").push(pump.abort_handle());
            }
        });
        Self { address, state, accepting }
    }

    pub(super) fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next answer is lost, and the connection with it.
    pub(super) fn lose_an_answer(&self) {
        self.state.loses.store(true, Ordering::SeqCst);
    }

    /// Whether an answer is still to be lost.
    pub(super) fn is_to_lose(&self) -> bool {
        self.state.loses.load(Ordering::SeqCst)
    }

    /// Nobody gets through any more.
    pub(super) fn close(&self) {
        self.accepting.abort();
        for connection in self.state.connections.lock().expect("nobody panics here").drain(..) {
            connection.abort();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

/// Carries bytes both ways until one side ends, or an answer is to be lost.
async fn pump(client: TcpStream, server: TcpStream, state: Arc<State>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        tokio::io::copy(&mut from_client, &mut to_server).await.ok();
    };
    let down = async {
        let mut buffer = [0; 16 * 1024];
        loop {
            match from_server.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) if state.loses.swap(false, Ordering::SeqCst) => break,
                Ok(read) => {
                    if to_client.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
