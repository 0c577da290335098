//! From the small tree of Ruby to the tree of a law. Whatever is no declaration is kept beside a fault that says so.

mod member;
mod value;

use std::cell::OnceCell;

use super::fault::{Fault, FaultCode, Refused, Severity};
use super::model::{Member, Outside, Skill, Spanned};
use super::ruby::{self, Block, Call, Kind, Node};
use super::{Keyword, Law, SKILLS_MAX, Span};
use crate::hash::ContentHash;
use value::literal;

/// A text being read.
pub(super) struct Reader<'a> {
    source: &'a str,
    source_hash: OnceCell<ContentHash>,
    faults: Vec<Fault>,
}

/// Reads a whole text.
pub(super) fn law(source: &str) -> Law {
    let mut reader = Reader {
        source,
        source_hash: OnceCell::new(),
        faults: Vec::new(),
    };
    let parsed = ruby::parse(source);
    let mut law = Law {
        broken: !parsed.complaints.is_empty(),
        ..Law::default()
    };
    for complaint in parsed.complaints {
        reader.tell(syntax(complaint));
    }
    for statement in parsed.statements {
        reader.statement(&mut law, statement);
    }
    law.faults = reader.faults;
    law.faults.sort_by_key(|fault| fault.span.start);
    law
}

fn syntax(complaint: ruby::Complaint) -> Refused {
    let what = complaint.what;
    if what.contains("the limit is") {
        return Refused::new(complaint.at, FaultCode::Limit, what)
            .mend("shorten it; a law says what holds, and texts belong into knowledge");
    }
    if what == ruby::DATA_FOUND {
        return Refused::new(complaint.at, FaultCode::Syntax, what)
            .mend("remove this line, and what follows if it is not to be read");
    }
    let refused = |what: String| Refused::new(complaint.at, FaultCode::Syntax, what);
    let Some(token) = what.strip_prefix("unexpected ") else {
        return refused(what)
            .expected("Ruby")
            .mend("look at this line and the one above it for a missing `,`, `\"` or `end`");
    };
    match token {
        "END_OF_INPUT" | "end-of-input" | "tEOF" => refused("the text ends in the middle of something".to_owned())
            .expected("one `end` for each `do`, and the end of each text")
            .mend("look upwards for a `do` without its `end`, a `\"` that is not closed, or a heredoc without its last line"),
        "kEND" => refused("an `end` that ends nothing".to_owned())
            .expected("a declaration")
            .mend("remove it, or look above it for an `end` too many"),
        token => refused(format!("unexpected {}", token_name(token)))
            .expected("a declaration, such as `title \"…\"`")
            .mend("look at this line and the one above it for a missing `,`, `\"` or `end`"),
    }
}

/// What the grammar's name for a token means to whoever wrote it.
fn token_name(token: &str) -> &str {
    match token {
        "tRBRACK" => "`]`",
        "tLBRACK" | "tLBRACK2" => "`[`",
        "tRPAREN" => "`)`",
        "tRCURLY" | "tSTRING_DEND" => "`}`",
        "tLCURLY" | "tLBRACE" => "`{`",
        "tCOMMA" => "`,`",
        "tEQL" => "`=`",
        "tASSOC" => "`=>`",
        "tCOLON" => "`:`",
        "tDOT" => "`.`",
        "tIDENTIFIER" => "word",
        "tCONSTANT" => "constant",
        "tLABEL" => "key",
        "tINTEGER" | "tFLOAT" => "number",
        "tSTRING_BEG" | "tSTRING_CONTENT" | "tSTRING_END" => "text",
        "tSYMBEG" => "symbol",
        "tNL" => "end of the line",
        "kDO" => "`do`",
        other => other,
    }
}

