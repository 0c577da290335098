//! Query strings as the reference reads them: form decoding, `&` only, the last duplicate wins.

/// The last value of `name`; a parameter without `=` has none.
pub(super) fn param(query: &str, name: &str) -> Option<String> {
    let wanted = |pair: &&str| {
        pair.split_once('=')
            .is_some_and(|(key, _)| decoded(key) == name)
    };
    let (_, value) = query.split('&').rfind(wanted)?.split_once('=')?;
    Some(decoded(value))
}

/// A number as the reference reads it: what leads the text, 0 if nothing does or it is below 0; never too large.
pub(super) fn count(text: &str) -> usize {
    let text = text.trim_start();
    let digits = text.strip_prefix('+').unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit());
    let digits = digits
        .get(..end.unwrap_or(digits.len()))
        .unwrap_or_default();
    match digits.parse() {
        Ok(count) => count,
        Err(_) if digits.is_empty() => 0,
        Err(_) => usize::MAX,
    }
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decoded(&spaced)
}

/// Decodes `%XX`; what is not one stays, and bytes that are not UTF-8 become replacement characters.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let mut byte = [0];
        match tail.get(..2) {
            Some(digits) if *first == b'%' && hex::decode_to_slice(digits, &mut byte).is_ok() => {
                bytes.extend_from_slice(&byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_as_the_reference_does() {
        for (text, number) in [
            ("7", 7),
            (" +7x", 7),
            ("-1", 0),
            ("", 0),
            ("x", 0),
            ("1e3", 1),
            ("99999999999999999999999", usize::MAX),
        ] {
            assert_eq!(count(text), number, "{text}");
        }
    }

    #[test]
    fn reads_parameters_as_the_reference_does() {
        for (query, value) in [
            ("skill_id=a", Some("a")),
            ("skill_id=", Some("")),
            ("skill_id=nope&skill_id=b", Some("b")),
            ("skill_id=a+b%2Fc%C3%A9", Some("a b/cé")),
            ("skill_id=%zz", Some("%zz")),
            ("skill_id=%ff", Some("\u{fffd}")),
            ("x=1;skill_id=a", None),
            ("skill_id", None),
            ("", None),
        ] {
            assert_eq!(param(query, "skill_id").as_deref(), value, "{query}");
        }
    }
}
