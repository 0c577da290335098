//! The members of a skill.

use super::super::fault::{FaultCode, Refused};
use super::super::model::{
    Code, Condition, Effect, Evolution, Guarantees, Item, Member, Node as Entry, Property, Spanned,
    Tool,
};
use super::super::ruby::{Block, Call, Kind, Node};
use super::super::{Keyword, Literal, Maker, Span};
use super::value::literal;
use super::{Reader, meant, one, one_of, shown};

/// Reads one declaration of a skill.
pub(super) fn member(
    reader: &mut Reader<'_>,
    keyword: Option<Keyword>,
    node: Node,
) -> Result<Member, Refused> {
    let span = node.span;
    let Kind::Call(call) = node.kind else {
        return Err(not_declared(reader, span, &node.kind));
    };
    let Some(keyword) = keyword else {
        let what = format!("`{}` is no member of a skill", call.name);
        let known = Keyword::ALL.map(Keyword::as_str);
        return Err(Refused::new(span, FaultCode::UnknownWord, what)
            .expected(one_of(&known))
            .mend(meant(&call.name, &known)));
    };
    if takes_no_block(keyword) {
        no_block(&call)?;
    }
    Ok(match keyword {
        Keyword::Version => Member::Version(one(span, &call)?),
        Keyword::Title => Member::Title(one(span, &call)?),
        Keyword::UseWhen => Member::UseWhen(one(span, &call)?),
        Keyword::Requires => Member::Requires(one(span, &call)?),
        Keyword::DependsOn => Member::DependsOn(one(span, &call)?),
        Keyword::Content => Member::Content(one(span, &call)?),
        Keyword::FormalizationNotes => Member::FormalizationNotes(one(span, &call)?),
        Keyword::Inputs => {
            let mut inputs = Vec::new();
            for argument in &call.arguments {
                flatten(literal(argument)?, &mut inputs);
            }
            Member::Inputs(inputs)
        }
        Keyword::Guarantees => Member::Guarantees(match &call.block {
            Some(block) => {
                no_values(span, &call)?;
                Guarantees::Words(guarantees(block)?)
            }
            None if call.arguments.is_empty() => Guarantees::Value(Literal::Nil),
            None => Guarantees::Value(one(span, &call)?),
        }),
        Keyword::Evolve => {
            no_values(span, &call)?;
            let rules = call.block.as_ref().map(|block| evolution(reader, block));
            Member::Evolve(rules.transpose()?.unwrap_or_default())
        }
        Keyword::Definition => {
            no_values(span, &call)?;
            let statements = call.block.map(|block| block.statements).unwrap_or_default();
            let items = statements.into_iter().map(|node| item(reader, node));
            Member::Definition(items.collect())
        }
        Keyword::Behavior => {
            no_values(span, &call)?;
            let Some(block) = &call.block else {
                return Err(
                    Refused::new(span, FaultCode::Arity, "`behavior` without a block")
                        .expected("`behavior do … end`"),
                );
            };
            Member::Behavior(reader.code(block)?)
        }
        Keyword::Tool => {
            no_values(span, &call)?;
            let mut tool = Tool::default();
            if let Some(block) = &call.block {
                fill_tool(reader, &mut tool, block)?;
            }
            Member::Tool(tool)
        }
        Keyword::Effect => {
            let name = one(span, &call)?;
            Member::Effect(effect(reader, name, call.block.as_ref())?)
        }
    })
}

/// Whether a block behind the word would be dropped by Ruby.
fn takes_no_block(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::Version
            | Keyword::Title
            | Keyword::UseWhen
            | Keyword::Inputs
            | Keyword::Requires
            | Keyword::DependsOn
            | Keyword::Content
            | Keyword::FormalizationNotes
    )
}

fn not_declared(reader: &Reader<'_>, span: Span, kind: &Kind) -> Refused {
    let what = format!("{} in a skill", shown(kind));
    let text = reader.text(span);
    let word = text
        .split(|c: char| !(c == '_' || c.is_alphanumeric()))
        .next();
    let mend = match (kind, word) {
        (Kind::Other("an assignment"), Some(word)) if super::keyword(word).is_some() => {
            format!("leave out the `=`: `{word} VALUE`")
        }
        (Kind::Other("a condition"), _) => {
            "leave the condition out: a law says what always holds".to_owned()
        }
        _ => "remove it: a law is read and never run".to_owned(),
    };
    Refused::new(span, FaultCode::NotDeclared, what)
        .expected("a word and its value, such as `title \"…\"`")
        .mend(mend)
}

