//! The page `docs/errors.md`.

use std::fmt::{self, Write as _};

use super::{Category, JetErr, RetryAdvice};

/// The whole of `docs/errors.md`.
pub fn markdown() -> String {
    let mut page = String::from(MARKDOWN_HEAD);
    for advice in RetryAdvice::ALL {
        push(&mut page, format_args!("- **{}**: {}\n", advice.label(), advice.sentence()));
    }
    for category in Category::ALL {
        push(&mut page, format_args!("\n## {category}\n\n"));
        page.push_str("| code | name | gRPC | retry | what is true and what to do |\n");
        page.push_str("|---:|---|---|---|---|\n");
        for err in JetErr::ALL.iter().filter(|err| err.category() == *category) {
            push(
                &mut page,
                format_args!(
                    "| {} | {} | {} | {} | {} |\n",
                    err.code(),
                    cell(err.name()),
                    err.kind().grpc_name(),
                    err.retry().label(),
                    cell(err.message()),
                ),
            );
        }
    }
    page
}

const MARKDOWN_HEAD: &str = "\
# Errors

<!-- Printed from the table in src/domain/jet_err/table.rs. Change the table, not this page. -->

jet-session answers with the error codes of the Extensible Storage Engine (ESE, \"JET\"), and with
no others where ESE has one for the case. This page lists all of them, by category, with the gRPC
code each one becomes. A code always becomes the same gRPC code. Most belong to parts of ESE that
this service does not have; they are explained all the same, so that a number met in a log can be
looked up here or with `ErrorService.GetError`.

## How a code reaches a client

A refused call ends with a gRPC status. Its message says what is known of the case at hand, if
anything is, and ends with the sentence below. Its details hold a `google.rpc.ErrorInfo` of domain
`jet.session.v1`, whose `reason` is the name without `JET_err` in UPPER_SNAKE
(`SESSION_CONTEXT_ALREADY_SET`) and whose `metadata` has the number, the name, the category, and who
or what is concerned. Clients without protobuf read the trailers `jet-error` (`-1912`) and
`jet-error-name` (`JET_errSessionContextAlreadySet`). One refusal has no code of its own in ESE and
borrows one: a stale fencing token is ABORTED with reason `STALE_FENCING_TOKEN` and `jet-error`
-1913.

## Whether to retry

";

/// A text as the content of a table cell.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn push(page: &mut String, text: fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing to a String does not fail");
}
