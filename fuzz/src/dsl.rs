//! The law, `skills/kairos.rb`, as its owner or a program of another kind wrote it.

use kairos_protocol::dsl::{Law, SKILLS_MAX};

/// Reads `data` as a law: what cannot be read is a fault within it, and a skill with one has no hash.
pub fn run(data: &[u8]) -> String {
    let law = Law::read(data);
    assert!(law.skills.len() <= SKILLS_MAX);
    for skill in &law.skills {
        assert!(skill.span.start <= skill.span.end && skill.span.end <= data.len());
        assert_eq!(skill.hash().is_some(), skill.faults.is_empty());
    }
    let faults = law.all_faults();
    for fault in &faults {
        assert!(fault.span.start <= fault.span.end && fault.span.end <= data.len());
    }
    let first = faults
        .first()
        .map(|fault| fault.what.chars().take(40).collect());
    first.unwrap_or_else(|| format!("{} skills", law.skills.len()))
}
