//! `jet-session error`: explains JET errors from the table in the program, without a server.

use clap::Args as ClapArgs;

use crate::domain::jet_err::{Category, JetErr};
use crate::proto::api::{GetErrorResponse, JetError, ListErrorsResponse};

use super::failure::Failure;
use super::output::{Output, View};

/// What `error` takes.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub(super) struct Args {
    /// Error to explain: -1913, or JET_errTermInProgress with or without JET_err
    #[arg(value_name = "CODE|NAME", allow_negative_numbers = true, value_parser = find)]
    error: Option<JetErr>,

    /// List all errors, or those of a category such as State or Error/Operation/Resource
    #[arg(long, value_name = "CATEGORY", num_args = 0..=1, default_missing_value = "Error")]
    #[arg(value_parser = category)]
    list: Option<&'static str>,
}

impl Args {
    /// Shows a row of the table, or many.
    pub(super) fn run(self, out: &mut Output<'_>) -> Result<(), Failure> {
        match (self.error, self.list) {
            (Some(error), _) => {
                let answer = GetErrorResponse { error: Some(message(error)) };
                out.answer("GetErrorResponse", &answer, properties(error))
            }
            (None, category) => {
                let within = category.unwrap_or("Error");
                let errors: Vec<JetErr> = JetErr::ALL
                    .iter()
                    .copied()
                    .filter(|error| error.category().is_within(within))
                    .collect();
                let rows = View::Table(&COLUMNS, errors.iter().map(|e| row(*e)).collect());
                let answer = ListErrorsResponse {
                    errors: errors.iter().map(|error| message(*error)).collect(),
                    ..ListErrorsResponse::default()
                };
                out.answer("ListErrorsResponse", &answer, rows)
            }
        }
    }
}

/// The error with this number or name. People forget the sign and the capitals.
fn find(typed: &str) -> Result<JetErr, String> {
    if let Ok(code) = typed.parse::<i32>() {
        return JetErr::from_code(code)
            .or_else(|| JetErr::from_code(code.checked_neg()?))
            .ok_or_else(|| "no JET error has this number".to_owned());
    }
    let same = |err: &&JetErr| {
        err.short_name().eq_ignore_ascii_case(typed) || err.name().eq_ignore_ascii_case(typed)
    };
    if let Some(err) = JetErr::ALL.iter().find(same) {
        return Ok(*err);
    }
    let part = typed.to_ascii_lowercase();
    let alike: Vec<&str> = JetErr::ALL
        .iter()
        .map(|err| err.short_name())
        .filter(|name| name.to_ascii_lowercase().contains(&part))
        .take(3)
        .collect();
    if part.is_empty() || alike.is_empty() {
        return Err("no JET error has this name".to_owned());
    }
    Err(format!("no JET error has this name, but there is {}", alike.join(", ")))
}

/// The path of the category, typed in full or as its last part.
fn category(typed: &str) -> Result<&'static str, String> {
    let nodes = || ["Error", "Error/Data", "Error/Api"].into_iter();
    let nodes = nodes().chain(Category::ALL.iter().map(|category| category.path()));
    let last = |path: &'static str| path.rsplit('/').next().unwrap_or(path);
    nodes
        .clone()
        .find(|path| path.eq_ignore_ascii_case(typed) || last(path).eq_ignore_ascii_case(typed))
        .ok_or_else(|| {
            let known: Vec<&str> = nodes.map(last).collect();
            format!("the categories are {}", known.join(", "))
        })
}

const COLUMNS: [&str; 4] = ["CODE", "NAME", "GRPC", "RETRY"];

fn row(error: JetErr) -> Vec<String> {
    vec![
        error.code().to_string(),
        error.name().to_owned(),
        error.kind().grpc_name().to_owned(),
        error.retry().label().to_owned(),
    ]
}

fn properties(error: JetErr) -> View {
    View::properties([
        ("error", error.to_string()),
        ("category", error.category().path().to_owned()),
        ("gRPC code", error.kind().grpc_name().to_owned()),
        ("meaning", error.message().to_owned()),
        ("retry", error.retry().sentence().to_owned()),
    ])
}

/// The row as the server's ErrorService would answer it.
fn message(error: JetErr) -> JetError {
    JetError {
        code: error.code(),
        name: error.name().to_owned(),
        category: error.category().path().to_owned(),
        message: error.message().to_owned(),
        retry_advice: error.retry().sentence().to_owned(),
        grpc_code: error.kind().grpc_name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_found_by_number_and_by_name() {
        for typed in ["-1000", "1000", "JET_errTermInProgress", "TermInProgress", "terminprogress"]
        {
            assert_eq!(find(typed), Ok(JetErr::TermInProgress), "{typed}");
        }
        assert_eq!(find("0"), Ok(JetErr::Success));
        for bad in ["-2147483648", "-42", "", "99999999999", "Nonsense"] {
            assert!(find(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_part_of_a_name_leads_to_the_whole() {
        let told = find("ContextAlready").unwrap_err();
        assert!(told.ends_with("there is SessionContextAlreadySet"), "{told}");
    }

    #[test]
    fn categories_are_paths_or_their_last_part() {
        for (typed, path) in [
            ("Memory", "Error/Operation/Resource/Memory"),
            ("io", "Error/Operation/IO"),
            ("Error/Data", "Error/Data"),
            ("error", "Error"),
        ] {
            assert_eq!(category(typed), Ok(path));
        }
        assert!(category("Nonsense").is_err());
        assert!(category("").is_err());
    }

    #[test]
    fn an_error_is_explained() {
        expect_test::expect![[r#"
            error      JET_errTermInProgress (-1000)
            category   Error/Operation
            gRPC code  UNAVAILABLE
            meaning    The instance is being terminated and refuses calls. Wait until GetInstance shows CREATED; InitializeInstance then brings it back.
            retry      Retry with growing pauses, the first as long as RetryInfo says; if there is no RetryInfo, wait until the state of the instance changes."#]]
            .assert_eq(&properties(JetErr::TermInProgress).to_string());
    }

    #[test]
    fn all_errors_are_listed_and_a_category_is_part_of_them() {
        let listed = |json: bool, within: &'static str| {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            let args = Args { error: None, list: Some(within) };
            let shown = args.run(&mut Output::new(json, &mut stdout, &mut stderr));
            assert!(shown.is_ok());
            String::from_utf8(stdout).unwrap()
        };
        assert_eq!(listed(false, "Error").lines().count(), 1 + JetErr::ALL.len());
        let quota = listed(false, "Error/Operation/Resource/Quota");
        assert!((2..50).contains(&quota.lines().count()), "{quota}");
        let json: serde_json::Value = serde_json::from_str(&listed(true, "Error")).unwrap();
        assert_eq!(json["errors"][0]["name"], "JET_errSuccess");
        assert_eq!(json["nextPageToken"], "");
    }
}
