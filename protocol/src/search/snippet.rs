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
    let mut line = String::with_capacity(2 * SNIPPET_CHARS);
    let begin = at - before.len();
    if begin > 0 {
        line.push('…');
    }
    let blank = |c: char| c.is_whitespace() || c.is_control();
    let window = text.get(begin..at + tail.len()).unwrap_or_default();
    let (mut room, mut end) = (SNIPPET_CHARS, begin);
    let mut rest = window;
    while room > 0 {
        let word = rest.trim_start_matches(blank);
        if word.is_empty() {
            break;
        }
        let after = word.find(blank).unwrap_or(word.len());
        let (word, behind) = word.split_at(after);
        // Between words one blank, whatever stood there.
        if end > begin {
            line.push(' ');
            room -= 1;
        }
        let cut = word.char_indices().nth(room).map(|(cut, _)| cut);
        let shown = word.get(..cut.unwrap_or(word.len())).unwrap_or_default();
        line.push_str(shown);
        room -= shown.chars().count().min(room);
        end = begin + window.len() - behind.len() - (word.len() - shown.len());
        rest = behind;
    }
    let line_end = line.trim_end().len();
    line.truncate(line_end);
    if end < text.trim_end().len() {
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
