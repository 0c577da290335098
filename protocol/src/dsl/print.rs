//! A law as source again: one way of writing each tree, such that reading it gives the tree back.

use std::fmt::{self, Write as _};

use thiserror::Error;

use super::model::{Code, Effect, Evolution, Guarantees, Item, Member, Node, Outside, Skill, Tool};
use super::value::keyword;
use super::{Law, Literal};

/// Names for the end of a text, the first that does not occur in it as a line.
const HEREDOC_ENDS: [&str; 3] = ["MD", "TEXT", "END_OF_TEXT"];
/// Options of a node that fit on its line.
const OPTIONS_ON_LINE: usize = 1;

/// Why a tree has no source.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unprintable {
    /// The text of this goes on behind other declarations.
    #[error("{0} has a text that goes on behind other declarations; put it on lines of its own")]
    Scattered(String),
}

impl Law {
    /// The law as source. Reading it gives an equal tree; comments are not in the tree.
    pub fn print(&self) -> Result<String, Unprintable> {
        let mut page = Page::default();
        let mut outside = self.outside.iter().peekable();
        for (before, skill) in self.skills.iter().enumerate() {
            while let Some(outside) = outside.next_if(|outside| outside.behind <= before) {
                page.outside(outside)?;
            }
            page.gap();
            page.skill(skill)?;
        }
        outside.try_for_each(|outside| page.outside(outside))?;
        Ok(page.text)
    }
}

impl Skill {
    /// The skill as source.
    pub fn print(&self) -> Result<String, Unprintable> {
        let mut page = Page::default();
        page.skill(self)?;
        Ok(page.text)
    }
}

impl Member {
    /// The member as source; what goes on elsewhere is given as far as it is at its place.
    pub(super) fn source(&self) -> String {
        let mut page = Page::default();
        match (page.member(self), self) {
            (Err(Unprintable::Scattered(_)), Self::Outside(outside)) => outside.text.clone(),
            _ => page.text,
        }
    }
}

/// Source being written.
#[derive(Default)]
struct Page {
    text: String,
    depth: usize,
}

impl Page {
    fn line(&mut self, text: impl fmt::Display) {
        // Writing to a text never fails.
        let _ = writeln!(self.text, "{:1$}{text}", "", 2 * self.depth);
    }

    /// An empty line, unless this is the beginning of something.
    fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("do\n") && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn block(
        &mut self,
        head: impl fmt::Display,
        inside: impl FnOnce(&mut Self) -> Result<(), Unprintable>,
    ) -> Result<(), Unprintable> {
        self.line(format_args!("{head} do"));
        self.depth += 1;
        inside(self)?;
        self.depth -= 1;
        self.line("end");
        Ok(())
    }

    fn outside(&mut self, outside: &Outside) -> Result<(), Unprintable> {
        if outside.scattered.is_some() {
            return Err(Unprintable::Scattered(outside.what.clone()));
        }
        self.line(&outside.text);
        Ok(())
    }

    fn skill(&mut self, skill: &Skill) -> Result<(), Unprintable> {
        let id = match skill.text_id {
            true => Literal::Text(skill.id.clone()),
            false => Literal::Symbol(skill.id.clone()),
        };
        self.block(call("skill", &[id]), |page| {
            let mut members = skill.members.iter();
            members.try_for_each(|member| page.member(member))
        })
    }

    fn member(&mut self, member: &Member) -> Result<(), Unprintable> {
        let word = member.keyword().map_or("", |keyword| keyword.as_str());
        match member {
            Member::Version(value)
            | Member::Title(value)
            | Member::UseWhen(value)
            | Member::Requires(value)
            | Member::DependsOn(value)
            | Member::Content(value)
            | Member::FormalizationNotes(value)
            | Member::Guarantees(Guarantees::Value(value)) => self.value(word, value),
            Member::Inputs(values) => self.line(call(word, values)),
            Member::Guarantees(Guarantees::Words(words)) => {
                self.gap();
                self.block(word, |page| {
                    for word in words {
                        // Without parentheses it would be a constant.
                        let constant = word.starts_with(char::is_uppercase);
                        page.line(format_args!("{word}{}", if constant { "()" } else { "" }));
                    }
                    Ok(())
                })?;
            }
            Member::Evolve(rules) => {
                self.gap();
                self.block(word, |page| page.rules(rules))?;
            }
            Member::Definition(items) => {
                self.gap();
                self.block(word, |page| {
                    items.iter().try_for_each(|item| match &item.node {
                        Item::Node(node) => {
                            page.node(node);
                            Ok(())
                        }
                        Item::Outside(outside) => page.outside(outside),
                    })
                })?;
            }
            Member::Behavior(code) => {
                self.gap();
                self.code(word, code);
            }
            Member::Tool(tool) => {
                self.gap();
                self.block(word, |page| page.tool(tool))?;
            }
            Member::Effect(effect) => {
                self.gap();
                self.effect(effect)?;
            }
            Member::Outside(outside) => self.outside(outside)?,
        }
        Ok(())
    }

