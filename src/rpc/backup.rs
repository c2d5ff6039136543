//! Backups on the wire: chunks that are made as the client takes them, and chunks that are read as
//! they come.

use std::time::Duration;

use futures_util::stream::{self, Stream};
use tonic::{Request, Status, Streaming};

use crate::domain::limits::UPLOAD_SILENCE_SECONDS_MAX;
use crate::engine::backup::Backup;
use crate::engine::watch::InstanceView;
use crate::engine::{Engine, Unanswered};
use crate::proto::api as pb;
use crate::rpc::access::Guard;
use crate::rpc::convert::chunk;
use crate::rpc::status::{self, About};
use crate::rpc::{OfInstance, answered, parse};

/// The chunks of a backup.
pub(super) fn chunks(
    backup: Backup,
    about: About,
) -> impl Stream<Item = Result<pb::BackupInstanceResponse, Status>> {
    stream::unfold((backup, about), |(mut backup, about)| async move {
        let chunk = match backup.next().await? {
            Ok(piece) => Ok(pb::BackupInstanceResponse {
                chunk: piece.bytes,
                progress: piece.percent.into(),
            }),
            Err(refusal) => Err(status::refused(&refusal, &about)),
        };
        Some((chunk, (backup, about)))
    })
}

/// Reads a backup in. Whatever goes wrong, the instance is what it was before its client hears of it.
pub(super) async fn restore(
    guard: &Guard,
    engine: &Engine,
    request: Request<Streaming<pb::RestoreInstanceRequest>>,
) -> Result<InstanceView, Status> {
    let (metadata, extensions, mut messages) = request.into_parts();
    // A client that says nothing at all has said no name.
    let first = next(engine.drained(), &mut messages, &About::default()).await?.unwrap_or_default();
    let first = Request::from_parts(metadata, extensions, first);
    let (OfInstance(id), caller) = parse(guard, first)?;
    let mut standing = caller.standing();
    let mut upload = answered(engine.restore(&id).await, &caller.about)?;
    loop {
        let message = tokio::select! {
            biased;
            status = standing.ended() => Err(status),
            message = next(engine.drained(), &mut messages, &caller.about) => message,
        };
        let read = message.and_then(|message| match message.map(chunk).transpose() {
            Ok(chunk) => Ok(chunk),
            Err(bad) => Err(status::malformed(vec![bad], &caller.about)),
        });
        match read {
            Ok(Some(chunk)) if upload.push(&chunk) => {}
            Ok(_) => return answered(upload.finish().await, &caller.about),
            Err(status) => {
                upload.abandon().await;
                return Err(status);
            }
        }
    }
}

/// The next message, unless the server drains or the client has been silent for too long: as long as it
/// uploads, nobody else can use the instance.
async fn next(
    drained: impl Future<Output = ()>,
    messages: &mut Streaming<pb::RestoreInstanceRequest>,
    about: &About,
) -> Result<Option<pb::RestoreInstanceRequest>, Status> {
    tokio::select! {
        biased;
        () = drained => {
            let gone = Unanswered::<std::convert::Infallible>::ShuttingDown;
            Err(status::refused(&gone, about))
        }
        message = messages.message() => message,
        () = tokio::time::sleep(Duration::from_secs(UPLOAD_SILENCE_SECONDS_MAX)) => {
            Err(status::silent(about))
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::codec::Codec;
    use tonic_prost::ProstCodec;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_falls_silent_is_ended() {
        let nothing = stream::pending::<Result<hyper::body::Frame<bytes::Bytes>, Status>>();
        let mut codec = ProstCodec::<(), pb::RestoreInstanceRequest>::default();
        let body = http_body_util::StreamBody::new(nothing);
        let mut messages = Streaming::new_request(codec.decoder(), body, None, None);
        let never = std::future::pending();

        let refused = next(never, &mut messages, &About::default()).await.unwrap_err();

        assert!(refused.message().contains("silent for 60 s"), "{refused}");
    }
}
