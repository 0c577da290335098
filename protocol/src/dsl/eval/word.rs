//! The words of code that may be evaluated. What is not among them does not exist for it.

/// What may be called on a value. Which values know which method is the matter of their modules.
pub(in super::super) const METHODS: &[&str] = &[
    "!",
    "!=",
    "%",
    "&",
    "*",
    "**",
    "+",
    "+@",
    "-",
    "-@",
    "/",
    "<",
    "<<",
    "<=",
    "<=>",
    "==",
    ">",
    ">=",
    "[]",
    "abs",
    "all?",
    "allowed",
    "any?",
    "behavior",
    "blocks",
    "call",
    "can_evolve?",
    "capitalize",
    "ceil",
    "chain",
    "chars",
    "collect",
    "compact",
    "concat",
    "conditions",
    "content",
    "count",
    "denied",
    "depends_on",
    "detect",
    "dig",
    "downcase",
    "drop",
    "each",
    "each_pair",
    "each_with_index",
    "each_with_object",
    "empty?",
    "end_with?",
    "even?",
    "evolution_rules",
    "except",
    "fetch",
    "filter",
    "filter_map",
    "find",
    "first",
    "flat_map",
    "flatten",
    "floor",
    "group_by",
    "guarantees",
    "has_key?",
    "hash",
    "id",
    "include?",
    "index",
    "inject",
    "inputs",
    "inspect",
    "is_valid?",
    "join",
    "key?",
    "keys",
    "last",
    "latest_block",
    "length",
    "lines",
    "load_state",
    "lstrip",
    "map",
    "max",
    "max_by",
    "member?",
    "merge",
    "message",
    "min",
    "min_by",
    "negative?",
    "nil?",
    "none?",
    "odd?",
    "partition",
    "positive?",
    "previous_hash",
    "push",
    "reduce",
    "reject",
    "requires",
    "reverse",
    "round",
    "rstrip",
    "select",
    "size",
    "skill_id",
    "slice",
    "sort",
    "sort_by",
    "split",
    "start_with?",
    "strip",
    "sub",
    "gsub",
    "sum",
    "take",
    "tally",
    "times",
    "timestamp",
    "title",
    "to_a",
    "to_f",
    "to_h",
    "to_i",
    "to_s",
    "to_sym",
    "transform_values",
    "uniq",
    "upcase",
    "use_when",
    "valid?",
    "values",
    "version",
    "zero?",
    "zip",
    "|",
];

/// The method of this name.
pub(in super::super) fn method(name: &str) -> Option<&'static str> {
    METHODS.iter().copied().find(|known| *known == name)
}

/// What code can ask beyond its own values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Ask {
    /// All skills of the law.
    Skills,
    /// A skill by its id.
    Skill,
    /// What the layers are.
    Layers,
    /// The settings of evolution.
    Settings,
    /// Whether the law may change.
    EvolutionEnabled,
    /// How often it changed in this session.
    EvolutionCount,
    /// Where the law is.
    LawPath,
    /// The ledger.
    Ledger,
    /// Whether a text is Ruby.
    Parse,
    /// Whether there is a directory, according to the host.
    HasDirectory,
    /// A path without its last part: text, no file.
    Dirname,
    /// The last part of a path: text, no file.
    Basename,
    /// Parts joined to a path: text, no file.
    Join,
}

/// Constants as they are written, their words, and how many values each takes.
const ASKS: &[(&str, &str, Ask, usize, usize)] = &[
    ("Kairos", "skills", Ask::Skills, 0, 0),
    ("Kairos", "skill", Ask::Skill, 1, 1),
    ("KairosMcp::LayerRegistry", "summary", Ask::Layers, 0, 0),
    ("KairosMcp::SkillsConfig", "load", Ask::Settings, 0, 0),
    (
        "KairosMcp::SkillsConfig",
        "evolution_enabled?",
        Ask::EvolutionEnabled,
        0,
        0,
    ),
    (
        "KairosMcp::SafeEvolver",
        "evolution_count",
        Ask::EvolutionCount,
        0,
        0,
    ),
    ("KairosMcp::SafeEvolver", "DSL_PATH", Ask::LawPath, 0, 0),
    ("KairosMcp", "dsl_path", Ask::LawPath, 0, 0),
    ("KairosChain::Chain", "new", Ask::Ledger, 0, 0),
    ("KairosMcp::KairosChain::Chain", "new", Ask::Ledger, 0, 0),
    ("RubyVM::AbstractSyntaxTree", "parse", Ask::Parse, 1, 1),
    ("Dir", "exist?", Ask::HasDirectory, 1, 1),
    ("File", "dirname", Ask::Dirname, 1, 1),
    ("File", "basename", Ask::Basename, 1, 1),
    ("File", "join", Ask::Join, 1, 16),
];

