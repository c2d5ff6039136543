//! `jet-session healthcheck`: for containers, which have no other program to ask with.

use std::time::Duration;

use clap::Args as ClapArgs;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::connect::Options;
use super::failure::Failure;
use super::output::Output;

/// Shorter than the three seconds that container runtimes commonly give a check.
const SOON: Duration = Duration::from_secs(2);

/// What `healthcheck` takes.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Service to ask for, such as `liveness` or `instances/main` [default: the whole server]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
}

impl Args {
    /// Asks the server, shows its word, and succeeds only if that is SERVING.
    pub(super) async fn run(self, options: &Options, out: &mut Output<'_>) -> Result<(), Failure> {
        let server = options.connect(SOON).await?;
        let request = server.request(HealthCheckRequest { service: self.service });
        let mut health = HealthClient::new(server.transport());
        let status = server.answer(health.check(request)).await?.status();
        let word = status.as_str_name();
        out.value(&serde_json::json!({ "status": word }), word)?;
        match status {
            ServingStatus::Serving => Ok(()),
            ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
                Err(Failure::NotServing)
            }
        }
    }
}
