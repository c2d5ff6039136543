//! Following a list from page to page.

use clap::Args;

use super::failure::Failure;

/// The largest page that a server answers.
const PAGE_MAX: u32 = 1_000;

/// How much of a list is wanted.
#[derive(Debug, Args)]
pub(super) struct Limit {
    /// Stop after this many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// What was read of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed<T> {
    /// The items, in the list's order.
    pub(super) items: Vec<T>,
    /// The token that would go on; empty at the end of the list.
    pub(super) next: String,
}

impl Limit {
    /// Asks for page after page (a size and a token) until the list or the wish for more ends.
    pub(super) async fn read<T>(
        &self,
        mut page: impl AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Failure>,
    ) -> Result<Listed<T>, Failure> {
        let mut items = Vec::new();
        let mut next = String::new();
        loop {
            let wanted = match self.limit {
                Some(limit) => limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX)),
                None => PAGE_MAX,
            };
            let size = i32::try_from(wanted.min(PAGE_MAX)).unwrap_or(i32::MAX);
            if size == 0 {
                return Ok(Listed { items, next });
            }
            let (more, after) = page(size, next.clone()).await?;
            items.extend(more);
            if after.is_empty() {
                return Ok(Listed { items, next: after });
            }
            if after == next {
                return Err(Failure::Confused("a page of the list leads to itself"));
            }
            next = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of `len` numbers on a server that answers at most three on a page.
    async fn read(len: usize, limit: Option<u32>) -> (Vec<usize>, String) {
        let listed = Limit { limit }
            .read(async |size, token: String| {
                let from: usize = token.parse().unwrap_or(0);
                let to = len.min(from + usize::try_from(size).unwrap().min(3));
                let next = if to < len { to.to_string() } else { String::new() };
                Ok(((from..to).collect(), next))
            })
            .await
            .unwrap();
        (listed.items, listed.next)
    }

    #[tokio::test]
    async fn all_pages_are_read_in_order() {
        for len in [0, 1, 3, 4, 10] {
            let all = (0..len).collect::<Vec<_>>();
            assert_eq!(read(len, None).await, (all, String::new()));
        }
    }

    #[tokio::test]
    async fn a_limit_ends_exactly_where_the_next_page_would_begin() {
        assert_eq!(read(10, Some(4)).await, ((0..4).collect(), "4".to_owned()));
        assert_eq!(read(4, Some(4)).await, ((0..4).collect(), String::new()));
        assert_eq!(read(2, Some(4)).await, ((0..2).collect(), String::new()));
    }

    #[tokio::test]
    async fn a_page_that_leads_to_itself_ends_the_reading() {
        let listed =
            Limit { limit: None }.read(async |_, _| Ok((vec![0], "again".to_owned()))).await;
        assert!(matches!(listed, Err(Failure::Confused(_))), "{listed:?}");
    }
}
