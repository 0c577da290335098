//! Reading laws, changing one skill and evaluating code, against the grammar's parser alone on the same text.

use std::hint::black_box;
use std::time::Instant;

use kairos_protocol::dsl::edit::Editor;
use kairos_protocol::dsl::eval::{Evaluation, Facts, Limits};
use kairos_protocol::dsl::facts::Known;
use kairos_protocol::dsl::{Law, Literal, SOURCE_MAX};
use lib_ruby_parser::{Parser, ParserOptions};

use crate::table::{Aim, Row, median};

/// The law that new agents begin with.
const SHIPPED: &str = include_str!("../../../node/templates/skills/kairos.rb");
/// How many skills are read, in laws as long as they may be.
const SKILLS: usize = 5_000;
const ROUNDS: usize = 15;
/// How often a short thing is done in a round.
const TIMES: usize = 20;

pub(crate) fn run() -> Vec<Row> {
    let laws = laws();
    let skills: usize = laws
        .iter()
        .map(|law| Law::read(law.as_bytes()).skills.len())
        .sum();
    assert_eq!(skills, SKILLS, "every skill is read");
    vec![
        row(
            format!("read the law of new agents, {} bytes", SHIPPED.len()),
            TIMES,
            || read(SHIPPED),
            || parse(SHIPPED),
        ),
        row(
            format!("read {SKILLS} skills in {} laws", laws.len()),
            1,
            || laws.iter().for_each(|law| read(law)),
            || laws.iter().for_each(|law| parse(law)),
        ),
        edit(&laws),
        evaluation(),
    ]
}

/// One skill of all those laws is found by its id and put in the place of another text of it, and its law read again. No
/// law holds all of them, so whoever keeps so many looks for the one.
fn edit(laws: &[String]) -> Row {
    let read: Vec<_> = laws.iter().map(|law| Law::read(law.as_bytes())).collect();
    let wanted = format!("made_up_{}", SKILLS / 2);
    let found = || {
        let mut all = laws.iter().zip(&read);
        let found = all.find_map(|(text, law)| Some((text, law, law.skill(&wanted)?)));
        found.expect("the skill")
    };
    let (holder, law, skill) = found();
    let span = skill.span.start..skill.span.end;
    let skill = holder.get(span).expect("its text");
    let changed = skill.replacen("\"1.0\"", "\"1.1\"", 1);
    row(
        format!(
            "one edit among {SKILLS} skills, its law of {} read again",
            law.skills.len()
        ),
        1,
        || {
            let (text, law, skill) = found();
            let editor = Editor::new(text, law).expect("a law that reads");
            black_box(editor.replace(&skill.id, &changed).expect("an edit"));
        },
        || parse(holder),
    )
}

/// The automatic check of a proposal, the longest code there is, against parsing its block.
fn evaluation() -> Row {
    let law = Law::read(SHIPPED.as_bytes());
    let skill = law
        .skill("approval_workflow")
        .expect("the skill that checks");
    let block = SHIPPED
        .get(skill.span.start..skill.span.end)
        .expect("its text");
    let text = |text: &str| Literal::Text(text.to_owned());
    let facts = Facts::of_agent(Known {
        settings: "evolution_enabled: true\n",
        used: Some(0),
        keeps_versions: true,
        ..Known::default()
    });
    let keywords = [
        ("skill_id", text("audit_rules")),
        ("definition", text("skill :audit_rules do\nend\n")),
        ("reason", text("a reason")),
    ];
    let mut steps = 0;
    let row = row(
        "evaluate the check of a proposal, its code read anew".to_owned(),
        TIMES,
        || {
            let mut evaluation = Evaluation::new(&law, SHIPPED, &facts, Limits::default());
            let answer = evaluation.behavior("approval_workflow").expect("an answer");
            let answer = evaluation.call(answer, Some("auto_check"), &keywords);
            let answer = answer.and_then(|answer| evaluation.literal(answer));
            black_box(answer.expect("a result"));
            steps = evaluation.spent().steps;
        },
        || parse(block),
    );
    Row {
        note: format!("{}, {steps} steps", row.note),
        ..row
    }
}

fn read(source: &str) {
    assert!(
        black_box(Law::read(source.as_bytes())).is_whole(),
        "it reads"
    );
}

/// What everyone who reads Ruby must do.
fn parse(source: &str) {
    let options = ParserOptions {
        record_tokens: false,
        ..ParserOptions::default()
    };
    assert!(
        black_box(Parser::new(source, options).do_parse())
            .ast
            .is_some(),
        "it parses"
    );
}

fn row(what: String, times: usize, mut ours: impl FnMut(), mut bare: impl FnMut()) -> Row {
    let rounds: Vec<_> = (0..ROUNDS)
        .map(|_| (timed(times, &mut ours), timed(times, &mut bare)))
        .collect();
    let (ratio, least, most) = median(rounds.iter().map(|(ours, bare)| ours / bare));
    let (ours, ..) = median(rounds.iter().map(|(ours, _)| *ours));
    let (bare, ..) = median(rounds.iter().map(|(_, bare)| *bare));
    let millis = |seconds: f64| format!("{:.3} ms", seconds * 1e3);
    Row {
        what,
        ours: millis(ours),
        baseline: millis(bare),
        ratio,
        aim: Aim::Open,
        note: format!("{least:.2}..{most:.2}"),
    }
}

fn timed(times: usize, work: &mut impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..times {
        work();
    }
    began.elapsed().as_secs_f64() / f64::from(u32::try_from(times).unwrap_or(u32::MAX))
}

/// Laws as long as they may be, with [`SKILLS`] skills in all.
fn laws() -> Vec<String> {
    let mut laws = vec![String::new()];
    for n in 0..SKILLS {
        let skill = format!(
            "skill :made_up_{n} do\n  version \"1.0\"\n  title \"Made up {n}\"\n\n  evolve do\n    allow :content\n    \
             deny :behavior, :guarantees\n  end\n\n  content <<~MD\n    Number {n} says what must hold.\n  MD\nend\n\n"
        );
        match laws.last_mut() {
            Some(law) if law.len() + skill.len() <= SOURCE_MAX => law.push_str(&skill),
            _ => laws.push(skill),
        }
    }
    laws
}
