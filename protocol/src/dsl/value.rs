//! Values that stand literally in a law, and their texts: as Ruby prints them, as JSON, and as source again.

use std::fmt::{self, Write as _};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Number, Value, json};

/// A value written out in the source.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Literal {
    /// `nil`, and what was not given.
    #[default]
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that JSON can hold.
    Integer(Number),
    /// A finite number with a point.
    Float(f64),
    /// `"text"`
    Text(String),
    /// `:symbol`
    Symbol(String),
    /// `[1, 2]`
    Array(Vec<Literal>),
    /// `{ key: 1 }`, in the order written.
    Map(Vec<(Literal, Literal)>),
    /// `1..5`, or `1...5` without its end.
    Range {
        /// Where it begins.
        from: Box<Literal>,
        /// Where it ends.
        to: Box<Literal>,
        /// Whether the end is left out.
        exclusive: bool,
    },
}

impl Literal {
    /// A whole number; nothing if JSON cannot hold it.
    pub fn integer(value: i128) -> Option<Self> {
        Number::from_i128(value).map(Self::Integer)
    }

    /// The text of a string or symbol.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Symbol(text) => Some(text),
            _ => None,
        }
    }

    /// Whether Ruby takes it for true: everything but `nil` and `false`.
    pub fn is_truthy(&self) -> bool {
        !matches!(self, Self::Nil | Self::Bool(false))
    }

    /// The JSON that the reference makes of it: symbols become texts, so there is no way back.
    pub fn reference_json(&self) -> Value {
        match self {
            Self::Nil => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Integer(number) => Value::Number(number.clone()),
            Self::Float(value) => json!(value),
            Self::Text(text) | Self::Symbol(text) => Value::from(text.as_str()),
            Self::Array(items) => items.iter().map(Self::reference_json).collect(),
            Self::Map(pairs) => {
                let pairs = pairs.iter();
                let pairs = pairs.map(|(key, value)| (key.to_string(), value.reference_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
            Self::Range { .. } => Value::from(self.to_string()),
        }
    }

    /// How Ruby 3.1 shows it within other values; also valid source.
    pub fn inspect(&self) -> String {
        match self {
            Self::Nil => "nil".to_owned(),
            Self::Text(text) => quoted(text),
            Self::Symbol(name) if is_plain_symbol(name) => format!(":{name}"),
            Self::Symbol(name) => format!(":{}", quoted(name)),
            Self::Array(items) => {
                let items: Vec<_> = items.iter().map(Self::inspect).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Map(pairs) => {
                let pairs = pairs.iter();
                let pairs = pairs.map(|(k, v)| format!("{}=>{}", k.inspect(), v.inspect()));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
            }
            Self::Range {
                from,
                to,
                exclusive,
            } => range(from.inspect(), to.inspect(), *exclusive),
            other => other.to_string(),
        }
    }

    /// The value as source on one line.
    pub fn source(&self) -> String {
        match self {
            Self::Array(items) => {
                let items: Vec<_> = items.iter().map(Self::source).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Map(pairs) if pairs.is_empty() => "{}".to_owned(),
            Self::Map(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| match key {
                    Self::Symbol(name) => format!("{} {}", keyword(name), value.source()),
                    key => format!("{} => {}", key.source(), value.source()),
                });
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            }
            Self::Range {
                from,
                to,
                exclusive,
            } => format!("({})", range(from.source(), to.source(), *exclusive)),
            other => other.inspect(),
        }
    }
}

fn range(from: String, to: String, exclusive: bool) -> String {
    format!("{from}{}{to}", if exclusive { "..." } else { ".." })
}

/// Ruby's `to_s`.
impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => Ok(()),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(value) => f.write_str(&float(*value)),
            Self::Text(text) | Self::Symbol(text) => f.write_str(text),
            Self::Array(_) | Self::Map(_) => f.write_str(&self.inspect()),
            Self::Range {
                from,
                to,
                exclusive,
            } => f.write_str(&range(from.to_string(), to.to_string(), *exclusive)),
        }
    }
}

/// A number as Ruby prints it: the shortest digits that give it back, with an exponent where it is very small or large.
fn float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}{point}e{sign}{exponent:0>2}");
    }
    format!("{value:?}")
}

