//! What the program says to its user: results on standard output, everything else on standard error.
//!
//! The only place that writes to the two streams. A reader that went away is an error for the caller, not a panic.
//! Texts come from peers too, so whatever could steer a terminal is shown as an escape instead of obeyed.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Cell as TableCell, Color as Ink, ContentArrangement, Table, presets};
use serde::Serialize;

/// When to color.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// Where a person is reading and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Nowhere.
    Never,
}

/// What a piece of text means, for those who see colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It went well.
    Good,
    /// It needs a look.
    Careful,
    /// It went wrong.
    Bad,
    /// It matters less.
    Quiet,
    /// It is the point.
    Strong,
}

/// A text of a table, with what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// A text that means something.
    pub fn toned(tone: Tone, text: impl Display) -> Self {
        Self {
            text: text.to_string(),
            tone: Some(tone),
        }
    }
}

impl<T: Display> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.to_string(),
            tone: None,
        }
    }
}

/// One of the two streams.
struct Stream {
    to: Box<dyn Write + Send>,
    color: bool,
    terminal: bool,
}

/// The two streams and how to write to them.
pub struct Out {
    stdout: Stream,
    stderr: Stream,
    json: bool,
}

impl Stream {
    fn new(to: Box<dyn Write + Send>, terminal: bool, color: Color, no_color: bool) -> Self {
        let color = match color {
            Color::Auto => terminal && !no_color,
            Color::Always => true,
            Color::Never => false,
        };
        Self {
            to,
            color,
            terminal,
        }
    }

    fn line(&mut self, text: &dyn Display) -> io::Result<()> {
        writeln!(self.to, "{}", harmless(&text.to_string(), true))
    }
}

impl Out {
    /// The streams of the process. `json` asks for results that programs read.
    pub fn standard(color: Color, json: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let (seen, noted) = (stdout.is_terminal(), stderr.is_terminal());
        Self {
            stdout: Stream::new(Box::new(stdout), seen, color, no_color),
            stderr: Stream::new(Box::new(stderr), noted, color, no_color),
            json,
        }
    }

    /// Other streams, never taken for a terminal.
    pub fn to(
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
        json: bool,
    ) -> Self {
        let plain = |to| Stream::new(to, false, Color::Never, true);
        Self {
            stdout: plain(Box::new(stdout)),
            stderr: plain(Box::new(stderr)),
            json,
        }
    }

    /// Whether results are for programs.
    pub fn wants_json(&self) -> bool {
        self.json
    }

