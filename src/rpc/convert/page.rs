//! Lists, a page at a time (AIP-158).
//!
//! A page token says which list it belongs to and where the next page begins. It is opaque to
//! clients and holds nothing secret; used for another list or another filter it is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;

use crate::domain::limits::{PAGE_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use crate::rpc::convert::Fields;

/// What a page token holds.
#[derive(Clone, PartialEq, Eq, Message)]
struct Token {
    /// The method.
    #[prost(string, tag = "1")]
    list: String,
    /// The request without its paging fields.
    #[prost(bytes = "vec", tag = "2")]
    query: Vec<u8>,
    /// The last item of the page before.
    #[prost(string, tag = "3")]
    after: String,
}

/// A wish for a page of a list.
#[derive(Debug, Clone)]
pub(in crate::rpc) struct PageQuery {
    list: &'static str,
    query: Vec<u8>,
    /// How many items at most.
    pub(in crate::rpc) size: usize,
    /// The last item of the page before; `None` for the first page.
    pub(in crate::rpc) after: Option<String>,
}

/// A page of a list.
#[derive(Debug)]
pub(in crate::rpc) struct Page<T> {
    pub(in crate::rpc) items: Vec<T>,
    pub(in crate::rpc) next_page_token: String,
}

impl PageQuery {
    /// Reads `page_size` and `page_token` of a request; `query` is the request without them.
    pub(in crate::rpc) fn parse(
        list: &'static str,
        query: &impl Message,
        page_size: i32,
        page_token: &str,
        fields: &mut Fields,
    ) -> Self {
        let query = query.encode_to_vec();
        let size = match u32::try_from(page_size) {
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(size) => size.min(PAGE_SIZE_MAX),
            Err(_) => {
                fields.bad("page_size", "must not be negative; 0 means 100, at most 1000 are sent");
                PAGE_SIZE_DEFAULT
            }
        };
        let mut after = None;
        if !page_token.is_empty() {
            after = Self::read(page_token)
                .filter(|token| token.list == list && token.query == query)
                .map(|token| token.after);
            if after.is_none() {
                fields.bad(
                    "page_token",
                    "must be a next_page_token of this list, with the same parent and filter",
                );
            }
        }
        Self { list, query, size: size.try_into().unwrap_or(usize::MAX), after }
    }

    fn read(token: &str) -> Option<Token> {
        Token::decode(&*URL_SAFE_NO_PAD.decode(token).ok()?).ok()
    }

    /// The token of the page that begins after `last`.
    pub(in crate::rpc) fn token(&self, last: String) -> String {
        let token = Token { list: self.list.to_owned(), query: self.query.clone(), after: last };
        URL_SAFE_NO_PAD.encode(token.encode_to_vec())
    }

    /// Fills a page, which ends early rather than grow too large for a message. `next_after` is where
    /// the source says that the next page begins, if it knows of one; `key` is an item's place.
    pub(in crate::rpc) fn page<T: Message>(
        &self,
        items: impl IntoIterator<Item = T>,
        next_after: Option<String>,
        key: impl Fn(&T) -> String,
    ) -> Page<T> {
        let mut page = Page { items: Vec::new(), next_page_token: String::new() };
        let mut bytes = 0;
        for item in items {
            // A length-delimited field has at most five bytes of key and length before it.
            bytes += item.encoded_len() + 5;
            let full = page.items.len() == self.size || bytes > PAGE_BYTES_MAX;
            if let (true, Some(last)) = (full, page.items.last()) {
                page.next_page_token = self.token(key(last));
                return page;
            }
            page.items.push(item);
        }
        page.next_page_token = next_after.map_or_else(String::new, |last| self.token(last));
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::api;

    fn query(of: &str, size: i32, token: &str) -> (PageQuery, bool) {
        let mut fields = Fields::default();
        let request = api::ListSessionsRequest { parent: of.to_owned(), ..Default::default() };
        let query = PageQuery::parse("ListSessions", &request, size, token, &mut fields);
        (query, fields.bad.is_empty())
    }

    #[test]
    fn a_page_size_has_a_default_and_a_limit() {
        for (asked, given) in [(0, 100), (1, 1), (1_000, 1_000), (1_001, 1_000), (i32::MAX, 1_000)]
        {
            let (query, fine) = query("instances/main", asked, "");
            assert!(fine);
            assert_eq!(query.size, given);
        }
        assert!(!query("instances/main", -1, "").1);
    }

    #[test]
    fn a_token_goes_on_with_its_own_list_only() {
        let token = query("instances/main", 1, "").0.token("7".to_owned());
        assert_eq!(query("instances/main", 5, &token).0.after.as_deref(), Some("7"));
        assert!(!query("instances/other", 5, &token).1);
        for foreign in ["x", "AAAA", &token[1..], &format!("{token}AA"), "ü"] {
            assert!(!query("instances/main", 5, foreign).1, "{foreign}");
        }
    }

    #[test]
    fn a_page_ends_before_the_message_is_too_large() {
        let (query, _) = query("instances/main", 1_000, "");
        let big = api::Session { name: "x".repeat(400_000), ..Default::default() };
        let page = query.page(vec![big; 4], None, |session| session.name.len().to_string());
        assert_eq!(page.items.len(), 2);
        assert!(!page.next_page_token.is_empty());
    }

    #[test]
    fn the_last_page_has_no_token() {
        let (query, _) = query("instances/main", 2, "");
        let one = api::Session::default();
        let key = |_: &api::Session| "k".to_owned();
        assert!(query.page(vec![one.clone(); 2], None, key).next_page_token.is_empty());
        assert!(!query.page(vec![one.clone(); 3], None, key).next_page_token.is_empty());
        assert!(!query.page(vec![one; 1], Some("9".into()), key).next_page_token.is_empty());
    }
}
