//! The conditions of constraints and checks: one comparison, one question, or one look into a list.

use std::cmp::Ordering;
use std::sync::LazyLock;

use regex::Regex;

use super::super::Literal;
use super::verify::{Bound, Context, Judged, Needs};

/// What may be asked of a value or skill.
const QUESTIONS: [&str; 11] = [
    "can_evolve?",
    "has_tool?",
    "include?",
    "key?",
    "empty?",
    "nil?",
    "is_a?",
    "respond_to?",
    "size",
    "length",
    "count",
];

/// One of the forms; a word is letters, digits and `_`.
struct Forms {
    equal: Regex,
    compare: Regex,
    call: Regex,
    not_in: Regex,
}

static FORMS: LazyLock<Option<Forms>> = LazyLock::new(|| {
    let value = r#"-?[0-9]+(?:\.[0-9]+)?|:?[A-Za-z0-9_]+|"[^"]*"|'[^']*'"#;
    Some(Forms {
        equal: Regex::new(&format!(r"\A([A-Za-z0-9_]+)[ \t]*(==|!=)[ \t]*({value})\z")).ok()?,
        compare: Regex::new(&format!(r"\A({value})[ \t]*(<=|>=|<|>)[ \t]*({value})\z")).ok()?,
        call: Regex::new(r"\A([A-Za-z0-9_]+)\.([A-Za-z0-9_]+\??)(?:\(([^)]*)\))?\z").ok()?,
        not_in: Regex::new(r"\A([A-Za-z0-9_]+)[ \t]+(not[ \t]+)?in[ \t]+([A-Za-z0-9_]+)\z").ok()?,
    })
});

/// Decides `condition` as far as `context` allows.
pub(super) fn judge(condition: &str, context: &Context<'_>) -> Judged {
    let unrecognized = || {
        let detail = format!("Unrecognized condition pattern: {condition}");
        (Err(Needs::Person), detail)
    };
    let Some(forms) = &*FORMS else {
        return unrecognized();
    };
    if let Some(found) = forms.equal.captures(condition) {
        let (_, [name, operator, to]) = found.extract();
        return equal(name, operator == "!=", to, context);
    }
    if let Some(found) = forms.compare.captures(condition) {
        let (_, [left, operator, right]) = found.extract();
        return compare(left, operator, right, context);
    }
    let part = |found: &regex::Captures<'_>, group: usize| {
        found.get(group).map(|part| part.as_str().to_owned())
    };
    if let Some(found) = forms.call.captures(condition)
        && let (Some(object), Some(method)) = (part(&found, 1), part(&found, 2))
    {
        return ask(
            condition,
            &object,
            &method,
            part(&found, 3).as_deref(),
            context,
        );
    }
    if let Some(found) = forms.not_in.captures(condition)
        && let (Some(item), Some(list)) = (part(&found, 1), part(&found, 3))
    {
        return within(condition, &item, part(&found, 2).is_none(), &list, context);
    }
    unrecognized()
}

fn undecided(detail: impl Into<String>) -> Judged {
    (Err(Needs::Value), detail.into())
}

/// One side of a comparison.
enum Side {
    Value(Literal),
    Missing,
}

/// The value of what is written in a condition: a literal, or what a word stands for.
fn side(written: &str, context: &Context<'_>) -> Side {
    if let Some(value) = literal(written) {
        return Side::Value(value);
    }
    match context.get(written) {
        Some(Bound::Value(value)) => Side::Value(value.clone()),
        _ => Side::Missing,
    }
}

fn literal(written: &str) -> Option<Literal> {
    if let Some(name) = written.strip_prefix(':') {
        return Some(Literal::Symbol(name.to_owned()));
    }
    for quote in ['"', '\''] {
        let inner = written.strip_prefix(quote);
        if let Some(text) = inner.and_then(|inner| inner.strip_suffix(quote)) {
            return Some(Literal::Text(text.to_owned()));
        }
    }
    match written {
        "true" => return Some(Literal::Bool(true)),
        "false" => return Some(Literal::Bool(false)),
        "nil" => return Some(Literal::Nil),
        _ => {}
    }
    if let Ok(number) = written.parse::<i64>() {
        return Literal::integer(number.into());
    }
    let number = written.parse::<f64>().ok()?;
    let plain = written.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    (plain && number.is_finite()).then_some(Literal::Float(number))
}

