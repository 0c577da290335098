//! The one JSON text that is hashed and signed, and the one way JSON from strangers is read.
//!
//! The reference signs compact JSON whose member order depends on the version of its JSON library: as received
//! before 2.21.0, sorted from then on. Order therefore survives parsing here, and [`signing_texts`] offers every
//! text a peer may have signed. Strings escape `"`, `\` and what is below U+0020, with the short forms of
//! `\b \f \n \r \t`; everything else stays raw, which is what `serde_json` writes.

use serde_json::{Map, Number, Value};
use thiserror::Error;

/// Deepest nesting accepted, the bound of the reference.
pub const MAX_DEPTH: usize = 100;

/// Why bytes are not acceptable JSON.
#[derive(Debug, Error)]
pub enum JsonError {
    /// Not UTF-8.
    #[error("the text is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Offset of the first bad byte.
        at: usize,
    },
    /// Not JSON.
    #[error("the text is not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the JSON is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// JSON, but not an object.
    #[error("the JSON is {found}, an object is expected")]
    NotAnObject {
        /// What was found instead.
        found: &'static str,
    },
}

/// Parses JSON from a stranger: UTF-8, no comments, bounded depth; the last of duplicate keys wins, in the place
/// of the first.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|e| JsonError::NotUtf8 {
        at: e.valid_up_to(),
    })?;
    let value = serde_json::from_str(text)?;
    if depth_exceeds(&value, MAX_DEPTH) {
        Err(JsonError::TooDeep)
    } else {
        Ok(value)
    }
}

/// Parses JSON that must be an object.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    match parse(bytes)? {
        Value::Object(members) => Ok(members),
        other => Err(JsonError::NotAnObject {
            found: kind(&other),
        }),
    }
}

/// What a value is, in words for an error text.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn depth_exceeds(value: &Value, limit: usize) -> bool {
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(|v| depth_exceeds(v, limit - 1)),
        Value::Object(members) => {
            limit == 0 || members.values().any(|v| depth_exceeds(v, limit - 1))
        }
        _ => false,
    }
}

