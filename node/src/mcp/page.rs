//! Long lists, a page at a time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rmcp::ErrorData;
use rmcp::model::PaginatedRequestParams;

/// Most items on a page.
pub(super) const PAGE: usize = 100;
/// Longest cursor that is looked at.
const CURSOR_MAX: usize = 1_024;

/// A page of items and the cursor of the next one. A cursor names the last item of the page before it, so items that
/// come and go meanwhile shift nothing.
pub(super) fn page<T>(
    items: Vec<T>,
    asked: Option<&PaginatedRequestParams>,
    key: impl Fn(&T) -> &str,
) -> Result<(Vec<T>, Option<String>), ErrorData> {
    let after = asked.and_then(|asked| asked.cursor.as_deref());
    let after = after.map(read).transpose()?;
    let start = match after {
        None => 0,
        Some(after) => {
            let found = items.iter().position(|item| key(item) == after);
            found.map(|at| at + 1).ok_or_else(unknown)?
        }
    };
    let more = items.len() > start + PAGE;
    let items: Vec<_> = items.into_iter().skip(start).take(PAGE).collect();
    let next = items.last().filter(|_| more);
    let next = next.map(|last| URL_SAFE_NO_PAD.encode(key(last)));
    Ok((items, next))
}

fn read(cursor: &str) -> Result<String, ErrorData> {
    let bytes = match cursor.len() <= CURSOR_MAX {
        true => URL_SAFE_NO_PAD.decode(cursor).map_err(|_| unknown())?,
        false => return Err(unknown()),
    };
    String::from_utf8(bytes).map_err(|_| unknown())
}

fn unknown() -> ErrorData {
    ErrorData::invalid_params("the cursor leads nowhere; begin again without one", None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(cursor: &str) -> PaginatedRequestParams {
        PaginatedRequestParams::default().with_cursor(Some(cursor.to_owned()))
    }

    #[test]
    fn pages_hold_every_item_once() {
        let all: Vec<String> = (0..PAGE * 2 + 7).map(|n| format!("{n:04}")).collect();
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..4 {
            let asked = cursor.as_deref().map(asked);
            let (items, next) = page(all.clone(), asked.as_ref(), |item| item).unwrap();
            seen.extend(items);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_cursor_of_nobody_is_refused() {
        let items = || vec!["a".to_owned()];
        for cursor in ["", "%", "YWJj", &"Y".repeat(CURSOR_MAX + 1)] {
            let error = page(items(), Some(&asked(cursor)), |item| item).unwrap_err();
            assert_eq!(error.code.0, -32602, "{cursor}");
        }
    }
}
