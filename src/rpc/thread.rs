//! ThreadService: leases of threads. Declared, and not served by this release.

use tonic::{Request, Response, Status};

use crate::proto::api as pb;
use crate::proto::api::thread_service_server::ThreadService;
use crate::rpc::status::{self, About};

/// The service.
#[derive(Debug, Clone, Copy)]
pub struct Threads;

fn unserved<T>(what: &str) -> Result<Response<T>, Status> {
    Err(status::unserved(what, &About::default()))
}

#[tonic::async_trait]
impl ThreadService for Threads {
    async fn keep_threads_alive(
        &self,
        _: Request<pb::KeepThreadsAliveRequest>,
    ) -> Result<Response<pb::KeepThreadsAliveResponse>, Status> {
        unserved("KeepThreadsAlive")
    }

    async fn get_thread(
        &self,
        _: Request<pb::GetThreadRequest>,
    ) -> Result<Response<pb::GetThreadResponse>, Status> {
        unserved("GetThread")
    }

    async fn list_threads(
        &self,
        _: Request<pb::ListThreadsRequest>,
    ) -> Result<Response<pb::ListThreadsResponse>, Status> {
        unserved("ListThreads")
    }

    async fn end_threads(
        &self,
        _: Request<pb::EndThreadsRequest>,
    ) -> Result<Response<pb::EndThreadsResponse>, Status> {
        unserved("EndThreads")
    }
}
