//! `skills`: the law of the agent, read and never run: what it says, whether all of it is read, and what changed.

mod diagnostics;
pub(super) mod difference;
mod evolve;
mod search;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use kairos_protocol::dsl::definition::{Bound, Context, Drift, Needs, decompile, drift, verify};
use kairos_protocol::dsl::eval::Facts;
use kairos_protocol::dsl::facts::given;
use kairos_protocol::dsl::{Keyword, Law, Literal, SOURCE_MAX, Skill, Spanned, eval};
use serde_json::json;

use super::exit::Exit;
use super::out::{Cell, Out, Tone};
use super::{Session, Usage};

/// What to do.
#[derive(Debug, clap::Args)]
pub struct SkillsArgs {
    /// Another file than the law of the agent
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(subcommand)]
    command: SkillsCommand,
}

#[derive(Debug, Subcommand)]
enum SkillsCommand {
    #[command(flatten)]
    Read(ReadCommand),
    #[command(flatten)]
    Evolve(evolve::EvolveCommand),
}

#[derive(Debug, Subcommand)]
enum ReadCommand {
    /// List the skills of the law
    List,
    /// Find words in the skills of the law
    Search {
        /// The words; those with most of them come first
        words: String,
    },
    /// Show one skill
    Show {
        /// Its id
        id: String,
        /// Its source, byte for byte
        #[arg(long)]
        source: bool,
    },
    /// Tell everything in the law that cannot be read, is not evaluated, or has no effect
    Check,
    /// Compare the law with another file, skill by skill and field by field
    Diff {
        /// The later law
        with: PathBuf,
    },
    /// Tell which nodes of a definition hold
    Verify {
        /// The id of the skill
        id: String,
        /// A value that conditions name, as JSON or a plain word; may be given several times
        #[arg(long = "with", value_name = "NAME=VALUE")]
        with: Vec<String>,
    },
    /// Say in words what a definition says
    Decompile {
        /// The id of the skill
        id: String,
    },
    /// Tell where a definition and the content went apart
    Drift {
        /// The id of the skill
        id: String,
    },
    /// Say whether a field of a skill may change by its own rules, and why
    Why {
        /// The id of the skill
        id: String,
        /// The field, such as content
        field: String,
    },
}

/// A law and the file it was read from.
struct Source {
    path: PathBuf,
    bytes: Vec<u8>,
    law: Law,
}

/// Runs `skills`.
pub fn run(args: SkillsArgs, session: &mut Session) -> anyhow::Result<Exit> {
    match args.command {
        SkillsCommand::Read(command) => look(command, args.file, session),
        SkillsCommand::Evolve(command) => evolve::run(command, args.file, session),
    }
}

/// Reads the law. Needs nothing but the file, so it works where nothing else does; only whether the conditions of the
/// agent's own law hold is asked of the agent.
fn look(
    command: ReadCommand,
    file: Option<PathBuf>,
    session: &mut Session,
) -> anyhow::Result<Exit> {
    let is_own = file.is_none();
    let source = match file {
        Some(file) => read(&file)?,
        None => own(&session.data_dir().existing()?.law())?,
    };
    if let (ReadCommand::Verify { id, with }, true) = (&command, is_own) {
        return session.with_agent(|agent, mut out| async move {
            let facts = agent.handles.skills.facts().await?;
            verified(&source, &facts, (id.as_str(), with.as_slice()), &mut out)
        });
    }
    let out = &mut session.out;
    match command {
        ReadCommand::List => list(&source, out),
        ReadCommand::Search { words } => search::search(&source, &words, out),
        ReadCommand::Show { id, source: raw } => show(&source, &id, raw, out),
        ReadCommand::Check => check(&source, out),
        ReadCommand::Diff { with } => difference::show(&source, &read(&with)?, out),
        ReadCommand::Verify { id, with } => verified(
            &source,
            &Facts::default(),
            (id.as_str(), with.as_slice()),
            out,
        ),
        ReadCommand::Decompile { id } => decompiled(&source, &id, out),
        ReadCommand::Drift { id } => drifted(&source, &id, out),
        ReadCommand::Why { id, field } => why(&source, &id, &field, out),
    }
}

