//! The grammar of Ruby, behind one door: text in, a small tree with spans out. Nothing is ever evaluated.
//!
//! The grammar is lib-ruby-parser's: safe Rust without native code, since the texts may come from strangers, and
//! equal to Ruby 3.1 on every file tried. Ruby's own parser, ruby-prism, is C. Nobody else may name the crate, so
//! that the choice stays one of this module: the file lowers declarations, `code` what may be evaluated.
//!
//! A tree is as deep as its text is long, and whoever drops one recurses. The parser therefore works on a thread of
//! its own whose stack is large enough for the worst text of [`SOURCE_MAX`] bytes; a panic there is a fault.

mod code;

use std::num::NonZero;
use std::thread;

use lib_ruby_parser::{Loc, Node as Tree, Parser, ParserOptions, ParserResult};

pub(super) use self::code::{CODE_PREFIX, code};
use super::Span;

/// Longest source read, in bytes; twice the longest file that the reference ships. The worst text of this length
/// keeps the parser, which takes quadratic time for some, busy for seconds.
pub const SOURCE_MAX: usize = 64 * 1024;
/// The name of the thread on which the grammar's parser works. What panics there is told as a fault of the text.
pub const GRAMMAR_THREAD: &str = "ruby-grammar";
/// Deepest nesting of the tree handed out; declarations need about ten levels.
const DEPTH_MAX: usize = 64;
/// Stack for each byte of source: what dropping one level of a tree takes without optimisation, twice over.
const STACK_PER_BYTE: usize = 2 * 1024;
/// Stack for everything else.
const STACK_BASE: usize = 4 * 1024 * 1024;
/// Most errors of the grammar that are told of one part.
const ERRORS_MAX: usize = 16;
/// Most parts into which a text that is no Ruby is cut.
const PARTS_MAX: usize = 256;

/// A piece of Ruby.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

/// What a piece of Ruby is, as far as declarations need it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Nil,
    True,
    False,
    /// As written, without `_`.
    Integer(String),
    /// As written, without `_`.
    Float(String),
    /// A string or heredoc, unescaped, its indentation removed where the source asks for that.
    Text(String),
    Symbol(String),
    Array(Vec<Node>),
    /// `{ a: 1 }`
    Hash(Vec<(Node, Node)>),
    /// The keyword arguments of a call.
    Keywords(Vec<(Node, Node)>),
    /// `1..5`, or `1...5` without its end; both ends are there.
    Range {
        from: Box<Node>,
        to: Box<Node>,
        exclusive: bool,
    },
    /// A call without a receiver, a bare word included.
    Call(Call),
    /// Legal Ruby that is not read, in words.
    Other(&'static str),
}

/// `name arguments do … end`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Vec<Node>,
    pub(super) block: Option<Block>,
}

/// What stands between `do` and `end`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    /// From `do` to `end`, both included.
    pub(super) span: Span,
    pub(super) statements: Vec<Node>,
}

/// An error of the grammar, or why there is no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) at: Span,
    pub(super) what: String,
}

/// What was read of a text.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Parsed {
    pub(super) statements: Vec<Node>,
    /// Why it is not Ruby. The statements are then those of the parts that are.
    pub(super) complaints: Vec<Complaint>,
}

/// The statements of `source`, and what is wrong with it.
///
/// A text that is no Ruby is read again in parts, each from one line that begins with `skill` to the next, so that an
/// error in one of them hides neither the others nor their errors.
pub(super) fn parse(source: &str) -> Parsed {
    let whole = parse_whole(source);
    // In parts it would still be too long.
    if whole.complaints.is_empty() || source.len() > SOURCE_MAX {
        return whole;
    }
    if let [Complaint { at, what }] = &whole.complaints[..]
        && what == DATA_FOUND
    {
        let before = guarded(source.get(..at.start).unwrap_or_default());
        return Parsed {
            statements: before.statements,
            complaints: whole.complaints,
        };
    }
    let parts = parts(source);
    if parts.len() < 2 {
        return whole;
    }
    let mut all = Parsed::default();
    for Span { start, end } in parts {
        let mut part = guarded(source.get(start..end).unwrap_or_default());
        for statement in &mut part.statements {
            statement.shift(start);
        }
        for complaint in &mut part.complaints {
            complaint.at.shift(start);
        }
        all.statements.append(&mut part.statements);
        all.complaints.append(&mut part.complaints);
    }
    // Parts that are right one by one, and wrong together.
    if all.complaints.is_empty() {
        all.complaints = whole.complaints;
    }
    all
}

