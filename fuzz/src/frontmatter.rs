//! Skills: frontmatter, what the heuristics find, and the way from and to Agent Skills.

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;
use kairos_protocol::skill::agent_skill::{self, File, MAIN};
use kairos_protocol::skill::findings::{EXCERPT_MAX, PER_KIND_MAX, findings};
use kairos_protocol::skill::{ReadOptions, SUMMARY_MAX, Skill, TAGS_MAX};

use crate::words;

/// Reads `data` as the text of a skill.
pub fn run(data: &[u8]) -> String {
    let closed = ReadOptions::default();
    let open = ReadOptions {
        public_by_default: true,
        ..closed
    };
    let skill = match Skill::parse("knowledge/tea/tea.md", data, &closed) {
        Ok(skill) => skill,
        Err(error) => return words(error),
    };
    let by_default =
        Skill::parse("knowledge/tea/tea.md", data, &open).expect("only the default differs");
    assert!(
        by_default.public || !skill.public,
        "public only where the default says private"
    );
    assert_eq!(skill.content_hash, ContentHash::of(data));
    assert_eq!((skill.name.as_str(), skill.size_bytes), ("tea", data.len()));
    assert!(skill.summary.chars().count() <= SUMMARY_MAX && skill.tags.len() <= TAGS_MAX);
    assert!(!(skill.frontmatter_unreadable && skill.frontmatter.is_some()));
    assert!(serde_json::to_string(&skill.entry()).is_ok());

    let text = std::str::from_utf8(data).expect("a skill is UTF-8");
    let found = findings(text);
    let mut outcome = format!(
        "{} {} {} {:?}",
        skill.public,
        skill.frontmatter_unreadable,
        skill.frontmatter.is_some(),
        skill.format
    );
    for finding in &found {
        let line = text.lines().nth(finding.line - 1);
        assert!(
            line.is_some(),
            "a finding in line {} of {}",
            finding.line,
            text.lines().count()
        );
        assert!(finding.excerpt.chars().count() <= EXCERPT_MAX);
        let hidden = |c: char| c.is_control() && c != '\t';
        assert!(
            !finding.excerpt.chars().any(hidden),
            "{:?}",
            finding.excerpt
        );
        let of_kind = found
            .iter()
            .filter(|other| other.kind == finding.kind)
            .count();
        assert!(of_kind <= PER_KIND_MAX);
        outcome += &format!(" {:?}", finding.kind);
    }
    outcome + &goes_and_comes_back(data)
}

/// An Agent Skill keeps every byte on its way into a knowledge entry and out again, and the other way round.
fn goes_and_comes_back(data: &[u8]) -> String {
    let file = |path: &str| File {
        path: path.to_owned(),
        bytes: data.to_vec(),
        executable: false,
    };
    let name: SkillName = "tea".parse().expect("a name");
    let files = [file(MAIN), file("references/more.md")];
    let imported = agent_skill::import(&name, &files);
    let exported = agent_skill::export(&name, &[file("tea.md")]);
    if let Ok(entry) = &imported {
        let back = agent_skill::export(&entry.name, &entry.files).expect("it came from there");
        assert_eq!(
            (&back.name, back.files.as_slice()),
            (&name, files.as_slice())
        );
    }
    if let Ok(directory) = &exported {
        let back =
            agent_skill::import(&directory.name, &directory.files).expect("it came from there");
        assert_eq!(
            (&back.name, back.files.as_slice()),
            (&name, [file("tea.md")].as_slice())
        );
    }
    format!(" {} {}", imported.is_ok(), exported.is_ok())
}
