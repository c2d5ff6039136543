//! Backups as a client takes them and sends them.

use jet_session::proto::api as pb;
use jet_session::proto::api::instance::State;
use jet_session::proto::api::restore_instance_request::Payload;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{TestServer, within};

/// A restore that has begun; dropped, it is cancelled.
pub(crate) struct Restoring {
    messages: mpsc::Sender<pb::RestoreInstanceRequest>,
    call: JoinHandle<Result<pb::Instance, Status>>,
}

impl Restoring {
    /// Sends a chunk, or nothing where a chunk belongs. The server may have had enough already.
    pub(crate) async fn send(&self, payload: Option<Payload>) {
        self.messages.send(pb::RestoreInstanceRequest { payload }).await.ok();
    }

    /// Ends the upload and waits for the answer.
    pub(crate) async fn finish(self) -> Result<pb::Instance, Status> {
        let Self { messages, call } = self;
        drop(messages);
        within("the restore is answered", call).await.expect("the call does not panic")
    }

    /// Waits for the answer with the upload still open.
    pub(crate) async fn answer(self) -> Result<pb::Instance, Status> {
        within("the restore is answered", self.call).await.expect("the call does not panic")
    }

    pub(crate) fn cancel(self) {
        self.call.abort();
    }
}

impl TestServer {
    /// All chunks of a backup.
    pub(crate) async fn backup(&self, name: &str) -> Result<Vec<Vec<u8>>, Status> {
        let request = pb::BackupInstanceRequest { name: name.to_owned() };
        let mut stream = self.instances().backup_instance(request).await?.into_inner();
        let (mut chunks, mut last) = (Vec::new(), 0);
        while let Some(message) = within("the backup goes on", stream.message()).await? {
            assert!(message.chunk.len() <= 32 * 1024);
            assert!((last..=100).contains(&message.progress));
            last = message.progress;
            chunks.push(message.chunk);
        }
        Ok(chunks)
    }

    /// A restore whose first message is this.
    pub(crate) async fn begin_restore(&self, first: Option<Payload>) -> Restoring {
        let (messages, stream) = mpsc::channel(1);
        let mut client = self.instances();
        let call = tokio::spawn(async move {
            let answer = client.restore_instance(ReceiverStream::new(stream)).await?.into_inner();
            Ok(answer.instance.expect("the answer has an instance"))
        });
        let restoring = Restoring { messages, call };
        restoring.send(first).await;
        restoring
    }

    /// A restore that waits for chunks.
    pub(crate) async fn restoring(&self, name: &str) -> Restoring {
        let restoring = self.begin_restore(Some(Payload::Name(name.to_owned()))).await;
        self.until(name, State::Restoring).await;
        restoring
    }

    /// A whole restore.
    pub(crate) async fn restore(
        &self,
        name: &str,
        chunks: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<pb::Instance, Status> {
        let restoring = self.begin_restore(Some(Payload::Name(name.to_owned()))).await;
        for chunk in chunks {
            restoring.send(Some(Payload::Chunk(chunk))).await;
        }
        restoring.finish().await
    }

    /// Waits until the instance is in this state.
    pub(crate) async fn until(&self, name: &str, state: State) {
        let request = pb::WatchInstancesRequest { names: vec![name.to_owned()] };
        let watch = self.instances().watch_instances(request).await;
        let mut watch = watch.expect("it can be watched").into_inner();
        within("the state", async {
            loop {
                let seen = watch.message().await.expect("the watch lives").expect("it goes on");
                if seen.instance.expect("an instance").state() == state {
                    return;
                }
            }
        })
        .await;
    }
}
