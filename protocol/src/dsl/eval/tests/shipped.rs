//! The law that new agents begin with, and blocks like those of other laws.

use super::*;

const OURS: &str = include_str!("../../../../../node/templates/skills/kairos.rb");

#[test]
fn evaluates_every_behavior_of_the_law_of_new_agents() {
    let law = Law::read(OURS.as_bytes());
    let facts = facts();
    let mut evaluated = 0;
    for skill in &law.skills {
        if skill.member(Keyword::Behavior).is_none() {
            continue;
        }
        let mut evaluation = Evaluation::new(&law, OURS, &facts, Limits::default());
        let answer = evaluation.behavior(&skill.id).unwrap();
        let literal = evaluation.literal(answer).unwrap();
        assert!(
            matches!(literal, Literal::Map(_) | Literal::Array(_)),
            "{literal:?}"
        );
        let spent = evaluation.spent();
        assert!(
            spent.steps < 1_000 && spent.bytes < 50_000,
            "{}: {spent:?}",
            skill.id
        );
        evaluated += 1;
    }
    assert_eq!(evaluated, 7);
}

fn check(id: &str, definition: &str, reason: Option<&str>, facts: &Facts) -> Literal {
    let law = Law::read(OURS.as_bytes());
    let mut evaluation = Evaluation::new(&law, OURS, facts, Limits::default());
    let answer = evaluation.behavior("approval_workflow").unwrap();
    let text = |text: &str| Literal::Text(text.to_owned());
    let mut keywords = vec![("skill_id", text(id)), ("definition", text(definition))];
    keywords.extend(reason.map(|reason| ("reason", text(reason))));
    let answer = evaluation
        .call(answer, Some("auto_check"), &keywords)
        .unwrap();
    evaluation.literal(answer).unwrap()
}

fn member<'a>(of: &'a Literal, name: &str) -> &'a Literal {
    let Literal::Map(pairs) = of else {
        panic!("no hash: {of:?}");
    };
    let mut pairs = pairs.iter();
    let found = pairs.find(|(key, _)| key.text() == Some(name));
    &found.unwrap_or_else(|| panic!("no {name}: {of:?}")).1
}

/// The items of the checks that came out like this.
fn items(of: &Literal, passed: &Literal) -> Vec<String> {
    let Literal::Array(checks) = member(of, "checks") else {
        panic!("no list: {of:?}");
    };
    let those = checks
        .iter()
        .filter(|check| member(check, "passed") == passed);
    those
        .map(|check| member(check, "item").to_string())
        .collect()
}

#[test]
fn the_automatic_check_of_a_proposal_tells_what_holds() {
    let facts = facts();
    let good = check(
        "audit_rules",
        "skill :audit_rules do\nend",
        Some("why"),
        &facts,
    );
    assert_eq!(member(&good, "passed"), &Literal::Bool(true));
    assert_eq!(items(&good, &Literal::Bool(false)), [] as [&str; 0]);
    assert_eq!(
        items(&good, &Literal::Symbol("unknown".to_owned())).len(),
        3
    );
    assert_eq!(items(&good, &Literal::Bool(true)).len(), 8);

    let bad = check("core_safety", "skill :x do", None, &facts);
    assert_eq!(member(&bad, "passed"), &Literal::Bool(false));
    assert_eq!(
        items(&bad, &Literal::Bool(false)),
        [
            "Skill not immutable",
            "Ruby syntax valid",
            "Evolve rules permit change",
            "Reason documented"
        ]
    );

    let closed = Facts {
        evolution_enabled: Some(false),
        evolution_count: Some(3),
        directories: Some(BTreeSet::new()),
        ..facts
    };
    let closed = check("nowhere", "1", Some(" "), &closed);
    assert_eq!(
        items(&closed, &Literal::Bool(false)),
        [
            "Skill in allowed_skills",
            "Evolution enabled",
            "Within session limit",
            "Rollback possible",
            "Reason documented"
        ]
    );
}

#[test]
fn code_of_a_skill_may_be_asked_again_and_again_within_one_set_of_limits() {
    let law = Law::read(OURS.as_bytes());
    let facts = facts();
    let mut evaluation = Evaluation::new(&law, OURS, &facts, Limits::default());
    let answer = evaluation.behavior("approval_workflow").unwrap();
    let keywords = [
        ("skill_id", Literal::Text("audit_rules".to_owned())),
        ("definition", Literal::Text("1".to_owned())),
    ];
    let mut calls = 0;
    let error = loop {
        match evaluation.call(answer, Some("auto_check"), &keywords) {
            Ok(_) => calls += 1,
            Err(error) => break error,
        }
    };
    assert!(calls > 50, "{calls}");
    assert!(matches!(error, EvalError::Limit { .. }), "{error}");
    // What is called must be a lambda.
    let mut evaluation = Evaluation::new(&law, OURS, &facts, Limits::default());
    let answer = evaluation.behavior("l0_governance").unwrap();
    let error = evaluation
        .call(answer, Some("auto_check"), &[])
        .unwrap_err();
    assert!(
        matches!(
            error,
            EvalError::Raised {
                class: Class::NoMethod,
                ..
            }
        ),
        "{error}"
    );
}

/// Blocks of the same kinds as those that agents bring along, in other words.
#[test]
fn evaluates_the_forms_that_laws_of_other_agents_use() {
    for (code, expected) in [
        (
            "Kairos.skills.select { |s| s.can_evolve?(:content) }.map do |skill|\n  {\n    id: skill.id,\n    \
             fields: [:content, :behavior].select { |f| skill.can_evolve?(f) }\n  }\nend",
            "[{:id=>:a, :fields=>[:content, :behavior]}]",
        ),
        (
            "Kairos.skills.map do |skill|\n  { id: skill.id, rules: skill.evolution_rules&.to_h, guarantees: \
             skill.guarantees }\nend",
            "[{:id=>:a, :rules=>nil, :guarantees=>nil}]",
        ),
        (
            "chain = KairosChain::Chain.new\nblocks = chain.blocks\n{ count: blocks.size, latest: \
             blocks.last&.hash, first: blocks.first&.timestamp }",
            "{:count=>7, :latest=>\"hash 6\", :first=>\"2026-01-01T00:00:00Z\"}",
        ),
        (
            "check = lambda do |id:, reason: nil|\n  list = []\n  known = Kairos.skill(id)\n  if known && \
             known.evolution_rules\n    list << { item: 'rules', passed: !known.evolution_rules.denied.include?(:all) }\n  \
             else\n    list << { item: 'rules', passed: true, detail: known ? \"none\" : \"new\" }\n  end\n  given = \
             reason && !reason.strip.empty?\n  list << { item: 'reason', passed: given }\n  failed = list.select { |c| \
             c[:passed] == false }\n  { passed: list.all? { |c| c[:passed] == true }, failed: failed.size, summary: \
             failed.empty? ?\n    \"✅ #{list.size}\" :\n    \"❌ #{failed.size}\" }\nend\n[check.call(id: :a), \
             check.call(id: 'b', reason: ' x ')]",
            "[{:passed=>false, :failed=>0, :summary=>\"✅ 2\"}, {:passed=>true, :failed=>0, :summary=>\"✅ 2\"}]",
        ),
    ] {
        assert_eq!(shown(code).as_deref(), Ok(expected), "{code}");
    }
}
