//! The trace that a call belongs to, as its caller says (W3C Trace Context, level 1).
//!
//! A header that is malformed in any way counts as none: the call begins a trace of its own.

use std::fmt;

use http::{HeaderMap, HeaderName};

use crate::domain::limits::TRACESTATE_BYTES_MAX;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The name of a trace, as logs show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// The name as a number; never 0.
    pub fn get(self) -> u128 {
        self.0
    }

    pub(super) fn of(number: u128) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a caller says of the trace that its call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span in it; never 0.
    pub span: u64,
    /// Whether the caller tells a collector of it.
    pub sampled: bool,
}

impl TraceContext {
    /// What the headers of a call say, if they say it as they must.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut said = headers.get_all(TRACEPARENT).iter();
        let first = said.next()?;
        // Two parents are none: nobody can say which is true.
        if said.next().is_some() {
            return None;
        }
        Self::parse(first.as_bytes())
    }

    /// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`. A version from the future may say more, behind
    /// another hyphen.
    fn parse(text: &[u8]) -> Option<Self> {
        const LENGTH: usize = 55;
        let (known, more) = text.split_at_checked(LENGTH)?;
        let version = hex(&known[..2])?;
        let well_ended = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more[0] == b'-',
        };
        let hyphens = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        if !well_ended || !hyphens {
            return None;
        }
        let trace = TraceId::of(hex(&known[3..35])?)?;
        let span = u64::try_from(hex(&known[36..52])?).ok().filter(|span| *span != 0)?;
        let flags = hex(&known[53..])?;
        Some(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

/// What others want to be passed on with the trace; nothing if it is too much.
pub(super) fn tracestate(headers: &HeaderMap) -> Option<String> {
    let mut joined = String::new();
    for value in headers.get_all(TRACESTATE) {
        let value = value.to_str().ok()?;
        if joined.len() + value.len() > TRACESTATE_BYTES_MAX {
            return None;
        }
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(value);
    }
    (!joined.is_empty()).then_some(joined)
}

/// Lower-case hexadecimal digits as a number.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, text.parse().unwrap());
        TraceContext::of(&headers)
    }

    #[test]
    fn a_parent_is_a_trace_a_span_and_flags() {
        let read = parse(GOOD).unwrap();
        assert_eq!(read.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(read.span, 0x00f0_67aa_0ba9_02b7);
        assert!(read.sampled);
        assert!(!parse(&GOOD.replace("-01", "-00")).unwrap().sampled);
        // Flags of the future are ignored.
        assert!(!parse(&GOOD.replace("-01", "-fe")).unwrap().sampled);
    }

    #[test]
    fn a_version_of_the_future_may_say_more() {
        let future = GOOD.replacen("00", "cc", 1);
        assert_eq!(parse(&future), parse(GOOD));
        assert_eq!(parse(&format!("{future}-what-the-future-brings")), parse(GOOD));
        assert_eq!(parse(&format!("{future}.what")), None);
    }

    #[test]
    fn what_is_malformed_counts_as_nothing() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert_eq!(TraceContext::of(&headers), None, "two parents");
    }

    #[test]
    fn states_are_joined_and_bounded() {
        let mut headers = HeaderMap::new();
        assert_eq!(tracestate(&headers), None);
        headers.append(TRACESTATE, "a=1".parse().unwrap());
        headers.append(TRACESTATE, "b=2,c=3".parse().unwrap());
        assert_eq!(tracestate(&headers).as_deref(), Some("a=1,b=2,c=3"));
        headers.append(TRACESTATE, "d".repeat(TRACESTATE_BYTES_MAX).parse().unwrap());
        assert_eq!(tracestate(&headers), None);
    }
}
