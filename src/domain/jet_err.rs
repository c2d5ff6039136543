//! Every error code of ESE: its number, its name, our sentence for the user, and what to do next.
//!
//! The facts (value, name, category, whether retrying can help, who may see the code) are those of
//! the `jet_err` list of the Extensible Storage Engine and of its error reference. The sentences are
//! ours. From a row everything a refusal needs is computed here: its [`Kind`], which `rpc` turns
//! into exactly one gRPC code, its [`RetryAdvice`], its [`Effect`], its reason for `ErrorInfo`, and
//! the page `docs/errors.md` ([`markdown`]).
//!
//! This module must never decide *whether* a call is refused, name a transport's types, or carry
//! anything about one particular refusal: who holds a context is the business of the refusal itself.
//! A number, once given to a name, never changes: clients have it compiled in.
//!
//! Reading order: [`JetErr`] and its methods, then the small enums of its columns, then `table`.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// Makes [`JetErr`] and its lookups out of the rows in `table`.
macro_rules! jet_errs {
    ($($name:ident = $value:literal, $category:ident, $retryable:ident, $visibility:ident,
       $message:literal;)+) => {
        use super::{Category, Retryable, Row, Visibility};

        /// One code of ESE's error list. The discriminant is the code, so the order is by number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        pub enum JetErr {
            $(#[doc = $message] $name = $value,)+
        }

        /// All rows, in the list's order.
        pub(super) const ALL: &[JetErr] = &[$(JetErr::$name),+];

        /// The row of a code.
        pub(super) const fn row(err: JetErr) -> &'static Row {
            match err {
                $(JetErr::$name => &Row {
                    name: concat!("JET_err", stringify!($name)),
                    category: Category::$category,
                    retryable: Retryable::$retryable,
                    visibility: Visibility::$visibility,
                    message: $message,
                },)+
            }
        }

        /// The code with this number.
        pub(super) const fn from_code(code: i32) -> Option<JetErr> {
            match code {
                $($value => Some(JetErr::$name),)+
                _ => None,
            }
        }
    };
}

mod table;
#[cfg(test)]
mod tests;

pub use table::JetErr;

/// What every name in ESE's headers begins with.
const PREFIX: &str = "JET_err";

impl JetErr {
    /// Every code, in the order of ESE's list: success first, then by falling number.
    pub const ALL: &'static [JetErr] = table::ALL;

    /// The code with this number, if ESE has one.
    pub const fn from_code(code: i32) -> Option<JetErr> {
        table::from_code(code)
    }

    /// The code with this name, written with or without `JET_err`. Case matters.
    pub fn from_name(name: &str) -> Option<JetErr> {
        let short = name.strip_prefix(PREFIX).unwrap_or(name);
        Self::ALL.iter().copied().find(|err| err.short_name() == short)
    }

