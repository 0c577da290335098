use super::super::eval::Facts;
use super::super::facts::Known;
use super::*;

const LAW: &str = r#"skill :l0_governance do
  content "What belongs."
  evolve do
    allow :content
    deny :behavior, :guarantees
  end
  behavior do
    # read, not run
    { allowed_skills: [:l0_governance, :core_safety, :tea, :milk, :fresh], immutable_skills: [:core_safety] }
  end
end

skill :core_safety do
  content "Never."
end

skill :tea do
  version "1"
  content "Green."
  evolve do
    allow :content, :definition
  end
end

skill :milk do
  depends_on :tea
  content "Cold."
end

skill :stone do
  content "Hard."
  evolve do
    deny :all
  end
end
"#;

fn settings() -> Settings {
    Settings {
        enabled: true,
        mutable: true,
        per_session: 3,
        fallback: Governance::default(),
        tools: false,
        problem: None,
    }
}

fn law() -> Law {
    Law::read(LAW.as_bytes())
}

/// The gates that refuse to put `after` in the place of the law.
fn refusing(step: &Step, after: &str) -> Vec<Gate> {
    judged(step, after, &settings(), 0).1
}

fn judged(step: &Step, after: &str, settings: &Settings, used: u32) -> (Verdict, Vec<Gate>) {
    let facts = Facts {
        evolution_enabled: Some(settings.enabled),
        ..Facts::default()
    };
    let verdict = judge(Asked {
        before: LAW.as_bytes(),
        after: after.as_bytes(),
        step,
        reason: Some("a test"),
        settings,
        facts: &facts,
        used,
    });
    let refused = verdict.refusals().map(|check| check.gate).collect();
    (verdict, refused)
}

fn evolve(id: &str) -> Step {
    Step::Evolve(id.to_owned())
}

#[test]
fn the_shape_of_the_table_is_known() {
    let steps = [
        evolve("x"),
        Step::Add("x".into()),
        Step::Remove("x".into()),
        Step::Whole,
        Step::Rollback,
        Step::Return,
    ];
    let left_out = steps.map(|step| {
        let gates = Gate::ALL.into_iter().filter(|gate| !gate.asks(&step));
        gates.collect::<Vec<_>>()
    });
    let none = Vec::new;
    assert_eq!(
        left_out,
        [
            none(),
            none(),
            none(),
            vec![Gate::MatchingId],
            vec![Gate::OneSkill, Gate::MatchingId],
            vec![
                Gate::Enabled,
                Gate::Layer,
                Gate::Session,
                Gate::OneSkill,
                Gate::MatchingId,
                Gate::Allowed,
                Gate::Immutable,
                Gate::Fields,
                Gate::Definition
            ]
        ]
    );
}

#[test]
fn where_there_is_no_law_a_former_one_returns_if_it_is_read() {
    let off = Settings {
        enabled: false,
        ..settings()
    };
    let returns = |after: &str| {
        let verdict = judge(Asked {
            before: b"",
            after: after.as_bytes(),
            step: &Step::Return,
            reason: Some("a test"),
            settings: &off,
            facts: &Facts::default(),
            used: 9,
        });
        let refused = verdict.refusals().map(|check| check.gate);
        refused.collect::<Vec<_>>()
    };
    assert_eq!(returns(&format!("# encoding: utf-8\n{LAW}")), []);
    assert_eq!(returns("skill :a do"), [Gate::Syntax]);
    let alone = "skill :milk do\n  depends_on :tea\nend\n";
    assert_eq!(returns(alone), [Gate::Dependencies]);
}

#[test]
fn what_keeps_the_rules_passes_every_gate() {
    let after = LAW.replace("Green.", "Black.");
    for step in [evolve("tea"), Step::Whole, Step::Rollback] {
        let (verdict, refused) = judged(&step, &after, &settings(), 2);
        assert_eq!(refused, [], "{:?}", verdict.checks);
        assert_eq!(verdict.skill(), Some("tea"));
    }
}

#[test]
fn fields_change_as_the_rules_of_the_skill_say_and_no_further() {
    for (id, from, to) in [
        ("tea", "version \"1\"", "version \"2\""),
        ("tea", "allow :content, :definition", "deny :title"),
        ("l0_governance", "[:core_safety] }", "[] }"),
        ("stone", "Hard.", "Soft."),
    ] {
        let after = LAW.replace(from, to);
        assert!(
            refusing(&evolve(id), &after).contains(&Gate::Fields),
            "{id}"
        );
        assert!(
            refusing(&Step::Whole, &after).contains(&Gate::Fields),
            "{id}"
        );
        assert!(
            refusing(&Step::Rollback, &after).contains(&Gate::Fields),
            "{id}"
        );
    }
}

