//! JSON Schemas of what tools take and give, in the plain form that every client reads.
//!
//! Clients differ in what they understand: some refuse references, some boolean schemas, some a list of types. So a
//! schema is written out in full, an argument that may be left out has one type, and formats that only Rust knows
//! are gone.

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// What a tool takes: an object, nothing beside its members.
pub(super) fn of_input<T: JsonSchema>() -> Arc<JsonObject> {
    let settings = SchemaSettings::draft2020_12();
    let mut schema = plain::<T>(settings);
    schema
        .entry("properties")
        .or_insert_with(|| Map::new().into());
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    let mut schema = Value::Object(schema);
    without_null(&mut schema);
    object(schema)
}

/// What a tool gives.
pub(super) fn of_output<T: JsonSchema>() -> Arc<JsonObject> {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = plain::<T>(settings);
    schema
        .entry("properties")
        .or_insert_with(|| Map::new().into());
    object(Value::Object(schema))
}

fn plain<T: JsonSchema>(settings: SchemaSettings) -> JsonObject {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    tidy(&mut schema);
    let Value::Object(mut schema) = schema else {
        return JsonObject::new();
    };
    for told_elsewhere in ["title", "description"] {
        schema.remove(told_elsewhere);
    }
    schema
}

fn object(schema: Value) -> Arc<JsonObject> {
    match schema {
        Value::Object(schema) => Arc::new(schema),
        _ => Arc::default(),
    }
}

/// Takes away titles of types and formats of numbers, and writes schemas that are only `true` as objects.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Bool(true) => *schema = Value::Object(Map::new()),
        Value::Object(members) => {
            let is_number = |format: &Value| {
                format.as_str().is_some_and(|format| {
                    format.starts_with("uint")
                        || format.starts_with("int")
                        || matches!(format, "double" | "float")
                })
            };
            if members.get("format").is_some_and(is_number) {
                members.remove("format");
            }
            for (name, member) in members.iter_mut() {
                match (name.as_str(), member) {
                    ("properties" | "$defs" | "patternProperties", Value::Object(of)) => {
                        of.values_mut().for_each(tidy);
                    }
                    ("items" | "additionalProperties", member) if !member.is_boolean() => {
                        tidy(member)
                    }
                    ("items", member) => tidy(member),
                    ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(of)) => {
                        of.iter_mut().for_each(tidy)
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// An argument that may be left out is left out, not null; a parser that takes null all the same does no harm.
fn without_null(schema: &mut Value) {
    let Value::Object(members) = schema else {
        return;
    };
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            members.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(values)) = members.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(of)) = members.get_mut("anyOf") {
        of.retain(|one| one.get("type").is_none_or(|one| one != "null"));
        if of.len() == 1
            && let Some(Value::Object(only)) = of.pop()
        {
            members.remove("anyOf");
            for (name, member) in only {
                members.entry(name).or_insert(member);
            }
        }
    }
    if members.get("default").is_some_and(Value::is_null) {
        members.remove("default");
    }
    for (name, member) in members.iter_mut() {
        match (name.as_str(), member) {
            ("properties", Value::Object(of)) => of.values_mut().for_each(without_null),
            ("items", member) => without_null(member),
            ("anyOf" | "oneOf", Value::Array(of)) => of.iter_mut().for_each(without_null),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Deserialize, Serialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        Red,
        Green,
    }

    /// Told elsewhere.
    #[derive(Deserialize, Serialize, JsonSchema)]
    struct Params {
        /// How many.
        limit: Option<u64>,
        colour: Option<Colour>,
        names: Vec<String>,
        anything: Value,
    }

    #[test]
    fn an_argument_has_one_type() {
        let schema = Value::Object((*of_input::<Params>()).clone());
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "limit": {"description": "How many.", "type": "integer", "minimum": 0},
                    "colour": {"type": "string", "enum": ["red", "green"]},
                    "names": {"type": "array", "items": {"type": "string"}},
                    "anything": {},
                },
                "required": ["names", "anything"],
                "additionalProperties": false,
            })
        );
    }

    #[test]
    fn an_output_tells_what_may_be_null() {
        let schema = Value::Object((*of_output::<Params>()).clone());
        assert_eq!(
            schema["properties"]["limit"]["type"],
            json!(["integer", "null"])
        );
        assert_eq!(schema["properties"]["anything"], json!({}));
        assert_eq!(
            schema["required"],
            json!(["limit", "colour", "names", "anything"])
        );
    }
}
