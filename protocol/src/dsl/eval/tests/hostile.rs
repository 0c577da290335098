//! Code as strangers write it: forms that are refused, and bombs that meet a limit.

use std::thread;

use super::*;

/// Code that is refused before anything runs, and what the refusal names.
const REFUSED: &[(&str, &str)] = &[
    ("`id`", "a shell command"),
    ("%x{id}", "a shell command"),
    ("system(\"id\")", "`system`"),
    ("Kernel.system(\"id\")", "`Kernel.system`"),
    ("exec \"id\"", "`exec`"),
    ("spawn \"id\"", "`spawn`"),
    ("fork { 1 }", "`fork`"),
    ("IO.popen(\"id\")", "`IO.popen`"),
    ("open(\"|id\")", "`open`"),
    ("File.read(\"/etc/passwd\")", "`File.read`"),
    ("File.exist?(\"/etc/passwd\")", "`File.exist?`"),
    ("::File.write(\"a\", \"b\")", "`File.write`"),
    ("Dir.glob(\"*\")", "`Dir.glob`"),
    ("Dir[\"*\"]", "the constant `Dir`"),
    ("ENV[\"HOME\"]", "the constant `ENV`"),
    ("Time.now", "`Time.now`"),
    ("rand", "`rand`"),
    ("sleep 1", "`sleep`"),
    ("require \"socket\"", "`require`"),
    ("Object.const_get(:File)", "`Object.const_get`"),
    (
        "ObjectSpace.each_object { |o| o }",
        "`ObjectSpace.each_object`",
    ),
    ("\"a\".send(:system, \"id\")", "`send`"),
    ("\"a\".public_send(:size)", "`public_send`"),
    ("\"a\".__send__(:size)", "`__send__`"),
    ("\"a\".method(:size).call", "`method`"),
    ("\"a\".class.name", "`class`"),
    ("\"a\".instance_eval { 1 }", "`instance_eval`"),
    (
        "\"a\".instance_variable_get(:@a)",
        "`instance_variable_get`",
    ),
    ("eval \"1\"", "`eval`"),
    ("binding.eval(\"1\")", "`eval`"),
    ("self.class", "`self`"),
    ("define_method(:a) { 1 }", "`define_method`"),
    ("def a; 1; end", "a method definition"),
    ("def method_missing(name); 1; end", "a method definition"),
    ("class A; end", "a class or module"),
    ("module A; end", "a class or module"),
    ("class << self; end", "a class or module"),
    ("A = 1", "an assignment"),
    ("@a = 1", "an assignment"),
    ("$a = 1", "an assignment"),
    ("@@a", "a variable"),
    ("$0", "a variable"),
    ("a, b = 1, 2", "an assignment"),
    ("a = {}; a[:b] ||= 1", "such an assignment"),
    ("while true do 1 end", "a loop"),
    ("until false do 1 end", "a loop"),
    ("begin; 1; end while true", "a loop"),
    ("for a in [1] do a end", "a loop"),
    ("loop { 1 }", "`loop`"),
    ("proc { 1 }", "`proc`"),
    ("Proc.new { 1 }", "`Proc.new`"),
    ("[1].map(&:system)", "`&:system`"),
    ("[1].map(&\"system\".to_sym)", "a block passed on like this"),
    (
        "[1].map(&\"si#{\"ze\"}\".to_sym)",
        "a block passed on like this",
    ),
    ("[\"a\"].map(&:instance_eval)", "`&:instance_eval`"),
    ("[1].each(&method(:puts))", "a block passed on like this"),
    ("/(a+)+$/ =~ \"aaaa\"", "a regular expression"),
    ("\"a\".match?(/a/)", "`match?`"),
    ("\"a\".freeze", "`freeze`"),
    ("\"a\".upcase!", "`upcase!`"),
    ("[1].clear", "`clear`"),
    ("[*[1]]", "arguments spread out"),
    ("{ **{ a: 1 } }", "arguments spread out"),
    ("[1].map { _1 }", "a block with numbered parameters"),
    ("lambda { |*a| a }", "a parameter of this form"),
    ("lambda { |**a| a }", "a parameter of this form"),
    ("lambda { |&a| a }", "a parameter of this form"),
    ("lambda { |a; b| a }", "a parameter of this form"),
    ("return 1", "a construct of Ruby that is not read"),
    ("[1].each { break }", "a construct of Ruby that is not read"),
    ("begin; 1; ensure; 2; end", "an exception handler"),
    (
        "begin; 1; rescue; retry; end",
        "a construct of Ruby that is not read",
    ),
    ("begin; 1; rescue SystemExit; end", "an error of this class"),
    ("begin; 1; rescue => @a; end", "an error kept like this"),
    ("raise SystemExit, \"a\"", "an error of this class"),
    ("raise", "such a `raise`"),
    ("exit", "`exit`"),
    ("abort \"a\"", "`abort`"),
    ("at_exit { 1 }", "`at_exit`"),
    ("trap(\"INT\") { 1 }", "`trap`"),
    ("__FILE__", "a construct of Ruby that is not read"),
    ("__method__", "`__method__`"),
    ("defined?(a)", "a construct of Ruby that is not read"),
    ("alias a b", "a construct of Ruby that is not read"),
    ("undef a", "a construct of Ruby that is not read"),
    ("yield 1", "a construct of Ruby that is not read"),
    ("super", "a construct of Ruby that is not read"),
    ("case [1]\nin [a] then a end", "a condition"),
    ("case when true then 1 end", "`case` without a value"),
    ("1r", "a rational or complex number"),
    ("99999999999999999999", "a number beyond 64 bits"),
    ("(1..)", "a range without an end"),
    ("\"\\xff\"", "a text that is not UTF-8"),
    ("Kairos", "the constant `Kairos`"),
    ("Kairos.skills = 1", "`Kairos.skills=`"),
    ("Kairos.reload!", "`Kairos.reload!`"),
    ("Kairos.skills(1)", "a call with so many values"),
    (
        "KairosMcp::SafeEvolver.new.apply",
        "`KairosMcp::SafeEvolver.new`",
    ),
    ("Kairos.skill(:a).evolve { allow :all }", "`evolve`"),
    ("a", "`a`"),
    ("puts 1", "`puts`"),
    ("format(\"%d\", 1)", "`format`"),
    ("1.upto(3) { |n| n }", "`upto`"),
    ("1.respond_to?(:system)", "`respond_to?`"),
    ("1.then { |n| n }", "`then`"),
];