#[test]
fn what_is_immutable_stays_and_what_is_not_listed_is_no_law() {
    let after = LAW.replace("Never.", "Sometimes.");
    assert_eq!(refusing(&evolve("core_safety"), &after), [Gate::Immutable]);
    assert_eq!(refusing(&Step::Rollback, &after), [Gate::Immutable]);
    let soft = LAW.replace("    deny :all", "    allow :content");
    assert!(refusing(&evolve("stone"), &soft).contains(&Gate::Allowed));
    let more = format!("{LAW}skill :spy do\n  content \"x\"\nend\n");
    assert_eq!(refusing(&Step::Add("spy".into()), &more), [Gate::Allowed]);
    let fresh = format!("{LAW}skill :fresh do\n  content \"x\"\nend\n");
    assert_eq!(refusing(&Step::Add("fresh".into()), &fresh), []);
    assert_eq!(refusing(&Step::Whole, &fresh), []);
}

#[test]
fn an_immutable_skill_is_not_hidden_by_one_before_it() {
    // Applied to another skill, in front of it: the first of two counts.
    let hidden = LAW.replace(
        "skill :l0_gov",
        "skill :core_safety do\n  content \"x\"\nend\nskill :l0_gov",
    );
    for step in [evolve("l0_governance"), Step::Whole] {
        assert!(refusing(&step, &hidden).contains(&Gate::OneSkill));
        assert!(refusing(&step, &hidden).contains(&Gate::Immutable));
    }
    assert!(refusing(&Step::Rollback, &hidden).contains(&Gate::Immutable));
}

#[test]
fn one_change_changes_the_one_skill_that_was_named() {
    let two = LAW.replace("Green.", "Black.").replace("Cold.", "Warm.");
    assert_eq!(refusing(&Step::Whole, &two), [Gate::OneSkill]);
    assert_eq!(refusing(&Step::Rollback, &two), []);
    let tea = LAW.replace("Green.", "Black.");
    assert_eq!(refusing(&evolve("milk"), &tea), [Gate::MatchingId]);
    assert_eq!(
        refusing(&Step::Remove("tea".into()), &tea),
        [Gate::MatchingId]
    );
    let beside = tea.replace("skill :milk", "# a note\nskill :milk");
    assert_eq!(refusing(&evolve("tea"), &beside), [Gate::OneSkill]);
    assert_eq!(refusing(&Step::Whole, LAW), [Gate::OneSkill]);
}

#[test]
fn what_others_depend_on_stays() {
    let tea = LAW.find("skill :tea").unwrap()..LAW.find("skill :milk").unwrap();
    let mut gone = LAW.to_owned();
    gone.replace_range(tea, "");
    let refused = refusing(&Step::Remove("tea".into()), &gone);
    assert_eq!(refused, [Gate::Fields, Gate::Dependencies]);
    let around = LAW.replace("depends_on :tea", "depends_on [:tea, :milk]");
    assert_eq!(refusing(&evolve("milk"), &around), [Gate::Dependencies]);
}

#[test]
fn a_chain_of_skills_is_in_order_wherever_it_begins_and_a_ring_is_not() {
    let skill = |n: usize, needs: usize| {
        format!("skill :s{n} do\n  depends_on [:s{needs}, :s{needs}]\nend\n")
    };
    let chain: String = (1..300).map(|n| skill(n, n + 1)).collect();
    let ends = |last: &str| rules::dependencies(&Law::read(format!("{chain}{last}").as_bytes()));
    assert!(ends("skill :s300 do\nend\n").is_ok());
    let absent = ends("").unwrap_err();
    assert!(absent.contains("'s299' depends on 's300'"), "{absent}");
    let ring = ends(&skill(300, 1)).unwrap_err();
    assert!(ring.contains("'s1' would depend on itself"), "{ring}");
    // Of those that have one name, the first is meant.
    let twice = format!("{}skill :s300 do\nend\n", skill(300, 299));
    assert!(ends(&twice).unwrap_err().contains("would depend on itself"));
}

#[test]
fn a_definition_that_fails_is_refused_and_one_that_needs_a_person_is_not() {
    let with = |node: &str| {
        let definition = format!("  definition do\n    {node}\n  end\n  content \"Green.\"");
        LAW.replace("  content \"Green.\"", &definition)
    };
    let fails = with("constraint :on, required: true, condition: \"evolution_enabled == false\"");
    assert_eq!(refusing(&evolve("tea"), &fails), [Gate::Definition]);
    let asks = with("node :taste, type: :SemanticReasoning, prompt: \"Good?\"");
    assert_eq!(refusing(&evolve("tea"), &asks), []);
}

