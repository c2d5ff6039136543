//! How ESE files a code: the category, the word on retrying, and who meets it.

use std::fmt;

use super::Kind;

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
    pub(super) const fn kind(self) -> Kind {
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
