//! Tools that skills offer: which there are, what they take, and what they answer.
//!
//! Whether any of them may run is not decided here. A tool of another name than its own is never run: whoever lists
//! them beside other tools must leave out those whose names are taken, see [`tools`].

use serde_json::{Map, Value as Json, json};

use super::super::model::{Code, Member, Property, Spanned, Tool};
use super::super::{Keyword, Law, Literal, Skill, Span};
use super::machine::Machine;
use super::value::Value;
use super::{EvalError, Host, Limits};

/// Longest name of a tool.
pub const TOOL_NAME_MAX: usize = 64;
/// Most values that a tool takes.
const PROPERTIES_MAX: usize = 64;
/// The types of values that a tool can take.
const TYPES: [&str; 6] = ["string", "integer", "number", "boolean", "array", "object"];

/// A tool that can be called.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDefinition {
    /// The skill that offers it.
    pub skill: String,
    /// What it is called.
    pub name: String,
    /// What it does.
    pub description: String,
    /// What it takes, as a JSON Schema that allows nothing else.
    pub input_schema: Json,
}

/// A tool that is declared and cannot be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unoffered {
    /// The skill that declares it.
    pub skill: String,
    /// Why it cannot be called, and what to do.
    pub reason: String,
}

/// What came of looking for tools.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Offer {
    /// Those that can be called, in the order of the law.
    pub tools: Vec<ToolDefinition>,
    /// Those that cannot.
    pub unoffered: Vec<Unoffered>,
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolAnswer {
    /// The answer for people: a text as it is, a list or hash as indented JSON, `(no output)` for nil.
    pub text: String,
    /// The answer for programs, if it is a list or hash.
    pub structured: Option<Json>,
}

/// Why a tool gave no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ToolError {
    /// The law offers none of this name.
    #[error("the law offers no tool '{0}'")]
    Unknown(String),
    /// What it was given is not what it takes.
    #[error("the tool '{tool}' {problem}")]
    Arguments {
        /// The tool.
        tool: String,
        /// What is wrong.
        problem: String,
    },
    /// Its code gave no answer.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// The tools of a law. `taken` says which names are others' already; a tool of such a name is not offered.
///
/// As in the reference, a tool without a name is called `skill_ID`, one without a description is described by the
/// title of its skill, and only those with code count. Two of one name are one too many: the first is offered.
pub fn tools(law: &Law, taken: impl Fn(&str) -> bool) -> Offer {
    let mut offer = Offer::default();
    for (at, skill) in law.skills.iter().enumerate() {
        // Of skills with one id, look-ups find the first.
        if law.skills.iter().take(at).any(|first| first.id == skill.id) {
            continue;
        }
        let Some(declared) = declared(skill) else {
            continue;
        };
        let made = match declared.tool.execute {
            Some(_) => definition(skill, declared.tool),
            None => continue,
        };
        let made = made.and_then(|tool| {
            if taken(&tool.name) {
                return Err(format!(
                    "the name `{}` is another tool's; give it its own",
                    tool.name
                ));
            }
            if offer.tools.iter().any(|known| known.name == tool.name) {
                return Err(format!(
                    "an earlier skill offers `{}`; give it its own name",
                    tool.name
                ));
            }
            Ok(tool)
        });
        match made {
            Ok(tool) => offer.tools.push(tool),
            Err(reason) => offer.unoffered.push(Unoffered {
                skill: skill.id.clone(),
                reason,
            }),
        }
    }
    offer
}

/// A tool as its skill declares it, and where.
struct Declared<'a> {
    tool: &'a Tool,
    span: Span,
}

fn declared(skill: &Skill) -> Option<Declared<'_>> {
    match skill.member(Keyword::Tool)? {
        Spanned {
            span,
            node: Member::Tool(tool),
        } => Some(Declared { tool, span: *span }),
        _ => None,
    }
}

fn definition(skill: &Skill, tool: &Tool) -> Result<ToolDefinition, String> {
    let given = |value: &Literal| match value {
        Literal::Nil => Ok(None),
        value => match value.text() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err("its name and description must be texts".to_owned()),
        },
    };
    let name = given(&tool.name)?.unwrap_or_else(|| format!("skill_{}", skill.id));
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > TOOL_NAME_MAX || !name.chars().all(letter) {
        return Err(format!(
            "its name is not 1 to {TOOL_NAME_MAX} letters, digits, `_` and `-`; write `name \"…\"` in its tool block"
        ));
    }
    let description = match given(&tool.description)? {
        Some(description) => description,
        None => match skill.title() {
            Some(title) => title.to_owned(),
            None => format!("Skill-based tool: {}", skill.id),
        },
    };
    let input_schema = schema(tool)?;
    Ok(ToolDefinition {
        skill: skill.id.clone(),
        name,
        description,
        input_schema,
    })
}

fn schema(tool: &Tool) -> Result<Json, String> {
    if tool.properties.len() > PROPERTIES_MAX {
        return Err(format!("it takes more than {PROPERTIES_MAX} values"));
    }
    let mut properties = Map::new();
    for Property {
        name,
        kind,
        description,
    } in &tool.properties
    {
        let name = name.text().ok_or("a property has no name")?;
        let kind = kind
            .text()
            .filter(|kind| TYPES.contains(kind))
            .ok_or_else(|| format!("`{name}` has a type that is none of {}", TYPES.join(", ")))?;
        let description = description.to_string();
        properties.insert(
            name.to_owned(),
            json!({"type": kind, "description": description}),
        );
    }
    let mut required = Vec::new();
    for name in flat(&tool.required) {
        let name = name.text().ok_or("a required property has no name")?;
        if !properties.contains_key(name) {
            return Err(format!(
                "it requires `{name}`, which is none of its properties"
            ));
        }
        required.push(name);
    }
    Ok(json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    }))
}

