use std::collections::BTreeSet;

use super::super::model::{Code, Skill};
use super::super::{FaultCode, Severity};
use super::*;

mod hostile;
mod language;
mod properties;
mod shipped;
mod tools;

/// A host that answers everything.
fn facts() -> Facts {
    let block = |index: u64| BlockFacts {
        index,
        hash: format!("hash {index}"),
        previous_hash: format!("before {index}"),
        timestamp: "2026-01-01T00:00:00Z".to_owned(),
    };
    let text = |text: &str| Literal::Text(text.to_owned());
    let symbol = |text: &str| Literal::Symbol(text.to_owned());
    let layer = Literal::Map(vec![(symbol("layer"), symbol("L0"))]);
    Facts {
        settings: Some(Literal::Map(vec![
            (
                text("max_evolutions_per_session"),
                Literal::Integer(3.into()),
            ),
            (text("require_human_approval"), Literal::Bool(true)),
            (
                text("immutable_skills"),
                Literal::Array(vec![text("core_safety")]),
            ),
        ])),
        evolution_enabled: Some(true),
        evolution_count: Some(1),
        law_path: Some("/agent/skills/kairos.rb".to_owned()),
        directories: Some(BTreeSet::from(["/agent/skills/versions".to_owned()])),
        layers: Some(Literal::Array(vec![layer])),
        ledger: Some(LedgerFacts {
            state: "readable".to_owned(),
            valid: true,
            length: 7,
            first: Some(block(0)),
            last: Some(block(6)),
        }),
    }
}

/// A law whose one skill has this code as its behavior, which begins on line 3.
fn law_of(code: &str) -> String {
    format!("skill :a do\n  behavior do\n{code}\n  end\nend\n")
}

/// What the code answers, as Ruby shows it.
fn shown_within(code: &str, host: &dyn Host, limits: Limits) -> Result<String, EvalError> {
    let source = law_of(code);
    let law = Law::read(source.as_bytes());
    assert!(law.is_whole(), "{code}: {:?}", law.faults);
    let mut evaluation = Evaluation::new(&law, &source, host, limits);
    let answer = evaluation.behavior("a")?;
    Ok(evaluation.literal(answer)?.inspect())
}

fn shown(code: &str) -> Result<String, EvalError> {
    shown_within(code, &facts(), Limits::default())
}

/// What is told of code that gives no answer.
fn told(code: &str) -> String {
    match shown(code) {
        Ok(answer) => panic!("{code} answers {answer}"),
        Err(error) => error.to_string(),
    }
}