/// Whether `text` is Ruby by itself.
pub(super) fn is_ruby(text: &str) -> bool {
    complaint(text).is_none()
}

/// `source` cut before each line that begins with `skill`, at most [`PARTS_MAX`] times.
fn parts(source: &str) -> Vec<Span> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        let next = line
            .strip_prefix("skill")
            .and_then(|rest| rest.chars().next());
        if at > 0 && starts.len() < PARTS_MAX && matches!(next, Some(' ' | '(' | '\t')) {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([source.len()]);
    let spans = starts.iter().zip(ends);
    spans.map(|(&start, end)| Span { start, end }).collect()
}

fn failed(what: impl Into<String>) -> Parsed {
    let at = Span::default();
    let what = what.into();
    Parsed {
        statements: Vec::new(),
        complaints: vec![Complaint { at, what }],
    }
}

/// The statements of `source`, or nothing but what is wrong with it.
fn parse_whole(source: &str) -> Parsed {
    match source.len() {
        0..=SOURCE_MAX => guarded(source),
        length => failed(format!(
            "the source has {length} bytes, the limit is {SOURCE_MAX}"
        )),
    }
}

/// Why Ruby would not take `text`; nothing if it would.
pub(super) fn complaint(text: &str) -> Option<String> {
    let mut complaints = parse_whole(text).complaints.into_iter();
    complaints.next().map(|complaint| complaint.what)
}

/// Parses on a thread that can bear it.
fn guarded(source: &str) -> Parsed {
    match on_a_thread(source, || statements(source)) {
        Ok(Ok(statements)) => Parsed {
            statements,
            complaints: Vec::new(),
        },
        Ok(Err(complaints)) => Parsed {
            statements: Vec::new(),
            complaints,
        },
        Err(what) => failed(what),
    }
}

/// Does something with the grammar's tree of `source` on a thread whose stack can bear it.
fn on_a_thread<T: Send>(source: &str, work: impl FnOnce() -> T + Send) -> Result<T, &'static str> {
    let stack = STACK_BASE + source.len() * STACK_PER_BYTE;
    let done = thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name(GRAMMAR_THREAD.to_owned())
            .stack_size(stack)
            .spawn_scoped(scope, work);
        reader.map(thread::ScopedJoinHandle::join)
    });
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_panic)) => Err("the grammar's parser gave up on this text"),
        Err(_no_thread) => Err("there is no memory to parse this text"),
    }
}

impl Node {
    /// Moves it behind `by` more bytes.
    fn shift(&mut self, by: usize) {
        self.span.shift(by);
        match &mut self.kind {
            Kind::Array(items) => items.iter_mut().for_each(|item| item.shift(by)),
            Kind::Hash(pairs) | Kind::Keywords(pairs) => {
                pairs.iter_mut().for_each(|(key, value)| {
                    key.shift(by);
                    value.shift(by);
                })
            }
            Kind::Range { from, to, .. } => {
                from.shift(by);
                to.shift(by);
            }
            Kind::Call(call) => {
                call.arguments.iter_mut().for_each(|node| node.shift(by));
                if let Some(block) = &mut call.block {
                    block.span.shift(by);
                    block.statements.iter_mut().for_each(|node| node.shift(by));
                }
            }
            Kind::Nil
            | Kind::True
            | Kind::False
            | Kind::Integer(_)
            | Kind::Float(_)
            | Kind::Text(_)
            | Kind::Symbol(_)
            | Kind::Other(_) => {}
        }
    }
}

impl Span {
    fn shift(&mut self, by: usize) {
        self.start += by;
        self.end += by;
    }
}

/// The grammar's tree of a text.
fn grammar(source: &str) -> Result<Option<Box<Tree>>, Vec<Complaint>> {
    let options = ParserOptions {
        buffer_name: String::new(),
        decoder: None,
        record_tokens: false,
    };
    let ParserResult {
        ast, diagnostics, ..
    } = Parser::new(source, options).do_parse();
    let errors: Vec<_> = diagnostics
        .iter()
        .filter(|found| found.is_error())
        .take(ERRORS_MAX)
        .map(|found| Complaint {
            at: span(&found.loc),
            what: found.render_message(),
        })
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let end = ast.as_ref().map_or(0, |tree| tree.expression().end);
    if let Some(at) = data_section(source, end) {
        let at = Span {
            start: at,
            end: at + DATA.len(),
        };
        let what = DATA_FOUND.to_owned();
        return Err(vec![Complaint { at, what }]);
    }
    Ok(ast)
}

