//! What is printed reads as itself.

use proptest::prelude::*;

use super::super::*;

/// Prints a law, reads it again, by its source and by its JSON, and expects the same tree.
pub(super) fn printed(law: &Law) -> String {
    let text = law.print().unwrap();
    let again = Law::read(text.as_bytes());
    assert_eq!(
        (&again.skills, &again.outside),
        (&law.skills, &law.outside),
        "{text}"
    );
    assert_eq!(again.print().unwrap(), text);
    let json = law.to_json().unwrap().to_string();
    let again = Law::from_json(json.as_bytes()).unwrap();
    assert_eq!(
        (&again.skills, &again.outside),
        (&law.skills, &law.outside),
        "{json}"
    );
    text
}

#[test]
fn the_vectors_are_printed_and_read_again() {
    for source in [
        include_str!("../../../tests/fixtures/vectors/dsl/01_node_kinds.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/02_conditions.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/03_drift.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/04_degenerate.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/05_decompile.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/06_dynamic.rb"),
        include_str!("../../../tests/fixtures/vectors/dsl/10_skill_tools.rb"),
    ] {
        printed(&Law::read(source.as_bytes()));
    }
}

#[test]
fn a_law_is_printed_as_people_write_it() {
    let source = concat!(
        "X = 1\n\nskill :a do\n  version \"1.0\"\n\n  content <<~MD\n    # A\n\n      b \\\\ \\#{c}\n  MD\n\n",
        "  guarantees do\n    immutable\n  end\n\n  evolve do\n    allow :content\n    deny :all\n  end\n\n",
        "  definition do\n    constraint :one, required: true\n    check :two,\n      severity: :soft,\n",
        "      condition: \"a < b\"\n  end\n\n  behavior do\n    { a: 1 }\n  end\n\n",
        "  tool do\n    name \"t\"\n    input do\n      property :n, type: \"string\", description: \"\"\n",
        "      required :n\n    end\n    execute { |args| args }\n  end\nend\n",
    );
    assert_eq!(printed(&Law::read(source.as_bytes())), source);
}

#[test]
fn json_that_no_source_could_say_is_refused() {
    for json in [
        "[]",
        r#"{"skills": [{"id": "a", "members": [{"member": "guarantees", "value": {"words": ["a b"]}}]}]}"#,
        r#"{"skills": [{"id": "a", "members": [{"member": "behavior", "value": "do end; system 'x'"}]}]}"#,
        r#"{"skills": [{"id": "a", "members": [{"member": "title", "value": {"x": 1}}]}]}"#,
        r#"{"skills": [{"id": "a", "members": [], "more": 1}]}"#,
    ] {
        assert!(Law::from_json(json.as_bytes()).is_err(), "{json}");
    }
}

fn literal() -> impl Strategy<Value = Literal> {
    let text = prop_oneof![
        "[ a-zé\"'\\\\#{}$@\n\t]{0,12}",
        "( {0,3}[a-z#{}\\\\]{0,4}\n){1,4}",
        "\\PC{0,6}",
        Just("MD\n TEXT\n".to_owned())
    ];
    let leaf = prop_oneof![
        Just(Literal::Nil),
        any::<bool>().prop_map(Literal::Bool),
        any::<i64>().prop_map(|n| Literal::integer(n.into()).unwrap()),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(Literal::Float),
        text.clone().prop_map(Literal::Text),
        text.prop_map(Literal::Symbol),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Literal::Array),
            prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(|pairs| {
                let mut once: Vec<(Literal, Literal)> = Vec::new();
                for (key, value) in pairs {
                    if !once.iter().any(|(other, _)| *other == key) {
                        once.push((key, value));
                    }
                }
                Literal::Map(once)
            }),
            (-9_i64..9, any::<bool>()).prop_map(|(n, exclusive)| Literal::Range {
                from: Box::new(Literal::integer(n.into()).unwrap()),
                to: Box::new(Literal::integer(5).unwrap()),
                exclusive,
            }),
        ]
    })
}

fn name() -> impl Strategy<Value = Literal> {
    "[a-z_é \"]{1,6}".prop_map(Literal::Symbol)
}

fn code() -> impl Strategy<Value = Option<Code>> {
    prop::option::of(prop_oneof![
        Just(Code("{ |x| x << 1 }".to_owned())),
        Just(Code("do\n    <<~A\n  end\n    A\n  end".to_owned())),
    ])
}

fn node() -> impl Strategy<Value = Spanned<Item>> {
    let extra = prop::collection::btree_map("[a-z_]{1,3}|a b|é|if", literal(), 0..3);
    (
        prop::sample::select(Maker::ALL.to_vec()),
        name(),
        extra,
        literal(),
    )
        .prop_map(|(maker, name, extra, value)| {
            let mut options: Vec<_> = match maker.optional() {
                Some(_) => Vec::new(),
                None => extra.into_iter().collect(),
            };
            options.extend(
                maker
                    .required()
                    .iter()
                    .map(|name| ((*name).to_owned(), value.clone())),
            );
            Item::Node(Node {
                maker,
                name,
                options,
            })
            .into()
        })
}

fn member() -> impl Strategy<Value = Spanned<Member>> {
    let values = || prop::collection::vec(literal(), 0..3);
    let words = prop::collection::vec("[a-z][a-z_]{0,5}x[?!]?|Ax", 0..3);
    let flat = prop::collection::vec(name(), 0..3);
    let member = prop_oneof![
        literal().prop_map(Member::Version),
        literal().prop_map(Member::Title),
        literal().prop_map(Member::DependsOn),
        literal().prop_map(Member::Content),
        literal().prop_map(Member::FormalizationNotes),
        literal().prop_map(|value| Member::Guarantees(Guarantees::Value(value))),
        words.prop_map(|words| Member::Guarantees(Guarantees::Words(words))),
        flat.prop_map(Member::Inputs),
        (values(), values(), name(), code()).prop_map(|(allowed, denied, name, code)| {
            let conditions = vec![Condition { name, code }];
            Member::Evolve(Evolution {
                allowed,
                denied,
                conditions,
            })
        }),
        prop::collection::vec(node(), 0..3).prop_map(Member::Definition),
        code().prop_map(|code| Member::Behavior(code.unwrap_or(Code("{}".to_owned())))),
        (literal(), literal(), name(), values(), code()).prop_map(
            |(name, value, property, required, execute)| {
                let property = Property {
                    name: property,
                    kind: value.clone(),
                    description: value,
                };
                let properties = vec![property];
                Member::Tool(Tool {
                    name,
                    description: Literal::Nil,
                    properties,
                    required,
                    execute,
                })
            }
        ),
        (literal(), values(), values(), code()).prop_map(|(name, requires, records, run)| {
            Member::Effect(Effect {
                name,
                requires,
                records,
                run,
            })
        }),
    ];
    member.prop_map(Spanned::from)
}

fn any_law() -> impl Strategy<Value = Law> {
    let skill = (
        "[a-zé \n\"#]{0,5}",
        any::<bool>(),
        prop::collection::vec(member(), 0..5),
    );
    let skill = skill.prop_map(|(id, text_id, members)| {
        Skill {
            id,
            text_id,
            members,
        }
        .into()
    });
    prop::collection::vec(skill, 0..3).prop_map(|skills| Law {
        skills,
        ..Law::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_printed_law_reads_as_itself(law in any_law()) {
        printed(&law);
    }
}
