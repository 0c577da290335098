//! Promotion: a text of a session becomes knowledge (L2 → L1), knowledge a skill of the law (L1 → L0). What it came
//! from is told in the reason, which the ledger keeps: its name and the hash of its text.

use kairos_actors::knowledge::{Changed, Create, KnowledgeError, KnowledgeHandle, Update};
use kairos_actors::skills::Edit;
use kairos_protocol::dsl::{Evolution, Literal, Member, Skill as LawSkill, Unprintable};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{IdError, SkillName};
use kairos_protocol::skill::Skill;
use thiserror::Error;

/// The version of a skill whose knowledge says none.
const VERSION: &str = "1.0";

/// Why something cannot be promoted.
#[derive(Debug, Error)]
pub enum PromotionError {
    /// The knowledge cannot be read or changed.
    #[error(transparent)]
    Knowledge(#[from] KnowledgeError),
    /// It has no source.
    #[error(transparent)]
    Unprintable(#[from] Unprintable),
    /// Its name is no id.
    #[error("no id of a skill follows from the name: {0}; give one")]
    Id(#[from] IdError),
}

/// Why a text was promoted and where it comes from. The reference's reasons of promotions begin alike, so counts of
/// them agree.
fn reason(why: &str, from: &str, text: &str) -> String {
    let hash = ContentHash::of(text).to_hex();
    format!("Promotion: {why} (from {from}, sha256 {hash})")
}

/// Makes knowledge of a text of a session, or another text of knowledge that is there.
pub async fn to_knowledge(
    knowledge: &KnowledgeHandle,
    session: SkillName,
    name: SkillName,
    target: Option<SkillName>,
    why: &str,
) -> Result<Changed, PromotionError> {
    let (_, text) = knowledge.context(session.clone(), name.clone()).await?;
    let reason = Some(reason(why, &format!("context://{session}/{name}"), &text));
    let name = target.unwrap_or(name);
    let there = match knowledge.entry(name.clone()).await {
        Ok(_) => true,
        Err(KnowledgeError::NotFound { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let changed = match there {
        true => {
            let update = Update {
                name,
                text,
                reason,
                expect: None,
            };
            knowledge.update(update).await?
        }
        false => {
            let create = Create {
                name,
                text,
                reason,
                subdirectories: false,
            };
            knowledge.create(create).await?
        }
    };
    Ok(changed)
}

/// The skill that would be made of an entry of knowledge, and the reason with which it is proposed.
pub async fn to_law(
    knowledge: &KnowledgeHandle,
    name: SkillName,
    id: Option<SkillName>,
    why: &str,
) -> Result<(Edit, String), PromotionError> {
    let (entry, text) = knowledge.entry(name.clone()).await?;
    let id = match id {
        Some(id) => id,
        None => name.as_str().replace(['-', ' ', '.'], "_").parse()?,
    };
    let version = match entry.version {
        Some(serde_json::Value::String(version)) => version,
        Some(serde_json::Value::Number(version)) => version.to_string(),
        _ => VERSION.to_owned(),
    };
    let title = entry.title.unwrap_or_else(|| name.to_string());
    let body = Skill::body(&text).trim();
    let definition = skill(id.as_str(), &version, &title, &entry.description, body).print()?;
    let reason = reason(why, &format!("knowledge://{name}"), &text);
    let definition = definition.trim().to_owned();
    Ok((Edit::Add { id, definition }, reason))
}

/// A skill whose content may change, and nothing else.
fn skill(id: &str, version: &str, title: &str, use_when: &str, content: &str) -> LawSkill {
    let text = |text: &str| Literal::Text(text.to_owned());
    let rules = Evolution {
        allowed: vec![Literal::Symbol("content".to_owned())],
        ..Evolution::default()
    };
    let mut members = vec![
        Member::Version(text(version)),
        Member::Title(text(title)),
        Member::UseWhen(text(use_when)),
        Member::Evolve(rules),
        Member::Content(text(&format!("{content}\n"))),
    ];
    if use_when.is_empty() {
        members.remove(2);
    }
    LawSkill {
        id: id.to_owned(),
        text_id: false,
        members: members.into_iter().map(Into::into).collect(),
    }
}

#[cfg(test)]
mod tests {
    use kairos_protocol::dsl::Law;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn knowledge_becomes_a_skill_whose_content_alone_may_change() {
        let made = skill("tea", "2.0", "Tea", "Guests come", "# Tea\n\nend\n#{x} \\0");
        let law = Law::read(made.print().unwrap().as_bytes());
        assert!(law.is_whole(), "{:?}", law.faults);
        let read = law.skill("tea").unwrap();
        assert_eq!(read.node, made);
        assert!(read.can_evolve("content") && !read.can_evolve("behavior"));
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_skill_and_stays_as_it_is(body in "(?s).{0,200}", when in ".{0,30}") {
            let made = skill("tea", "1.0", "Tea", &when, &body);
            let law = Law::read(made.print().unwrap().as_bytes());
            prop_assert!(law.is_whole(), "{:?}", law.faults);
            prop_assert_eq!(&law.skills[0].node, &made);
            prop_assert_eq!(law.skills.len(), 1);
        }
    }
}
