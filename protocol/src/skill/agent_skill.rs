//! Agent Skills (`SKILL.md` directories) in and out of knowledge entries, without losing a byte.
//!
//! A knowledge entry is `<name>/<name>.md` with files beside it; an Agent Skill is `<name>/SKILL.md` with files
//! beside it. Going over renames the main text and leaves every other path alone, so that links inside texts keep
//! working. What going back needs is kept in a [`SIDECAR`]:
//! - importing keeps the bytes of the main text, and remembers the directory and the file names it had;
//! - exporting gives the main text the `name` and `description` the format demands, and remembers the head it had.
//!
//! `export(import(x)) = x` and `import(export(y)) = y`, on paths, bytes and modes; provenance stays at home. A
//! sidecar that came with an import is believed only if exporting what it promises gives exactly what came:
//! anything else is an ordinary file, so that no hidden file changes the text a person reviewed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::frontmatter::{self, Reading};
use super::{Head, SkillFault, without_bom};
use crate::gate::{Entry, Gate, HEAD_LEN, Kind, Offence};
use crate::id::SkillName;

/// Main text of an Agent Skill.
pub const MAIN: &str = "SKILL.md";
/// The lower-case spelling that some tools write.
const MAIN_LOWER: &str = "skill.md";
/// Where the way back is kept.
pub const SIDECAR: &str = ".agent-skill.json";
/// Where a knowledge entry keeps who it came from; never exported, never imported.
pub const PROVENANCE: &str = ".provenance.json";
/// Longest [`AgentSkillName`] in characters, from the specification of the format.
pub const AGENT_SKILL_NAME_MAX: usize = 64;
/// Version of the sidecar.
const VERSION: u32 = 1;

/// A name as Agent Skills have it: lower-case letters and digits, joined by single hyphens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSkillName(String);

impl AgentSkillName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest name to one of ours; several of ours may share it.
    pub fn nearest(name: &SkillName) -> Self {
        let mut nearest = String::new();
        for c in name.as_str().chars() {
            let c = c.to_ascii_lowercase();
            if c.is_ascii_alphanumeric() {
                nearest.push(c);
            } else if !nearest.is_empty() && !nearest.ends_with('-') {
                nearest.push('-');
            }
        }
        nearest.truncate(AGENT_SKILL_NAME_MAX);
        match nearest.trim_end_matches('-') {
            "" => Self("skill".to_owned()),
            trimmed => Self(trimmed.to_owned()),
        }
    }
}

impl fmt::Display for AgentSkillName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not the name of an Agent Skill.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "an Agent Skill's name has 1 to 64 lower-case letters, digits and single hyphens between them"
)]
pub struct AgentSkillNameError;

impl FromStr for AgentSkillName {
    type Err = AgentSkillNameError;

    fn from_str(text: &str) -> Result<Self, AgentSkillNameError> {
        let part = |p: &str| {
            !p.is_empty()
                && p.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match text.len() <= AGENT_SKILL_NAME_MAX && text.split('-').all(part) {
            true => Ok(Self(text.to_owned())),
            false => Err(AgentSkillNameError),
        }
    }
}

/// One file of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path below the directory, `/`-separated.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// A directory of files, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its name: one path component that is safe to create.
    pub name: SkillName,
    /// Its files.
    pub files: Vec<File>,
}

/// Why a directory could not be taken over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AgentSkillError {
    /// No main text.
    #[error("`{expected}` is missing")]
    NoMain {
        /// What was looked for.
        expected: String,
    },
    /// The main text is not a skill.
    #[error(transparent)]
    Main(#[from] SkillFault),
    /// Paths that are not safe to create, or that some disk would merge.
    #[error("{} cannot be stored: {}", .0.len(), list(.0))]
    Unsafe(Vec<Offence>),
}

fn list(offences: &[Offence]) -> String {
    let texts: Vec<String> = offences.iter().map(Offence::to_string).collect();
    texts.join("; ")
}