fn no_block(call: &Call) -> Result<(), Refused> {
    match &call.block {
        None => Ok(()),
        Some(block) => {
            let what = format!("`{}` takes no block", call.name);
            Err(Refused::new(block.span, FaultCode::Arity, what)
                .expected(format!("`{} VALUE`", call.name))
                .mend("remove the block; Ruby drops it in silence"))
        }
    }
}

fn no_values(span: Span, call: &Call) -> Result<(), Refused> {
    if call.arguments.is_empty() {
        return Ok(());
    }
    let what = match call.name.as_str() {
        "guarantees" => "`guarantees` takes values or a block, not both".to_owned(),
        name => format!("`{name}` takes a block, not values"),
    };
    Err(Refused::new(span, FaultCode::Arity, what)
        .expected(format!("`{} do … end`", call.name))
        .mend("write what it says between `do` and `end`"))
}

fn flatten(value: Literal, into: &mut Vec<Literal>) {
    match value {
        Literal::Array(items) => items.into_iter().for_each(|item| flatten(item, into)),
        other => into.push(other),
    }
}

/// The bare words of a `guarantees` block.
fn guarantees(block: &Block) -> Result<Vec<String>, Refused> {
    let mut words = Vec::new();
    for node in &block.statements {
        let refuse = |code, what: String| {
            Refused::new(node.span, code, what).expected("a bare word for each guarantee")
        };
        match &node.kind {
            Kind::Call(call) if OF_RUBY.contains(&call.name.as_str()) => {
                let what = format!(
                    "`{}` is a method of Ruby, which takes no note of it",
                    call.name
                );
                return Err(refuse(FaultCode::UnknownWord, what).mend("choose another word for it"));
            }
            Kind::Call(call) => {
                // Ruby drops the arguments, but a word among them would be noted too.
                call.arguments
                    .iter()
                    .try_for_each(|argument| literal(argument).map(drop))?;
                words.push(call.name.clone());
            }
            other => {
                let what = format!("{} among guarantees", shown(other));
                return Err(
                    refuse(FaultCode::NotDeclared, what).mend("write it without quotes or `:`")
                );
            }
        }
    }
    Ok(words)
}

/// The statements of a block that are calls, each with its place.
fn calls<'a>(
    block: &'a Block,
    place: &'a str,
) -> impl Iterator<Item = Result<(Span, &'a Call), Refused>> {
    block.statements.iter().map(move |node| match &node.kind {
        Kind::Call(call) => Ok((node.span, call)),
        other => {
            let what = format!("{} {place}", shown(other));
            Err(Refused::new(node.span, FaultCode::NotDeclared, what)
                .mend("remove it: a law is read and never run"))
        }
    })
}

fn literals(call: &Call) -> Result<Vec<Literal>, Refused> {
    call.arguments.iter().map(literal).collect()
}

fn unknown(span: Span, call: &Call, known: &[&str], what: &str) -> Refused {
    Refused::new(
        span,
        FaultCode::UnknownWord,
        format!("`{}` {what}", call.name),
    )
    .expected(one_of(known))
    .mend(meant(&call.name, known))
}

fn evolution(reader: &Reader<'_>, block: &Block) -> Result<Evolution, Refused> {
    let mut rules = Evolution::default();
    for found in calls(block, "among rules") {
        let (span, call) = found?;
        match call.name.as_str() {
            "allow" => rules.allowed.extend(literals(call)?),
            "deny" => rules.denied.extend(literals(call)?),
            "when_condition" => {
                let name = one(span, call)?;
                let code = call.block.as_ref().map(|block| reader.code(block));
                let code = code.transpose()?;
                match rules.conditions.iter_mut().find(|other| other.name == name) {
                    Some(other) => other.code = code,
                    None => rules.conditions.push(Condition { name, code }),
                }
            }
            _ => {
                return Err(unknown(
                    span,
                    call,
                    &["allow", "deny", "when_condition"],
                    "is no rule",
                ));
            }
        }
    }
    Ok(rules)
}

