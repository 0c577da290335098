//! What a person should look at before approving a text that came from elsewhere.
//!
//! Heuristics: a finding is a reason to read a line, not a verdict, and no finding is no promise. Every rule runs
//! in time linear in the text, and a flood of one kind never hides another. Before rules are applied, characters
//! that do not show are taken out, so that they cannot split a word a rule looks for.

use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// Most findings reported of one kind.
pub const PER_KIND_MAX: usize = 8;
/// Longest excerpt in characters.
pub const EXCERPT_MAX: usize = 120;
/// Shortest run of base64 or hex digits in one line that is reported.
const BLOB_MIN: usize = 256;
/// Fewest neighbouring lines of base64 that are reported as one wrapped blob.
const WRAPPED_MIN: usize = 6;
/// Shortest line of such a blob; encoders wrap at 60, 64 or 76.
const WRAPPED_LINE_MIN: usize = 56;

/// What a rule looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Text that talks to the model instead of describing a subject.
    PromptInjection,
    /// Something is fetched or decoded and handed to an interpreter at once.
    DownloadAndRun,
    /// A preparation that asks to install or run something before the skill can be used.
    FakePrerequisite,
    /// A shell command that destroys, raises privileges or reads secrets.
    DangerousShell,
    /// Ruby in a code block that starts processes or evaluates text.
    RubyExecution,
    /// A long run of encoded data: it cannot be read, so it cannot be judged.
    EncodedBlob,
    /// Characters that do not show or that reorder what shows.
    HiddenCharacters,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PromptInjection => "potential prompt injection",
            Self::DownloadAndRun => "downloads or decodes and runs",
            Self::FakePrerequisite => "asks to install or run something first",
            Self::DangerousShell => "dangerous shell command",
            Self::RubyExecution => "Ruby code that runs commands",
            Self::EncodedBlob => "long encoded data",
            Self::HiddenCharacters => "hidden characters",
        })
    }
}

/// A line worth reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Why.
    pub kind: FindingKind,
    /// Line number, from 1.
    pub line: usize,
    /// The start of the line, with everything that does not show written as an escape. At most [`EXCERPT_MAX`]
    /// characters.
    pub excerpt: String,
}

/// Everything the rules find in `text`, by kind and then by line, at most [`PER_KIND_MAX`] of each kind.
pub fn findings(text: &str) -> Vec<Finding> {
    let shown: String = text.chars().filter(|&c| !is_invisible(c)).collect();
    let mut report = Report {
        lines: text.lines().collect(),
        found: Vec::new(),
    };
    let starts = LineStarts::of(&shown);
    for rule in RULES.iter() {
        rule.apply(&shown, 0..shown.len(), &starts, &mut report);
    }
    for block in code_blocks(&shown) {
        for rule in block.rules() {
            rule.apply(&shown, block.range.clone(), &starts, &mut report);
        }
    }
    blobs(&mut report);
    hidden(&mut report);
    report.found.sort_by_key(|f| (f.kind, f.line));
    report.found
}

struct Report<'a> {
    lines: Vec<&'a str>,
    found: Vec<Finding>,
}

impl Report<'_> {
    /// Notes a finding in the line of that index; a second one of the kind in the same line, or one too many,
    /// is dropped. Returns whether more of the kind are wanted.
    fn add(&mut self, kind: FindingKind, line: usize) -> bool {
        let of_kind = || self.found.iter().filter(|f| f.kind == kind);
        let mut count = of_kind().count();
        if count < PER_KIND_MAX && of_kind().all(|f| f.line != line + 1) {
            let excerpt = excerpt(self.lines.get(line).copied().unwrap_or_default());
            let line = line + 1;
            self.found.push(Finding {
                kind,
                line,
                excerpt,
            });
            count += 1;
        }
        count < PER_KIND_MAX
    }
}

/// Byte offsets at which lines start.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(ends).collect())
    }

    fn line_at(&self, offset: usize) -> usize {
        self.0
            .partition_point(|&start| start <= offset)
            .saturating_sub(1)
    }

    /// Where the line after the one at `offset` starts.
    fn next(&self, offset: usize) -> Option<usize> {
        self.0.get(self.line_at(offset) + 1).copied()
    }
}

struct Rule {
    kind: FindingKind,
    pattern: Regex,
}