/// The law of the agent, without which there are no skills of layer L0.
fn own(path: &Path) -> anyhow::Result<Source> {
    if path.symlink_metadata().is_err() {
        let path = path.display();
        anyhow::bail!(
            "there is no {path}, the law of the agent; bring the former one back with `kairos-chain state restore last`, \
             or take that of this version with `kairos-chain upgrade --apply`"
        )
    }
    read(path)
}

fn read(path: &Path) -> anyhow::Result<Source> {
    let mut bytes = Vec::new();
    // One byte more than is read, so that the reader tells of it.
    let most = u64::try_from(SOURCE_MAX)?.saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.display();
            anyhow::bail!("there is no {path}; --file and diff take the path of a law")
        }
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let law = Law::read(&bytes);
    let path = path.to_owned();
    Ok(Source { path, bytes, law })
}

impl Source {
    fn skill(&self, id: &str) -> anyhow::Result<&Spanned<Skill>> {
        self.law.skill(id).ok_or_else(|| {
            let ids: Vec<_> = self
                .law
                .skills
                .iter()
                .map(|skill| skill.id.as_str())
                .collect();
            let known = match ids.is_empty() {
                true => "it has no skills".to_owned(),
                false => format!("its skills are {}", ids.join(", ")),
            };
            Usage(format!("the law has no skill '{id}'; {known}")).into()
        })
    }

    /// Notes that not everything was read, where that may change the answer.
    fn warn(&self, out: &mut Out) -> io::Result<()> {
        let errors = self.law.errors().count();
        if errors == 0 {
            return Ok(());
        }
        let word = out.paint_note(Tone::Careful, "warning:");
        let broken = match self.law.broken {
            true => " and nothing can be changed until that is mended",
            false => "",
        };
        out.note(format_args!(
            "{word} {} of the law cannot be read{broken}; see: kairos-chain skills check",
            counted(errors, "place")
        ))
    }
}

fn told(value: Option<&Literal>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn list(source: &Source, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        let skills = source.law.skills.iter().map(|skill| {
            json!({
                "id": skill.id,
                "version": skill.value(Keyword::Version).map(Literal::reference_json),
                "title": skill.value(Keyword::Title).map(Literal::reference_json),
                "hash": skill.hash(), "tree_hash": skill.tree_hash().ok(), "nodes": skill.nodes().count(),
            })
        });
        let skills: Vec<_> = skills.collect();
        out.json(&json!({"skills": skills, "whole": source.law.is_whole()}))?;
        return Ok(Exit::Done);
    }
    let rows = source.law.skills.iter().map(|skill| {
        let rules = match skill.evolution() {
            _ if !skill.can_evolve("content") => Cell::toned(Tone::Quiet, "fixed"),
            None => Cell::from("free"),
            Some(_) => Cell::from("by rules"),
        };
        let hash = match skill.hash() {
            Some(hash) => Cell::from(hash.to_string().chars().take(12).collect::<String>()),
            None => Cell::toned(Tone::Careful, "not read"),
        };
        let (version, title) = (skill.value(Keyword::Version), skill.value(Keyword::Title));
        [
            Cell::from(&skill.id),
            Cell::from(told(version)),
            rules,
            hash,
            Cell::from(told(title)),
        ]
    });
    match source.law.skills.is_empty() {
        true => out.line("The law has no skills.")?,
        false => out.table(["ID", "VERSION", "CONTENT", "HASH", "TITLE"], rows)?,
    }
    source.warn(out)?;
    Ok(Exit::Done)
}