fn equal(name: &str, negated: bool, to: &str, context: &Context<'_>) -> Judged {
    let value = match context.get(name) {
        None => return undecided(format!("Variable '{name}' not in binding context")),
        Some(Bound::Skill(_)) => return undecided(format!("Variable '{name}' is a skill")),
        Some(Bound::Value(value)) => value,
    };
    let Side::Value(wanted) = side(to, context) else {
        return undecided(format!("Variable '{to}' not in binding context"));
    };
    let same = ruby_equal(value, &wanted);
    let not = if negated { "not " } else { "" };
    let detail = format!("{name}: expected {not}{wanted}, got {value}");
    (Ok(same != negated), detail)
}

fn compare(left: &str, operator: &str, right: &str, context: &Context<'_>) -> Judged {
    let sides = [left, right].map(|written| (written, side(written, context)));
    let missing = sides
        .iter()
        .filter(|(_, side)| matches!(side, Side::Missing));
    let missing: Vec<_> = missing.map(|(written, _)| *written).collect();
    let [(_, Side::Value(l)), (_, Side::Value(r))] = &sides else {
        return undecided(format!("Missing variables: {}", missing.join(", ")));
    };
    if *l == Literal::Nil || *r == Literal::Nil {
        return undecided("Missing variables: ");
    }
    let order = match order(l, r) {
        Ok(order) => order,
        Err(reason) => return undecided(format!("Type error in comparison: {reason}")),
    };
    let holds = match operator {
        "<" => order == Ordering::Less,
        ">" => order == Ordering::Greater,
        "<=" => order != Ordering::Greater,
        _ => order != Ordering::Less,
    };
    let shown = |written: &str, value: &Literal| match literal(written) {
        Some(_) => written.to_owned(),
        None => format!("{written}({value})"),
    };
    let detail = format!(
        "{} {operator} {} = {holds}",
        shown(left, l),
        shown(right, r)
    );
    (Ok(holds), detail)
}

/// The order of two values of one kind, or why there is none, in the words of Ruby.
fn order(left: &Literal, right: &Literal) -> Result<Ordering, String> {
    let order = match (left, right) {
        (Literal::Text(l), Literal::Text(r)) | (Literal::Symbol(l), Literal::Symbol(r)) => {
            Some(l.cmp(r))
        }
        (Literal::Integer(l), Literal::Integer(r)) => Some(l.as_i128().cmp(&r.as_i128())),
        _ => number(left)
            .zip(number(right))
            .and_then(|(l, r)| l.partial_cmp(&r)),
    };
    order.ok_or_else(|| {
        let right = match right {
            Literal::Integer(_) | Literal::Float(_) | Literal::Bool(_) | Literal::Nil => {
                right.inspect()
            }
            other => class(other).to_owned(),
        };
        format!("comparison of {} with {right} failed", class(left))
    })
}

fn number(value: &Literal) -> Option<f64> {
    match value {
        Literal::Integer(number) => number.as_f64(),
        Literal::Float(number) => Some(*number),
        _ => None,
    }
}

const fn class(value: &Literal) -> &'static str {
    match value {
        Literal::Nil => "nil",
        Literal::Bool(true) => "true",
        Literal::Bool(false) => "false",
        Literal::Integer(_) => "Integer",
        Literal::Float(_) => "Float",
        Literal::Text(_) => "String",
        Literal::Symbol(_) => "Symbol",
        Literal::Array(_) => "Array",
        Literal::Map(_) => "Hash",
        Literal::Range { .. } => "Range",
    }
}