    /// The number, as in `-1912`; 0 for success and negative for all others.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The full name, as in `JET_errSessionContextAlreadySet`.
    pub const fn name(self) -> &'static str {
        table::row(self).name
    }

    /// The name without its prefix, as in `SessionContextAlreadySet`.
    pub const fn short_name(self) -> &'static str {
        self.name().split_at(PREFIX.len()).1
    }

    /// The short name in UPPER_SNAKE, as in `SESSION_CONTEXT_ALREADY_SET`: the reason in `ErrorInfo`.
    pub fn reason(self) -> String {
        upper_snake(self.short_name())
    }

    /// Where ESE files the code.
    pub const fn category(self) -> Category {
        table::row(self).category
    }

    /// ESE's own word on whether retrying can help. For what to tell a caller see [`JetErr::retry`].
    pub const fn retryable(self) -> Retryable {
        table::row(self).retryable
    }

    /// Whether callers of ESE may meet the code.
    pub const fn visibility(self) -> Visibility {
        table::row(self).visibility
    }

    /// What is true and what to do, in one or two sentences of plain English for a user.
    pub const fn message(self) -> &'static str {
        table::row(self).message
    }

    /// What kind of trouble this is: a decision of our own for the codes this service answers, and
    /// that of the category for all others.
    pub fn kind(self) -> Kind {
        self.kind_of_its_own().unwrap_or_else(|| self.category().kind())
    }

    /// What a caller should do about trying again.
    pub fn retry(self) -> RetryAdvice {
        RetryAdvice::of(self.kind(), self.retryable())
    }

    /// Whether a call of this service that was answered so has changed anything.
    pub fn effect(self) -> Effect {
        match self.kind() {
            Kind::Ok => Effect::Done,
            Kind::InvalidArgument
            | Kind::NotFound
            | Kind::AlreadyExists
            | Kind::Exhausted
            | Kind::Transient
            | Kind::Conflict
            | Kind::Unsupported => Effect::None,
            Kind::Internal | Kind::DataLoss => Effect::Unknown,
            // The call whose own write failed is answered with the fatal code itself.
            Kind::Precondition if self.category() == Category::Fatal => Effect::Unknown,
            Kind::Precondition => Effect::None,
        }
    }

    /// The three answers every code gives: what kind of trouble, does trying again help, did
    /// anything change.
    pub fn verdict(self) -> Verdict {
        Verdict { kind: self.kind(), retry: self.retry(), effect: self.effect() }
    }

    /// The codes whose kind is not that of their category, or which the API promises by name.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all other codes go by their category, and that match is exhaustive"
    )]
    const fn kind_of_its_own(self) -> Option<Kind> {
        match self {
            Self::Success => Some(Kind::Ok),

            Self::InvalidParameter => Some(Kind::InvalidArgument),
            Self::InvalidInstance | Self::InvalidSesid => Some(Kind::NotFound),
            Self::InstanceNameInUse => Some(Kind::AlreadyExists),
            Self::OutOfSessions | Self::TooManyInstances => Some(Kind::Exhausted),

            // A phase that ends by itself, or that another server does not share.
            Self::NotInitialized
            | Self::InitInProgress
            | Self::RestoreInProgress
            | Self::TermInProgress
            | Self::ClientRequestToStopJetService => Some(Kind::Transient),

            // A state that somebody must change.
            Self::InstanceUnavailable
            | Self::InstanceUnavailableDueToFatalLogDiskFull
            | Self::SessionContextAlreadySet
            | Self::SessionContextNotSetByThisThread
            | Self::SessionInUse
            | Self::AlreadyInitialized
            | Self::NotInTransaction
            | Self::TransTooDeep
            | Self::TooManyActiveUsers
            | Self::BackupInProgress => Some(Kind::Precondition),

            Self::SessionSharingViolation => Some(Kind::Conflict),

            _ => None,
        }
    }
}

/// Prints `JET_errSessionContextAlreadySet (-1912)`: for logs. A user gets [`JetErr::message`].
impl fmt::Display for JetErr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

/// So that a code can be the `source` of a refusal.
impl Error for JetErr {}

impl FromStr for JetErr {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::from_name(name).ok_or(UnknownName)
    }
}

/// The name is not that of any code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownName;

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no JET error has this name")
    }
}

impl Error for UnknownName {}

/// What the table holds about one code beside its number.
#[derive(Debug)]
struct Row {
    name: &'static str,
    category: Category,
    retryable: Retryable,
    visibility: Visibility,
    message: &'static str,
}

/// Where ESE files a code: a node of its tree of categories that has codes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Something went wrong while working, through nobody's fault in particular.
    Operation,
    /// The instance or the machine cannot go on.
    Fatal,
    /// A read or a write failed.
    Io,
    /// Something of which there is only so much is used up.
    Resource,
    /// Memory, or what is made of it: cursors, buffers, sessions.
    Memory,
    /// A configured or built-in limit.
    Quota,
    /// Disk space.
    Disk,
    /// Stored data is damaged.
    Corruption,
    /// Stored data is sound in itself, but its parts do not fit together.
    Inconsistent,
    /// A supply inside a file is used up and can be regained by rewriting the file.
    Fragmentation,
    /// The call is wrong.
    Usage,
    /// The call is right, but not in the present state.
    State,
    /// No engine in use answers this any more.
    Obsolete,
}