fn show(source: &Source, id: &str, raw: bool, out: &mut Out) -> anyhow::Result<Exit> {
    let skill = source.skill(id)?;
    if raw {
        let text = source.bytes.get(skill.span.start..skill.span.end);
        out.bytes().write_all(text.unwrap_or_default())?;
        out.line("")?;
        return Ok(Exit::Done);
    }
    if out.wants_json() {
        out.json(&json!({
            "skill": skill.reference_json(), "tree": skill.node, "hash": skill.hash(),
            "tree_hash": skill.tree_hash()?,
        }))?;
        return Ok(Exit::Done);
    }
    let title = out.paint(
        Tone::Strong,
        format_args!("[{id}] {}", told(skill.value(Keyword::Title))),
    );
    out.line(title)?;
    for (name, keyword) in [
        ("Version", Keyword::Version),
        ("Use when", Keyword::UseWhen),
        ("Requires", Keyword::Requires),
        ("Depends on", Keyword::DependsOn),
    ] {
        if let Some(value) = skill.value(keyword) {
            out.line(format_args!("{name}: {value}"))?;
        }
    }
    if let Some(hash) = skill.hash() {
        out.line(format_args!("Hash: {hash}"))?;
    }
    out.line("")?;
    out.line(skill.content().unwrap_or("(no content)").trim_end())?;
    if skill.definition().is_some() {
        out.line("")?;
        out.line(decompile(skill))?;
    }
    source.warn(out)?;
    Ok(Exit::Done)
}

fn check(source: &Source, out: &mut Out) -> anyhow::Result<Exit> {
    let text = String::from_utf8_lossy(&source.bytes);
    let mut faults = source.law.faults.clone();
    faults.extend(eval::check(&source.law, &text));
    faults.sort_by_key(|fault| fault.span.start);
    let errors = source.law.errors().count();
    let exit = match (errors, faults.len()) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::Warned,
        _ => Exit::Failed,
    };
    if out.wants_json() {
        let faults: Vec<_> = faults.iter().map(diagnostics::json).collect();
        out.json(&json!({
            "file": source.path, "skills": source.law.skills.len(), "ruby": !source.law.broken, "faults": faults,
        }))?;
        return Ok(exit);
    }
    for fault in &faults {
        out.line(diagnostics::drawn(
            &text,
            &source.path,
            fault,
            out.is_colored(),
        ))?;
        out.line("")?;
    }
    let (skills, warnings) = (source.law.skills.len(), faults.len() - errors);
    let tone = match exit {
        Exit::Done => Tone::Good,
        Exit::Warned => Tone::Careful,
        _ => Tone::Bad,
    };
    let told = [(skills, "skill"), (errors, "error"), (warnings, "warning")];
    let told = told.map(|(count, thing)| counted(count, thing)).join(", ");
    out.line(out.paint(tone, told))?;
    Ok(exit)
}

/// So many of a thing, in words.
fn counted(count: usize, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        count => format!("{count} {thing}s"),
    }
}

/// Values for conditions: JSON, or else a word.
fn bindings(with: &[String]) -> Result<Vec<(String, Literal)>, Usage> {
    let pairs = with.iter().map(|pair| {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Usage(format!(
                "--with takes NAME=VALUE, such as evolution_enabled=true, not `{pair}`"
            ))
        })?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        Ok((name.trim().to_owned(), given(&value)))
    });
    pairs.collect()
}

/// Verifies with what the agent knows of itself. Of another file than its law, only what is given is known.
fn verified(
    source: &Source,
    facts: &Facts,
    (id, with): (&str, &[String]),
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let skill = source.skill(id)?;
    let mut context = Context::of(skill, facts);
    for (name, value) in bindings(with)? {
        context.bind(name, Bound::Value(value));
    }
    let report = verify(skill, &context);
    let exit = match report.summary {
        summary if summary.failed > 0 => Exit::Failed,
        summary if summary.passed < summary.total => Exit::Warned,
        _ => Exit::Done,
    };
    if out.wants_json() {
        out.json(&report)?;
        return Ok(exit);
    }
    if skill.definition().is_none() {
        let named = skill.member(Keyword::Definition).is_some();
        let why = match named {
            true => "its definition cannot be read; see: kairos-chain skills check",
            false => "it has no `definition do … end`, so there is nothing to verify",
        };
        out.line(format_args!("Of '{id}' nothing can be told: {why}."))?;
        return Ok(Exit::Warned);
    }
    let rows = report.results.iter().map(|result| {
        let verdict = match result.verdict {
            Ok(true) => Cell::toned(Tone::Good, "holds"),
            Ok(false) => Cell::toned(Tone::Bad, "fails"),
            Err(Needs::Value) => Cell::toned(Tone::Careful, "needs a value"),
            Err(Needs::Person) => Cell::toned(Tone::Careful, "needs a person"),
        };
        let (kind, name) = (&result.node_type, &result.node_name);
        [
            verdict,
            Cell::from(kind),
            Cell::from(name),
            Cell::from(&result.detail),
        ]
    });
    out.table(["VERDICT", "KIND", "NODE", "WHY"], rows)?;
    source.warn(out)?;
    Ok(exit)
}