/// Ruby's `==`: numbers of both kinds are one.
fn ruby_equal(left: &Literal, right: &Literal) -> bool {
    match (left, right) {
        (Literal::Integer(_), Literal::Float(_)) | (Literal::Float(_), Literal::Integer(_)) => {
            number(left) == number(right)
        }
        _ => left == right,
    }
}

/// What an answer may be.
enum Answer {
    Value(Literal),
    /// The object has no such method.
    Silent,
    Failed(String),
}

fn ask(
    condition: &str,
    object: &str,
    method: &str,
    argument: Option<&str>,
    context: &Context<'_>,
) -> Judged {
    let Some(asked) = context.get(object) else {
        return undecided(format!("Cannot evaluate: {condition}"));
    };
    if !QUESTIONS.contains(&method) {
        return undecided(format!("Method '{method}' not in allowed list"));
    }
    let written = argument
        .map(str::trim)
        .filter(|argument| !argument.is_empty());
    if written.is_some_and(|argument| argument.contains(',')) {
        return undecided(format!("Error calling {method}: one argument at most"));
    }
    let argument = match (written, asked) {
        (None, _) => None,
        (Some(written), asked) => match (side(written, context), asked) {
            (Side::Value(value), _) => Some(value),
            // The reference takes a word that nothing stands for as a text. It never asks skills.
            (Side::Missing, Bound::Value(_)) => Some(Literal::Text(written.to_owned())),
            (Side::Missing, Bound::Skill(_)) => {
                return undecided(format!("Variable '{written}' not in binding context"));
            }
        },
    };
    let answer = match asked {
        Bound::Skill(skill) => match (method, &argument) {
            ("can_evolve?", Some(Literal::Symbol(field) | Literal::Text(field))) => {
                Answer::Value(Literal::Bool(skill.can_evolve(field)))
            }
            ("can_evolve?", _) => Answer::Failed("it takes the name of a field".to_owned()),
            ("has_tool?", None) => {
                let tool = skill.member(super::super::Keyword::Tool);
                Answer::Value(Literal::Bool(tool.is_some()))
            }
            ("nil?", None) => Answer::Value(Literal::Bool(false)),
            _ => Answer::Silent,
        },
        Bound::Value(value) => answer(value, method, argument.as_ref()),
    };
    let call = argument_text(argument.is_some(), written);
    match answer {
        Answer::Value(value) => (
            Ok(value.is_truthy()),
            format!("{object}.{method}{call} = {value}"),
        ),
        Answer::Silent => undecided(format!("Cannot evaluate: {condition}")),
        Answer::Failed(reason) => undecided(format!("Error calling {method}: {reason}")),
    }
}

fn argument_text(given: bool, written: Option<&str>) -> String {
    let argument = written.filter(|_| given).unwrap_or_default();
    format!("({argument})")
}

fn answer(value: &Literal, method: &str, argument: Option<&Literal>) -> Answer {
    let truth = |truth| Answer::Value(Literal::Bool(truth));
    let number = |count: usize| match i128::try_from(count).ok().and_then(Literal::integer) {
        Some(count) => Answer::Value(count),
        None => Answer::Silent,
    };
    let size = match value {
        Literal::Array(items) => Some(items.len()),
        Literal::Map(pairs) => Some(pairs.len()),
        Literal::Text(text) | Literal::Symbol(text) => Some(text.chars().count()),
        _ => None,
    };
    match (method, argument) {
        ("nil?", None) => truth(*value == Literal::Nil),
        ("empty?", None) => size.map_or(Answer::Silent, |size| truth(size == 0)),
        ("size" | "length", None) => size.map_or(Answer::Silent, number),
        ("count", None) if matches!(value, Literal::Array(_) | Literal::Map(_)) => {
            size.map_or(Answer::Silent, number)
        }
        ("count", Some(item)) => match value {
            Literal::Array(items) => {
                number(items.iter().filter(|other| ruby_equal(other, item)).count())
            }
            Literal::Text(_) if item.text().is_none() || matches!(item, Literal::Symbol(_)) => {
                Answer::Failed(format!(
                    "no implicit conversion of {} into String",
                    class(item)
                ))
            }
            _ => Answer::Silent,
        },
        ("key?", Some(key)) => match value {
            Literal::Map(pairs) => truth(pairs.iter().any(|(other, _)| other == key)),
            _ => Answer::Silent,
        },
        ("include?", Some(item)) => match includes(value, item) {
            None => Answer::Silent,
            Some(Ok(found)) => truth(found),
            Some(Err(reason)) => Answer::Failed(reason),
        },
        ("respond_to?", Some(Literal::Symbol(name) | Literal::Text(name))) => {
            match responds(value, name) {
                Some(known) => truth(known),
                None => Answer::Failed("this method is not known here".to_owned()),
            }
        }
        ("is_a?", _) => Answer::Failed("class or module required".to_owned()),
        ("nil?" | "empty?" | "size" | "length", Some(_)) => {
            Answer::Failed("wrong number of arguments (given 1, expected 0)".to_owned())
        }
        ("include?" | "key?" | "respond_to?", _) => {
            Answer::Failed("wrong number of arguments (given 0, expected 1)".to_owned())
        }
        _ => Answer::Silent,
    }
}