/// The value with the members of every object sorted by name, bytewise.
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Object(members) => {
            let mut names: Vec<_> = members.iter().collect();
            names.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            Value::Object(
                names
                    .into_iter()
                    .map(|(k, v)| (k.clone(), sorted(v)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

/// The compact text of `value` with its members sorted: what this node signs.
pub fn canonical(value: &Value) -> String {
    compact(&sorted(value), Floats::Plain)
}

/// The texts a peer may have signed for `value`: members as received, then sorted. Floats are written in the two
/// styles of the reference's JSON libraries, so a value that holds one gives up to four texts.
///
/// Made one by one: nearly always the first is the one that was signed.
pub fn signing_texts(value: &Value) -> impl Iterator<Item = String> {
    let mut texts: Vec<String> = Vec::new();
    let styles = [
        (false, Floats::Padded),
        (true, Floats::Padded),
        (false, Floats::Plain),
        (true, Floats::Plain),
    ];
    styles.into_iter().filter_map(move |(in_order, floats)| {
        let text = match in_order {
            true => compact(&sorted(value), floats),
            false => compact(value, floats),
        };
        let is_new = !texts.contains(&text);
        is_new.then(|| {
            texts.push(text.clone());
            text
        })
    })
}

/// The compact text of `value` with its members as they stand and floats as the reference's JSON 2.6.1 writes them:
/// what manifests hash.
pub fn preimage(value: &Value) -> String {
    compact(value, Floats::Padded)
}

/// How a float is written. JSON from 2.6.1 and from 2.21.1 of the reference's library differ.
#[derive(Clone, Copy)]
enum Floats {
    /// `1.0e+20`, `1.0e-05`
    Padded,
    /// `1e+20`, `0.00001`
    Plain,
}

fn compact(value: &Value, floats: Floats) -> String {
    let mut out = String::new();
    write_compact(value, floats, &mut out);
    out
}

fn write_compact(value: &Value, floats: Floats, out: &mut String) {
    match value {
        Value::Number(number) => write_number(number, floats, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_compact(item, floats, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (i, (name, item)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write_compact(item, floats, out);
            }
            out.push('}');
        }
        Value::String(text) => write_string(text, out),
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
    }
}

/// Writes `text` as a JSON string: see the module's rule for escapes.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_number(number: &Number, floats: Floats, out: &mut String) {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => write_float(float, floats, out),
        None => out.push_str(&number.to_string()),
    }
}

/// Writes a finite float with the fewest digits that read back the same.
fn write_float(float: f64, floats: Floats, out: &mut String) {
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific
        .split_once('e')
        .unwrap_or((scientific.as_str(), "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let plain = match floats {
        Floats::Padded => (-4..15).contains(&exponent),
        Floats::Plain => (-6..16).contains(&exponent),
    };
    if float == 0.0 || plain {
        let text = format!("{float}");
        out.push_str(&text);
        if !text.contains('.') {
            out.push_str(".0");
        }
        return;
    }
    out.push_str(digits);
    if matches!(floats, Floats::Padded) {
        if !digits.contains('.') {
            out.push_str(".0");
        }
        out.push_str(&format!(
            "e{}{:02}",
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        ));
    } else {
        out.push_str(&format!(
            "e{}{}",
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        ));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(sent: &str, signed: &str) {
        let texts: Vec<_> = signing_texts(&parse(sent.as_bytes()).unwrap()).collect();
        assert!(
            texts.iter().any(|t| t == signed),
            "{sent} gives {texts:?}, not {signed}"
        );
    }

    #[test]
    fn writes_every_text_the_reference_was_seen_to_sign() {
        check(
            r#"{"b":1,"a":[1,{"z":null}]}"#,
            r#"{"b":1,"a":[1,{"z":null}]}"#,
        );
        check(
            r#"{"b":1,"a":[1,{"z":null,"y":2}]}"#,
            r#"{"a":[1,{"y":2,"z":null}],"b":1}"#,
        );
        check(r#"{ "a" : [ { } , [ ] ] }"#, r#"{"a":[{},[]]}"#);
        check(r#"{"v":"a\/b"}"#, r#"{"v":"a/b"}"#);
        check(
            r#"{"v":"\u0001\b\f\n\r\t\u001f\u007f\u2028\u00dc\ud83d\ude00"}"#,
            "{\"v\":\"\\u0001\\b\\f\\n\\r\\t\\u001f\u{7f}\u{2028}Ü😀\"}",
        );
        check(
            r#"{"id":"1","name":"a","id":"2"}"#,
            r#"{"id":"2","name":"a"}"#,
        );
    }

    #[test]
    fn writes_floats_in_both_styles_of_the_reference() {
        for (sent, padded) in [
            ("1.0", "1.0"),
            ("1e2", "100.0"),
            ("0.00001", "1.0e-05"),
            ("1e20", "1.0e+20"),
            ("-0.0", "-0.0"),
            ("0.1000000000000000055511151231257827", "0.1"),
            ("1e16", "1.0e+16"),
            ("1e15", "1.0e+15"),
            ("1e14", "100000000000000.0"),
            ("0.0001", "0.0001"),
            ("1.5e300", "1.5e+300"),
        ] {
            check(sent, padded);
        }
        // The nearest float, not one beside it.
        check("1.1844674407370955e20", "1.1844674407370955e+20");
        check("1e20", "1e+20");
        check("0.00001", "0.00001");
    }

    #[test]
    fn refuses_what_is_not_plain_bounded_json() {
        for bad in [
            &b"\xff{}"[..],
            b"{/* */}",
            b"{\"a\":NaN}",
            b"\xef\xbb\xbf{}",
            b"{} x",
            b"",
            b"{\"a\":\"\\ud800\"}",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(100).as_bytes()).is_ok());
        assert!(matches!(
            parse(nested(101).as_bytes()),
            Err(JsonError::TooDeep)
        ));
        assert!(parse(nested(100_000).as_bytes()).is_err());
        assert_eq!(
            parse_object(b"[1]").unwrap_err().to_string(),
            "the JSON is an array, an object is expected"
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_signed_parses_back_to_what_was_meant(value in any_json()) {
            prop_assert_eq!(&parse(canonical(&value).as_bytes()).unwrap(), &sorted(&value));
            prop_assert_eq!(compact(&value, Floats::Padded), serde_json::to_string(&value).unwrap());
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_float_reads_back_the_same(float in any::<f64>().prop_filter("finite", |f| f.is_finite())) {
            for style in [Floats::Padded, Floats::Plain] {
                let mut text = String::new();
                write_float(float, style, &mut text);
                prop_assert_eq!(text.parse::<f64>().unwrap(), float);
            }
        }
    }
}
