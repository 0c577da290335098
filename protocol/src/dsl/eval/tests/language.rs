//! What the evaluated part of the language means, line by line as Ruby has it.

use super::*;

const AS_RUBY: &str = include_str!("../../../../tests/fixtures/eval/as_ruby.txt");

#[test]
fn gives_what_ruby_gives() {
    let cases = AS_RUBY.lines().filter(|line| !line.starts_with('#'));
    let mut wrong = Vec::new();
    for case in cases {
        let (code, expected) = case.rsplit_once(" #=> ").expect(case);
        match shown(code) {
            Ok(answer) if answer == expected => {}
            Ok(answer) => wrong.push(format!("{code}\n  {answer}, not {expected}")),
            Err(error) => wrong.push(format!("{code}\n  {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn asks_the_host_for_values() {
    for (code, expected) in [
        (
            "KairosMcp::SkillsConfig.load[\"max_evolutions_per_session\"]",
            "3",
        ),
        ("KairosMcp::SkillsConfig.evolution_enabled?", "true"),
        ("KairosMcp::SafeEvolver.evolution_count", "1"),
        (
            "File.join(File.dirname(KairosMcp.dsl_path), \"versions\")",
            "\"/agent/skills/versions\"",
        ),
        (
            "File.dirname(KairosMcp::SafeEvolver::DSL_PATH)",
            "\"/agent/skills\"",
        ),
        ("File.basename(KairosMcp.dsl_path)", "\"kairos.rb\""),
        (
            "[\"a\", \"/a\", \"/\", \"a/b/\", \"a//b\"].map { |path| File.dirname(path) }",
            "[\".\", \"/\", \"/\", \"a\", \"a\"]",
        ),
        ("File.join(\"a/\", \"/b\", \"c\")", "\"a/b/c\""),
        ("Dir.exist?(\"/agent/skills/versions\")", "true"),
        ("Dir.exist?(\"/etc\")", "false"),
        ("KairosMcp::LayerRegistry.summary", "[{:layer=>:L0}]"),
        (
            "chain = KairosChain::Chain.new; [chain.valid?, chain.blocks.size, chain.blocks.first&.index]",
            "[true, 7, 0]",
        ),
        (
            "::KairosMcp::KairosChain::Chain.new.chain.last.hash",
            "\"hash 6\"",
        ),
        ("KairosChain::Chain.new.load_state", ":readable"),
        (
            "KairosChain::Chain.new.latest_block.previous_hash",
            "\"before 6\"",
        ),
        (
            "begin; RubyVM::AbstractSyntaxTree.parse(\"skill :a do\"); rescue SyntaxError => e; !e.message.empty?; end",
            "true",
        ),
        ("RubyVM::AbstractSyntaxTree.parse(\"1 + 1\").nil?", "false"),
        (
            "Kairos.skills.map { |skill| [skill.id, skill.title, skill.behavior.nil?] }",
            "[[:a, nil, false]]",
        ),
        ("Kairos.skill(\"a\").can_evolve?(:content)", "true"),
        ("Kairos.skill(:b)", "nil"),
        (
            "[lambda { 1 }, Kairos.skill(:a), KairosChain::Chain.new]",
            "[\"#<lambda>\", \"#<skill a>\", \"#<ledger>\"]",
        ),
    ] {
        assert_eq!(shown(code).as_deref(), Ok(expected), "{code}");
    }
}

#[test]
fn says_what_the_host_does_not_tell() {
    for (code, what) in [
        ("KairosMcp::SkillsConfig.load", "the settings of evolution"),
        (
            "KairosMcp::SkillsConfig.evolution_enabled?",
            "whether the law may change",
        ),
        (
            "KairosMcp::SafeEvolver.evolution_count",
            "how often the law changed",
        ),
        ("KairosMcp.dsl_path", "the path of the law"),
        ("Dir.exist?(\"/\")", "whether there is a directory"),
        ("KairosMcp::LayerRegistry.summary", "the layers"),
        ("KairosChain::Chain.new", "the state of the ledger"),
    ] {
        // Silence is no error that code can take for an answer.
        let code = format!("begin\n{code}\nrescue Exception => e\n1\nend");
        let error = shown_within(&code, &(), Limits::default());
        let Err(EvalError::Unanswered { what: told, at }) = error else {
            panic!("{code}: {error:?}");
        };
        assert_eq!((told, at.line.get(), at.skill.as_str()), (what, 4, "a"));
    }
}

#[test]
fn asks_other_behaviors_and_only_those_that_can_be_read() {
    let source = "skill :one do\n  behavior { { a: 1 } }\nend\nskill :two do\n  behavior do\n    \
                  Kairos.skill(:one).behavior.call[:a] + 1\n  end\nend\nskill :three do\n  behavior do\n    \
                  Kairos.skill(:four).behavior.call\n  end\nend\nskill :four do\n  behavior do\n    1\n    nil + 1\n  \
                  end\nend\nskill :five do\n  behavior 1\nend\nskill :six do\n  version VERSION\n  \
                  behavior { Kairos.skill(:six).version }\nend\n";
    let law = Law::read(source.as_bytes());
    let run = |id: &str| {
        let mut evaluation = Evaluation::new(&law, source, &(), Limits::default());
        let answer = evaluation.behavior(id).map_err(|error| error.to_string())?;
        let literal = evaluation
            .literal(answer)
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(literal.inspect())
    };
    assert_eq!(run("two").as_deref(), Ok("2"));
    let error = "line 17, in 'four': undefined method `+' for nil:NilClass";
    assert_eq!(run("three"), Err(error.to_owned()));
    let error = "the code of 'five' cannot be read; see the faults of the law";
    assert_eq!(run("five"), Err(error.to_owned()));
    let error = "line 25, in 'six': `version` of 'six' cannot be read";
    assert_eq!(run("six"), Err(error.to_owned()));
    assert_eq!(run("ten"), Err("the law has no skill 'ten'".to_owned()));
}

#[test]
fn tells_errors_with_their_lines() {
    for (code, error) in [
        (
            "a = 1\na.fetch(2)",
            "line 4, in 'a': undefined method `fetch' for Integer, given Integer",
        ),
        (
            "[1,\n nil].map { |n|\n n + 1 }",
            "line 5, in 'a': undefined method `+' for nil:NilClass",
        ),
        (
            "1 < \"a\"",
            "line 3, in 'a': comparison of Integer with String failed",
        ),
        (
            "\"a\" + 1",
            "line 3, in 'a': only a text can be added to a text; use `to_s`",
        ),
        ("raise \"no\"", "line 3, in 'a': no"),
        (
            "begin\n raise KeyError, \"k\"\nrescue TypeError\nend",
            "line 4, in 'a': k",
        ),
        (
            "[1, :a].sort",
            "line 3, in 'a': comparison of these values failed",
        ),
        (
            "lambda { |a| a }.call",
            "line 3, in 'a': wrong number of arguments (given 0, expected 1)",
        ),
        (
            "(1..\"a\")",
            "line 3, in 'a': a range must be of whole numbers",
        ),
        (
            "[][1] = 1",
            "line 3, in 'a': the index is outside of the list",
        ),
        (
            "f = 1; [1].map(&f)",
            "line 3, in 'a': only a lambda can be passed on",
        ),
        (
            "Kairos.skill(1)",
            "line 3, in 'a': this takes a text or a symbol",
        ),
    ] {
        assert_eq!(told(code), error, "{code}");
    }
    // Without the text of the law, lines count from the block.
    let law = Law::read(law_of("1\nnil.x rescue 2\nnil.size").as_bytes());
    let mut evaluation = Evaluation::new(&law, "", &(), Limits::default());
    let error = evaluation.behavior("a").unwrap_err().to_string();
    assert!(
        error.starts_with("line 3, in 'a': `x` is not evaluated"),
        "{error}"
    );
}

#[test]
fn changes_nothing_of_the_law_it_reads() {
    let source = law_of(
        "list = Kairos.skill(:b).guarantees\nlist << :more\n[list, Kairos.skill(:b).guarantees]",
    );
    let source = format!("{source}skill :b do\n  guarantees {{ calm }}\nend\n");
    let law = Law::read(source.as_bytes());
    let before = law.clone();
    let mut evaluation = Evaluation::new(&law, &source, &(), Limits::default());
    let answer = evaluation.behavior("a").unwrap();
    let shown = evaluation.literal(answer).unwrap().inspect();
    assert_eq!(shown, "[[:calm, :more], [:calm]]");
    assert_eq!(law, before);
}
