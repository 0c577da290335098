//! From the grammar's tree of a block to code that may be evaluated. Everything else is refused, all of it at once.

use std::sync::Arc;

use lib_ruby_parser::Node as Tree;
use lib_ruby_parser::nodes;

use super::super::Span;
use super::super::eval::tree::{Arm, Block, Call, Class, Expr, Kind, Name, Parameter, Passed};
use super::super::eval::word;
use super::super::fault::{FaultCode, Refused};
use super::{integer, span, words};

/// Deepest nesting of code.
const DEPTH_MAX: usize = 64;
/// Most refusals that are told of one block.
const REFUSALS_MAX: usize = 32;

/// Lowers a text of the form `word block`.
pub(super) fn block(tree: Option<&Tree>) -> Result<Block, Vec<Refused>> {
    let mut lowering = Lowering::default();
    let block = match tree {
        Some(Tree::Block(block)) if is_bare(&block.call) => lowering.block(block, false, 0),
        Some(Tree::Numblock(block)) if is_bare(&block.call) => {
            lowering.refuse(
                span(&block.expression_l),
                "a block with numbered parameters",
                NAME_IT,
            );
            return Err(lowering.refused);
        }
        _ => {
            lowering.refuse(
                Span::default(),
                "what is no block",
                "write `do … end` around the code",
            );
            return Err(lowering.refused);
        }
    };
    match lowering.refused.is_empty() {
        true => Ok(block),
        false => Err(lowering.refused),
    }
}

const NAME_IT: &str = "give the parameter a name: `{ |item| … }`";

/// A word alone.
fn is_bare(tree: &Tree) -> bool {
    matches!(tree, Tree::Send(send) if send.recv.is_none() && send.args.is_empty())
}

#[derive(Default)]
struct Lowering {
    refused: Vec<Refused>,
}

impl Lowering {
    fn refuse(&mut self, span: Span, what: &str, mend: &str) -> Kind {
        if self.refused.len() < REFUSALS_MAX {
            let what = format!("{what} is not evaluated");
            self.refused
                .push(Refused::new(span, FaultCode::NotEvaluated, what).mend(mend));
        }
        Kind::Nil
    }

    fn expr(&mut self, tree: &Tree, depth: usize) -> Expr {
        let span = span(tree.expression());
        let kind = match depth >= DEPTH_MAX {
            true => self.refuse(
                span,
                "code nested this deep",
                "give parts of it names: `part = …`",
            ),
            false => self.kind(tree, span, depth + 1),
        };
        Expr { span, kind }
    }

    fn boxed(&mut self, tree: &Tree, depth: usize) -> Box<Expr> {
        Box::new(self.expr(tree, depth))
    }

    /// What may be missing, and is nil then.
    fn optional(&mut self, tree: Option<&Tree>, at: Span, depth: usize) -> Expr {
        match tree {
            Some(tree) => self.expr(tree, depth),
            None => Expr {
                span: at,
                kind: Kind::Nil,
            },
        }
    }

    fn all(&mut self, trees: &[Tree], depth: usize) -> Vec<Expr> {
        trees.iter().map(|tree| self.expr(tree, depth)).collect()
    }