impl Rule {
    fn apply(&self, text: &str, range: Range<usize>, starts: &LineStarts, report: &mut Report<'_>) {
        let mut at = range.start;
        // A few searches per rule, each linear: `PER_KIND_MAX` bounds the loop.
        while let Some(found) = text
            .get(..range.end)
            .filter(|t| at < t.len())
            .and_then(|t| self.pattern.find_at(t, at))
        {
            if !report.add(self.kind, starts.line_at(found.start())) {
                return;
            }
            match starts.next(found.start()) {
                Some(next) => at = next,
                None => return,
            }
        }
    }
}

fn rules(table: &[(FindingKind, &str)]) -> Vec<Rule> {
    let compile = |&(kind, pattern): &(FindingKind, &str)| {
        let pattern = Regex::new(&format!("(?im){pattern}")).ok()?;
        Some(Rule { kind, pattern })
    };
    table.iter().filter_map(compile).collect()
}

/// The rules for all text. `[^\n]` keeps a match in its line, `\s` lets words be wrapped.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| rules(ANYWHERE));
static SHELL_RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| rules(IN_SHELL));
static RUBY_RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| rules(IN_RUBY));

use FindingKind::{
    DangerousShell, DownloadAndRun, FakePrerequisite, PromptInjection, RubyExecution,
};

const ANYWHERE: &[(FindingKind, &str)] = &[
    // The reference warns of these three.
    (
        PromptInjection,
        r"ignore\s+(previous|all|above)\s+instructions?",
    ),
    (PromptInjection, r"disregard\s+(previous|all|above)"),
    (PromptInjection, r"you\s+are\s+now\s+a"),
    (
        PromptInjection,
        r"(ignore|disregard|forget|override)\s+(all\s+|any\s+)?(of\s+)?(the\s+|your\s+)?(previous|prior|above|earlier|system)\s+(instructions?|prompts?|rules|messages?)",
    ),
    (
        PromptInjection,
        r"(do\s+not|don't|never|without)\s+(tell|telling|inform|informing|mention\w*\s+(this|it)\s+to|alert|alerting|notify|notifying|ask|asking)\s+(the|your)\s+(user|human|owner|operator)",
    ),
    (
        PromptInjection,
        r"<\s*/?\s*(system|im_start|im_end)\s*>|<\|(system|im_start|im_end)\|>|\[/?INST\]",
    ),
    (
        PromptInjection,
        r"(send|post|upload|forward|exfiltrate)\s+[^\n]*(system\s+prompt|conversation\s+history|api\s+keys?|credentials|environment\s+variables|private\s+keys?)\s+[^\n]*\bto\b",
    ),
    (
        DownloadAndRun,
        r"\b(curl|wget|fetch|http)\b(?:[^\n]|\\\n)*\|\s*(sudo\s+)?(env\s+)?(/\S*/)?((ba|z|da|k|c|fi|a)?sh|python[\d.]*|perl|ruby|node|php|osascript)\b",
    ),
    (
        DownloadAndRun,
        r"\b((ba|z|da|k)?sh|eval|source|python[\d.]*|perl|ruby|node)\b[^\n]*(<\(|\$\(|`)\s*(curl|wget)\b",
    ),
    (
        DownloadAndRun,
        r"\b(iwr|irm|curl|wget|invoke-webrequest|invoke-restmethod|downloadstring|webclient)\b[^\n]*\|\s*(iex|invoke-expression)\b",
    ),
    (
        DownloadAndRun,
        r"\b(iex|invoke-expression)\b[^\n]*\b(iwr|irm|invoke-webrequest|invoke-restmethod|downloadstring|frombase64string)\b",
    ),
    (
        DownloadAndRun,
        r"\b(base64\s+(-d|-D|--decode)|openssl\s+(enc|base64)[^\n]*\s-d|xxd\s+-r|base32\s+-d)\b[^\n]*\|\s*(sudo\s+)?(/\S*/)?((ba|z|da|k)?sh|python[\d.]*|perl|ruby|node)\b",
    ),
    (
        DownloadAndRun,
        r"\b(powershell|pwsh)(\.exe)?\b[^\n]*\s-e(nc|ncodedcommand)?\s+[a-z0-9+/=]{16}",
    ),
    (
        DownloadAndRun,
        r"\b(exec|eval)\s*\(\s*[^\n]*(b64decode|base64\.decode|fromhex|atob|zlib\.decompress|urlopen|requests\.get)\b",
    ),
    (
        DownloadAndRun,
        r"\b(curl|wget)\b[^\n]*(&&|;)\s*(chmod\s+[^\n]*(&&|;)\s*)?(sudo\s+)?(\./|(ba|z)?sh\s+\S)",
    ),
    (
        DownloadAndRun,
        r"\bmshta\s+https?:|\bregsvr32\b[^\n]*/i:https?:|\bcertutil\b[^\n]*-urlcache",
    ),
    (
        FakePrerequisite,
        r"\b(before|prior\s+to)\s+(you\s+)?((can|may)\s+)?(us(e|ing)|run(ning)?|start(ing)?|follow(ing)?|apply(ing)?|activat(e|ing)|continu(e|ing))\s+(this|the|these|any\s+of\s+th(is|ese))\s*(skill|tool|guide|knowledge|document|instructions|package|commands)?s?\b[^\n]*\b(install|run|execute|download|paste|launch)\b",
    ),
    (
        FakePrerequisite,
        r"\b(this|the)\s+(skill|tool|knowledge|package)\s+(will\s+not|won't|cannot|does\s+not|doesn't|only)\s+works?\s+(unless|until|without|if|after)\b[^\n]*\b(install|run|execute|download)",
    ),
    (
        FakePrerequisite,
        r"\b(you\s+)?(must|need\s+to|have\s+to)\s+(first|always)\s+(install|run|execute|download|launch)\b",
    ),
    (
        FakePrerequisite,
        r"\b(prerequisites?|requirements?|setup)\b[^\n]{0,40}[:\-–—][^\n]*\b(install|run|execute|download|paste)\b[^\n]*(https?://|`|terminal|\.exe|\.zip|\.dmg|\.pkg)",
    ),
    (
        FakePrerequisite,
        r"\bpaste\s+[^\n]*\b(in|into)\s+[^\n]*\b(terminal|shell|command\s+prompt|powershell|console)\b",
    ),
    (
        DangerousShell,
        r"\brm\s+(-[a-z-]+\s+)*-([a-z]*r[a-z]*f|[a-z]*f[a-z]*r)[a-z]*\s+(--no-preserve-root\s+)?[\x22']?(/|~|\$\{?HOME|\*)",
    ),
    (
        DangerousShell,
        r"\b(mkfs(\.\w+)?\s|dd\s+[^\n]*\bof=/dev/|shred\s+[^\n]*/dev/)|>\s*/dev/(sd|nvme|hd)[a-z0-9]|:\(\)\s*\{\s*:\s*\|\s*:",
    ),
    (
        DangerousShell,
        r"/dev/(tcp|udp)/[\w.$]+|\b(nc|ncat|netcat)\s+[^\n]*-[a-z]*[ec]\b\s*\S*sh\b|\bsocat\b[^\n]*\bexec:",
    ),
    (
        DangerousShell,
        r"(~|\$\{?HOME\}?|/root|/home/\w+)/\.(ssh|aws|gnupg|netrc|kube|docker|npmrc|config/gcloud|kairos)\b",
    ),
    (
        DangerousShell,
        r"\b(crontab\s+-|authorized_keys\b|/etc/(shadow|sudoers)|chmod\s+(-R\s+)?0?777\s+/|setuid|chmod\s+u?\+s\b|launchctl\s+load|schtasks\s+/create)",
    ),
];

