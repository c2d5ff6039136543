//! ThreadService: leases of threads, in all instances.

use tonic::{Request, Response, Status};

use crate::engine::Engine;
use crate::proto::api as pb;
use crate::proto::api::thread_service_server::ThreadService;
use crate::rpc::access::Guard;
use crate::rpc::convert::{
    EndThreadsCommand, ListThreadsCommand, OneThread, kept, place_after, place_of, thread,
};
use crate::rpc::{answered, parse};

/// The service, a thin skin over the engine.
#[derive(Debug, Clone)]
pub struct Threads {
    engine: Engine,
    guard: Guard,
}

impl Threads {
    /// The service of this engine, for those whom the guard lets in.
    pub fn new(engine: Engine, guard: Guard) -> Self {
        Self { engine, guard }
    }
}

#[tonic::async_trait]
impl ThreadService for Threads {
    async fn keep_threads_alive(
        &self,
        request: Request<pb::KeepThreadsAliveRequest>,
    ) -> Result<Response<pb::KeepThreadsAliveResponse>, Status> {
        let (call, caller) = parse(&self.guard, request)?;
        let answer = self.engine.keep_threads_alive(&caller.asker.by, &caller.scope(), &call).await;
        let threads = answered(answer, &caller.about)?.into_iter().map(kept).collect();
        Ok(Response::new(pb::KeepThreadsAliveResponse { threads }))
    }

    async fn get_thread(
        &self,
        request: Request<pb::GetThreadRequest>,
    ) -> Result<Response<pb::GetThreadResponse>, Status> {
        let (OneThread(id), caller) = parse(&self.guard, request)?;
        let found = answered(
            self.engine.thread(&caller.asker.by, &caller.scope(), &id).await,
            &caller.about,
        )?;
        Ok(Response::new(pb::GetThreadResponse { thread: Some(thread(found)) }))
    }

    async fn list_threads(
        &self,
        request: Request<pb::ListThreadsRequest>,
    ) -> Result<Response<pb::ListThreadsResponse>, Status> {
        let (ListThreadsCommand { after, page }, caller) = parse(&self.guard, request)?;
        let found = self.engine.threads(&caller.asker.by, &caller.scope(), after, page.size).await;
        let found = answered(found, &caller.about)?;
        let next_after = found.next_after.as_ref().map(place_after);
        let page = page.page(found.threads.into_iter().map(thread), next_after, place_of);
        Ok(Response::new(pb::ListThreadsResponse {
            threads: page.items,
            next_page_token: page.next_page_token,
        }))
    }

    async fn end_threads(
        &self,
        request: Request<pb::EndThreadsRequest>,
    ) -> Result<Response<pb::EndThreadsResponse>, Status> {
        let (EndThreadsCommand(threads), caller) = parse(&self.guard, request)?;
        answered(
            self.engine.end_threads(&caller.asker.by, &caller.scope(), &threads).await,
            &caller.about,
        )?;
        Ok(Response::new(pb::EndThreadsResponse {}))
    }
}
