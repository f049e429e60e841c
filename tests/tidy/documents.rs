//! Links between the documents lead somewhere.

use crate::checkout::Checkout;

fn dead_links(checkout: &Checkout) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in checkout.ending(".md") {
        let outside = ["http:", "https:", "mailto:"];
        for link in links(text).filter(|link| !outside.iter().any(|scheme| link.starts_with(scheme))) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.to_string() } else { resolve(path, file) };
            let there = checkout.has(&target);
            let named = anchor.is_empty()
                || checkout.text(&target).unwrap_or_default().lines().any(|line| slug(line) == anchor);
            if !(there && named) {
                faults.push(format!("{path}: the link {link} leads nowhere"));
            }
        }
    }
    faults
}

/// The targets of all links in a page, except in blocks of code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("\n```").step_by(2);
    prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
}

/// A path as it stands in the page `from`, relative to the top.
fn resolve(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What a link to this heading says after the `#`; a line that is no heading gives nothing that a link can say.
fn slug(line: &str) -> String {
    let Some(title) = line.strip_prefix('#').map(|line| line.trim_start_matches('#').trim()) else { return "#".into() };
    let kept = title.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

mod tests {
    use super::*;
    use crate::checkout::assert_kept;

    #[test]
    fn links_between_documents_lead_somewhere() {
        assert_kept(dead_links(&Checkout::here()));
    }

    #[test]
    fn a_link_to_a_missing_page_or_heading_is_found() {
        let page = "[a](b.md) [a](./b.md#one-two) [a](../docs/) [a](#here) [a](https://example.org)\n# Here\n\
                    ```\n[a](in-code.md)\n```\n[a](c.md) [a](b.md#three)\n";
        let faults = dead_links(&Checkout::of(&[("docs/a.md", page), ("docs/b.md", "## One, two\n")]));
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
