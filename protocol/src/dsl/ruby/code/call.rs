//! Calls, and the blocks behind them: by name, and the names are those of a list.

use std::sync::Arc;

use lib_ruby_parser::Node as Tree;
use lib_ruby_parser::nodes;

use super::super::super::Span;
use super::super::super::eval::tree::{Block, Call, Class, Expr, Kind, Parameter, Passed};
use super::super::super::eval::word;
use super::super::super::read;
use super::super::span;
use super::{DEPTH_MAX, Lowering, path};

impl Lowering {
    pub(super) fn send(&mut self, send: &nodes::Send, at: Span, depth: usize) -> Kind {
        let name = send.method_name.as_str();
        match send.recv.as_deref() {
            None => self.bare(send, at, depth),
            Some(constant @ Tree::Const(_)) => {
                let path = path(constant).unwrap_or_default();
                let Some((ask, least, most)) = asked(&path, name) else {
                    let mend = match word::of_constant(&path).as_slice() {
                        [] => word::instead_of(name).to_owned(),
                        known => format!("`{path}` can be asked for {}", known.join(", ")),
                    };
                    let mend = match mend.as_str() {
                        "" => word::instead_of("read"),
                        mend => mend,
                    };
                    return self.refuse(at, &format!("`{path}.{name}`"), mend);
                };
                if !(least..=most).contains(&send.args.len()) {
                    let mend = format!("give it {least} values");
                    return self.refuse(at, "a call with so many values", &mend);
                }
                Kind::Ask(ask, self.all(&send.args, depth))
            }
            Some(receiver) => {
                let receiver = self.expr(receiver, depth);
                self.call(receiver, false, name, &send.args, at, depth)
            }
        }
    }

    /// A call of nothing.
    fn bare(&mut self, send: &nodes::Send, at: Span, depth: usize) -> Kind {
        let name = send.method_name.as_str();
        match (name, send.args.as_slice()) {
            ("raise", [text]) if !matches!(text, Tree::Const(_)) => {
                Kind::Raise(Class::Runtime, self.boxed(text, depth))
            }
            ("raise", [class, text]) => match self.class(class) {
                Some(class) => Kind::Raise(class, self.boxed(text, depth)),
                None => Kind::Nil,
            },
            ("raise", _) => self.refuse(at, "such a `raise`", "write `raise \"text\"`"),
            ("lambda", _) => self.refuse(at, "`lambda` without a block", "give it a block"),
            (name, _) => {
                let mend = match (word::instead_of(name), send.args.is_empty()) {
                    ("", true) => "it is no variable here; assign it before",
                    ("", false) => "only methods of values can be called: `value.method`",
                    (mend, _) => mend,
                };
                self.refuse(at, &format!("`{name}`"), mend)
            }
        }
    }

    pub(super) fn call(
        &mut self,
        receiver: Expr,
        safe: bool,
        name: &str,
        given: &[Tree],
        at: Span,
        depth: usize,
    ) -> Kind {
        let Some(method) = word::method(name) else {
            let mend = match word::instead_of(name) {
                "" => read::meant(name, word::METHODS),
                mend => mend.to_owned(),
            };
            return self.refuse(at, &format!("`{name}`"), &mend);
        };
        let mut arguments = Vec::with_capacity(given.len());
        let mut keywords = Vec::new();
        let mut block = None;
        for tree in given {
            match tree {
                Tree::BlockPass(pass) => block = self.passed(pass, at, depth),
                Tree::Kwargs(named) if method == "call" => {
                    for (key, value) in self.pairs(&named.pairs, depth) {
                        match key.kind {
                            Kind::Symbol(name) => keywords.push((name, value)),
                            _ => {
                                self.refuse(key.span, "a keyword that is no symbol", "");
                            }
                        }
                    }
                }
                tree => arguments.push(self.expr(tree, depth)),
            }
        }
        Kind::Call(Box::new(Call {
            receiver,
            safe,
            method,
            arguments,
            keywords,
            block,
        }))
    }

