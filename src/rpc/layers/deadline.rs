//! When a call is over: what its client says, and never longer than its method may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderMap, HeaderName};
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::domain::limits::{CALL_SECONDS_MAX, OVERTIME_MS_MAX};
use crate::rpc::method::Method;
use crate::rpc::status::{self, About, BadField};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long a call of this method may take; nothing for a stream without an end.
pub(super) fn longest(method: Option<&Method>) -> Option<Duration> {
    // What does not exist is answered at once.
    method.map_or(Some(Duration::from_secs(CALL_SECONDS_MAX)), |method| method.longest)
}

/// The shorter of what the client says and what the method may take.
pub(super) fn allowed(
    headers: &HeaderMap,
    longest: Option<Duration>,
) -> Result<Option<Duration>, BadField> {
    Ok(match (timeout(headers)?, longest) {
        (Some(asked), Some(longest)) => Some(asked.min(longest)),
        (asked, longest) => asked.or(longest),
    })
}

/// When the answer to a call must have arrived: after the metadata `grpc-timeout`, or after as long as its method
/// may take if that is sooner. Handlers find it among the request's extensions: a call that waits leaves in time,
/// and a stream lives on when its call has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub(super) Instant);

impl Deadline {
    /// The moment.
    pub(in crate::rpc) fn at(self) -> Instant {
        self.0
    }

    /// The stream until its end, or until the deadline and then the status that says so.
    pub(in crate::rpc) fn ends<T>(
        self,
        stream: impl Stream<Item = Result<T, Status>>,
        about: About,
    ) -> impl Stream<Item = Result<T, Status>> {
        let over = stream::once(async move {
            tokio::time::sleep_until(self.0).await;
            Err(status::deadline_exceeded(&about))
        });
        // Whichever speaks first; the end of either is the end.
        let end = || stream::iter([None]);
        stream::select(stream.map(Some).chain(end()), over.map(Some).chain(end()))
            .take_while(|item| std::future::ready(item.is_some()))
            .filter_map(std::future::ready)
    }
}

/// Whether the handler of a call watches over its deadline itself, because it can then say what has not
/// been done. It is among the request's extensions together with the deadline.
#[derive(Debug, Clone, Default)]
pub(in crate::rpc) struct Overtime(Arc<AtomicBool>);

impl Overtime {
    /// From now on the handler is trusted to answer in time, or a little later with the truth.
    pub(in crate::rpc) fn take(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Waits until the call has had all its time.
    pub(super) async fn over(self, deadline: Sleep) {
        deadline.await;
        if self.0.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(OVERTIME_MS_MAX)).await;
        }
    }
}

/// Reads `grpc-timeout`: one to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, BadField> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(parse_timeout);
    parsed.map(Some).ok_or_else(|| BadField {
        field: GRPC_TIMEOUT.to_string(),
        rule: "must be one to eight digits and a unit, one of H M S m u n".to_owned(),
    })
}

fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let amount: u64 = fits.then(|| digits.parse().ok())??;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3_600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3_600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(parse_timeout(text), Some(expected), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S", "1é"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }
}