/// What went over when a directory was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Imported {
    version: u32,
    imported_from: SkillName,
    main: String,
    /// New path to old.
    renamed: BTreeMap<String, String>,
}

/// What went over when an entry was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    version: u32,
    exported_from: SkillName,
    /// The start of the main text as it was; absent if it was left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<HeadEdit>,
    /// New path to old.
    renamed: BTreeMap<String, String>,
}

/// The start of a text, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadEdit {
    was: String,
    is: String,
}

/// Makes a knowledge entry of an Agent Skill directory called `directory`.
///
/// The entry is named as it was when exported from here, else by the frontmatter's `name`, else by the directory.
pub fn import(directory: &SkillName, files: &[File]) -> Result<Directory, AgentSkillError> {
    refuse_unsafe(files)?;
    if let Some(entry) = reimport(files) {
        return Ok(entry);
    }
    let has = |path: &&str| files.iter().any(|f| f.path == *path);
    let main = [MAIN, MAIN_LOWER].into_iter().find(has);
    let main = main.ok_or_else(|| AgentSkillError::NoMain {
        expected: MAIN.to_owned(),
    })?;
    let name = own_name(files, main).unwrap_or_else(|| directory.clone());
    let (mut files, renamed) = rename(files, main, &format!("{name}.md"), &[SIDECAR, PROVENANCE]);
    let sidecar = Imported {
        version: VERSION,
        imported_from: directory.clone(),
        main: main.to_owned(),
        renamed,
    };
    files.push(sidecar_file(&sidecar));
    finish(name, files)
}

/// Makes an Agent Skill directory of the knowledge entry `name`.
pub fn export(name: &SkillName, files: &[File]) -> Result<Directory, AgentSkillError> {
    let expected = format!("{name}.md");
    if !files.iter().any(|f| f.path == expected) {
        return Err(AgentSkillError::NoMain { expected });
    }
    let kept: Vec<File> = files
        .iter()
        .filter(|f| f.path != PROVENANCE)
        .cloned()
        .collect();
    if let Some(origin) = read_sidecar::<Imported>(&kept) {
        let files = kept.into_iter().filter(|f| f.path != SIDECAR);
        let back = files.map(|f| restore(f, &expected, &origin.main, &origin.renamed));
        return finish(origin.imported_from, back.collect());
    }
    let theirs = AgentSkillName::nearest(name);
    let (mut files, renamed) = rename(&kept, &expected, MAIN, &[SIDECAR, PROVENANCE, MAIN_LOWER]);
    let mut head = None;
    if let Some(main) = files.iter_mut().find(|f| f.path == MAIN) {
        head = conform(&main.bytes, &theirs)?;
        if let Some(edit) = &head {
            main.bytes = [
                edit.is.as_bytes(),
                main.bytes.get(edit.was.len()..).unwrap_or_default(),
            ]
            .concat();
        }
    }
    let sidecar = Exported {
        version: VERSION,
        exported_from: name.clone(),
        head,
        renamed,
    };
    files.push(sidecar_file(&sidecar));
    let directory = theirs
        .as_str()
        .parse()
        .unwrap_or_else(|_| SkillName::sanitized(theirs.as_str()));
    finish(directory, files)
}

/// What in a directory can run: by name, mode or content, and everything below `scripts/`.
pub fn scripts(files: &[File]) -> Vec<String> {
    let (runs, _) = judge(files);
    let is_script = |f: &&File| {
        f.path.starts_with("scripts/") || runs.iter().any(|offence| offence.path == f.path)
    };
    files
        .iter()
        .filter(is_script)
        .map(|f| f.path.clone())
        .collect()
}

