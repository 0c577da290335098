//! From the grammar's tree of a block to code that may be evaluated. Everything else is refused, all of it at once.

mod call;

use lib_ruby_parser::Node as Tree;
use lib_ruby_parser::nodes;

use super::super::Span;
use super::super::eval::tree::{Arm, Block, Class, Expr, Kind, Name};
use super::super::eval::word;
use super::super::fault::{FaultCode, Refused};
use super::{Complaint, SOURCE_MAX, grammar, integer, on_a_thread, span, words};

/// Deepest nesting of code.
const DEPTH_MAX: usize = 64;
/// Most refusals that are told of one block.
const REFUSALS_MAX: usize = 32;

/// What stands before a block, so that it is one.
pub(in super::super) const CODE_PREFIX: &str = "code ";

/// The code of a block, with [`CODE_PREFIX`] before it; or everything in it that is not evaluated.
pub(in super::super) fn code(text: &str) -> Result<Block, Vec<Refused>> {
    let refused = |what: String| {
        let at = Span::default();
        vec![Refused::new(at, FaultCode::NotEvaluated, what)]
    };
    if text.len() > SOURCE_MAX {
        let what = format!(
            "the block has {} bytes, the limit is {SOURCE_MAX}",
            text.len()
        );
        return Err(refused(what));
    }
    let block = on_a_thread(text, || {
        let complaint =
            |complaint: Complaint| Refused::new(complaint.at, FaultCode::Syntax, complaint.what);
        match grammar(text) {
            Ok(tree) => block(tree.as_deref()),
            Err(complaints) => Err(complaints.into_iter().map(complaint).collect()),
        }
    });
    block.unwrap_or_else(|what| Err(refused(what.to_owned())))
}

/// Lowers a text of the form `word block`.
fn block(tree: Option<&Tree>) -> Result<Block, Vec<Refused>> {
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
    pub(super) fn refuse(&mut self, span: Span, what: &str, mend: &str) -> Kind {
        if self.refused.len() < REFUSALS_MAX {
            let what = format!("{what} is not evaluated");
            self.refused
                .push(Refused::new(span, FaultCode::NotEvaluated, what).mend(mend));
        }
        Kind::Nil
    }

    pub(super) fn expr(&mut self, tree: &Tree, depth: usize) -> Expr {
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

    pub(super) fn boxed(&mut self, tree: &Tree, depth: usize) -> Box<Expr> {
        Box::new(self.expr(tree, depth))
    }

    /// What may be missing, and is nil then.
    pub(super) fn optional(&mut self, tree: Option<&Tree>, at: Span, depth: usize) -> Expr {
        match tree {
            Some(tree) => self.expr(tree, depth),
            None => Expr {
                span: at,
                kind: Kind::Nil,
            },
        }
    }

    pub(super) fn all(&mut self, trees: &[Tree], depth: usize) -> Vec<Expr> {
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

    pub(super) fn pairs(&mut self, pairs: &[Tree], depth: usize) -> Vec<(Expr, Expr)> {
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

    pub(super) fn class(&mut self, tree: &Tree) -> Option<Class> {
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