/// `required [:a, :b]` is `required :a, :b`.
fn flat(names: &[Literal]) -> impl Iterator<Item = &Literal> {
    names.iter().flat_map(|name| match name {
        Literal::Array(names) => names.as_slice(),
        name => std::slice::from_ref(name),
    })
}

/// What of the arguments is not what the schema says.
fn problem(schema: &Json, arguments: &Map<String, Json>) -> Option<String> {
    let empty = Map::new();
    let properties = schema
        .get("properties")
        .and_then(Json::as_object)
        .unwrap_or(&empty);
    for (name, value) in arguments {
        let Some(property) = properties.get(name) else {
            let known: Vec<_> = properties.keys().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "it takes nothing".to_owned(),
                false => format!("it takes {}", known.join(", ")),
            };
            return Some(format!("does not take `{name}`; {known}"));
        };
        let kind = property
            .get("type")
            .and_then(Json::as_str)
            .unwrap_or_default();
        let fits = match (kind, value) {
            ("string", Json::String(_))
            | ("number", Json::Number(_))
            | ("boolean", Json::Bool(_))
            | ("array", Json::Array(_))
            | ("object", Json::Object(_)) => true,
            ("integer", Json::Number(number)) => number.is_i64(),
            _ => false,
        };
        if !fits {
            return Some(format!("takes `{name}` as {kind}, not {value:.40}"));
        }
    }
    let mut required = schema.get("required").and_then(Json::as_array)?.iter();
    let missing = required.find_map(|name| {
        let name = name.as_str()?;
        (!arguments.contains_key(name)).then_some(name)
    })?;
    Some(format!("needs `{missing}`"))
}

/// Runs a tool of the law. `source` is the text that the law was read from, for the lines in errors.
///
/// ```
/// use kairos_protocol::dsl::Law;
/// use kairos_protocol::dsl::eval::{Limits, run_tool, tools};
/// use serde_json::json;
///
/// let source = r#"
/// skill :doubler do
///   title "Doubles a number"
///   tool do
///     property :n, type: "integer", description: "the number"
///     required :n
///     execute { |args| { doubled: args["n"] * 2 } }
///   end
/// end
/// "#;
/// let law = Law::read(source.as_bytes());
/// let offer = tools(&law, |name| name == "chain_verify");
/// assert_eq!(offer.tools[0].name, "skill_doubler");
/// let arguments = json!({"n": 21});
/// let arguments = arguments.as_object().unwrap();
/// let answer = run_tool(&law, source, "skill_doubler", arguments, &(), Limits::default())?;
/// assert_eq!(answer.structured, Some(json!({"doubled": 42})));
/// # Ok::<(), kairos_protocol::dsl::eval::ToolError>(())
/// ```
pub fn run_tool(
    law: &Law,
    source: &str,
    name: &str,
    arguments: &Map<String, Json>,
    host: &dyn Host,
    limits: Limits,
) -> Result<ToolAnswer, ToolError> {
    let unknown = || ToolError::Unknown(name.to_owned());
    let offer = tools(law, |_| false);
    let mut known = offer.tools.into_iter();
    let tool = known.find(|tool| tool.name == name).ok_or_else(unknown)?;
    if let Some(problem) = problem(&tool.input_schema, arguments) {
        return Err(ToolError::Arguments {
            tool: tool.name,
            problem,
        });
    }
    let skill = law.skill(&tool.skill).ok_or_else(unknown)?;
    let declared = declared(skill).ok_or_else(unknown)?;
    let code = declared.tool.execute.as_ref().ok_or_else(unknown)?;
    let literal = evaluated(
        &mut Machine::new(law, source, host, limits.granted()),
        &skill.id,
        declared.span,
        code,
        arguments,
    )?;
    Ok(answer(&literal))
}

fn evaluated(
    machine: &mut Machine<'_>,
    id: &str,
    span: Span,
    code: &Code,
    arguments: &Map<String, Json>,
) -> Result<Literal, EvalError> {
    let program = machine.load(id, span, code)?;
    let mut members = Vec::new();
    for (name, value) in arguments {
        let name = machine.text(name)?;
        let value = machine.value_of_json(value)?;
        machine.insert(&mut members, name, value)?;
    }
    let arguments: Value = machine.mapped(members)?;
    let value = machine.run(program, &[arguments])?;
    machine.output(value)
}

fn answer(literal: &Literal) -> ToolAnswer {
    match literal {
        Literal::Nil => ToolAnswer {
            text: "(no output)".to_owned(),
            structured: None,
        },
        Literal::Array(_) | Literal::Map(_) => {
            let structured = literal.reference_json();
            ToolAnswer {
                text: format!("{structured:#}"),
                structured: Some(structured),
            }
        }
        other => ToolAnswer {
            text: other.to_string(),
            structured: None,
        },
    }
}