/// Whether Ruby's value knows a method, for those that are known here.
fn responds(value: &Literal, name: &str) -> Option<bool> {
    let is = |kinds: &[&str]| Some(kinds.contains(&class(value)));
    match name {
        "nil?" | "is_a?" | "respond_to?" => Some(true),
        "each" => is(&["Array", "Hash", "Range"]),
        "include?" => is(&["Array", "Hash", "Range", "String"]),
        "key?" => is(&["Hash"]),
        "empty?" | "length" => is(&["Array", "Hash", "String", "Symbol"]),
        "size" => is(&["Array", "Hash", "String", "Symbol", "Range", "Integer"]),
        "count" => is(&["Array", "Hash", "Range", "String"]),
        "can_evolve?" | "has_tool?" => Some(false),
        _ => None,
    }
}

/// Whether `list` holds `item`; nothing if it holds nothing ever.
fn includes(list: &Literal, item: &Literal) -> Option<Result<bool, String>> {
    Some(match (list, item) {
        (Literal::Array(items), item) => Ok(items.iter().any(|other| ruby_equal(other, item))),
        (Literal::Map(pairs), item) => Ok(pairs.iter().any(|(key, _)| key == item)),
        (Literal::Text(text), Literal::Text(part)) => Ok(text.contains(part.as_str())),
        (Literal::Text(_), item) => Err(format!(
            "no implicit conversion of {} into String",
            class(item)
        )),
        (
            Literal::Range {
                from,
                to,
                exclusive,
            },
            item,
        ) => match (order(from, item), order(item, to)) {
            (Ok(after), Ok(before)) => Ok(after != Ordering::Greater
                && (before == Ordering::Less || !exclusive && before == Ordering::Equal)),
            _ => Ok(false),
        },
        _ => return None,
    })
}

fn within(condition: &str, item: &str, wanted: bool, list: &str, context: &Context<'_>) -> Judged {
    let cannot = || undecided(format!("Cannot evaluate exclusion: {condition}"));
    let (Some(bound), Some(Bound::Value(values))) = (context.get(item), context.get(list)) else {
        return cannot();
    };
    let word = if wanted { "in" } else { "not in" };
    let found = match bound {
        Bound::Value(value) => includes(values, value),
        // Lists name skills by their ids, as symbols in laws and as texts in settings.
        Bound::Skill(skill) => {
            let ids = [
                Literal::Symbol(skill.id.clone()),
                Literal::Text(skill.id.clone()),
            ];
            match values {
                Literal::Array(values) => Some(Ok(values.iter().any(|value| ids.contains(value)))),
                _ => None,
            }
        }
    };
    match found {
        None => cannot(),
        Some(Err(reason)) => undecided(format!("Cannot evaluate exclusion: {condition}: {reason}")),
        Some(Ok(found)) => {
            let holds = found == wanted;
            (Ok(holds), format!("{item} {word} {list}: {holds}"))
        }
    }
}
