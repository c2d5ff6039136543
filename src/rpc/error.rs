//! ErrorService: what a JET code means (`JetGetErrorInfo`).

use tonic::{Request, Response, Status};

use crate::domain::jet_err::{Category, JetErr};
use crate::proto::api as pb;
use crate::proto::api::error_service_server::ErrorService;
use crate::rpc::access::Guard;
use crate::rpc::convert::{ErrorListCommand, OneError};
use crate::rpc::parse;
use crate::rpc::status::jet_error;

/// The service. The table is part of the program.
#[derive(Debug, Clone)]
pub struct Errors {
    guard: Guard,
}

impl Errors {
    /// The service, for those whom the guard lets in.
    pub fn new(guard: Guard) -> Self {
        Self { guard }
    }
}

#[tonic::async_trait]
impl ErrorService for Errors {
    async fn get_error(
        &self,
        request: Request<pb::GetErrorRequest>,
    ) -> Result<Response<pb::GetErrorResponse>, Status> {
        let (OneError(jet), _) = parse(&self.guard, request)?;
        Ok(Response::new(pb::GetErrorResponse { error: Some(jet_error(jet)) }))
    }

    async fn list_errors(
        &self,
        request: Request<pb::ListErrorsRequest>,
    ) -> Result<Response<pb::ListErrorsResponse>, Status> {
        let (ErrorListCommand { category, after, page }, _) = parse(&self.guard, request)?;
        let begin = after
            .and_then(|last| JetErr::ALL.iter().position(|jet| *jet == last))
            .map_or(0, |last| last + 1);
        let within = |jet: &&JetErr| {
            category.as_deref().is_none_or(|path| Category::is_within(jet.category(), path))
        };
        let found = JetErr::ALL[begin..].iter().filter(within).map(|jet| jet_error(*jet));
        let page = page.page(found, None, |error| error.code.to_string());
        Ok(Response::new(pb::ListErrorsResponse {
            errors: page.items,
            next_page_token: page.next_page_token,
        }))
    }
}
