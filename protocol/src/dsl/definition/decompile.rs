//! What a definition says in words.

use super::super::model::Node;
use super::super::{Literal, Skill};
use super::verify::arrows;

/// What a constraint says beside its condition, in this order, if it is given.
const QUALIFIERS: [&str; 3] = ["timing", "scope", "target"];

/// The definition of `skill` in words, one line for each node; empty if it has none.
pub fn decompile(skill: &Skill) -> String {
    let lines: Vec<_> = skill.nodes().map(sentence).collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!("## Definition (Decompiled)\n\n{}", lines.join("\n")),
    }
}

fn sentence(node: &Node) -> String {
    let name = &node.name;
    let option = |name: &str| node.option(name).unwrap_or(&Literal::Nil);
    let condition = || match option("condition") {
        value if value.is_truthy() => format!(": {value}"),
        _ => String::new(),
    };
    match node.kind().as_str() {
        "Constraint" => {
            let required = option("required")
                .is_truthy()
                .then(|| "required".to_owned());
            let others = QUALIFIERS.iter().filter_map(|name| {
                let value = option(name);
                value.is_truthy().then(|| format!("{name}: {value}"))
            });
            let qualifiers: Vec<_> = required.into_iter().chain(others).collect();
            let qualifiers = match qualifiers.is_empty() {
                true => String::new(),
                false => format!(" [{}]", qualifiers.join(", ")),
            };
            format!("- **Requirement** (`{name}`){}{qualifiers}", condition())
        }
        "Check" => format!("- **Check** (`{name}`){}", condition()),
        "Plan" => match option("steps") {
            Literal::Array(steps) => format!(
                "- **Workflow** (`{name}`): {} steps — {}",
                steps.len(),
                arrows(steps)
            ),
            _ => format!("- **Workflow** (`{name}`): no steps"),
        },
        "ToolCall" => format!("- **Tool Call** (`{name}`): `{}`", option("command")),
        "SemanticReasoning" => {
            format!(
                "- **Human Judgment Required** (`{name}`): {}",
                option("prompt")
            )
        }
        other => format!("- **Unknown** (`{name}`): type={other}"),
    }
}