    fn kind(&mut self, tree: &Tree, at: Span, depth: usize) -> Kind {
        match tree {
            Tree::Nil(_) => Kind::Nil,
            Tree::True(_) => Kind::Bool(true),
            Tree::False(_) => Kind::Bool(false),
            Tree::Int(int) => self.integer(&int.value, at),
            Tree::Float(float) => match float.value.replace('_', "").parse::<f64>() {
                Ok(value) if value.is_finite() => Kind::Float(value),
                _ => self.refuse(at, "a number of this size", ""),
            },
            Tree::Str(text) => self.text(text.value.as_raw(), at, Kind::Text),
            Tree::Sym(symbol) => self.text(symbol.name.as_raw(), at, Kind::Symbol),
            Tree::Dstr(text) => self.joined(&text.parts, false, depth),
            Tree::Heredoc(text) => self.joined(&text.parts, false, depth),
            Tree::Dsym(symbol) => self.joined(&symbol.parts, true, depth),
            Tree::Array(array) => Kind::Array(self.all(&array.elements, depth)),
            Tree::Hash(hash) => Kind::Map(self.pairs(&hash.pairs, depth)),
            Tree::Kwargs(hash) => Kind::Map(self.pairs(&hash.pairs, depth)),
            Tree::Irange(range) => self.range(
                range.left.as_deref(),
                range.right.as_deref(),
                false,
                at,
                depth,
            ),
            Tree::Erange(range) => self.range(
                range.left.as_deref(),
                range.right.as_deref(),
                true,
                at,
                depth,
            ),
            Tree::Lvar(variable) => Kind::Variable(variable.name.as_str().into()),
            Tree::Lvasgn(assign) => match &assign.value {
                Some(value) => Kind::Assign(assign.name.as_str().into(), self.boxed(value, depth)),
                None => self.refuse(at, "an assignment of this form", ""),
            },
            Tree::IndexAsgn(assign) => self.assign_at(assign, at, depth),
            Tree::OpAsgn(assign) => self.assign_by(assign, at, depth),
            Tree::OrAsgn(assign) => {
                self.assign_unless(&assign.recv, &assign.value, at, depth, Kind::Or)
            }
            Tree::AndAsgn(assign) => {
                self.assign_unless(&assign.recv, &assign.value, at, depth, Kind::And)
            }
            Tree::Begin(begin) => self.sequence(&begin.statements, depth),
            Tree::KwBegin(begin) => self.sequence(&begin.statements, depth),
            Tree::If(node) => self.condition(
                &node.cond,
                node.if_true.as_deref(),
                node.if_false.as_deref(),
                at,
                depth,
            ),
            Tree::IfMod(node) => self.condition(
                &node.cond,
                node.if_true.as_deref(),
                node.if_false.as_deref(),
                at,
                depth,
            ),
            Tree::IfTernary(node) => self.condition(
                &node.cond,
                Some(&node.if_true),
                Some(&node.if_false),
                at,
                depth,
            ),
            Tree::Case(case) => self.case(case, at, depth),
            Tree::And(node) => {
                Kind::And(self.boxed(&node.lhs, depth), self.boxed(&node.rhs, depth))
            }
            Tree::Or(node) => Kind::Or(self.boxed(&node.lhs, depth), self.boxed(&node.rhs, depth)),
            Tree::Rescue(rescue) => self.rescue(rescue, at, depth),
            Tree::Next(next) => match next.args.as_slice() {
                [] => Kind::Next(Box::new(Expr {
                    span: at,
                    kind: Kind::Nil,
                })),
                [value] => Kind::Next(self.boxed(value, depth)),
                _ => self.refuse(at, "`next` with several values", "give it a list"),
            },
            Tree::Send(send) => self.send(send, at, depth),
            Tree::CSend(send) => {
                let receiver = self.expr(&send.recv, depth);
                self.call(receiver, true, &send.method_name, &send.args, at, depth)
            }
            Tree::Index(index) => {
                let receiver = self.expr(&index.recv, depth);
                self.call(receiver, false, "[]", &index.indexes, at, depth)
            }
            Tree::Block(block) => self.with_block(block, at, depth),
            Tree::Const(_) => self.constant(tree, at),
            Tree::Numblock(_) => self.refuse(at, "a block with numbered parameters", NAME_IT),
            other => self.refuse(at, words(other), instead(other)),
        }
    }

    fn integer(&mut self, written: &str, at: Span) -> Kind {
        let value = integer(&written.replace('_', ""));
        match value.and_then(|value| i64::try_from(value).ok()) {
            Some(value) => Kind::Integer(value),
            None => self.refuse(at, "a number beyond 64 bits", ""),
        }
    }

    fn text(&mut self, bytes: &[u8], at: Span, make: fn(Name) -> Kind) -> Kind {
        match std::str::from_utf8(bytes) {
            Ok(text) => make(text.into()),
            Err(_) => self.refuse(at, "a text that is not UTF-8", ""),
        }
    }

    fn joined(&mut self, parts: &[Tree], symbol: bool, depth: usize) -> Kind {
        Kind::Joined {
            parts: self.all(parts, depth),
            symbol,
        }
    }

