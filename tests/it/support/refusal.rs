//! What a refused client is told.

use jet_session::domain::jet_err::JetErr;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A status, read as a client of ours reads it.
pub(crate) trait Refusal {
    /// The JET code, from the plain trailer; the other trailer and the details must say the same.
    fn jet_err(&self) -> JetErr;
    /// The details.
    fn told(&self) -> ErrorDetails;
    /// The reason in `ErrorInfo`.
    fn reason(&self) -> String;
    /// A fact in `ErrorInfo`, or nothing.
    fn fact(&self, key: &str) -> String;
    /// The fields that are named as bad.
    fn bad_fields(&self) -> Vec<String>;
    /// Asserts that this is `JET_errInvalidParameter` for exactly these fields.
    fn is_about_fields(&self, fields: &[&str]);
}

impl Refusal for Status {
    fn jet_err(&self) -> JetErr {
        let trailer = |key| {
            let value = self.metadata().get(key).and_then(|value| value.to_str().ok());
            value.unwrap_or_else(|| panic!("no trailer {key}: {self:?}"))
        };
        let code = trailer("jet-error").parse().expect("the trailer jet-error is a number");
        let jet = JetErr::from_code(code).expect("the trailer jet-error is a JET error");
        assert_eq!(trailer("jet-error-name"), jet.name());
        assert_eq!(self.fact("jet_error"), code.to_string());
        assert_eq!(self.fact("jet_error_name"), jet.name());
        jet
    }

    fn told(&self) -> ErrorDetails {
        self.get_error_details()
    }

    fn reason(&self) -> String {
        self.told().error_info().map(|info| info.reason.clone()).unwrap_or_default()
    }

    fn fact(&self, key: &str) -> String {
        let told = self.told();
        let fact = told.error_info().and_then(|info| info.metadata.get(key).cloned());
        fact.unwrap_or_default()
    }

    fn bad_fields(&self) -> Vec<String> {
        let told = self.told();
        let bad = told.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        bad.into_iter().map(|violation| violation.field).collect()
    }

    #[track_caller]
    fn is_about_fields(&self, fields: &[&str]) {
        assert_eq!(self.code(), Code::InvalidArgument, "{self:?}");
        assert_eq!(self.jet_err(), JetErr::InvalidParameter);
        let mut named = self.bad_fields();
        named.sort();
        let mut expected = fields.to_vec();
        expected.sort_unstable();
        assert_eq!(named, expected);
    }
}
