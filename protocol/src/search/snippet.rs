//! A line of a text around a place.

/// Longest snippet in characters, without the dots around it.
pub const SNIPPET_CHARS: usize = 160;
/// How many of them stand before the place.
const BEFORE: usize = 40;
/// Most bytes that are looked at before and behind the place.
const WINDOW: usize = 4 * SNIPPET_CHARS;

/// The text around the byte `at`, on one line, with dots where it was cut.
///
/// The text may have changed since the place was found: any place will do.
pub fn snippet(text: &str, at: usize) -> String {
    let at = boundary(text, at.min(text.len()));
    let (head, tail) = text.split_at(at);
    let head = head
        .get(boundary(head, head.len().saturating_sub(WINDOW))..)
        .unwrap_or_default();
    let tail = tail
        .get(..boundary(tail, WINDOW.min(tail.len())))
        .unwrap_or_default();

    let begins = head
        .chars()
        .rev()
        .take(BEFORE)
        .map(char::len_utf8)
        .sum::<usize>();
    let before = head.get(head.len() - begins..).unwrap_or_default();
    // Not in the middle of a word, unless the word is all there is.
    let before = match before.len() == at {
        true => before,
        false => before
            .split_once(char::is_whitespace)
            .map_or(before, |(_, rest)| rest),
    };
    let mut line = String::with_capacity(SNIPPET_CHARS + 8);
    if before.len() < at {
        line.push('…');
    }
    let mut chars = 0;
    let mut taken = 0;
    let mut spaced = true;
    for c in before.chars().chain(tail.chars()) {
        if chars == SNIPPET_CHARS {
            break;
        }
        taken += c.len_utf8();
        let blank = c.is_whitespace() || c.is_control();
        if blank && spaced {
            continue;
        }
        line.push(if blank { ' ' } else { c });
        spaced = blank;
        chars += 1;
    }
    let line_end = line.trim_end().len();
    line.truncate(line_end);
    if taken + at - before.len() < text.trim_end().len() {
        line.push('…');
    }
    line
}

/// The last boundary of a character at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shows_the_place_on_one_line() {
        assert_eq!(
            snippet("# Tea\n\nWarm  the pot.\n", 7),
            "# Tea Warm the pot."
        );
        let long = format!("{}needle {}", "hay ".repeat(100), "straw ".repeat(100));
        let shown = snippet(&long, 400);
        assert!(
            shown.starts_with("…hay ") && shown.ends_with('…'),
            "{shown}"
        );
        assert!(shown.contains("needle straw"), "{shown}");
        assert_eq!(snippet("", 9), "");
    }

    proptest! {
        #[test]
        fn any_place_of_any_text_gives_a_short_line(text in "(\\PC|\\n| |[a-z]){0,400}", at in 0_usize..2_000) {
            let line = snippet(&text, at);
            prop_assert!(line.chars().count() <= SNIPPET_CHARS + 2);
            prop_assert!(!line.contains('\n'));
        }
    }
}