    /// `&:method`, `&lambda`
    fn passed(&mut self, pass: &nodes::BlockPass, at: Span, depth: usize) -> Option<Passed> {
        match pass.value.as_deref() {
            Some(Tree::Sym(symbol)) => {
                let name = symbol.name.to_string_lossy();
                match word::method(&name) {
                    Some(method) => return Some(Passed::Method(method)),
                    None => self.refuse(at, &format!("`&:{name}`"), word::instead_of(&name)),
                };
                None
            }
            Some(variable @ Tree::Lvar(_)) => Some(Passed::Variable(self.expr(variable, depth))),
            _ => {
                self.refuse(at, "a block passed on like this", "write `{ |item| … }`");
                None
            }
        }
    }

    pub(super) fn with_block(&mut self, node: &nodes::Block, at: Span, depth: usize) -> Kind {
        let is_lambda = matches!(&*node.call, Tree::Lambda(_))
            || matches!(&*node.call, Tree::Send(send)
                if send.recv.is_none() && send.method_name == "lambda" && send.args.is_empty());
        let block = self.block(node, is_lambda, depth);
        if is_lambda {
            return Kind::Lambda(Arc::new(block));
        }
        let mut kind = self.expr(&node.call, depth).kind;
        match &mut kind {
            Kind::Call(call) if call.block.is_none() => {
                call.block = Some(Passed::Block(Arc::new(block)));
                kind
            }
            // What was called is refused already.
            Kind::Nil if !self.refused.is_empty() => Kind::Nil,
            _ => self.refuse(at, "a block here", "leave it out"),
        }
    }

    pub(super) fn block(&mut self, block: &nodes::Block, is_lambda: bool, depth: usize) -> Block {
        let mut parameters = Vec::new();
        let mut spreads = false;
        if let Some(Tree::Args(args)) = block.args.as_deref() {
            for arg in &args.args {
                parameters.extend(self.parameter(arg, depth));
            }
            let single =
                matches!(args.args.as_slice(), [Tree::Procarg0(only)] if only.args.len() == 1);
            spreads = !is_lambda && !single && !parameters.is_empty();
        }
        let at = span(&block.expression_l);
        let body = self.optional(block.body.as_deref(), at, depth);
        Block {
            parameters,
            spreads,
            body,
        }
    }

    fn parameter(&mut self, tree: &Tree, depth: usize) -> Option<Parameter> {
        Some(match tree {
            Tree::Arg(arg) => Parameter::Plain(arg.name.as_str().into()),
            Tree::Optarg(arg) => {
                Parameter::Optional(arg.name.as_str().into(), self.expr(&arg.default, depth))
            }
            Tree::Kwarg(arg) => Parameter::Keyword(arg.name.as_str().into(), None),
            Tree::Kwoptarg(arg) => {
                let default = self.expr(&arg.default, depth);
                Parameter::Keyword(arg.name.as_str().into(), Some(default))
            }
            Tree::Procarg0(arg) => match arg.args.as_slice() {
                [only] => return self.parameter(only, depth),
                many => self.group(many, span(&arg.expression_l), depth),
            },
            Tree::Mlhs(group) => self.group(&group.items, span(&group.expression_l), depth),
            other => {
                let at = span(other.expression());
                self.refuse(at, "a parameter of this form", "name each parameter");
                return None;
            }
        })
    }

    fn group(&mut self, items: &[Tree], at: Span, depth: usize) -> Parameter {
        if depth >= DEPTH_MAX {
            self.refuse(at, "code nested this deep", "");
            return Parameter::Group(Vec::new());
        }
        let items = items.iter();
        Parameter::Group(
            items
                .filter_map(|item| self.parameter(item, depth + 1))
                .collect(),
        )
    }
}

/// A method that a constant has; its constants are none.
fn asked(constant: &str, name: &str) -> Option<(word::Ask, usize, usize)> {
    word::ask(constant, name).filter(|_| !name.ends_with("_PATH"))
}
