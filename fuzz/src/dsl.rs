//! The law, `skills/kairos.rb`, as its owner or a program of another kind wrote it.

use kairos_protocol::dsl::definition::{Context, decompile, drift, verify};
use kairos_protocol::dsl::diff::diff;
use kairos_protocol::dsl::{Law, SKILLS_MAX};

/// Reads `data` as a law: what cannot be read is a fault within it, and what was read is printed and read again as
/// itself.
pub fn run(data: &[u8]) -> String {
    let law = Law::read(data);
    assert!(law.skills.len() <= SKILLS_MAX);
    for skill in &law.skills {
        assert!(skill.span.start <= skill.span.end && skill.span.end <= data.len());
        verify(skill, &Context::default()).markdown(&skill.id);
        decompile(skill);
        drift(skill).markdown(&skill.id);
    }
    for fault in &law.faults {
        assert!(fault.span.start <= fault.span.end && fault.span.end <= data.len());
    }
    assert!(diff(&law, &law).is_empty());
    // What lies outside of the language may mean something else on a line of its own.
    if law.is_whole()
        && let Ok(text) = law.print()
    {
        let again = Law::read(text.as_bytes());
        assert!(again.skills == law.skills, "printed as {text}");
    }
    let first = law
        .faults
        .first()
        .map(|fault| fault.what.chars().take(40).collect());
    first.unwrap_or_else(|| format!("{} skills", law.skills.len()))
}
