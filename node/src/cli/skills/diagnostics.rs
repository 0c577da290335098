//! Faults of a law with the source they stand in.

use std::path::Path;

use annotate_snippets::renderer::{AnsiColor, Effects, Style};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use kairos_protocol::dsl::{Fault, Severity};
use serde_json::{Value, json};

/// The sequences of the tones, since no others get to a terminal.
const RED: Style = AnsiColor::Red.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const GREEN: Style = AnsiColor::Green.on_default();
const DIM: Style = Style::new().effects(Effects::DIMMED);
const BOLD: Style = Style::new().effects(Effects::BOLD);
/// Widest line of source that is quoted whole.
const WIDTH: usize = 100;

/// A fault for programs.
pub(super) fn json(fault: &Fault) -> Value {
    json!({
        "severity": fault.severity, "code": fault.code, "line": fault.line, "column": fault.column,
        "start": fault.span.start, "end": fault.span.end, "what": fault.what, "expected": fault.expected,
        "mend": fault.mend,
    })
}

/// A fault for people, with the lines of `source` it is about.
pub(super) fn drawn(source: &str, path: &Path, fault: &Fault, color: bool) -> String {
    let level = match fault.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    // The place in the text, and no more than its first line: what a block says is not what is wrong with it.
    let start = source.floor_char_boundary(fault.span.start);
    let rest = source
        .get(start..fault.span.end.max(start))
        .unwrap_or_default();
    let first = rest.lines().next().unwrap_or_default();
    let at = start..start + first.len();
    let path = path.display().to_string();
    let annotation = AnnotationKind::Primary.span(at);
    let annotation = match fault.expected.as_str() {
        "" => annotation,
        expected => annotation.label(format!("expected {expected}")),
    };
    let snippet = Snippet::source(source).path(path).annotation(annotation);
    let mut group = level.primary_title(fault.what.as_str()).element(snippet);
    if !fault.mend.is_empty() {
        group = group.element(Level::HELP.message(fault.mend.as_str()));
    }
    let renderer = match color {
        true => Renderer::styled()
            .error(RED)
            .warning(YELLOW)
            .help(GREEN)
            .line_num(DIM)
            .emphasis(BOLD)
            .context(DIM),
        false => Renderer::plain(),
    };
    renderer.term_width(WIDTH).render(&[group])
}
