//! Whatever is evaluated stays within its limits.

use proptest::prelude::*;

use super::*;

/// Evaluates a law and holds what comes of it against every promise.
fn keeps_its_promises(source: &str, limits: Limits) {
    let law = Law::read(source.as_bytes());
    let facts = facts();
    let run = || {
        let mut evaluation = Evaluation::new(&law, source, &facts, limits);
        let answer = evaluation.behavior("a");
        let answer = answer.and_then(|answer| evaluation.literal(answer));
        (answer, evaluation.spent())
    };
    let (first, spent) = run();
    let (again, spent_again) = run();
    assert_eq!(format!("{first:?}"), format!("{again:?}"), "{source}");
    assert_eq!(spent, spent_again, "{source}");
    match first {
        Ok(answer) => {
            assert!(
                spent.steps <= limits.steps && spent.bytes <= limits.bytes,
                "{source}"
            );
            assert!(answer.to_string().len() <= 8 * limits.output, "{source}");
        }
        Err(EvalError::Refused { faults, .. }) => {
            assert!(!faults.is_empty(), "{source}");
            let lines = source.lines().count();
            assert!(
                faults.iter().all(|fault| fault.line.get() <= lines),
                "{source}: {faults:?}"
            );
        }
        Err(EvalError::Raised { at, .. } | EvalError::Limit { at, .. }) => {
            assert!(at.line.get() <= source.lines().count(), "{source}: {at}");
        }
        Err(_) => {}
    }
}

fn small() -> Limits {
    Limits {
        steps: 3_000,
        bytes: 64 * 1024,
        output: 4 * 1024,
        ..Limits::default()
    }
}

/// Code that is Ruby, most of which is evaluated.
fn code() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("nil".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| format!("({})", n / 2)),
        (-9_i32..9).prop_map(|n| format!("({n})")),
        Just("1.5".to_owned()),
        "[a-z ]{0,6}".prop_map(|text| format!("\"{text}\"")),
        "[a-z]{1,4}".prop_map(|name| format!(":{name}_")),
        Just("(1..9)".to_owned()),
        Just("Kairos.skills".to_owned()),
        Just("Kairos.skill(:a)".to_owned()),
        Just("KairosChain::Chain.new".to_owned()),
        prop::sample::select(vec!["v", "w"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        let methods = prop::sample::select(super::super::word::METHODS);
        let operators = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "**", "<", "<=>", "==", "&&", "||", "<<", "&", "|",
        ]);
        let word = methods.prop_filter("a word", |name| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
        });
        prop_oneof![
            (inner.clone(), operators, inner.clone())
                .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), word.clone()).prop_map(|(a, name)| format!("{a}.{name}")),
            (inner.clone(), word.clone(), inner.clone())
                .prop_map(|(a, name, b)| format!("{a}.{name}({b})")),
            (inner.clone(), word.clone(), inner.clone())
                .prop_map(|(a, name, b)| format!("{a}.{name} {{ |v, w| {b} }}")),
            (inner.clone(), word.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, name, b, c)| format!("{a}.{name}({b}) {{ |v| {c} }}")),
            (inner.clone(), word).prop_map(|(a, name)| format!("{a}&.{name}(&:to_s)")),
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{ {a} => {b}, k: {a} }}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("\"x#{{{a}}}y#{{{b}}}\"")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("(v = {a}; w = {b}; v << w; v)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(v = {a}; v[{b}] = v; v)")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("begin; {a}; rescue => e; [e.message, {b}]; end")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("lambda {{ |v, w = {a}| {b} }}.call({a})")),
            (inner.clone(), inner)
                .prop_map(|(a, b)| format!("(case {a} when {b} then 1 else raise \"no\" end)")),
        ]
    })
}

/// Code that may be anything.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop::sample::select(vec![
        "a",
        "b = ",
        "1",
        "\"",
        "'",
        "#{",
        "}",
        "{",
        "[",
        "]",
        "(",
        ")",
        " do |x| ",
        "\nend\n",
        "lambda",
        ".call",
        ".map",
        "&:size",
        "&",
        "|",
        ";",
        "\n",
        ":a",
        "=> ",
        "<<",
        "<<~T\n",
        "T\n",
        "if ",
        "begin\n",
        "rescue => e\n",
        "File",
        "::",
        "Kairos.skills",
        "send",
        "`",
        "%w[",
        "..",
        "*",
        "**",
        "-",
        "!",
        "?",
        "é",
        "\0",
        "_1",
        "@a",
        "$a",
    ]);
    prop::collection::vec(scrap, 0..24).prop_map(|scraps| scraps.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn code_keeps_every_promise(code in code()) {
        keeps_its_promises(&law_of(&format!("v = [1]; w = {{ a: 1 }}\n{code}")), small());
    }

    #[test]
    fn scraps_keep_every_promise(code in scraps()) {
        keeps_its_promises(&law_of(&code), small());
    }

    #[test]
    fn limits_of_any_size_are_kept(code in code(), steps in 0_u64..300, bytes in 0_usize..4_000, depth in 0_usize..20) {
        let limits = Limits { steps, bytes, depth, output: 512 };
        keeps_its_promises(&law_of(&code), limits);
    }

    #[test]
    fn sums_are_those_of_ruby(a in any::<i32>(), b in any::<i32>().prop_filter("not 0", |b| *b != 0)) {
        let (a, b) = (i64::from(a), i64::from(b));
        let floor = (a as f64 / b as f64).floor() as i64;
        let code = format!("[({a}) + ({b}), ({a}) * ({b}), ({a}) / ({b}), ({a}) % ({b}), ({a}) <=> ({b})]");
        let expected = format!("[{}, {}, {floor}, {}, {}]", a + b, a * b, a - b * floor, a.cmp(&b) as i64);
        prop_assert_eq!(shown(&code), Ok(expected));
    }

    #[test]
    fn sorts_as_the_standard_library_does(mut numbers in prop::collection::vec(-50_i64..50, 0..40)) {
        let code = format!("{numbers:?}.sort");
        numbers.sort_unstable();
        prop_assert_eq!(shown(&code), Ok(format!("{numbers:?}")));
    }
}