#[test]
fn what_cannot_be_read_does_not_get_in() {
    for to in [
        "content BREW",
        "content \"Black.\"\n  system(\"x\")",
        "content \"Black.",
    ] {
        let after = LAW.replace("content \"Green.\"", to);
        assert!(
            refusing(&evolve("tea"), &after).contains(&Gate::Syntax),
            "{to}"
        );
        assert!(
            refusing(&Step::Rollback, &after).contains(&Gate::Syntax),
            "{to}"
        );
    }
    assert!(refusing(&Step::Whole, "skill :a do").contains(&Gate::Syntax));
    let beside = format!("system('x')\n{LAW}");
    assert!(refusing(&Step::Rollback, &beside).contains(&Gate::Syntax));
}

#[test]
fn the_settings_the_session_and_the_reason_are_asked_on_every_way() {
    let after = LAW.replace("Green.", "Black.");
    for step in [evolve("tea"), Step::Whole, Step::Rollback] {
        let off = Settings {
            enabled: false,
            ..settings()
        };
        assert_eq!(judged(&step, &after, &off, 0).1, [Gate::Enabled]);
        let fixed = Settings {
            mutable: false,
            ..settings()
        };
        assert_eq!(judged(&step, &after, &fixed, 0).1, [Gate::Layer]);
        assert_eq!(judged(&step, &after, &settings(), 3).1, [Gate::Session]);
        for reason in [None, Some(" ")] {
            let (settings, used) = (settings(), 0);
            let (before, after, step) = (LAW.as_bytes(), after.as_bytes(), &step);
            let verdict = judge(Asked {
                before,
                after,
                step,
                reason,
                settings: &settings,
                facts: &Facts::default(),
                used,
            });
            let refused: Vec<_> = verdict.refusals().map(|check| check.gate).collect();
            assert_eq!(refused, [Gate::Reason]);
        }
    }
}

#[test]
fn a_definition_is_verified_with_what_the_agent_knows() {
    let with = |condition: &str| {
        let definition = format!(
            "  definition do\n    check :c, condition: {condition:?}\n  end\n  content \"Green.\""
        );
        LAW.replace("  content \"Green.\"", &definition)
    };
    let yaml = "evolution_enabled: true\nmax_evolutions_per_session: 3\n";
    let refused = |condition: &str, used: u32| {
        let facts = Facts::of_agent(Known {
            settings: yaml,
            used: Some(used),
            ..Known::default()
        });
        let verdict = judge(Asked {
            before: LAW.as_bytes(),
            after: with(condition).as_bytes(),
            step: &evolve("tea"),
            reason: Some("x"),
            settings: &Settings::read(yaml),
            facts: &facts,
            used,
        });
        let refusals = verdict.refusals().map(|check| check.gate);
        refusals.filter(|gate| *gate == Gate::Definition).count()
    };
    let left = "evolution_count < max_evolutions_per_session";
    assert_eq!((refused(left, 2), refused(left, 3)), (0, 1));
    assert_eq!(refused("evolution_enabled == true", 0), 0);
    assert_eq!(refused("evolution_enabled == false", 0), 1);
    // What nobody knows keeps nothing from changing.
    assert_eq!(refused("block_count > 1000000", 0), 0);
}

#[test]
fn governance_is_read_where_it_is_written_out_and_else_the_settings_count() {
    let found = Governance::of(&law()).unwrap();
    assert_eq!(found.immutable, ["core_safety"]);
    assert_eq!(found.allowed.unwrap().len(), 5);
    let computed = LAW.replace("{ allowed_skills", "x = 1\n    { allowed_skills");
    assert_eq!(Governance::of(&Law::read(computed.as_bytes())), None);
    let before = LAW.replace("l0_governance", "tee");
    let after = before.replace("Green.", "Black.");
    let fallback = Governance {
        allowed: None,
        immutable: vec!["tea".to_owned()],
    };
    let settings = Settings {
        fallback,
        ..settings()
    };
    let step = evolve("tea");
    let asked = Asked {
        before: before.as_bytes(),
        after: after.as_bytes(),
        step: &step,
        reason: Some("x"),
        settings: &settings,
        facts: &Facts::default(),
        used: 0,
    };
    let refused: Vec<_> = judge(asked).refusals().map(|check| check.gate).collect();
    assert_eq!(refused, [Gate::Immutable]);
}
