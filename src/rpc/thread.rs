//! ThreadService: leases of threads. Declared, and not served by this release.

use tonic::{Request, Response, Status};

use crate::proto::api as pb;
use crate::proto::api::thread_service_server::ThreadService;
use crate::rpc::unserved;

/// The service.
#[derive(Debug, Clone, Copy)]
pub struct Threads;

#[tonic::async_trait]
impl ThreadService for Threads {
    async fn keep_threads_alive(
        &self,
        request: Request<pb::KeepThreadsAliveRequest>,
    ) -> Result<Response<pb::KeepThreadsAliveResponse>, Status> {
        unserved(&request, "KeepThreadsAlive")
    }

    async fn get_thread(
        &self,
        request: Request<pb::GetThreadRequest>,
    ) -> Result<Response<pb::GetThreadResponse>, Status> {
        unserved(&request, "GetThread")
    }

    async fn list_threads(
        &self,
        request: Request<pb::ListThreadsRequest>,
    ) -> Result<Response<pb::ListThreadsResponse>, Status> {
        unserved(&request, "ListThreads")
    }

    async fn end_threads(
        &self,
        request: Request<pb::EndThreadsRequest>,
    ) -> Result<Response<pb::EndThreadsResponse>, Status> {
        unserved(&request, "EndThreads")
    }
}