fn statements(source: &str) -> Result<Vec<Node>, Vec<Complaint>> {
    let tree = grammar(source)?;
    Ok(match tree {
        None => Vec::new(),
        Some(tree) => body(Some(&tree), 0),
    })
}

/// What ends a text, whether Ruby runs it as a script or, as the reference does, evaluates it.
const DATA: &str = "__END__";
/// What is told of that.
pub(super) const DATA_FOUND: &str = "`__END__` ends the text: Ruby reads nothing of what follows";

/// Where the grammar stopped reading at [`DATA`], if it did.
fn data_section(source: &str, from: usize) -> Option<usize> {
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        if at >= from && line.trim_end_matches(['\r', '\n']) == DATA {
            return Some(at);
        }
        at += line.len();
    }
    None
}

fn span(loc: &Loc) -> Span {
    Span {
        start: loc.begin,
        end: loc.end.max(loc.begin),
    }
}

/// The statements of a block or a whole text.
fn body(tree: Option<&Tree>, depth: usize) -> Vec<Node> {
    match tree {
        None => Vec::new(),
        // Several statements; parentheses are a value.
        Some(Tree::Begin(begin)) if begin.begin_l.is_none() => lower_all(&begin.statements, depth),
        Some(tree) => vec![lower(tree, depth)],
    }
}

fn lower_all(trees: &[Tree], depth: usize) -> Vec<Node> {
    trees.iter().map(|tree| lower(tree, depth)).collect()
}

fn lower(tree: &Tree, depth: usize) -> Node {
    let at = match tree {
        // The text of a heredoc stands below its name.
        Tree::Heredoc(heredoc) => heredoc.expression_l.join(&heredoc.heredoc_end_l),
        tree => *tree.expression(),
    };
    let kind = match depth >= DEPTH_MAX {
        true => Kind::Other("deep nesting"),
        false => kind(tree, depth + 1),
    };
    Node {
        span: span(&at),
        kind,
    }
}

fn kind(tree: &Tree, depth: usize) -> Kind {
    match tree {
        Tree::Nil(_) => Kind::Nil,
        Tree::True(_) => Kind::True,
        Tree::False(_) => Kind::False,
        Tree::Int(int) => Kind::Integer(int.value.replace('_', "")),
        Tree::Float(float) => Kind::Float(float.value.replace('_', "")),
        Tree::Str(text) => utf8(text.value.as_raw(), Kind::Text),
        Tree::Dstr(text) => joined(&text.parts, Kind::Text),
        Tree::Heredoc(text) => joined(&text.parts, Kind::Text),
        Tree::Sym(symbol) => utf8(symbol.name.as_raw(), Kind::Symbol),
        Tree::Dsym(symbol) => joined(&symbol.parts, Kind::Symbol),
        Tree::Array(array) => Kind::Array(lower_all(&array.elements, depth)),
        Tree::Hash(hash) => pairs(&hash.pairs, depth, Kind::Hash),
        Tree::Kwargs(arguments) => pairs(&arguments.pairs, depth, Kind::Keywords),
        Tree::Irange(range) => ends(range.left.as_deref(), range.right.as_deref(), false, depth),
        Tree::Erange(range) => ends(range.left.as_deref(), range.right.as_deref(), true, depth),
        Tree::Begin(begin) => match begin.statements.as_slice() {
            [only] => kind(only, depth),
            _ => Kind::Other("a sequence of statements"),
        },
        Tree::Send(send) if send.recv.is_none() => Kind::Call(Call {
            name: send.method_name.clone(),
            arguments: lower_all(&send.args, depth),
            block: None,
        }),
        Tree::Block(block) => match kind(&block.call, depth) {
            Kind::Call(call) => Kind::Call(Call {
                block: Some(Block {
                    span: span(&block.begin_l.join(&block.end_l)),
                    statements: body(block.body.as_deref(), depth),
                }),
                ..call
            }),
            other => other,
        },
        Tree::Numblock(_) => Kind::Other("a block with numbered parameters"),
        Tree::BlockPass(_) => Kind::Other("a block passed on"),
        other => Kind::Other(words(other)),
    }
}

fn ends(from: Option<&Tree>, to: Option<&Tree>, exclusive: bool, depth: usize) -> Kind {
    match (from, to) {
        (Some(from), Some(to)) => Kind::Range {
            from: Box::new(lower(from, depth)),
            to: Box::new(lower(to, depth)),
            exclusive,
        },
        _ => Kind::Other("a range without an end"),
    }
}