impl Category {
    /// Every category, parents before children, in the order of the tree.
    pub const ALL: &'static [Category] = &[
        Self::Operation,
        Self::Fatal,
        Self::Io,
        Self::Resource,
        Self::Memory,
        Self::Quota,
        Self::Disk,
        Self::Corruption,
        Self::Inconsistent,
        Self::Fragmentation,
        Self::Usage,
        Self::State,
        Self::Obsolete,
    ];

    /// The way from the root, as in `Error/Operation/Resource/Memory`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Operation => "Error/Operation",
            Self::Fatal => "Error/Operation/Fatal",
            Self::Io => "Error/Operation/IO",
            Self::Resource => "Error/Operation/Resource",
            Self::Memory => "Error/Operation/Resource/Memory",
            Self::Quota => "Error/Operation/Resource/Quota",
            Self::Disk => "Error/Operation/Resource/Disk",
            Self::Corruption => "Error/Data/Corruption",
            Self::Inconsistent => "Error/Data/Inconsistent",
            Self::Fragmentation => "Error/Data/Fragmentation",
            Self::Usage => "Error/Api/Usage",
            Self::State => "Error/Api/State",
            Self::Obsolete => "Error/Api/Obsolete",
        }
    }

    /// Whether the category is the node named by `path` or lies below it.
    ///
    /// ```
    /// # use jet_session::domain::jet_err::Category;
    /// assert!(Category::Memory.is_within("Error/Operation/Resource"));
    /// assert!(!Category::Memory.is_within("Error/Operation/Res"));
    /// ```
    pub fn is_within(self, path: &str) -> bool {
        match self.path().strip_prefix(path) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// Whether `path` names a node of the tree, inner ones such as `Error/Data` included.
    pub fn is_path(path: &str) -> bool {
        // Every node has a category at or below it.
        Self::ALL.iter().any(|category| category.is_within(path))
    }

    /// The kind of those of its codes that have none of their own.
    const fn kind(self) -> Kind {
        match self {
            Self::Operation | Self::Io | Self::Disk => Kind::Internal,
            Self::Resource | Self::Memory | Self::Quota => Kind::Exhausted,
            Self::Corruption => Kind::DataLoss,
            Self::Fatal | Self::Inconsistent | Self::Fragmentation | Self::State => {
                Kind::Precondition
            }
            Self::Usage => Kind::InvalidArgument,
            Self::Obsolete => Kind::Unsupported,
        }
    }
}

/// Prints the path.
impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

/// ESE's own word on whether the same call can succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retryable {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// It depends on the case.
    Unknown,
}

/// Who meets a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Callers of the engine.
    External,
    /// The engine's own parts; a caller only through a defect.
    Internal,
    /// Nobody any more.
    Obsolete,
}

/// What kind of trouble a code is, for any transport: one kind is one gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// No trouble: the call succeeded.
    Ok,
    /// The request is wrong whatever the state.
    InvalidArgument,
    /// What the request names does not exist.
    NotFound,
    /// What the request would make exists already.
    AlreadyExists,
    /// A supply or a limit is used up.
    Exhausted,
    /// A phase that ends by itself; callers and load balancers may try again.
    Transient,
    /// A state that somebody must change first; nobody should hammer it.
    Precondition,
    /// A collision with what somebody else does.
    Conflict,
    /// Something broke on this side.
    Internal,
    /// Stored data is lost or damaged.
    DataLoss,
    /// Nothing here answers it.
    Unsupported,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Kind] = &[
        Self::Ok,
        Self::InvalidArgument,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Exhausted,
        Self::Transient,
        Self::Precondition,
        Self::Conflict,
        Self::Internal,
        Self::DataLoss,
        Self::Unsupported,
    ];

    /// The name of the gRPC code for this kind, as in `FAILED_PRECONDITION`.
    pub const fn grpc_name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Exhausted => "RESOURCE_EXHAUSTED",
            Self::Transient => "UNAVAILABLE",
            Self::Precondition => "FAILED_PRECONDITION",
            Self::Conflict => "ABORTED",
            Self::Internal => "INTERNAL",
            Self::DataLoss => "DATA_LOSS",
            Self::Unsupported => "UNIMPLEMENTED",
        }
    }
}

/// What a caller should do about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetryAdvice {
    /// It succeeded.
    NotNeeded,
    /// The call is wrong as it stands.
    NeverUnchanged,
    /// Somebody must change a state first.
    AfterChange,
    /// A phase ends by itself.
    WithBackOff,
    /// The call collided with another.
    AfterReading,
    /// Something is used up for the moment.
    WhenFreed,
    /// It may have been passing trouble.
    Sparingly,
    /// Data must be restored first.
    AfterRestore,
    /// The code is obsolete.
    NotReturned,
}

