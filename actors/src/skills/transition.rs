//! What the ledger is told when the law becomes another one, whichever way that happens.
//!
//! A change that nobody records counts in no session, and the law is then not what the ledger tells of. So whoever
//! writes the law, the approvals, a restore of the state or an upgrade, records one of these with it.

use std::io;

use kairos_protocol::block::entry::SkillTransition;
use kairos_protocol::dsl::Law;
use kairos_protocol::dsl::diff::diff;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;

/// What stands for the law where several of its skills change.
const LAW: &str = "kairos.rb";

/// The law goes from one text to another; nothing stands for a law that is not there. `kept` names what keeps the former
/// one. Reads both texts, so it may take as long as the longest law.
///
/// # Errors
///
/// The difference cannot be written down.
pub fn transition(
    before: Option<&[u8]>,
    after: Option<&[u8]>,
    kept: Option<String>,
    at: Timestamp,
) -> io::Result<SkillTransition> {
    let law = |bytes: Option<&[u8]>| Law::read(bytes.unwrap_or_default());
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let found = diff(&law(before), &law(after));
    let skill = match found.skills.as_slice() {
        [one] => &one.id,
        _ => LAW,
    };
    let mut told = SkillTransition::new(skill, (&text(before), &text(after)), kept, at);
    // Of the bytes, which need not be a text.
    told.prev_ast_hash = before.map(ContentHash::of);
    told.next_ast_hash = after.map(ContentHash::of);
    told.actor = "Human".to_owned();
    told.law_diff_hash = Some(found.hash().map_err(io::Error::from)?);
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"skill :a do\n  title \"One\"\nend\n";
    const TWO: &[u8] = b"skill :a do\n  title \"Two\"\nend\n";

    #[test]
    fn names_the_skill_that_changes_or_else_the_law() {
        let at = Timestamp::EPOCH;
        let told = transition(Some(ONE), Some(TWO), Some("kept".to_owned()), at).unwrap();
        assert_eq!(
            (told.skill_id.as_str(), told.actor.as_str()),
            ("a", "Human")
        );
        assert_eq!(told.prev_ast_hash, Some(ContentHash::of(ONE)));
        assert_eq!(told.next_ast_hash, Some(ContentHash::of(TWO)));
        assert_eq!(told.reason_ref.as_deref(), Some("kept"));
        assert!(told.law_diff_hash.is_some());
        let both = [ONE, b"skill :b do\nend\n"].concat();
        let fresh = transition(None, Some(&both), None, at).unwrap();
        assert_eq!(
            (fresh.skill_id.as_str(), fresh.prev_ast_hash),
            ("kairos.rb", None)
        );
        let gone = transition(Some(b"\xff"), None, None, at).unwrap();
        let hashes = (gone.prev_ast_hash, gone.next_ast_hash);
        assert_eq!(hashes, (Some(ContentHash::of(b"\xff")), None));
    }
}