/// What `constant.word` asks, with the least and most values that it takes.
pub(in super::super) fn ask(constant: &str, word: &str) -> Option<(Ask, usize, usize)> {
    let mut known = ASKS.iter();
    let found = known.find(|(on, name, ..)| *on == constant && *name == word);
    found.map(|(_, _, ask, least, most)| (*ask, *least, *most))
}

/// The words that may follow a constant.
pub(in super::super) fn of_constant(constant: &str) -> Vec<&'static str> {
    let known = ASKS.iter().filter(|(on, ..)| *on == constant);
    known.map(|(_, word, ..)| *word).collect()
}

/// What to write in place of a method that is refused, if anybody can tell.
pub(in super::super) fn instead_of(name: &str) -> &'static str {
    match name {
        "puts" | "print" | "p" | "pp" | "printf" | "warn" | "display" => {
            "make the text the last value of the block, which is its answer"
        }
        "send"
        | "public_send"
        | "__send__"
        | "method"
        | "instance_eval"
        | "instance_exec"
        | "class_eval"
        | "module_eval"
        | "eval"
        | "binding"
        | "define_method"
        | "define_singleton_method"
        | "const_get"
        | "constantize"
        | "instance_variable_get"
        | "instance_variable_set"
        | "method_missing"
        | "respond_to?"
        | "class"
        | "then"
        | "tap"
        | "yield_self"
        | "itself"
        | "to_proc"
        | "curry"
        | "extend"
        | "prepend" => "call the method by its own name; code that makes code is never evaluated",
        "system" | "exec" | "spawn" | "fork" | "popen" | "open" | "read" | "write" | "require"
        | "require_relative" | "load" | "autoload" | "gets" | "sleep" | "exit" | "abort"
        | "trap" | "at_exit" | "syscall" | "test" | "srand" | "rand" | "caller" => {
            "remove it; code of a law reaches no files, processes, network, environment or clock"
        }
        "loop" | "each_char" | "upto" | "downto" | "step" | "cycle" => {
            "go over a list or range with `each` or `map`"
        }
        "proc" => "write `lambda`",
        "format" | "sprintf" => "write the values into a text: \"#{value}\"",
        "Integer" => "write `value.to_i`",
        "Float" => "write `value.to_f`",
        "String" => "write `value.to_s`",
        "Array" => "write `[value].flatten`",
        "is_a?" | "kind_of?" | "instance_of?" => {
            "ask for what it can be, such as `nil?` or `empty?`"
        }
        "freeze" | "dup" | "clone" => {
            "leave it out; texts never change here, and lists are copied with `+ []`"
        }
        "to_json" => "leave it out; the answer becomes JSON by itself",
        "match" | "match?" | "=~" | "scan" | "tr" => {
            "use `include?`, `start_with?`, `end_with?`, `split` or `gsub` with texts"
        }
        "upcase!" | "downcase!" | "strip!" | "map!" | "select!" | "reject!" | "sort!" | "uniq!"
        | "compact!" | "flatten!" | "merge!" | "gsub!" | "sub!" | "reverse!" | "update"
        | "replace" | "insert" | "unshift" | "pop" | "shift" | "delete" | "delete_if" | "clear"
        | "append" | "prepend!" | "store" => {
            "make a new value of it with the method of this kind that changes nothing, or add to a list with `<<`"
        }
        "find_all" => "write `select`",
        "collect_concat" => "write `flat_map`",
        "has_value?" | "value?" => "write `values.include?`",
        "each_slice" | "each_cons" | "each_entry" | "lazy" => {
            "go over the list with `each_with_index`"
        }
        _ => "",
    }
}