/// `text` between double quotes, with everything escaped that would not stand for itself.
pub(super) fn quoted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('"');
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' | '\\' => shown.extend(['\\', c]),
            '#' if matches!(rest.peek(), Some('{' | '$' | '@')) => shown.push_str("\\#"),
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            '\u{7}' => shown.push_str("\\a"),
            '\u{8}' => shown.push_str("\\b"),
            '\u{b}' => shown.push_str("\\v"),
            '\u{c}' => shown.push_str("\\f"),
            '\u{1b}' => shown.push_str("\\e"),
            '\u{7f}' => shown.push_str("\\x7F"),
            c if c.is_control() => {
                // Writing to a text never fails.
                let _ = write!(shown, "\\u{:04X}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown.push('"');
    shown
}

/// Whether `:name` needs no quotes.
fn is_plain_symbol(name: &str) -> bool {
    let stem = name
        .strip_suffix(['?', '!', '='])
        .filter(|stem| !stem.is_empty())
        .unwrap_or(name);
    is_word(stem)
}

/// Letters, digits and `_`, with no digit in front.
pub(super) fn is_word(text: &str) -> bool {
    let part = |c: char| c == '_' || c.is_ascii_alphanumeric() || c.is_alphanumeric();
    text.starts_with(|c: char| part(c) && !c.is_numeric()) && text.chars().all(part)
}

/// `name` as the key of a keyword argument, with its colon.
pub(super) fn keyword(name: &str) -> String {
    match is_word(name) {
        true => format!("{name}:"),
        false => format!("{}:", quoted(name)),
    }
}

/// What tags a symbol in JSON.
const SYMBOL: &str = "$sym";
/// What tags a map.
const MAP: &str = "$map";
/// What tags a range.
const RANGE: &str = "$range";
/// What tags a range without its end.
const RANGE_EXCLUSIVE: &str = "$range_exclusive";

/// The JSON from which the same value can be read: `{"$sym": "a"}`, `{"$map": [[k, v]]}`, `{"$range": [1, 5]}`, and
/// plain JSON for everything else.
impl Serialize for Literal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(number) => number.serialize(serializer),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Symbol(name) => serializer.collect_map([(SYMBOL, name)]),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Map(pairs) => serializer.collect_map([(MAP, pairs)]),
            Self::Range {
                from,
                to,
                exclusive,
            } => {
                let tag = if *exclusive { RANGE_EXCLUSIVE } else { RANGE };
                serializer.collect_map([(tag, [from, to])])
            }
        }
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The depth is bounded by the parser of JSON.
        untagged(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn untagged(value: Value) -> Result<Literal, String> {
    Ok(match value {
        Value::Null => Literal::Nil,
        Value::Bool(value) => Literal::Bool(value),
        Value::Number(number) if number.is_f64() => {
            let value = number.as_f64().filter(|value| value.is_finite());
            Literal::Float(value.ok_or("a number is too large")?)
        }
        Value::Number(number) => Literal::Integer(number),
        Value::String(text) => Literal::Text(text),
        Value::Array(items) => {
            Literal::Array(items.into_iter().map(untagged).collect::<Result<_, _>>()?)
        }
        Value::Object(members) => {
            let mut members = members.into_iter();
            let (Some((tag, value)), None) = (members.next(), members.next()) else {
                return Err("an object must have one of the tags for values".to_owned());
            };
            tagged(&tag, value)?
        }
    })
}

fn tagged(tag: &str, value: Value) -> Result<Literal, String> {
    Ok(match (tag, value) {
        (SYMBOL, Value::String(name)) => Literal::Symbol(name),
        (MAP, Value::Array(pairs)) => {
            let pairs = pairs.into_iter().map(|pair| {
                let (key, value) = two(pair)?;
                Ok::<_, String>((untagged(key)?, untagged(value)?))
            });
            Literal::Map(pairs.collect::<Result<_, _>>()?)
        }
        (RANGE | RANGE_EXCLUSIVE, ends) => {
            let (from, to) = two(ends)?;
            Literal::Range {
                from: Box::new(untagged(from)?),
                to: Box::new(untagged(to)?),
                exclusive: tag == RANGE_EXCLUSIVE,
            }
        }
        (tag, _) => return Err(format!("`{tag}` tags no value here")),
    })
}

fn two(pair: Value) -> Result<(Value, Value), String> {
    let Value::Array(items) = pair else {
        return Err("a pair must be a list of two".to_owned());
    };
    let [first, second] = <[Value; 2]>::try_from(items).map_err(|_| "a pair must have two")?;
    Ok((first, second))
}