fn item(reader: &mut Reader<'_>, node: Node) -> Spanned<Item> {
    let span = reader.whole(&node);
    match entry(&node) {
        Ok(node) => Spanned {
            span,
            node: Item::Node(node),
        },
        Err(refused) => {
            let Spanned { span, node } = reader.keep(span, None, refused);
            Spanned {
                span,
                node: Item::Outside(node),
            }
        }
    }
}

fn entry(node: &Node) -> Result<Entry, Refused> {
    let span = node.span;
    let Kind::Call(call) = &node.kind else {
        let what = format!("{} in a definition", shown(&node.kind));
        return Err(Refused::new(span, FaultCode::NotDeclared, what)
            .expected(one_of(&Maker::ALL.map(Maker::as_str)))
            .mend("write out each node: a law is read and never run"));
    };
    let Some(maker) = Maker::ALL
        .into_iter()
        .find(|maker| maker.as_str() == call.name)
    else {
        return Err(unknown(
            span,
            call,
            &Maker::ALL.map(Maker::as_str),
            "makes no node",
        ));
    };
    no_block(call)?;
    let form = form(maker);
    let (name, given) = match call.arguments.as_slice() {
        [name] => (name, [].as_slice()),
        [
            name,
            Node {
                kind: Kind::Keywords(options),
                ..
            },
        ] => (name, options.as_slice()),
        _ => {
            let what = format!("`{}` takes one name, and options", call.name);
            return Err(Refused::new(span, FaultCode::Arity, what).expected(form));
        }
    };
    let written = literal(name)?;
    if written.text().is_none() {
        let what = format!("`{}` without a name", call.name);
        return Err(Refused::new(name.span, FaultCode::Arity, what).expected(form));
    }
    let name = written;
    let mut options: Vec<(String, Literal)> = Vec::new();
    for (key, value) in given {
        let Kind::Symbol(option) = &key.kind else {
            let what = "an option whose name is no symbol";
            return Err(Refused::new(key.span, FaultCode::NodeOption, what).expected(form));
        };
        if options.iter().any(|(other, _)| other == option) {
            let what = format!("`{option}:` is given twice");
            return Err(Refused::new(key.span, FaultCode::Hidden, what)
                .mend("keep one of the two; Ruby takes the last"));
        }
        let known = |list: &[&str]| list.contains(&option.as_str());
        if maker
            .optional()
            .is_some_and(|optional| !known(optional) && !known(maker.required()))
        {
            let what = format!("`{}` does not know `{option}:`", call.name);
            return Err(Refused::new(key.span, FaultCode::NodeOption, what)
                .expected(form)
                .mend("leave it out, or use `constraint`, which takes any option"));
        }
        options.push((option.clone(), literal(value)?));
    }
    let mut required = maker.required().iter();
    if let Some(missing) = required.find(|name| !options.iter().any(|(key, _)| key == *name)) {
        let what = format!("`{}` without `{missing}:`", call.name);
        return Err(Refused::new(span, FaultCode::NodeOption, what)
            .expected(form)
            .mend(format!(
                "add `{missing}:`; Ruby refuses the whole file without it"
            )));
    }
    Ok(Entry {
        maker,
        name,
        options,
    })
}

/// How a node is written.
fn form(maker: Maker) -> String {
    let options = maker
        .required()
        .iter()
        .map(|name| format!(", {name}: VALUE"));
    format!("`{} :name{}`", maker.as_str(), options.collect::<String>())
}

fn fill_tool(reader: &Reader<'_>, tool: &mut Tool, block: &Block) -> Result<(), Refused> {
    const KNOWN: [&str; 6] = [
        "name",
        "description",
        "input",
        "property",
        "required",
        "execute",
    ];
    for found in calls(block, "in a tool") {
        let (span, call) = found?;
        match (call.name.as_str(), &call.block) {
            ("name", None) => tool.name = one(span, call)?,
            ("description", None) => tool.description = one(span, call)?,
            ("input", Some(inner)) => {
                no_values(span, call)?;
                fill_tool(reader, tool, inner)?;
            }
            ("property", None) => {
                let property = property(span, call)?;
                match tool
                    .properties
                    .iter_mut()
                    .find(|other| other.name == property.name)
                {
                    Some(other) => *other = property,
                    None => tool.properties.push(property),
                }
            }
            ("required", None) => tool.required.extend(literals(call)?),
            ("execute", Some(code)) => {
                no_values(span, call)?;
                tool.execute = Some(reader.code(code)?);
            }
            ("input" | "execute", None) => {
                let what = format!("`{}` without a block", call.name);
                return Err(Refused::new(span, FaultCode::Arity, what)
                    .expected(format!("`{} do … end`", call.name)));
            }
            (name, Some(_)) if KNOWN.contains(&name) => no_block(call)?,
            _ => return Err(unknown(span, call, &KNOWN, "is nothing that a tool has")),
        }
    }
    Ok(())
}

