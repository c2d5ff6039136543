//! One call: its tries, its deadline, its request id.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status};

use super::Client;
use super::chance::jittered;
use super::clock::now;
use super::error::{Error, Lost, lost};
use super::retry::{self, Next};

/// How long the server's own answer to a deadline is awaited before ours is given.
pub(super) const GRACE: Duration = Duration::from_millis(200);

/// One try of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Try {
    /// How long the call has been going on.
    pub(super) since: Duration,
    /// What is left of its time.
    left: Duration,
}

impl Try {
    /// The request of this try, with what is left of the call's time as its deadline.
    pub(super) fn request<M>(self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.left);
        request
    }
}

/// What a call was answered with.
#[derive(Debug)]
pub(super) struct Answer<T> {
    /// The message.
    pub(super) message: T,
    /// When its first try was sent. The server may have done it any time since.
    pub(super) first_sent: Instant,
}

impl Client {
    /// Sends a call until it is answered, its time is over, or another try would not help. `send` makes
    /// every try of one and the same body.
    pub(super) async fn call<T, F>(
        &self,
        limit: Duration,
        mut send: impl FnMut(Try) -> F + Send,
    ) -> Result<Answer<T>, Error>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let first_sent = now();
        // A limit beyond what a clock can tell is none; so is a year.
        let far = Duration::from_secs(365 * 86_400);
        let deadline = first_sent + limit.min(far);
        let (mut attempts, mut pauses, mut unanswered) = (0_u32, 0_u32, false);
        loop {
            let sent = now();
            let attempt = Try { since: sent - first_sent, left: deadline - sent };
            attempts = attempts.saturating_add(1);
            let Ok(answer) = timeout_at(deadline + GRACE, send(attempt)).await else {
                return Err(Error::no_answer(limit, attempts));
            };
            let status = match answer {
                Ok(response) => {
                    self.budget().answered();
                    return Ok(Answer { message: response.into_inner(), first_sent });
                }
                Err(status) => status,
            };
            let lost = lost(&status);
            let pause = match retry::next(&status) {
                _ if !self.retries() => None,
                Next::Over => None,
                Next::Advised(delay) => Some(delay),
                Next::Pause => {
                    pauses = pauses.saturating_add(1);
                    self.budget().lost().then(|| retry::pause(pauses))
                }
            };
            if lost.is_none() && status.code() != tonic::Code::Unavailable {
                self.budget().answered();
            }
            let pause = pause.map(|pause| jittered(self.chance(), pause));
            match pause.filter(|pause| now() + *pause < deadline) {
                Some(pause) => {
                    tracing::debug!(attempts, ?pause, %status, "trying again");
                    unanswered |= lost == Some(Lost::MaybeDone) || self::unheard(&status);
                    sleep(pause).await;
                }
                // Our own timer cut the last try off: tonic calls that CANCELLED.
                None if lost.is_some() && now() >= deadline => {
                    return Err(Error::no_answer(limit, attempts));
                }
                None => return Err(Error::answered(status, unanswered, attempts)),
            }
        }
    }
}

/// Whether somebody between us and the server said it, who may have passed the request on.
fn unheard(status: &Status) -> bool {
    status.code() == tonic::Code::Unavailable && !super::Refusal::of(status).is_ours()
}
