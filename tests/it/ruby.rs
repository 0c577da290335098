//! Our reader and evaluator of the skills language against Ruby itself, where there is one.
//!
//! `KAIROS_RUBY_MUTATIONS` says how many mutations of laws are compared, `KAIROS_RUBY_SEED` which.

use std::env;
use std::io::Write as _;
use std::process::{Command, Stdio};

use kairos_protocol::dsl::{Keyword, Law, Member, Skill};
use serde_json::{Value, json};

/// How many mutations are compared unless told otherwise.
const MUTATIONS: usize = 300;
const LAWS: [&str; 5] = [
    include_str!("../../node/templates/skills/kairos.rb"),
    include_str!("../../protocol/tests/fixtures/vectors/dsl/01_node_kinds.rb"),
    include_str!("../../protocol/tests/fixtures/vectors/dsl/02_conditions.rb"),
    include_str!("../../protocol/tests/fixtures/vectors/dsl/04_degenerate.rb"),
    include_str!("../../protocol/tests/fixtures/vectors/dsl/05_decompile.rb"),
];
/// What laws are made of, and what breaks them.
const PIECES: [&str; 36] = [
    "\nend\n",
    " do\n",
    "end",
    "do",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    ";",
    "\"",
    "'",
    "\\",
    "#",
    "#{",
    "<<~T\n",
    "\nT\n",
    "%w[a b]",
    "%i[",
    "skill :x do\n",
    "  title \"t\"\n",
    "  version '1'\n",
    "=> ",
    "..",
    "-1",
    "nil",
    " if x",
    "=begin\n",
    "\n=end\n",
    "é",
    "\u{200b}",
    "?",
    "|a|",
];

