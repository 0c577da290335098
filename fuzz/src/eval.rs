//! Code of a law, `behavior` and `tool` blocks, as somebody else wrote it.

use std::collections::BTreeSet;

use kairos_protocol::dsl::eval::{
    BYTES_MAX, BlockFacts, EvalError, Evaluation, Facts, LedgerFacts, Limits, OUTPUT_MAX,
    STEPS_MAX, run_tool, tools,
};
use kairos_protocol::dsl::{Law, Literal, SOURCE_MAX};
use serde_json::{Map, Value, json};

/// Steps of one block: few enough that many inputs have their turn.
const STEPS: u64 = 20_000;

/// Evaluates every block of `data`, read as a law, or as the code of one behavior if it declares no skill. No block
/// takes more than it may, and each gives the same answer twice.
pub fn run(data: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(data) else {
        return "no text".to_owned();
    };
    let source = match text.contains("skill") {
        true => text.to_owned(),
        false => format!("skill :a do\n  behavior do\n{text}\n  end\nend\n"),
    };
    if source.len() > SOURCE_MAX {
        return "too long".to_owned();
    }
    let law = Law::read(source.as_bytes());
    let facts = facts();
    let mut outcome = String::new();
    for skill in law.skills.iter().take(4) {
        let first = behavior(&law, &source, &facts, &skill.id);
        let again = behavior(&law, &source, &facts, &skill.id);
        // Only a number that is none differs from itself.
        assert_eq!(format!("{first:?}"), format!("{again:?}"));
        outcome = words(&first);
    }
    for tool in tools(&law, |_| false).tools.iter().take(4) {
        let arguments = arguments(&tool.input_schema);
        let limits = Limits {
            steps: STEPS,
            ..Limits::default()
        };
        let answer = run_tool(&law, &source, &tool.name, &arguments, &facts, limits);
        match answer {
            Ok(answer) => assert!(answer.text.len() <= 8 * OUTPUT_MAX),
            Err(error) => outcome.push_str(&super::words(error)),
        }
    }
    outcome
}

fn behavior(law: &Law, source: &str, facts: &Facts, id: &str) -> Result<Literal, EvalError> {
    let limits = Limits {
        steps: STEPS,
        ..Limits::default()
    };
    let mut evaluation = Evaluation::new(law, source, facts, limits);
    let answer = evaluation.behavior(id);
    let answer = answer.and_then(|answer| {
        let keywords = [("skill_id", Literal::Text("a".to_owned()))];
        // Whatever it is, it is no reason to panic.
        let _ = evaluation.call(answer, None, &keywords);
        evaluation.literal(answer)
    });
    let spent = evaluation.spent();
    // One step, or one value, may be told to be one too many.
    assert!(answer.is_err() || (spent.steps <= STEPS_MAX && spent.bytes <= BYTES_MAX));
    answer
}

/// What came of it, without what the input made up.
fn words(answer: &Result<Literal, EvalError>) -> String {
    let told = match answer {
        Ok(literal) => literal.inspect(),
        Err(EvalError::Raised { message, .. }) => message.clone(),
        Err(EvalError::Refused { faults, .. }) => {
            let told = faults.iter().take(4).map(|fault| fault.what.as_str());
            told.collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.to_string(),
    };
    told.chars().take(40).collect()
}

/// Arguments that fit the schema.
fn arguments(schema: &Value) -> Map<String, Value> {
    let properties = schema["properties"].as_object();
    let properties = properties.into_iter().flatten();
    let given = properties.map(|(name, property)| {
        let value = match property["type"].as_str() {
            Some("integer" | "number") => json!(7),
            Some("boolean") => json!(true),
            Some("array") => json!(["a", 1, null]),
            Some("object") => json!({"a": {"b": [1.5]}}),
            _ => json!("text"),
        };
        (name.clone(), value)
    });
    given.collect()
}

fn facts() -> Facts {
    let text = |text: &str| Literal::Text(text.to_owned());
    let block = BlockFacts {
        index: 0,
        hash: "00".to_owned(),
        previous_hash: "00".to_owned(),
        timestamp: "2026-01-01T00:00:00Z".to_owned(),
    };
    Facts {
        settings: Some(Literal::Map(vec![(
            text("max_evolutions_per_session"),
            Literal::Integer(3.into()),
        )])),
        evolution_enabled: Some(true),
        evolution_count: Some(1),
        law_path: Some("/agent/skills/kairos.rb".to_owned()),
        directories: Some(BTreeSet::from(["/agent/skills/versions".to_owned()])),
        layers: Some(Literal::Array(vec![text("L0")])),
        ledger: Some(LedgerFacts {
            state: "readable".to_owned(),
            valid: true,
            length: 1,
            first: Some(block.clone()),
            last: Some(block),
        }),
    }
}
