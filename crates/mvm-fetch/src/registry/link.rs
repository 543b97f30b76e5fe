//! Where a list goes on: the header `Link` (RFC 8288, section 3) as registries use it for pages.

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};

/// Where the next page of a list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At the same place, with another query.
    At(Url),
    /// Somewhere else, where nobody looks for it.
    Elsewhere,
}

/// Returns where the list that `asked` is a page of goes on, if it does.
///
/// Only the query is taken from the header: no registry sends a client to another place in this way.
pub(super) fn next(headers: &HeaderMap, asked: &Url) -> Option<Next> {
    let values = headers.get_all(LINK).into_iter().filter_map(|value| value.to_str().ok());
    let target = values.flat_map(links).find(|(_, is_next)| *is_next)?.0;
    let Ok(target) = asked.join(target) else { return Some(Next::Elsewhere) };
    // The port and scheme may be those that the registry believes to have, behind something else.
    if target.host_str() != asked.host_str() || target.path() != asked.path() {
        return Some(Next::Elsewhere);
    }
    let mut next = asked.clone();
    next.set_query(target.query());
    Some(Next::At(next))
}

/// Returns the targets of a header's links, and whether each leads to the next page.
fn links(value: &str) -> impl Iterator<Item = (&str, bool)> {
    value.split('<').skip(1).filter_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else { return false };
            let mut kinds = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel") && kinds.any(|kind| kind.eq_ignore_ascii_case("next"))
        });
        Some((target, is_next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn links_lead_on_only_where_they_came_from() {
        let asked = Url::parse("https://r.example/v2/a/referrers/sha256:12?n=2").unwrap();
        let at = |query: &str| {
            let mut url = asked.clone();
            url.set_query(Some(query));
            Some(Next::At(url))
        };
        let path = "/v2/a/referrers/sha256:12";
        let table = [
            (format!("<{path}?last=x&n=2>; rel=\"next\""), at("last=x&n=2")),
            ("<?last=x>;rel=next".to_owned(), at("last=x")),
            (format!("<http://r.example:5000{path}?last=x>; rel=\"next\""), at("last=x")),
            (
                format!("<{path}?first>; rel=\"prev\", <{path}?then>; title=\"a\"; REL=\"up Next\""),
                at("then"),
            ),
            (format!("<{path}?first>; rel=\"first\""), None),
            (format!("<https://evil.example{path}?x>; rel=next"), Some(Next::Elsewhere)),
            ("</v2/b/referrers/sha256:12?x>; rel=next".to_owned(), Some(Next::Elsewhere)),
            ("</v2/a/referrers/../../../token?x>; rel=next".to_owned(), Some(Next::Elsewhere)),
            ("<https://[>; rel=next".to_owned(), Some(Next::Elsewhere)),
            ("rel=next".to_owned(), None),
            ("<x".to_owned(), None),
            (String::new(), None),
        ];
        for (header, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::try_from(&header).unwrap());
            assert_eq!(next(&headers, &asked), expected, "{header:?}");
        }
        assert_eq!(next(&HeaderMap::new(), &asked), None);
    }
}
