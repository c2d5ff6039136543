//! The client against a server that misbehaves on purpose, under a clock that stands still.

mod bind;
mod fake;
mod guard;
mod identity;
mod lease;
mod retry;
mod watch;

use crate::client::{Client, Guard, Thread};
use crate::domain::id::SessionName;

use fake::Fake;

/// The two sides of a test, and what both talk about.
struct Scene {
    fake: Fake,
    client: Client,
    thread: Thread,
    session: SessionName,
}

impl Scene {
    /// A client as it is for who says nothing.
    async fn plain() -> Self {
        Self::with(|builder| builder).await
    }

    /// A client that is otherwise.
    async fn with(
        configure: impl FnOnce(crate::client::Builder) -> crate::client::Builder,
    ) -> Self {
        let fake = Fake::start();
        let client = fake.client(configure).await;
        let session = client.begin_session(&"main".parse().unwrap()).await.unwrap();
        let thread = client.thread("worker-1").unwrap();
        Self { fake, client, thread, session }
    }

    async fn bound(&self) -> Guard {
        self.thread.bind(&self.session, 7).await.unwrap()
    }

    fn holder(&self) -> Option<(String, u64)> {
        self.fake.holder(&self.session)
    }

    /// Waits until nothing is left to do in the background.
    async fn settle(&self) {
        assert!(self.client.settle().await);
    }
}