fn decompiled(source: &Source, id: &str, out: &mut Out) -> anyhow::Result<Exit> {
    let skill = source.skill(id)?;
    let text = decompile(skill);
    match out.wants_json() {
        true => out.json(&json!({"id": id, "text": text}))?,
        false if text.is_empty() => out.line(format_args!(
            "The skill '{id}' defines nothing: it has no `definition do … end` with nodes in it."
        ))?,
        false => out.line(text)?,
    }
    source.warn(out)?;
    Ok(Exit::Done)
}

fn drifted(source: &Source, id: &str, out: &mut Out) -> anyhow::Result<Exit> {
    let skill = source.skill(id)?;
    let found = drift(skill);
    let exit = match found.is_drifted() {
        true => Exit::Warned,
        false => Exit::Done,
    };
    if out.wants_json() {
        out.json(&found)?;
        return Ok(exit);
    }
    out.line(found.markdown(id).trim_end())?;
    statements(&found, out)?;
    source.warn(out)?;
    Ok(exit)
}

fn statements(found: &Drift, out: &mut Out) -> io::Result<()> {
    if found.statements.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let rows = found.statements.iter().map(|statement| {
        let nodes = statement.matches.iter().map(|found| match found.cited {
            true => format!("{} (cites it)", found.node_name),
            false => format!("{} ({})", found.node_name, found.words.join(", ")),
        });
        let nodes = match statement.matches.is_empty() {
            true => Cell::toned(Tone::Careful, "none"),
            false => Cell::from(nodes.collect::<Vec<_>>().join("; ")),
        };
        [
            Cell::from(statement.line),
            nodes,
            Cell::from(&statement.text),
        ]
    });
    out.table(["LINE", "NODES", "DEMAND"], rows)
}

fn why(source: &Source, id: &str, field: &str, out: &mut Out) -> anyhow::Result<Exit> {
    let skill = source.skill(id)?;
    let known = Keyword::ALL.map(Keyword::as_str);
    if !known.contains(&field) {
        let known = known.join(", ");
        return Err(Usage(format!(
            "a skill has no field '{field}'; its fields are {known}"
        ))
        .into());
    }
    let may = skill.can_evolve(field);
    let symbol = |name: &str| Literal::Symbol(name.to_owned());
    let reason = match skill.evolution() {
        Some(rules) if rules.denied.contains(&symbol("all")) => {
            "its rules say `deny :all`".to_owned()
        }
        Some(rules) if rules.denied.contains(&symbol(field)) => {
            format!("its rules say `deny :{field}`")
        }
        _ if !may && skill.evolution().is_none() => "its rules cannot be read".to_owned(),
        _ if !may && source.law.errors().next().is_some() => {
            "Ruby in it that cannot be read, or its list of allowed fields, keeps it".to_owned()
        }
        Some(rules) if !rules.allowed.is_empty() => {
            let allowed: Vec<_> = rules.allowed.iter().map(Literal::inspect).collect();
            format!("its rules allow {} and nothing else", allowed.join(", "))
        }
        Some(_) => "its rules deny other fields only".to_owned(),
        None => "it has no rules of its own".to_owned(),
    };
    let line = skill.member(Keyword::Evolve).map(|member| {
        let before = source.bytes.get(..member.span.start).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    });
    if out.wants_json() {
        out.json(
            &json!({"id": id, "field": field, "may_change": may, "reason": reason, "line": line}),
        )?;
    } else {
        let may = match may {
            true => out.paint(Tone::Good, "may change"),
            false => out.paint(Tone::Careful, "may not change"),
        };
        let line = line
            .map(|line| format!(" (line {line})"))
            .unwrap_or_default();
        out.line(format_args!("{field} of '{id}' {may}: {reason}{line}."))?;
        out.line("Whatever its rules say, a change of the law waits for a person: kairos-chain skills propose")?;
    }
    Ok(Exit::Done)
}