#[test]
fn refuses_what_reaches_further_before_anything_runs() {
    let mut wrong = Vec::new();
    for (code, names) in REFUSED {
        // Behind a line that would end with an error if it ran.
        let source = law_of(&format!("nil + 1\n{code}"));
        let law = Law::read(source.as_bytes());
        let mut evaluation = Evaluation::new(&law, &source, &(), Limits::default());
        match evaluation.behavior("a") {
            Err(EvalError::Refused { skill, faults }) => {
                assert_eq!(skill, "a");
                let found = faults.iter().any(|fault| {
                    let line = (4..=5).contains(&fault.line.get());
                    line && fault.code == FaultCode::NotEvaluated && fault.what.contains(names)
                });
                if !found {
                    wrong.push(format!("{code}: {faults:?}"));
                }
            }
            other => wrong.push(format!("{code}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_all_that_it_refuses_at_once_with_what_to_write_instead() {
    let source = law_of("`id`\nputs 1\n[1].map(&:exit)");
    let law = Law::read(source.as_bytes());
    let mut evaluation = Evaluation::new(&law, &source, &(), Limits::default());
    let error = evaluation.behavior("a").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 3, in 'a': a shell command is not evaluated; remove it; code of a law reaches no files, processes, \
         network, environment or clock (and 2 more)"
    );
    let EvalError::Refused { faults, .. } = error else {
        panic!("{error:?}");
    };
    let lines: Vec<_> = faults.iter().map(|fault| fault.line.get()).collect();
    assert_eq!(lines, [3, 4, 5]);
    assert!(
        faults.iter().all(|fault| !fault.mend.is_empty()),
        "{faults:?}"
    );
}

#[test]
fn tells_beforehand_what_will_be_refused_with_its_place_in_the_law() {
    let source = "skill :é do\n  behavior do\n    `id`\n  end\nend\nskill :b do\n  tool do\n    execute { |é| é; puts \
                  1 }\n  end\nend\nskill :c do\n  behavior { 1 }\nend\n";
    let law = Law::read(source.as_bytes());
    let faults = check(&law, source);
    let told: Vec<_> = faults
        .iter()
        .map(|fault| {
            let text = &source[fault.span.start..fault.span.end];
            (fault.line.get(), fault.column.get(), text, fault.severity)
        })
        .collect();
    let warning = Severity::Warning;
    assert_eq!(told, [(3, 5, "`id`", warning), (8, 22, "puts 1", warning)]);
    // Without the text of the law, places are those of the blocks.
    let lines: Vec<_> = check(&law, "")
        .iter()
        .map(|fault| fault.line.get())
        .collect();
    assert_eq!(lines, [2, 1]);
}

/// Code that would never end, or take all memory, and the limit that ends it.
const BOMBS: &[(&str, Limit)] = &[
    ("\"a\" * 10 ** 9", Limit::Bytes(BYTES_MAX)),
    ("\"a\" * 9_000_000_000_000_000_000", Limit::Bytes(BYTES_MAX)),
    ("[1] * 10 ** 9", Limit::Bytes(BYTES_MAX)),
    ("[] * 10 ** 9", Limit::Steps(STEPS_MAX)),
    ("(1..10 ** 18).to_a", Limit::Bytes(BYTES_MAX)),
    ("(1..10 ** 18).each { |n| n }", Limit::Steps(STEPS_MAX)),
    ("(10 ** 18).times { |n| n }", Limit::Steps(STEPS_MAX)),
    (
        "(1..9223372036854775807).each { |n| n }",
        Limit::Steps(STEPS_MAX),
    ),
    ("s = \"a\"; 64.times { s = s + s }", Limit::Bytes(BYTES_MAX)),
    (
        "s = \"a\"; 64.times { s = \"#{s}#{s}\" }",
        Limit::Bytes(BYTES_MAX),
    ),
    (
        "s = \"a\" * 100_000; \"#{[s] * 1000}\"",
        Limit::Bytes(BYTES_MAX),
    ),
    (
        "s = \"a\" * 100_000; ([s] * 1000).join",
        Limit::Bytes(BYTES_MAX),
    ),
    (
        "s = \"a\" * 100_000; s.gsub(\"a\", s)",
        Limit::Bytes(BYTES_MAX),
    ),
    ("a = [1]; a.each { |n| a << n }", Limit::Steps(STEPS_MAX)),
    ("a = [1]; a.map { |n| a << n }", Limit::Bytes(BYTES_MAX)),
    ("a = [1]; 64.times { a.concat(a) }", Limit::Bytes(BYTES_MAX)),
    (
        "a = [1]; 64.times { a = [a, a] }; a.flatten",
        Limit::Steps(STEPS_MAX),
    ),
    (
        "a = [1]; b = [1]; 64.times { a = [a, a]; b = [b, b] }; a == b",
        Limit::Steps(STEPS_MAX),
    ),
    (
        "a = [1]; b = [1]; 64.times { a = [a, a]; b = [b, b] }; a <=> b",
        Limit::Steps(STEPS_MAX),
    ),
    (
        "a = [1]; 40.times { a = [a, a] }; a.to_s",
        Limit::Bytes(BYTES_MAX),
    ),
    (
        "a = [1]; 40.times { a = { a: a, b: a } }; a",
        Limit::Output(OUTPUT_MAX),
    ),
    ("\"a\" * 1_000_000", Limit::Output(OUTPUT_MAX)),
    ("a = []; a << a; a", Limit::Depth(64)),
    ("a = []; a << a; a.inspect", Limit::Depth(64)),
    ("a = []; a << a; a.flatten", Limit::Depth(DEPTH_MAX)),
    ("a = []; a << a; a.join", Limit::Depth(DEPTH_MAX)),
    (
        "a = []; a << a; b = []; b << b; a == b",
        Limit::Depth(DEPTH_MAX),
    ),
    (
        "a = {}; a[:a] = a; b = {}; b[:a] = b; a == b",
        Limit::Depth(DEPTH_MAX),
    ),
    ("f = lambda { f.call }; f.call", Limit::Depth(DEPTH_MAX)),
    (
        "f = lambda { |x| x.call(x) }; f.call(f)",
        Limit::Depth(DEPTH_MAX),
    ),
    (
        "f = nil; g = lambda { f.call }; f = lambda { g.call }; f.call",
        Limit::Depth(DEPTH_MAX),
    ),
    (
        "f = lambda { |n| [1].map { f.call(n) } }; f.call(1)",
        Limit::Depth(DEPTH_MAX),
    ),
    (
        "f = lambda { |n| [1].map(&f) }; f.call(1)",
        Limit::Depth(DEPTH_MAX),
    ),
    ("Kairos.skill(:a).behavior.call", Limit::Depth(DEPTH_MAX)),
    (
        "f = lambda { |n| n < 2 ? n : f.call(n - 1) + f.call(n - 2) }; f.call(30)",
        Limit::Steps(STEPS_MAX),
    ),
    (
        "fs = []; (10 ** 9).times { |n| fs << lambda { n } }",
        Limit::Bytes(BYTES_MAX),
    ),
    (
        "h = {}; (10 ** 9).times { |n| h[n] = n }",
        Limit::Steps(STEPS_MAX),
    ),
    (
        "(10 ** 9).times { begin; raise \"a\" * 1000; rescue => e; 1; end }",
        Limit::Bytes(BYTES_MAX),
    ),
    (
        "(10 ** 9).times { RubyVM::AbstractSyntaxTree.parse(\"\") }",
        Limit::Steps(STEPS_MAX),
    ),
    (
        "begin; (10 ** 9).times { |n| n }; rescue Exception; 1; end",
        Limit::Steps(STEPS_MAX),
    ),
    ("9_223_372_036_854_775_807 + 1", Limit::Integer),
    ("-9_223_372_036_854_775_807 - 2", Limit::Integer),
    ("(-9_223_372_036_854_775_807 - 1) / -1", Limit::Integer),
    (
        "(-9_223_372_036_854_775_807 - 1) % -1 + 9_223_372_036_854_775_807 * 2",
        Limit::Integer,
    ),
    ("(-9_223_372_036_854_775_807 - 1).abs", Limit::Integer),
    ("2 ** 2 ** 20", Limit::Integer),
    ("\"99999999999999999999\".to_i", Limit::Integer),
    ("1e30.to_i", Limit::Integer),
    (
        "t = \"a = 1\\n\" * 6000; RubyVM::AbstractSyntaxTree.parse(t); RubyVM::AbstractSyntaxTree.parse(t)",
        Limit::Parsed(super::super::super::SOURCE_MAX),
    ),
];

#[test]
fn ends_what_would_not_end() {
    let mut wrong = Vec::new();
    for (code, expected) in BOMBS {
        match shown(code) {
            Err(EvalError::Limit { limit, at })
                if limit == *expected && (2..=3).contains(&at.line.get()) => {}
            other => wrong.push(format!("{code}: {other:.200?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nests_as_deep_as_it_may_on_a_small_stack() {
    // The deepest code, in the deepest calls.
    let code = format!(
        "f = lambda {{ |x| {}x.call(x){} }}; f.call(f)",
        "[1].map { [1].each_with_object([]) { ".repeat(9),
        " } }".repeat(9)
    );
    let deep = [
        code.as_str(),
        "f = lambda { |x| [[1]].sort_by { x.call(x) } }; f.call(f)",
    ];
    for code in deep.map(str::to_owned) {
        let small = thread::Builder::new().stack_size(1536 * 1024);
        let done = small.spawn(move || shown(&code)).unwrap().join();
        let error = done.expect("no stack overflow");
        let limit = Limit::Depth(DEPTH_MAX);
        assert!(
            matches!(error, Err(EvalError::Limit { limit: found, .. }) if found == limit),
            "{error:?}"
        );
    }
}

#[test]
fn refuses_code_nested_too_deep_and_too_long() {
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    assert!(told(&deep).contains("code nested this deep"));
    let chain = format!("\"a\"{}", " + \"a\"".repeat(100));
    assert!(told(&chain).contains("code nested this deep"));
    let law = Law {
        skills: vec![
            Skill {
                id: "a".to_owned(),
                text_id: false,
                members: vec![
                    Member::Behavior(Code(format!("do {} end", "1;".repeat(40_000)))).into(),
                ],
            }
            .into(),
        ],
        ..Law::default()
    };
    let mut evaluation = Evaluation::new(&law, "", &(), Limits::default());
    let error = evaluation.behavior("a").unwrap_err().to_string();
    assert!(error.contains("the limit is 65536"), "{error}");
}

#[test]
fn takes_only_a_block_for_the_code_of_a_block() {
    // Code that came as JSON may be anything.
    for code in [
        "",
        "1",
        "do 1 end; `id`",
        "{ 1 }.call",
        "(1) { 2 }",
        "do end end",
        "do |a| _1 end",
        "\n{ 1 }",
    ] {
        let skill = Skill {
            id: "a".to_owned(),
            text_id: false,
            members: vec![Member::Behavior(Code(code.to_owned())).into()],
        };
        let law = Law {
            skills: vec![skill.into()],
            ..Law::default()
        };
        let mut evaluation = Evaluation::new(&law, "", &(), Limits::default());
        let error = evaluation.behavior("a").unwrap_err();
        assert!(
            matches!(error, EvalError::Refused { .. }),
            "{code}: {error:?}"
        );
    }
}

#[test]
fn grants_less_than_the_limits_and_never_more() {
    let tight = |limits: Limits, code: &str| match shown_within(code, &(), limits) {
        Err(EvalError::Limit { limit, .. }) => limit,
        other => panic!("{code}: {other:?}"),
    };
    let all = Limits::default();
    assert_eq!(
        tight(Limits { steps: 3, ..all }, "[1, 2, 3]"),
        Limit::Steps(3)
    );
    assert_eq!(
        tight(Limits { depth: 2, ..all }, "[[[1]]]"),
        Limit::Depth(2)
    );
    assert_eq!(
        tight(Limits { bytes: 200, ..all }, "\"a\" * 200"),
        Limit::Bytes(200)
    );
    assert_eq!(
        tight(Limits { output: 10, ..all }, "\"a\" * 11"),
        Limit::Output(10)
    );
    let wide = Limits {
        steps: u64::MAX,
        depth: usize::MAX,
        bytes: usize::MAX,
        output: usize::MAX,
    };
    assert_eq!(
        tight(wide, "(10 ** 18).times { |n| n }"),
        Limit::Steps(STEPS_MAX)
    );
    assert_eq!(
        tight(wide, "f = lambda { f.call }; f.call"),
        Limit::Depth(DEPTH_MAX)
    );
}