impl RetryAdvice {
    /// Every advice.
    pub const ALL: &'static [RetryAdvice] = &[
        Self::NotNeeded,
        Self::NeverUnchanged,
        Self::AfterChange,
        Self::WithBackOff,
        Self::AfterReading,
        Self::WhenFreed,
        Self::Sparingly,
        Self::AfterRestore,
        Self::NotReturned,
    ];

    /// Our kind says how to retry; ESE's word decides where the kind leaves it open.
    const fn of(kind: Kind, retryable: Retryable) -> Self {
        match kind {
            Kind::Ok => Self::NotNeeded,
            Kind::InvalidArgument | Kind::NotFound | Kind::AlreadyExists => Self::NeverUnchanged,
            Kind::Transient => Self::WithBackOff,
            Kind::Conflict => Self::AfterReading,
            Kind::DataLoss => Self::AfterRestore,
            Kind::Unsupported => Self::NotReturned,
            Kind::Precondition => match retryable {
                Retryable::Yes => Self::AfterReading,
                Retryable::No | Retryable::Unknown => Self::AfterChange,
            },
            Kind::Exhausted => match retryable {
                Retryable::Yes | Retryable::Unknown => Self::WhenFreed,
                Retryable::No => Self::AfterChange,
            },
            Kind::Internal => match retryable {
                Retryable::Yes | Retryable::Unknown => Self::Sparingly,
                Retryable::No => Self::AfterChange,
            },
        }
    }

    /// Two or three words for a column.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotNeeded => "not needed",
            Self::NeverUnchanged => "never unchanged",
            Self::AfterChange => "after a change",
            Self::WithBackOff => "with back-off",
            Self::AfterReading => "after reading",
            Self::WhenFreed => "when freed",
            Self::Sparingly => "sparingly",
            Self::AfterRestore => "after a restore",
            Self::NotReturned => "not returned",
        }
    }

    /// The advice for a user.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NotNeeded => "The call succeeded, so there is nothing to retry.",
            Self::NeverUnchanged => {
                "Do not retry the call unchanged: the answer stays the same until the request is \
                 corrected."
            }
            Self::AfterChange => {
                "Do not retry before somebody has changed the state that refuses the call, unless \
                 the answer carries RetryInfo."
            }
            Self::WithBackOff => {
                "Retry with growing pauses, the first as long as RetryInfo says; if there is no \
                 RetryInfo, wait until the state of the instance changes."
            }
            Self::AfterReading => {
                "The call collided with another: read the present state, then decide whether to \
                 call again."
            }
            Self::WhenFreed => {
                "Retry later, with growing pauses, when others have released what is used up."
            }
            Self::Sparingly => {
                "The trouble may pass: retry a few times with growing pauses, then tell whoever \
                 runs the server."
            }
            Self::AfterRestore => {
                "Do not retry: data is lost or damaged and must be restored or repaired first."
            }
            Self::NotReturned => {
                "Nothing to plan for: the code is obsolete and this service never answers it."
            }
        }
    }
}

/// Whether the call that was answered with a code has changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It did what was asked.
    Done,
    /// It changed nothing.
    None,
    /// It may have; only a read can tell.
    Unknown,
}

/// The three answers every code gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// What kind of trouble it is.
    pub kind: Kind,
    /// Whether trying again helps.
    pub retry: RetryAdvice,
    /// Whether anything changed.
    pub effect: Effect,
}

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

A refused call ends with a gRPC status. Its message is the sentence below; its details hold a
`google.rpc.ErrorInfo` of domain `jet.session.v1`, whose `reason` is the name without `JET_err` in
UPPER_SNAKE (`SESSION_CONTEXT_ALREADY_SET`) and whose `metadata` has the number, the name, the
category, and who or what is concerned. Clients without protobuf read the trailers `jet-error`
(`-1912`) and `jet-error-name` (`JET_errSessionContextAlreadySet`). One refusal has no code of its
own in ESE and borrows one: a stale fencing token is ABORTED with reason `STALE_FENCING_TOKEN` and
`jet-error` -1913.

## Whether to retry

";

/// A text as the content of a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn push(page: &mut String, text: fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing to a String does not fail");
}

/// A break before a capital that follows a lower-case letter or digit, and before the last capital
/// of a run followed by a lower-case letter.
fn upper_snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + name.len() / 2);
    let mut before: Option<char> = None;
    let mut rest = name.chars().peekable();
    while let Some(letter) = rest.next() {
        if let Some(before) = before
            && letter.is_ascii_uppercase()
        {
            let starts_word = before.is_ascii_lowercase() || before.is_ascii_digit();
            let ends_run =
                before.is_ascii_uppercase() && rest.peek().is_some_and(char::is_ascii_lowercase);
            if starts_word || ends_run {
                out.push('_');
            }
        }
        out.push(letter.to_ascii_uppercase());
        before = Some(letter);
    }
    out
}