    fn pairs(&mut self, pairs: &[Tree], depth: usize) -> Vec<(Expr, Expr)> {
        let mut read = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match pair {
                Tree::Pair(pair) => {
                    read.push((self.expr(&pair.key, depth), self.expr(&pair.value, depth)));
                }
                other => {
                    self.refuse(span(other.expression()), words(other), instead(other));
                }
            }
        }
        read
    }

    fn range(
        &mut self,
        from: Option<&Tree>,
        to: Option<&Tree>,
        exclusive: bool,
        at: Span,
        depth: usize,
    ) -> Kind {
        match (from, to) {
            (Some(from), Some(to)) => Kind::Range {
                from: self.boxed(from, depth),
                to: self.boxed(to, depth),
                exclusive,
            },
            _ => self.refuse(at, "a range without an end", "write both ends"),
        }
    }

    fn sequence(&mut self, statements: &[Tree], depth: usize) -> Kind {
        match statements {
            [only] => self.expr(only, depth).kind,
            many => Kind::Sequence(self.all(many, depth)),
        }
    }

    fn assign_at(&mut self, assign: &nodes::IndexAsgn, at: Span, depth: usize) -> Kind {
        match (assign.indexes.as_slice(), &assign.value) {
            ([index], Some(value)) => Kind::AssignAt {
                list: self.boxed(&assign.recv, depth),
                at: self.boxed(index, depth),
                value: self.boxed(value, depth),
            },
            _ => self.refuse(
                at,
                "an assignment of this form",
                "assign one value at a time",
            ),
        }
    }

    /// `a += b`
    fn assign_by(&mut self, assign: &nodes::OpAsgn, at: Span, depth: usize) -> Kind {
        let Tree::Lvasgn(target) = &*assign.recv else {
            return self.refuse(at, "such an assignment", "write it out: `a[b] = a[b] + c`");
        };
        let name: Name = target.name.as_str().into();
        let receiver = Expr {
            span: at,
            kind: Kind::Variable(name.clone()),
        };
        let arguments = std::slice::from_ref(&*assign.value);
        let kind = self.call(receiver, false, &assign.operator, arguments, at, depth);
        Kind::Assign(name, Box::new(Expr { span: at, kind }))
    }

    /// `a ||= b`, `a &&= b`
    fn assign_unless(
        &mut self,
        target: &Tree,
        value: &Tree,
        at: Span,
        depth: usize,
        make: fn(Box<Expr>, Box<Expr>) -> Kind,
    ) -> Kind {
        let Tree::Lvasgn(target) = target else {
            return self.refuse(at, "such an assignment", "write it out: `a[b] = a[b] || c`");
        };
        let name: Name = target.name.as_str().into();
        let variable = Expr {
            span: at,
            kind: Kind::Variable(name.clone()),
        };
        let kind = Kind::Assign(name, self.boxed(value, depth));
        make(Box::new(variable), Box::new(Expr { span: at, kind }))
    }

    fn condition(
        &mut self,
        condition: &Tree,
        then: Option<&Tree>,
        otherwise: Option<&Tree>,
        at: Span,
        depth: usize,
    ) -> Kind {
        Kind::If {
            condition: self.boxed(condition, depth),
            then: Box::new(self.optional(then, at, depth)),
            otherwise: Box::new(self.optional(otherwise, at, depth)),
        }
    }

    fn case(&mut self, case: &nodes::Case, at: Span, depth: usize) -> Kind {
        let Some(subject) = &case.expr else {
            return self.refuse(at, "`case` without a value", "write `if … elsif … end`");
        };
        let subject = self.boxed(subject, depth);
        let mut arms = Vec::with_capacity(case.when_bodies.len());
        for arm in &case.when_bodies {
            if let Tree::When(when) = arm {
                let patterns = self.all(&when.patterns, depth);
                arms.push((patterns, self.optional(when.body.as_deref(), at, depth)));
            }
        }
        Kind::Case {
            subject,
            arms,
            otherwise: Box::new(self.optional(case.else_body.as_deref(), at, depth)),
        }
    }

    fn rescue(&mut self, rescue: &nodes::Rescue, at: Span, depth: usize) -> Kind {
        let body = Box::new(self.optional(rescue.body.as_deref(), at, depth));
        let mut arms = Vec::with_capacity(rescue.rescue_bodies.len());
        for arm in &rescue.rescue_bodies {
            let Tree::RescueBody(arm) = arm else {
                continue;
            };
            let at = span(&arm.expression_l);
            let named = match arm.exc_list.as_deref() {
                None => &[],
                Some(Tree::Array(list)) => list.elements.as_slice(),
                Some(one) => std::slice::from_ref(one),
            };
            let mut classes = Vec::with_capacity(named.len());
            for name in named {
                classes.extend(self.class(name));
            }
            let variable = match arm.exc_var.as_deref() {
                None => None,
                Some(Tree::Lvasgn(variable)) => Some(variable.name.as_str().into()),
                Some(_) => {
                    self.refuse(at, "an error kept like this", "write `=> error`");
                    None
                }
            };
            let body = self.optional(arm.body.as_deref(), at, depth);
            arms.push(Arm {
                classes,
                variable,
                body,
            });
        }
        Kind::Rescue {
            body,
            arms,
            otherwise: rescue.else_.as_ref().map(|tree| self.boxed(tree, depth)),
        }
    }

    fn class(&mut self, tree: &Tree) -> Option<Class> {
        let known = path(tree).and_then(|name| Class::named(&name));
        if known.is_none() {
            self.refuse(
                span(tree.expression()),
                "an error of this class",
                "name StandardError, ArgumentError, KeyError, TypeError or SyntaxError",
            );
        }
        known
    }

    fn constant(&mut self, tree: &Tree, at: Span) -> Kind {
        let path = path(tree).unwrap_or_default();
        // The one constant that is a value.
        let asked = path
            .rsplit_once("::")
            .and_then(|(on, word)| word::ask(on, word));
        match asked {
            Some((ask, 0, _)) if path.ends_with("_PATH") => Kind::Ask(ask, Vec::new()),
            _ => self.refuse(
                at,
                &format!("the constant `{path}`"),
                "write the value itself",
            ),
        }
    }

    fn send(&mut self, send: &nodes::Send, at: Span, depth: usize) -> Kind {
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

    fn call(
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
                "" => super::super::read::meant(name, word::METHODS),
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

    fn with_block(&mut self, node: &nodes::Block, at: Span, depth: usize) -> Kind {
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

    fn block(&mut self, block: &nodes::Block, is_lambda: bool, depth: usize) -> Block {
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

/// `A::B` as it is written; `::A` is `A`.
fn path(tree: &Tree) -> Option<String> {
    let mut names = Vec::new();
    let mut tree = Some(tree);
    while let Some(Tree::Const(constant)) = tree {
        names.push(constant.name.as_str());
        tree = constant.scope.as_deref();
    }
    if !matches!(tree, None | Some(Tree::Cbase(_))) || names.is_empty() {
        return None;
    }
    names.reverse();
    Some(names.join("::"))
}

/// What to write in place of a construct.
fn instead(tree: &Tree) -> &'static str {
    match tree {
        Tree::Xstr(_) | Tree::XHeredoc(_) => word::instead_of("system"),
        Tree::While(_)
        | Tree::WhilePost(_)
        | Tree::Until(_)
        | Tree::UntilPost(_)
        | Tree::For(_) => word::instead_of("loop"),
        Tree::Regexp(_) => word::instead_of("match"),
        Tree::Def(_) | Tree::Defs(_) => "write `name = lambda do |…| … end`, and `name.call(…)`",
        Tree::Class(_) | Tree::SClass(_) | Tree::Module(_) => "use hashes and lambdas",
        Tree::Masgn(_) => "assign one value at a time",
        Tree::Ivar(_) | Tree::Gvar(_) | Tree::Cvar(_) => "use a local variable",
        Tree::Ivasgn(_) | Tree::Gvasgn(_) | Tree::Cvasgn(_) | Tree::Casgn(_) => {
            "use a local variable"
        }
        Tree::Splat(_) | Tree::Kwsplat(_) => "write the values one by one, or join lists with `+`",
        Tree::Self_(_) => "leave it out; code of a law has no self",
        Tree::Return(_) => "make it the last value, or write `next value` to end a block early",
        Tree::Break(_) => "use `find`, `any?` or `take`, which stop by themselves",
        Tree::Ensure(_) => "leave it out; nothing that code of a law does has to be undone",
        Tree::Rational(_) | Tree::Complex(_) => "write it with a point",
        _ => "",
    }
}