const IN_SHELL: &[(FindingKind, &str)] = &[
    (DangerousShell, r"\brm\s+-[a-z]*(rf|fr)\b"),
    (DangerousShell, r"\bsudo\b"),
];

const IN_RUBY: &[(FindingKind, &str)] = &[(
    RubyExecution,
    r"\b(system|exec|eval|instance_eval|class_eval|spawn|popen\w*|open3)\b|%x|`[^`\n]+`",
)];

/// A fenced code block.
struct CodeBlock {
    language: Language,
    range: Range<usize>,
}

#[derive(Clone, Copy)]
enum Language {
    Shell,
    Ruby,
    Other,
}

impl CodeBlock {
    fn rules(&self) -> &'static [Rule] {
        match self.language {
            Language::Shell => &SHELL_RULES,
            Language::Ruby => &RUBY_RULES,
            Language::Other => &[],
        }
    }
}

/// The fenced blocks of a Markdown text; one that never closes runs to the end.
fn code_blocks(text: &str) -> Vec<CodeBlock> {
    let mut blocks: Vec<CodeBlock> = Vec::new();
    let mut open: Option<(&str, CodeBlock)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        let trimmed = line.trim();
        let fence_char = if trimmed.starts_with("~~~") { '~' } else { '`' };
        let mark_len = trimmed.len() - trimmed.trim_start_matches(fence_char).len();
        let (mark, info) = trimmed.split_at(mark_len);
        if let Some((fence, block)) = &mut open {
            if mark.starts_with(*fence) && info.trim().is_empty() {
                blocks.extend(open.take().map(|(_, block)| block));
            } else {
                block.range.end = at;
            }
        } else if mark_len >= 3 {
            let block = CodeBlock {
                language: language(info),
                range: at..at,
            };
            open = Some((mark, block));
        }
    }
    blocks.extend(open.map(|(_, block)| block));
    blocks
}