/// What Ruby answers to `input`; nothing, and a word about it, where there is no Ruby.
#[expect(
    clippy::print_stderr,
    reason = "whoever reads the results has to see that this was left out"
)]
fn ruby(script: &str, input: &Value) -> Option<Vec<Value>> {
    let version = Command::new("ruby").arg("--version").output();
    if !version.is_ok_and(|version| version.status.success()) {
        eprintln!("left out: there is no ruby to compare with");
        return None;
    }
    let mut child = Command::new("ruby")
        .args(["-W0", "-Ku", "-e", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It reads everything before it writes anything.
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// A source of numbers that is the same every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }

    /// A place in `text` between two characters.
    fn place(&mut self, text: &str) -> usize {
        let mut at = self.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    fn mutation(&mut self) -> String {
        let mut text = LAWS[self.below(LAWS.len())].to_owned();
        for _ in 0..=self.below(3) {
            let (a, b) = (self.place(&text), self.place(&text));
            let (from, near) = (a.min(b), a.max(b).min(a.min(b) + 40));
            let to = (from..=near).rev().find(|at| text.is_char_boundary(*at));
            let to = to.unwrap_or(from);
            match self.below(4) {
                0 => text.replace_range(from..to, ""),
                1 => text.insert_str(from, PIECES[self.below(PIECES.len())]),
                2 => text.replace_range(from..to, PIECES[self.below(PIECES.len())]),
                _ => {
                    let other = LAWS[self.below(LAWS.len())];
                    let start = self.place(other);
                    let mut ends = (start..=other.len().min(start + 200)).rev();
                    let end = ends.find(|at| other.is_char_boundary(*at));
                    text.insert_str(from, &other[start..end.unwrap_or(start)]);
                }
            }
        }
        text
    }
}

/// The value of a declaration, where it is one literal that both sides can show.
fn value(member: &Member) -> Option<Value> {
    let value = member.value()?;
    let json = serde_json::to_value(value).unwrap();
    let tagged = ["$map", "$range", "$range_exclusive"];
    let text = json.to_string();
    (!tagged.iter().any(|tag| text.contains(tag))).then_some(json)
}

/// Where the two disagree about a text; nothing if they agree.
fn disagreement(text: &str, theirs: &Value) -> Option<String> {
    let law = Law::read(text.as_bytes());
    match (law.broken, theirs) {
        (true, Value::Null) => return None,
        (true, _) => return Some(format!("only Ruby takes it: {:?}", law.faults.first())),
        (false, Value::Null) => return Some("only we take it".to_owned()),
        (false, _) => {}
    }
    let ours: Vec<_> = law.skills.iter().map(|skill| ours(skill)).collect();
    let theirs: Vec<_> = theirs.as_array()?.iter().map(theirs_of).collect();
    if words(&ours) != words(&theirs) {
        let (ours, theirs) = (words(&ours), words(&theirs));
        return Some(format!("ours {ours:?}\ntheirs {theirs:?}"));
    }
    let values = |skills: Vec<Shape>| skills.into_iter().flat_map(|(_, members)| members);
    let mut pairs = values(ours).zip(values(theirs));
    pairs.find_map(|((word, ours), (_, theirs))| {
        let (ours, theirs) = (ours?, theirs?);
        (ours != theirs).then(|| format!("{word}: ours {ours}\ntheirs {theirs}"))
    })
}

/// A skill: its id, and the words of its declarations with their values, as far as those are shown.
type Shape = (String, Vec<(String, Option<Value>)>);

fn ours(skill: &Skill) -> Shape {
    let members = skill.members.iter().filter_map(|member| {
        let keyword: Keyword = member.keyword()?;
        Some((keyword.as_str().to_owned(), value(member)))
    });
    (skill.id.clone(), members.collect())
}

fn theirs_of(skill: &Value) -> Shape {
    let members = skill["members"].as_array().into_iter().flatten();
    let members = members.map(|member| {
        let value = member[1].as_array().and_then(|value| value.first());
        (
            member[0].as_str().unwrap_or_default().to_owned(),
            value.cloned(),
        )
    });
    (
        skill["id"].as_str().unwrap_or_default().to_owned(),
        members.collect(),
    )
}

/// The skills without their values.
fn words(skills: &[Shape]) -> Vec<(&str, Vec<&str>)> {
    let skills = skills.iter().map(|(id, members)| {
        let words = members.iter().map(|(word, _)| word.as_str());
        (id.as_str(), words.collect())
    });
    skills.collect()
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    let given = env::var(name).ok();
    given
        .and_then(|given| given.parse().ok())
        .unwrap_or(default)
}

#[test]
fn the_reader_takes_what_ruby_takes_and_sees_the_same_tree() {
    let mut chance =
        Chance(number("KAIROS_RUBY_SEED", 7_u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut texts: Vec<_> = LAWS.iter().map(|law| (*law).to_owned()).collect();
    let mutations = number("KAIROS_RUBY_MUTATIONS", MUTATIONS);
    texts.extend((0..mutations).map(|_| chance.mutation()));
    let Some(shapes) = ruby(include_str!("ruby/shape.rb"), &json!(texts)) else {
        return;
    };
    assert_eq!(shapes.len(), texts.len());
    // Neither side sees the same in every text.
    let refused = shapes.iter().filter(|shape| shape.is_null()).count();
    assert!((1..texts.len()).contains(&refused), "{refused}");
    let mut wrong = Vec::new();
    for (text, theirs) in texts.iter().zip(&shapes) {
        if let Some(why) = disagreement(text, theirs) {
            wrong.push(format!("{why}\n--- in\n{text}\n---"));
        }
    }
    let count = wrong.len();
    assert!(
        wrong.is_empty(),
        "{count} of {}, first:\n{}",
        texts.len(),
        wrong[0]
    );
}

#[test]
fn the_evaluator_gives_what_ruby_gives() {
    let cases = include_str!("../../protocol/tests/fixtures/eval/as_ruby.txt");
    let cases = cases.lines().filter(|line| !line.starts_with('#'));
    let cases: Vec<_> = cases.filter_map(|case| case.rsplit_once(" #=> ")).collect();
    let code: Vec<_> = cases.iter().map(|(code, _)| *code).collect();
    let Some(shown) = ruby(include_str!("ruby/values.rb"), &json!(code)) else {
        return;
    };
    assert_eq!(shown.len(), cases.len());
    for ((code, expected), shown) in cases.iter().zip(&shown) {
        // Ruby 3.4 shows hashes and errors in another way.
        let shown = shown.as_str().unwrap().replace('\u{2019}', "'");
        assert!(
            shown == *expected || is_newer(),
            "{code}: {shown}, not {expected}"
        );
    }
}

/// Whether the Ruby at hand shows values otherwise than Ruby 3.1 to 3.3.
fn is_newer() -> bool {
    let version = Command::new("ruby")
        .args(["-e", "print RUBY_VERSION >= \"3.4\""])
        .output();
    version.is_ok_and(|version| version.stdout == b"true")
}