/// The entry that `files` were exported from, if their sidecar tells the truth.
fn reimport(files: &[File]) -> Option<Directory> {
    let sidecar: Exported = read_sidecar(files)?;
    let main = format!("{}.md", sidecar.exported_from);
    let mut entry = Vec::with_capacity(files.len());
    for file in files.iter().filter(|f| f.path != SIDECAR) {
        let is_main = file.path == MAIN;
        let mut file = restore(file.clone(), MAIN, &main, &sidecar.renamed);
        if let (true, Some(edit)) = (is_main, &sidecar.head) {
            let rest = file.bytes.strip_prefix(edit.is.as_bytes())?;
            file.bytes = [edit.was.as_bytes(), rest].concat();
        }
        entry.push(file);
    }
    let entry = finish(sidecar.exported_from, entry).ok()?;
    let mut again = export(&entry.name, &entry.files).ok()?.files;
    let mut came = files.to_vec();
    again.sort_by(|a, b| a.path.cmp(&b.path));
    came.sort_by(|a, b| a.path.cmp(&b.path));
    (again == came).then_some(entry)
}

/// The name that the main text gives itself, if it is one.
fn own_name(files: &[File], main: &str) -> Option<SkillName> {
    let main = files.iter().find(|f| f.path == main)?;
    let parts = frontmatter::split(without_bom(std::str::from_utf8(&main.bytes).ok()?))?;
    let Reading::Mapping(members) = frontmatter::read(parts.block) else {
        return None;
    };
    let name: AgentSkillName = members.get("name")?.as_str()?.parse().ok()?;
    name.as_str().parse().ok()
}

/// Renames `main` to `target`, and whatever would lie on `target` or on a `reserved` name out of their way.
fn rename(
    files: &[File],
    main: &str,
    target: &str,
    reserved: &[&str],
) -> (Vec<File>, BTreeMap<String, String>) {
    let fold = |path: &str| path.to_lowercase();
    let top = |path: &str| fold(path.split('/').next().unwrap_or(path));
    let in_the_way =
        |path: &str| top(path) == fold(target) || reserved.iter().any(|r| top(path) == fold(r));
    let mut renamed = BTreeMap::new();
    let moved = files.iter().map(|file| {
        let mut file = file.clone();
        if file.path == main {
            file.path = target.to_owned();
        } else if in_the_way(&file.path) {
            let base = file.path.rsplit('/').next().unwrap_or_default();
            let base = base.trim_start_matches('.').to_owned();
            // Free among the files there are, what was renamed before, and the names to keep free.
            let fresh = (1..)
                .map(|n| format!("renamed-{n}-{base}"))
                .find(|candidate| {
                    !in_the_way(candidate)
                        && !renamed.contains_key(candidate)
                        && !files.iter().any(|f| top(&f.path) == fold(candidate))
                });
            if let Some(fresh) = fresh {
                let old = std::mem::replace(&mut file.path, fresh.clone());
                renamed.insert(fresh, old);
            }
        }
        file
    });
    let moved = moved.collect();
    (moved, renamed)
}

fn restore(mut file: File, main: &str, target: &str, renamed: &BTreeMap<String, String>) -> File {
    if file.path == main {
        file.path = target.to_owned();
    } else if let Some(old) = renamed.get(&file.path) {
        file.path.clone_from(old);
    }
    file
}