impl Reader<'_> {
    fn tell(&mut self, refused: Refused) {
        let fault = refused.located(self.source, Severity::Error);
        self.faults.push(fault);
    }

    fn text(&self, span: Span) -> &str {
        self.source.get(span.start..span.end).unwrap_or_default()
    }

    /// Tells why `span` is not read, and keeps it.
    fn keep(&mut self, span: Span, keyword: Option<Keyword>, refused: Refused) -> Spanned<Outside> {
        let text = self.text(span);
        let scattered = may_have_heredoc(text) && !ruby::is_ruby(text);
        let node = Outside {
            what: refused.what().to_owned(),
            keyword,
            text: text.to_owned(),
            scattered: scattered.then(|| {
                let hash = || ContentHash::of(self.source);
                *self.source_hash.get_or_init(hash)
            }),
            behind: 0,
        };
        self.tell(refused);
        Spanned { span, node }
    }

    fn statement(&mut self, law: &mut Law, node: Node) {
        let span = node.span;
        match self.skill(law.skills.len(), node) {
            Ok(skill) => law.skills.push(Spanned { span, node: skill }),
            Err(refused) => {
                let mut outside = self.keep(span, None, refused);
                outside.behind = law.skills.len();
                law.outside.push(outside);
            }
        }
    }

    fn skill(&mut self, so_far: usize, node: Node) -> Result<Skill, Refused> {
        const FORM: &str = "`skill :name do … end`";
        let span = node.span;
        let refuse = |code, what: String| Err(Refused::new(span, code, what).expected(FORM));
        let Kind::Call(call) = node.kind else {
            let what = format!("{} outside of a skill", shown(&node.kind));
            return Err(Refused::new(span, FaultCode::OutsideSkill, what)
                .expected("nothing but skills and comments")
                .mend("remove it: a law is read and never run, so this has no effect here"));
        };
        if call.name != "skill" {
            let what = format!("`{}` outside of a skill", call.name);
            let member = Keyword::ALL
                .iter()
                .any(|keyword| keyword.as_str() == call.name);
            let mend = match member {
                true => format!(
                    "move `{}` into a skill; an `end` above may be one too many",
                    call.name
                ),
                false => {
                    "remove it: a law is read and never run, so this has no effect here".to_owned()
                }
            };
            return Err(Refused::new(span, FaultCode::OutsideSkill, what)
                .expected("nothing but skills and comments")
                .mend(mend));
        }
        let (id, text_id) = match call.arguments.as_slice() {
            [
                Node {
                    kind: Kind::Symbol(id),
                    ..
                },
            ] => (id.clone(), false),
            [
                Node {
                    kind: Kind::Text(id),
                    ..
                },
            ] => (id.clone(), true),
            _ => {
                return refuse(
                    FaultCode::SkillForm,
                    "a skill without one name as its id".to_owned(),
                );
            }
        };
        let Some(block) = call.block else {
            return refuse(
                FaultCode::SkillForm,
                format!("the skill `{id}` has no block"),
            );
        };
        if so_far == SKILLS_MAX {
            let what = format!("more than {SKILLS_MAX} skills");
            return Err(Refused::new(span, FaultCode::Limit, what)
                .mend("keep in the law what governs the agent, and the rest as knowledge"));
        }
        let members = block.statements.into_iter();
        let members = members.map(|node| self.member(node)).collect();
        Ok(Skill {
            id,
            text_id,
            members,
        })
    }

    /// The place of a statement with the texts of its heredocs, unless something else follows it on its line.
    fn whole(&self, node: &Node) -> Span {
        let Span { start, end } = node.span;
        let rest = self.source.get(end..).unwrap_or_default();
        let rest = rest.lines().next().unwrap_or_default().trim_start();
        match rest.is_empty() || rest.starts_with('#') {
            true => Span {
                start,
                end: reach(node),
            },
            false => node.span,
        }
    }

    fn member(&mut self, node: Node) -> Spanned<Member> {
        let span = self.whole(&node);
        let keyword = match &node.kind {
            Kind::Call(call) => keyword(&call.name),
            _ => None,
        };
        match member::member(self, keyword, node) {
            Ok(node) => Spanned { span, node },
            Err(refused) => {
                let Spanned { span, node } = self.keep(span, keyword, refused);
                let node = Member::Outside(node);
                Spanned { span, node }
            }
        }
    }

    /// The code of a block, as written.
    fn code(&self, block: &Block) -> Result<super::Code, Refused> {
        let text = self.text(block.span);
        // A heredoc that is named within the block may have its text behind it.
        if may_have_heredoc(text) && !ruby::is_ruby(&format!("behavior {text}")) {
            let what = "code with a text that goes on behind its block";
            return Err(Refused::new(block.span, FaultCode::Scattered, what)
                .expected("code that is whole between `do` and `end`")
                .mend("put `end` below the last line of the heredoc"));
        }
        Ok(super::Code(text.to_owned()))
    }
}

/// Whether a heredoc may begin in `text`.
pub(super) fn may_have_heredoc(text: &str) -> bool {
    text.match_indices("<<").any(|(at, _)| {
        let next = text.get(at + 2..).and_then(|rest| rest.chars().next());
        next.is_some_and(|c| matches!(c, '~' | '-' | '"' | '\'' | '`' | '_') || c.is_alphabetic())
    })
}

/// Where the last heredoc among the values of a statement ends, or the statement itself.
fn reach(node: &Node) -> usize {
    let within = match &node.kind {
        Kind::Call(call) => call.arguments.iter().map(reach).max(),
        Kind::Array(items) => items.iter().map(reach).max(),
        Kind::Hash(pairs) | Kind::Keywords(pairs) => {
            pairs.iter().map(|(_, value)| reach(value)).max()
        }
        _ => None,
    };
    within.unwrap_or_default().max(node.span.end)
}

fn keyword(name: &str) -> Option<Keyword> {
    Keyword::ALL
        .into_iter()
        .find(|keyword| keyword.as_str() == name)
}

/// The words among `known` that `word` may be meant to be, as a sentence.
pub(super) fn meant(word: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(nearness, _)| *nearness >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    near.map(|(_, known)| format!("did you mean `{known}`?"))
        .unwrap_or_default()
}

/// A list of words for people.
fn one_of(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// What a piece of Ruby is, in words.
fn shown(kind: &Kind) -> String {
    match kind {
        Kind::Call(call) => format!("`{}`", call.name),
        Kind::Other(what) => (*what).to_owned(),
        _ => "a value".to_owned(),
    }
}

/// The one argument of a word that takes one.
fn one(span: Span, call: &Call) -> Result<super::Literal, Refused> {
    match call.arguments.as_slice() {
        [value] => literal(value),
        others => {
            let what = format!("`{}` takes one value, not {}", call.name, others.len());
            Err(Refused::new(span, FaultCode::Arity, what)
                .expected(format!("`{} VALUE`", call.name))
                .mend(match others {
                    [] => "write the value behind it",
                    _ => "write several values as a list: `[a, b]`",
                }))
        }
    }
}
