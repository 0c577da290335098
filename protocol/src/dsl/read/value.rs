//! Literals.

use super::super::Literal;
use super::super::fault::{FaultCode, Refused};
use super::super::ruby::{self, Kind, Node};
use super::shown;

/// The value of a literal.
pub(super) fn literal(node: &Node) -> Result<Literal, Refused> {
    Ok(match &node.kind {
        Kind::Nil => Literal::Nil,
        Kind::True => Literal::Bool(true),
        Kind::False => Literal::Bool(false),
        Kind::Text(text) => Literal::Text(text.clone()),
        Kind::Symbol(name) => Literal::Symbol(name.clone()),
        Kind::Integer(written) => ruby::integer(written)
            .and_then(Literal::integer)
            .ok_or_else(|| too_large(node, written))?,
        Kind::Float(written) => written
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite())
            .map(Literal::Float)
            .ok_or_else(|| too_large(node, written))?,
        Kind::Array(items) => Literal::Array(items.iter().map(literal).collect::<Result<_, _>>()?),
        Kind::Hash(pairs) | Kind::Keywords(pairs) => {
            let mut read: Vec<(Literal, Literal)> = Vec::with_capacity(pairs.len());
            for (key, value) in pairs {
                let (name, value) = (literal(key)?, literal(value)?);
                if read.iter().any(|(other, _)| *other == name) {
                    let what = format!("{} is given twice", name.inspect());
                    return Err(Refused::new(key.span, FaultCode::Hidden, what)
                        .mend("keep one of the two; Ruby takes the last"));
                }
                read.push((name, value));
            }
            Literal::Map(read)
        }
        Kind::Range {
            from,
            to,
            exclusive,
        } => Literal::Range {
            from: Box::new(literal(from)?),
            to: Box::new(literal(to)?),
            exclusive: *exclusive,
        },
        Kind::Call(_) | Kind::Other(_) => {
            let what = format!("{} is not a literal", shown(&node.kind));
            return Err(Refused::new(node.span, FaultCode::NotLiteral, what)
                .expected(
                    "a text, symbol, number, `true`, `false`, `nil`, or a list or hash of these",
                )
                .mend(mend(&node.kind)));
        }
    })
}

fn too_large(node: &Node, written: &str) -> Refused {
    let what = format!("the number {written} is too large");
    Refused::new(node.span, FaultCode::Limit, what).mend("write it as a text")
}

fn mend(kind: &Kind) -> String {
    match kind {
        Kind::Call(call) if call.arguments.is_empty() && call.block.is_none() => {
            format!(
                "write `:{0}` for a symbol or `\"{0}\"` for a text",
                call.name
            )
        }
        Kind::Other("a text with interpolation") => {
            "write out what `#{…}` stands for, or `\\#{` for the letters themselves".to_owned()
        }
        Kind::Other("a constant") => "write out the value of the constant".to_owned(),
        Kind::Other("deep nesting") => "flatten it".to_owned(),
        _ => "write out the value: a law is read and never run".to_owned(),
    }
}