fn property(span: Span, call: &Call) -> Result<Property, Refused> {
    const FORM: &str = "`property :name, type: \"string\", description: \"…\"`";
    let refuse = |what: &str| Err(Refused::new(span, FaultCode::Arity, what).expected(FORM));
    let [
        name,
        Node {
            kind: Kind::Keywords(options),
            ..
        },
    ] = call.arguments.as_slice()
    else {
        return refuse("`property` takes one name, a type and a description");
    };
    let (mut kind, mut description) = (None, None);
    for (key, value) in options {
        match &key.kind {
            Kind::Symbol(name) if name == "type" => kind = Some(literal(value)?),
            Kind::Symbol(name) if name == "description" => description = Some(literal(value)?),
            _ => return refuse("`property` knows `type:` and `description:`, nothing else"),
        }
    }
    let (Some(kind), Some(description)) = (kind, description) else {
        return refuse("`property` needs `type:` and `description:`");
    };
    Ok(Property {
        name: literal(name)?,
        kind,
        description,
    })
}

fn effect(reader: &Reader<'_>, name: Literal, block: Option<&Block>) -> Result<Effect, Refused> {
    let mut effect = Effect {
        name,
        requires: Vec::new(),
        records: Vec::new(),
        run: None,
    };
    let Some(block) = block else {
        return Ok(effect);
    };
    for found in calls(block, "in an effect") {
        let (span, call) = found?;
        match (call.name.as_str(), &call.block) {
            ("requires", None) => effect.requires.push(one(span, call)?),
            ("records", None) => effect.records.push(one(span, call)?),
            ("run", Some(code)) => {
                let code: Code = reader.code(code)?;
                no_values(span, call)?;
                effect.run = Some(code);
            }
            _ => {
                let known = ["requires", "records", "run"];
                return Err(unknown(span, call, &known, "is nothing that an effect has"));
            }
        }
    }
    Ok(effect)
}

/// Words that every object of Ruby 3.1 understands: in a `guarantees` block they run instead of being noted.
#[rustfmt::skip]
const OF_RUBY: &[&str] = &[
    "Array", "Complex", "Float", "Hash", "Integer", "Rational", "String", "__callee__", "__dir__", "__id__",
    "__method__", "__send__", "abort", "at_exit", "autoload", "binding", "block_given?", "caller",
    "caller_locations", "catch", "class", "clone", "define_singleton_method", "display", "dup", "enum_for", "eql?",
    "equal?", "eval", "exec", "exit", "exit!", "extend", "fail", "fork", "format", "freeze", "frozen?", "gem",
    "gets", "global_variables", "guarantees", "hash", "initialize", "inspect", "instance_eval", "instance_exec",
    "instance_of?", "instance_variable_defined?", "instance_variable_get", "instance_variable_set",
    "instance_variables", "is_a?", "iterator?", "itself", "j", "jj", "kind_of?", "lambda", "load", "local_variables",
    "loop", "method", "method_missing", "methods", "nil?", "object_id", "open", "p", "pp", "print", "printf",
    "private_methods", "proc", "protected_methods", "public_method", "public_methods", "public_send", "putc", "puts",
    "raise", "rand", "readline", "readlines", "remove_instance_variable", "require", "require_relative",
    "respond_to?", "respond_to_missing?", "select", "send", "set_trace_func", "singleton_class", "singleton_method",
    "singleton_methods", "sleep", "spawn", "sprintf", "srand", "syscall", "system", "tap", "test", "then", "throw",
    "to_enum", "to_json", "to_s", "to_yaml", "trace_var", "trap", "untrace_var", "warn", "yield_self",
];