/// The edit that gives the text a frontmatter with this `name` and a `description`; `None` if it has them.
fn conform(bytes: &[u8], name: &AgentSkillName) -> Result<Option<HeadEdit>, SkillFault> {
    let text = std::str::from_utf8(bytes).map_err(|e| SkillFault::NotUtf8 {
        at: e.valid_up_to(),
    })?;
    let summary = match Head::read(without_bom(text)) {
        Ok(head) => head.summary(),
        Err(_) => name.to_string(),
    };
    let printable = |c: char| {
        if c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c) {
            ' '
        } else {
            c
        }
    };
    let summary: String = summary.chars().map(printable).collect();
    let summary = match summary.trim() {
        "" => name.as_str(),
        summary => summary,
    };
    if let Some(parts) = frontmatter::split(text)
        && let Reading::Mapping(members) = frontmatter::read(parts.block)
    {
        let described = |v: &Value| v.as_str().is_some_and(|d| !d.trim().is_empty());
        let has_description = members.get("description").is_some_and(described);
        if has_description && members.get("name").and_then(Value::as_str) == Some(name.as_str()) {
            return Ok(None);
        }
        let description = (!has_description).then_some(summary);
        if let Some(block) = edit_block(parts.block, &members, name, description) {
            let start = [parts.before, parts.opening].concat();
            return Ok(Some(HeadEdit {
                was: format!("{start}{}", parts.block),
                is: format!("{start}{block}"),
            }));
        }
    }
    let is = format!(
        "---\nname: {name}\ndescription: {}\n---\n\n",
        Value::from(summary)
    );
    Ok(Some(HeadEdit {
        was: String::new(),
        is,
    }))
}

/// The block with its `name`, and if given its `description`, replaced; `None` unless that, and nothing else, is
/// what a reader of the new block sees.
fn edit_block(
    block: &str,
    members: &Map<String, Value>,
    name: &AgentSkillName,
    description: Option<&str>,
) -> Option<String> {
    let end = if block.contains("\r\n") { "\r\n" } else { "\n" };
    let mut wanted = members.clone();
    wanted.insert("name".to_owned(), Value::from(name.as_str()));
    let mut lines = format!("name: {name}{end}");
    if let Some(description) = description {
        wanted.insert("description".to_owned(), Value::from(description));
        lines.push_str(&format!("description: {}{end}", Value::from(description)));
    }
    let replaced = |line: &&str| {
        let key = line.split(':').next().unwrap_or_default().trim_end();
        key == "name" || (key == "description" && description.is_some())
    };
    let first = block.split_inclusive('\n').next()?;
    let rest = block.get(first.len()..)?;
    let kept: String = rest
        .split_inclusive('\n')
        .filter(|line| !replaced(line))
        .collect();
    let edited = format!("{first}{lines}{kept}");
    (frontmatter::read(&edited) == Reading::Mapping(wanted)).then_some(edited)
}

fn read_sidecar<T: for<'de> Deserialize<'de>>(files: &[File]) -> Option<T> {
    let file = files.iter().find(|f| f.path == SIDECAR)?;
    serde_json::from_slice(&file.bytes).ok()
}

fn sidecar_file(sidecar: &impl Serialize) -> File {
    let mut bytes = serde_json::to_vec_pretty(sidecar).unwrap_or_default();
    bytes.push(b'\n');
    File {
        path: SIDECAR.to_owned(),
        bytes,
        executable: false,
    }
}

fn finish(name: SkillName, mut files: Vec<File>) -> Result<Directory, AgentSkillError> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    refuse_unsafe(&files)?;
    Ok(Directory { name, files })
}

fn refuse_unsafe(files: &[File]) -> Result<(), AgentSkillError> {
    match judge(files).1 {
        unsafe_paths if unsafe_paths.is_empty() => Ok(()),
        unsafe_paths => Err(AgentSkillError::Unsafe(unsafe_paths)),
    }
}

/// What can run, and what cannot be stored.
fn judge(files: &[File]) -> (Vec<Offence>, Vec<Offence>) {
    let mut gate = Gate::for_directory();
    for file in files {
        gate.check(&Entry {
            path: &file.path,
            kind: Kind::File,
            mode: if file.executable { 0o755 } else { 0o644 },
            head: file.bytes.get(..HEAD_LEN).unwrap_or(&file.bytes),
        });
    }
    let offences = gate
        .finish()
        .err()
        .map(|refusal| refusal.offences().to_vec());
    offences
        .unwrap_or_default()
        .into_iter()
        .partition(|o| o.reason.is_executable())
}

#[cfg(test)]
mod tests;