    /// A member with one value: as a heredoc where that keeps its text readable.
    fn value(&mut self, word: &str, value: &Literal) {
        let text = match value {
            Literal::Text(text) => text,
            other => return self.line(call(word, std::slice::from_ref(other))),
        };
        let mut ends = HEREDOC_ENDS.into_iter();
        let end = ends.find(|end| !text.lines().any(|line| line.trim() == *end));
        let Some(end) = end.filter(|_| suits_heredoc(text)) else {
            return self.line(call(word, std::slice::from_ref(value)));
        };
        self.gap();
        self.line(format_args!("{word} <<~{end}"));
        let text = text.replace('\\', "\\\\");
        let text = ["#{", "#$", "#@"].into_iter().fold(text, |text, begin| {
            text.replace(begin, &format!("\\{begin}"))
        });
        self.depth += 1;
        for line in text.lines() {
            match line {
                "" => self.text.push('\n'),
                line => self.line(line),
            }
        }
        self.depth -= 1;
        self.line(end);
    }

    fn code(&mut self, head: impl fmt::Display, code: &Code) {
        self.line(format_args!("{head} {}", code.0));
    }

    fn rules(&mut self, rules: &Evolution) -> Result<(), Unprintable> {
        for (word, fields) in [("allow", &rules.allowed), ("deny", &rules.denied)] {
            if !fields.is_empty() {
                self.line(call(word, fields));
            }
        }
        for condition in &rules.conditions {
            // Braces would belong to the name without these parentheses.
            let head = format!("when_condition({})", condition.name.source());
            match &condition.code {
                Some(code) => self.code(head, code),
                None => self.line(head),
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) {
        let head = call(node.maker.as_str(), std::slice::from_ref(&node.name));
        let options = node.options.iter();
        let options: Vec<_> = options
            .map(|(name, value)| format!("{} {}", keyword(name), value.source()))
            .collect();
        if options.len() <= OPTIONS_ON_LINE {
            let options = options.iter().map(|option| format!(", {option}"));
            return self.line(format_args!("{head}{}", options.collect::<String>()));
        }
        let within = " ".repeat(2 * self.depth + 2);
        let options = options.join(&format!(",\n{within}"));
        self.line(format_args!("{head},\n{within}{options}"));
    }

    fn tool(&mut self, tool: &Tool) -> Result<(), Unprintable> {
        for (word, value) in [("name", &tool.name), ("description", &tool.description)] {
            if *value != Literal::Nil {
                self.line(call(word, std::slice::from_ref(value)));
            }
        }
        if !tool.properties.is_empty() || !tool.required.is_empty() {
            self.block("input", |page| {
                for property in &tool.properties {
                    let head = call("property", std::slice::from_ref(&property.name));
                    let (kind, description) = (&property.kind, &property.description);
                    let (kind, description) = (kind.source(), description.source());
                    page.line(format_args!(
                        "{head}, type: {kind}, description: {description}"
                    ));
                }
                if !tool.required.is_empty() {
                    page.line(call("required", &tool.required));
                }
                Ok(())
            })?;
        }
        if let Some(code) = &tool.execute {
            self.code("execute", code);
        }
        Ok(())
    }

    fn effect(&mut self, effect: &Effect) -> Result<(), Unprintable> {
        let head = call("effect", std::slice::from_ref(&effect.name));
        self.block(head, |page| {
            for (word, values) in [("requires", &effect.requires), ("records", &effect.records)] {
                for value in values {
                    page.line(call(word, std::slice::from_ref(value)));
                }
            }
            if let Some(code) = &effect.run {
                page.code("run", code);
            }
            Ok(())
        })
    }
}

/// `word a, b`, with parentheses where Ruby would take the first value for something else.
fn call(word: &str, values: &[Literal]) -> String {
    let list: Vec<_> = values.iter().map(Literal::source).collect();
    let list = list.join(", ");
    let open = match values.first() {
        None => return word.to_owned(),
        Some(Literal::Map(_) | Literal::Range { .. }) => true,
        Some(_) => list.starts_with('-'),
    };
    match open {
        true => format!("{word}({list})"),
        false => format!("{word} {list}"),
    }
}

/// Whether a squiggly heredoc gives `text` back: whole lines, of which one has no indentation, and nothing invisible.
fn suits_heredoc(text: &str) -> bool {
    let hidden = |c: char| c.is_control() && c != '\n';
    text.ends_with('\n')
        && !text.contains(hidden)
        && text
            .lines()
            .any(|line| line.chars().next().is_some_and(|first| first != ' '))
}
