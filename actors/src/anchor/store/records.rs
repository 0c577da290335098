//! Records by their names, in the order in which they came.
//!
//! There may be very many, and few are ever looked at, so each is kept as its text: its members as values would take
//! seven times as much.

use indexmap::IndexMap;
use serde_json::{Map, Value};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Records(IndexMap<Box<str>, Box<str>>);

impl Records {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<Value> {
        self.0.get(name).map(|text| read(text))
    }

    /// Puts a record in; one that has its name gives way, and leaves its place in the order.
    pub(super) fn insert(&mut self, name: String, record: &Value) {
        self.0.insert(name.into(), record.to_string().into());
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Value)> {
        let all = self.0.iter();
        all.map(|(name, text)| (&**name, read(text)))
    }

    /// All of them, as members of one object.
    pub(super) fn to_map(&self) -> Map<String, Value> {
        let all = self.iter();
        all.map(|(name, record)| (name.to_owned(), record))
            .collect()
    }
}

/// Reads what was written from a value, so there is nothing that it cannot read.
fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_come_back_as_they_were_and_in_order() {
        let mut records = Records::default();
        let values = [
            json!({"b": 1.1e-7, "a": [null, "\u{e9}\n"]}),
            json!(7),
            json!({"z": 18_446_744_073_709_551_615_u64}),
        ];
        for (name, value) in ["one", "two", "three"].into_iter().zip(&values) {
            records.insert(name.to_owned(), value);
        }
        records.insert("two".to_owned(), &json!("again"));
        let expected = json!({"one": values[0], "two": "again", "three": values[2]});
        assert_eq!(
            Value::Object(records.to_map()).to_string(),
            expected.to_string()
        );
        assert_eq!(
            (
                records.len(),
                records.contains("two"),
                records.contains("four")
            ),
            (3, true, false)
        );
        assert_eq!(
            (records.get("one"), records.get("four")),
            (Some(values[0].clone()), None)
        );
    }
}
