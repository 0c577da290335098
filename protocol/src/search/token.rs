//! Words of a text: runs of letters, marks and digits, folded so that spellings meet.
//!
//! Case, compatibility forms (full width, ligatures) and the accents that Unicode encodes as combining diacritics are
//! folded away. Scripts that do not separate words are cut into overlapping pairs of characters, and for a document
//! also into single ones, so that a query of one character finds something too.

use std::sync::LazyLock;

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use regex::Regex;

/// Longest word in bytes; of a longer one the beginning counts.
pub(super) const WORD_BYTES_MAX: usize = 64;

/// Letters, marks, digits; not the underscore, which separates the words of a name.
static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\w--_]+").ok());

/// Hands each word of a document to `emit`, with its offset in bytes, until that says to stop.
pub(super) fn words(text: &str, mut emit: impl FnMut(usize, &str) -> bool) {
    runs(text, |offset, run, is_dense| match is_dense {
        false => emit(offset, &fold(run)),
        true => {
            let mut before: Option<(usize, char)> = None;
            run.char_indices().all(|(at, c)| {
                let paired = before
                    .replace((at, c))
                    .is_none_or(|(from, first)| emit(offset + from, pair(&mut [0; 8], first, c)));
                paired && emit(offset + at, c.encode_utf8(&mut [0; 4]))
            })
        }
    });
}

/// Hands each word of a query to `emit`: of a dense run the pairs only, unless it is one character.
pub(super) fn query_words(text: &str, mut emit: impl FnMut(&str)) {
    runs(text, |_, run, is_dense| {
        let mut chars = run.chars();
        if is_dense && run.chars().nth(1).is_some() {
            let mut first = chars.next();
            for c in chars {
                if let Some(first) = first.replace(c) {
                    emit(pair(&mut [0; 8], first, c));
                }
            }
        } else {
            emit(&fold(run));
        }
        true
    });
}

/// Two characters as one text.
fn pair(room: &mut [u8; 8], first: char, second: char) -> &str {
    let length = first.len_utf8();
    let (head, tail) = room.split_at_mut(length);
    first.encode_utf8(head);
    let end = length + second.encode_utf8(tail).len();
    room.get(..end)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .unwrap_or_default()
}

/// Hands each run of word characters to `seen`, cut where dense script begins or ends.
fn runs(text: &str, mut seen: impl FnMut(usize, &str, bool) -> bool) {
    let Some(word) = WORD.as_ref() else { return };
    for found in word.find_iter(text) {
        let mut rest = found.as_str();
        let mut offset = found.start();
        while let Some(first) = rest.chars().next() {
            let dense = is_dense(first);
            let end = rest.find(|c| is_dense(c) != dense).unwrap_or(rest.len());
            let (run, tail) = rest.split_at(end);
            if !seen(offset, run, dense) {
                return;
            }
            offset += end;
            rest = tail;
        }
    }
}

/// Whether words of this script are written without spaces between them.
fn is_dense(c: char) -> bool {
    matches!(c,
        '\u{e00}'..='\u{eff}'        // Thai, Lao
        | '\u{1000}'..='\u{109f}'    // Myanmar
        | '\u{1780}'..='\u{17ff}'    // Khmer
        | '\u{3040}'..='\u{30ff}'    // Hiragana, Katakana
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'    // Han
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}'    // Hangul
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

/// The form under which a word is kept.
fn fold(word: &str) -> String {
    if word.is_ascii() {
        return cut(word.to_ascii_lowercase());
    }
    // No longer than what can come of a word that is cut anyway.
    let word: String = word.chars().take(WORD_BYTES_MAX).collect();
    let apart = DecomposingNormalizerBorrowed::new_nfkd();
    let bare = apart
        .normalize_iter(word.chars())
        .filter(|c| !matches!(c, '\u{300}'..='\u{36f}'));
    let lower: String = bare.flat_map(char::to_lowercase).collect();
    cut(ComposingNormalizerBorrowed::new_nfc()
        .normalize(&lower)
        .into_owned())
}

fn cut(mut word: String) -> String {
    if word.len() > WORD_BYTES_MAX {
        let end = (0..=WORD_BYTES_MAX)
            .rev()
            .find(|at| word.is_char_boundary(*at));
        word.truncate(end.unwrap_or(0));
    }
    word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        words(text, |at, word| {
            found.push((at, word.to_owned()));
            true
        });
        found
    }

    fn asked(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        query_words(text, |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn words_of_many_scripts_meet_their_other_spellings() {
        for (text, words) in [
            ("Warm the_pot-2x!", &["warm", "the", "pot", "2x"][..]),
            ("CAFÉ café cafe\u{301}", &["cafe", "cafe", "cafe"]),
            ("ＦＵＬＬ ﬁne", &["full", "fine"]),
            ("Straße ÅNGSTRÖM", &["straße", "angstrom"]),
            ("हिन्दी", &["हिन्दी"]),
            ("Ёлка", &["елка"]),
            (".*+?^${}()|[]\\", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> = of(text).into_iter().map(|(_, word)| word).collect();
            assert_eq!(found, words, "{text}");
            assert_eq!(asked(text), words, "{text}");
        }
    }

    #[test]
    fn dense_scripts_are_cut_into_pairs() {
        let found: Vec<_> = of("お茶v2を").into_iter().collect();
        let expected = [(0, "お"), (0, "お茶"), (3, "茶"), (6, "v2"), (8, "を")];
        let mut found: Vec<_> = found
            .iter()
            .map(|(at, word)| (*at, word.as_str()))
            .collect();
        found.sort_by_key(|(at, word)| (*at, word.len()));
        assert_eq!(found, expected);
        assert_eq!(asked("東京都 茶"), ["東京", "京都", "茶"]);
    }

    #[test]
    fn a_long_word_is_cut_at_a_character() {
        for text in [
            "x".repeat(1_000),
            "é".repeat(1_000),
            "ß".repeat(1_000),
            "ﷺ".repeat(100),
        ] {
            let found = of(&text);
            assert!(
                found.iter().all(|(_, word)| word.len() <= WORD_BYTES_MAX),
                "{text}"
            );
            assert_eq!(asked(&text), [found[0].1.clone()]);
        }
    }

    proptest! {
        #[test]
        fn any_text_has_words_where_it_says(text in "(\\PC|[a-z]|[ -~]|[\u{4e00}-\u{4e20}]){0,60}") {
            for (at, word) in of(&text) {
                prop_assert!(text.is_char_boundary(at) && at < text.len());
                prop_assert!(word.len() <= WORD_BYTES_MAX);
            }
        }
    }
}
