//! What clients were told by instances that had failed.

use jet_session::proto::api::session_service_client::SessionServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::campaign::Campaign;
use crate::clients::{MAIN, begin_request, jet_error, lock};
use crate::ledger::Seen;
use crate::server::now;

const NOBODY: &str = "task-1000";

impl Campaign {
    /// Every client that was refused by a failed instance was told this, and not to try again.
    pub(crate) fn refused_for_good(&self, code: i32) {
        let refused = std::mem::take(&mut *lock(&self.shared.failed));
        assert!(!refused.is_empty(), "clients stopped, and no instance refused them");
        for status in refused {
            assert_eq!(jet_error(&status), Some(code), "{status:?}");
            assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
            assert!(status.metadata().contains_key("grpc-retry-pushback-ms"), "{status:?}");
        }
    }

    /// Begins sessions until one is refused, and writes down all of it.
    pub(crate) async fn begin_until_refused(
        &self,
        sessions: &mut SessionServiceClient<Channel>,
        instance: &str,
    ) -> Status {
        let ledger = if instance == MAIN { &self.shared.main } else { &self.shared.lazy };
        for number in 0.. {
            let (call, sent) = (format!("operator-{number}"), lock(ledger).send());
            // For a task that there is not: nobody else changes it.
            let begun = sessions.begin_session(begin_request(instance, &call, NOBODY)).await;
            match begun {
                Ok(begun) => {
                    let begun = begun.into_inner().session.expect("the answer has a session");
                    lock(ledger).began(Seen::of(&begun), sent, now());
                }
                Err(refused) => {
                    lock(ledger).begin_unknown(call);
                    return refused;
                }
            }
        }
        unreachable!("every disk fills up")
    }
}