fn language(info: &str) -> Language {
    let word = info
        .trim()
        .split([' ', ',', '{', ':'])
        .next()
        .unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        "bash" | "sh" | "shell" | "zsh" | "console" | "shell-session" | "terminal" => {
            Language::Shell
        }
        "ruby" | "rb" => Language::Ruby,
        _ => Language::Other,
    }
}

/// Long runs of encoded data, in one line or wrapped over several.
fn blobs(report: &mut Report<'_>) {
    let is_digit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-');
    let mut wrapped = 0;
    let mut found: Vec<usize> = Vec::new();
    for (index, line) in report.lines.iter().enumerate() {
        let mut runs = line.split(|c: char| !is_digit(c));
        let escaped = line
            .split(|c: char| !matches!(c, '\\' | 'x' | 'u' | '0'..='9' | 'a'..='f' | 'A'..='F'));
        if runs.any(|run| run.len() >= BLOB_MIN && looks_encoded(run))
            || escaped
                .into_iter()
                .any(|run| run.matches("\\x").count() >= BLOB_MIN / 8)
        {
            found.push(index);
        }
        let bare = line
            .trim()
            .trim_matches(['"', '\'', '+', '\\', ' ', ',', '>']);
        wrapped = match bare.len() >= WRAPPED_LINE_MIN
            && bare.chars().all(is_digit)
            && looks_encoded(bare)
        {
            true => wrapped + 1,
            false => 0,
        };
        if wrapped == WRAPPED_MIN {
            found.push(index + 1 - WRAPPED_MIN);
        }
    }
    for line in found {
        if !report.add(FindingKind::EncodedBlob, line) {
            return;
        }
    }
}

/// Digits with capitals and small letters, or hex digits: not a rule of dashes, a path or a long identifier.
fn looks_encoded(run: &str) -> bool {
    let count = |of: fn(&u8) -> bool| run.bytes().filter(of).count();
    let digits = count(u8::is_ascii_digit);
    let hex = count(u8::is_ascii_hexdigit) == run.len();
    let mixed = count(u8::is_ascii_uppercase) * 10 >= run.len()
        && count(u8::is_ascii_lowercase) * 10 >= run.len();
    let spread = count(|b| matches!(b, b'/' | b'-' | b'_')) * 8 <= run.len();
    digits * 25 >= run.len() && (hex || (mixed && spread))
}

/// Characters that reorder text, runs of those that do not show, and letters of the invisible tag alphabet.
fn hidden(report: &mut Report<'_>) {
    let mut found: Vec<usize> = Vec::new();
    for (index, line) in report.lines.iter().enumerate() {
        let mut run = 0;
        let mut flag = 0;
        let line = if index == 0 {
            line.strip_prefix('\u{feff}').unwrap_or(line)
        } else {
            line
        };
        let suspicious = line.chars().any(|c| {
            // A regional flag is a black flag followed by at most six tag letters and a closing tag.
            flag = match c {
                '\u{1f3f4}' => 7,
                '\u{e0020}'..='\u{e007f}' if flag > 0 => {
                    flag -= 1;
                    return false;
                }
                _ => 0,
            };
            run = if is_invisible(c) { run + 1 } else { 0 };
            reorders(c)
                || run >= 2
                || matches!(c, '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{e0000}'..='\u{e007f}')
                || (c.is_control() && !matches!(c, '\t' | '\r'))
        });
        if suspicious {
            found.push(index);
        }
    }
    for line in found {
        if !report.add(FindingKind::HiddenCharacters, line) {
            return;
        }
    }
}

fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters that take no place: zero-width ones, variation selectors, tags, soft hyphens, fillers.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
        || reorders(c)
}

fn excerpt(line: &str) -> String {
    let mut out = String::new();
    let shown = line.trim().chars().flat_map(|c| {
        let escape = (is_invisible(c) || c.is_control()) && c != '\t';
        let (plain, escaped) = if escape {
            (None, Some(c.escape_unicode()))
        } else {
            (Some(c), None)
        };
        plain.into_iter().chain(escaped.into_iter().flatten())
    });
    out.extend(shown.take(EXCERPT_MAX));
    out
}

#[cfg(test)]
mod tests;
