//! The messages of ErrorService.

use crate::domain::jet_err::{Category, JetErr};
use crate::proto::api;
use crate::rpc::convert::{Fields, PageQuery, Parse};

/// A code somebody asks about.
pub(in crate::rpc) struct OneError(pub(in crate::rpc) JetErr);

impl Parse for api::GetErrorRequest {
    type Command = OneError;

    fn parse(self, fields: &mut Fields) -> Option<OneError> {
        use api::get_error_request::Key;
        let (field, rule, found) = match self.key {
            Some(Key::Code(code)) => (
                "code",
                "must be the number of a JET error, such as -1913",
                JetErr::from_code(code),
            ),
            Some(Key::Name(name)) => (
                "name",
                "must be the name of a JET error, with or without JET_err",
                JetErr::from_name(&name),
            ),
            None => ("code", "a code or a name is needed", None),
        };
        if found.is_none() {
            fields.bad(field, rule);
        }
        found.map(OneError)
    }
}

/// A wish for a page of the table.
pub(in crate::rpc) struct ErrorListCommand {
    /// The category, as a path.
    pub(in crate::rpc) category: Option<String>,
    pub(in crate::rpc) after: Option<JetErr>,
    pub(in crate::rpc) page: PageQuery,
}

impl Parse for api::ListErrorsRequest {
    type Command = ErrorListCommand;

    fn parse(mut self, fields: &mut Fields) -> Option<ErrorListCommand> {
        let size = std::mem::take(&mut self.page_size);
        let token = std::mem::take(&mut self.page_token);
        let page = PageQuery::parse("ListErrors", &self, size, &token, fields);
        let last = |after: &str| after.parse().ok().and_then(JetErr::from_code);
        let after = page.after.as_deref().map(last);
        if after == Some(None) {
            fields.bad("page_token", "must be a next_page_token of this list");
        }
        let category = match self.category.as_str() {
            "" => None,
            path if Category::is_path(path) => Some(path.to_owned()),
            name => {
                let path = path_ending_in(name);
                if path.is_none() {
                    fields.bad("category", "must be a category path, or the last part of one");
                }
                path
            }
        };
        Some(ErrorListCommand { category, after: after.flatten(), page })
    }
}

/// The path of the category that is called so.
fn path_ending_in(name: &str) -> Option<String> {
    let paths = Category::ALL.iter().map(|category| category.path());
    let prefixes = paths.flat_map(|path| {
        path.match_indices('/').map(|(end, _)| &path[..end]).chain([path]).collect::<Vec<_>>()
    });
    prefixes.into_iter().find(|path| path.rsplit('/').next() == Some(name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_may_be_called_by_its_last_part() {
        for (name, path) in [
            ("Error", "Error"),
            ("Data", "Error/Data"),
            ("Memory", "Error/Operation/Resource/Memory"),
        ] {
            assert_eq!(path_ending_in(name).as_deref(), Some(path));
        }
        assert_eq!(path_ending_in("memory"), None);
        assert_eq!(path_ending_in(""), None);
    }
}