    /// Writes a line of the result.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        self.stdout.line(&text)
    }

    /// Writes a line that is not part of the result.
    pub fn note(&mut self, text: impl Display) -> io::Result<()> {
        self.stderr.line(&text)
    }

    /// Writes the result for programs.
    pub fn json(&mut self, result: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.stdout.to, result)?;
        writeln!(self.stdout.to)
    }

    /// Where the bytes of a result go that is no text.
    pub fn bytes(&mut self) -> &mut (dyn Write + Send) {
        &mut self.stdout.to
    }

    /// Whether a person would see the bytes of a result.
    pub fn is_terminal(&self) -> bool {
        self.stdout.terminal
    }

    /// Whether results are colored.
    pub fn is_colored(&self) -> bool {
        self.stdout.color
    }

    /// Writes a table: fitted to a terminal, one row a line elsewhere.
    pub fn table<const N: usize>(
        &mut self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [Cell; N]>,
    ) -> io::Result<()> {
        let color = self.stdout.color;
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        if self.stdout.terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        if color {
            table.enforce_styling();
        }
        for row in rows {
            table.add_row(row.map(|cell| cell.drawn(color)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table
            .lines()
            .try_for_each(|line| writeln!(self.stdout.to, "{}", line.trim_end()))
    }

    /// `text` as it looks in a line of the result.
    pub fn paint(&self, tone: Tone, text: impl Display) -> String {
        tone.paint(self.stdout.color, text)
    }

    /// `text` as it looks in a note.
    pub fn paint_note(&self, tone: Tone, text: impl Display) -> String {
        tone.paint(self.stderr.color, text)
    }
}

impl Cell {
    fn drawn(self, color: bool) -> TableCell {
        let cell = TableCell::new(harmless(&self.text, false));
        match self.tone.filter(|_| color) {
            None => cell,
            Some(Tone::Good) => cell.fg(Ink::DarkGreen),
            Some(Tone::Careful) => cell.fg(Ink::DarkYellow),
            Some(Tone::Bad) => cell.fg(Ink::DarkRed),
            Some(Tone::Quiet) => cell.add_attribute(Attribute::Dim),
            Some(Tone::Strong) => cell.add_attribute(Attribute::Bold),
        }
    }
}

impl Tone {
    /// The sequence that a terminal understands; nothing else beginning with an escape is ever written.
    const fn sequence(self) -> &'static str {
        match self {
            Self::Good => "\x1b[32m",
            Self::Careful => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Quiet => "\x1b[2m",
            Self::Strong => "\x1b[1m",
        }
    }

    fn paint(self, color: bool, text: impl Display) -> String {
        let text = text.to_string();
        let text = harmless(&text, false);
        if color {
            format!("{}{text}{RESET}", self.sequence())
        } else {
            text.into_owned()
        }
    }
}

/// Ends what a tone began.
const RESET: &str = "\x1b[0m";
/// Everything that [`Tone::paint`] writes around a text.
const SEQUENCES: [&str; 6] = [
    RESET,
    Tone::Good.sequence(),
    Tone::Careful.sequence(),
    Tone::Bad.sequence(),
    Tone::Quiet.sequence(),
    Tone::Strong.sequence(),
];

/// `text` with everything that would move the cursor, change the terminal or reorder the letters made visible.
///
/// Where `lines` is set, line ends, tabs and the sequences of tones stay.
fn harmless(text: &str, lines: bool) -> Cow<'_, str> {
    let steers = |c: char| {
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        reorders || c.is_control() && !(lines && matches!(c, '\n' | '\t'))
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let tone = SEQUENCES
            .into_iter()
            .find(|sequence| lines && rest.starts_with(sequence));
        let taken = tone.map_or(c.len_utf8(), str::len);
        match tone {
            Some(sequence) => shown.push_str(sequence),
            None if steers(c) => shown.extend(c.escape_unicode()),
            None => shown.push(c),
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    Cow::Owned(shown)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A stream that keeps what is written.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An [`Out`] and the two streams behind it.
    pub(crate) fn kept(json: bool) -> (Out, Kept, Kept) {
        let (stdout, stderr) = (Kept::default(), Kept::default());
        (
            Out::to(stdout.clone(), stderr.clone(), json),
            stdout,
            stderr,
        )
    }

    #[test]
    fn results_and_notes_go_to_their_own_streams() {
        let (mut out, stdout, stderr) = kept(true);
        out.line("result").unwrap();
        out.note("note").unwrap();
        out.json(&["a"]).unwrap();
        assert!(out.wants_json());
        assert_eq!(stdout.text(), "result\n[\n  \"a\"\n]\n");
        assert_eq!(stderr.text(), "note\n");
    }

    #[test]
    fn colors_follow_the_reader_unless_told() {
        for (color, terminal, no_color, colored) in [
            (Color::Auto, true, false, true),
            (Color::Auto, true, true, false),
            (Color::Auto, false, false, false),
            (Color::Always, false, true, true),
            (Color::Never, true, false, false),
        ] {
            let stream = Stream::new(Box::new(io::sink()), terminal, color, no_color);
            assert_eq!(stream.color, colored, "{color:?} {terminal} {no_color}");
        }
    }

    #[test]
    fn a_table_is_aligned_and_has_one_row_a_line() {
        let (mut out, stdout, _) = kept(false);
        let wide = "w".repeat(300);
        let rows = [
            [Cell::from("a"), Cell::toned(Tone::Bad, 1)],
            [wide.as_str().into(), 22.into()],
        ];
        out.table(["name", "n"], rows).unwrap();
        let text = stdout.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("name ") && lines[0].ends_with(" n"));
        assert_eq!(lines[2], format!("{wide}  22"));
    }

    #[test]
    fn what_would_steer_a_terminal_is_shown_instead() {
        let (mut out, stdout, _) = kept(false);
        let evil = "a\x1b[2Jb\rc\u{9b}d\u{202e}e\x1b]0;t\x07";
        out.line(evil).unwrap();
        out.line(out.paint(Tone::Good, "x\ny")).unwrap();
        out.table(["t"], [[Cell::from("x\ny\x1b[31m")]]).unwrap();
        let shown = r"a\u{1b}[2Jb\u{d}c\u{9b}d\u{202e}e\u{1b}]0;t\u{7}";
        assert_eq!(
            stdout.text(),
            format!("{shown}\nx\\u{{a}}y\nt\nx\\u{{a}}y\\u{{1b}}[31m\n")
        );
    }

    #[test]
    fn tones_and_line_ends_stay_in_lines() {
        for (text, shown) in [
            ("é\tz\n", "é\tz\n"),
            ("\x1b[32mgood\x1b[0m \x07", "\x1b[32mgood\x1b[0m \\u{7}"),
            ("\x1b[3", "\\u{1b}[3"),
        ] {
            assert_eq!(harmless(text, true), shown);
        }
        assert_eq!(Tone::Bad.paint(true, "x"), "\x1b[31mx\x1b[0m");
    }
}