fn pairs(pairs: &[Tree], depth: usize, make: fn(Vec<(Node, Node)>) -> Kind) -> Kind {
    let pair = |tree: &Tree| match tree {
        Tree::Pair(pair) => Some((lower(&pair.key, depth), lower(&pair.value, depth))),
        _ => None,
    };
    let read: Option<Vec<_>> = pairs.iter().map(pair).collect();
    read.map_or(Kind::Other("a hash spread out by `**`"), make)
}

/// Pieces of text without anything to compute between them.
fn joined(parts: &[Tree], make: fn(String) -> Kind) -> Kind {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Tree::Str(text) => bytes.extend_from_slice(text.value.as_raw()),
            Tree::Dstr(inner) if inner.parts.iter().all(|p| matches!(p, Tree::Str(_))) => {
                for part in &inner.parts {
                    if let Tree::Str(text) = part {
                        bytes.extend_from_slice(text.value.as_raw());
                    }
                }
            }
            _ => return Kind::Other("a text with interpolation"),
        }
    }
    utf8(&bytes, make)
}

fn utf8(bytes: &[u8], make: fn(String) -> Kind) -> Kind {
    match std::str::from_utf8(bytes) {
        Ok(text) => make(text.to_owned()),
        Err(_) => Kind::Other("a text that is not UTF-8"),
    }
}

/// The name of a construct for people who know Ruby.
fn words(tree: &Tree) -> &'static str {
    match tree {
        Tree::Const(_) => "a constant",
        Tree::Casgn(_)
        | Tree::Lvasgn(_)
        | Tree::Ivasgn(_)
        | Tree::Gvasgn(_)
        | Tree::Cvasgn(_)
        | Tree::Masgn(_)
        | Tree::OpAsgn(_)
        | Tree::OrAsgn(_)
        | Tree::AndAsgn(_)
        | Tree::IndexAsgn(_) => "an assignment",
        Tree::Lvar(_) | Tree::Ivar(_) | Tree::Gvar(_) | Tree::Cvar(_) => "a variable",
        Tree::Send(_) | Tree::CSend(_) | Tree::Index(_) => "a call on a value",
        Tree::If(_) | Tree::IfMod(_) | Tree::IfTernary(_) | Tree::Case(_) | Tree::CaseMatch(_) => {
            "a condition"
        }
        Tree::While(_)
        | Tree::WhilePost(_)
        | Tree::Until(_)
        | Tree::UntilPost(_)
        | Tree::For(_) => "a loop",
        Tree::Def(_) | Tree::Defs(_) => "a method definition",
        Tree::Class(_) | Tree::SClass(_) | Tree::Module(_) => "a class or module",
        Tree::Regexp(_) => "a regular expression",
        Tree::Xstr(_) | Tree::XHeredoc(_) => "a shell command",
        Tree::Rational(_) | Tree::Complex(_) => "a rational or complex number",
        Tree::KwBegin(_) | Tree::Rescue(_) | Tree::Ensure(_) => "an exception handler",
        Tree::Preexe(_) | Tree::Postexe(_) => "a BEGIN or END block",
        Tree::Splat(_) | Tree::Kwsplat(_) => "arguments spread out",
        Tree::And(_) | Tree::Or(_) => "a logical expression",
        Tree::Self_(_) => "`self`",
        _ => "a construct of Ruby that is not read",
    }
}

/// Reads what is written as an integer of Ruby.
pub(super) fn integer(written: &str) -> Option<i128> {
    let (negative, digits) = match written.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, written.strip_prefix('+').unwrap_or(written)),
    };
    let digits = digits.to_ascii_lowercase();
    let based = [("0x", 16), ("0b", 2), ("0o", 8), ("0d", 10)]
        .into_iter()
        .find_map(|(prefix, base)| Some((digits.strip_prefix(prefix)?, base)));
    let (digits, base) = based.unwrap_or_else(|| match digits.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => (octal, 8),
        _ => (digits.as_str(), 10),
    });
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, base).ok()?;
    Some(if negative { -value } else { value })
}

/// Line and column of byte `at`, both from 1, the column in characters.
pub(super) fn position(source: &str, at: usize) -> (NonZero<usize>, NonZero<usize>) {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    let before = source.get(..at).unwrap_or_default();
    let line = before.bytes().filter(|byte| *byte == b'\n').count();
    let begin = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before.get(begin..).unwrap_or_default().chars().count();
    (
        NonZero::<usize>::MIN.saturating_add(line),
        NonZero::<usize>::MIN.saturating_add(column),
    )
}
