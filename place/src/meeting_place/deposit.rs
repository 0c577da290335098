//! Deposits: skills that an agent leaves at a Place for others to find, content included.

use std::fmt;

use kairos_protocol::crypto::{PublicKey, SignatureError};
use kairos_protocol::gate::{self, Gate};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::skill::outline::{FrontmatterFault, Outline};
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::policy::{DepositLimits, Policy};
use super::provenance::Provenance;

/// Longest id of a skill in bytes.
pub const SKILL_ID_MAX: usize = 256;
/// Longest name in bytes.
pub const NAME_MAX: usize = 256;
/// Most tags, and the longest tag in bytes.
pub const TAGS_MAX: (usize, usize) = (32, 64);
/// Longest description of inputs and outputs, as compact JSON, in bytes; a longer one is left out.
pub const INPUT_OUTPUT_MAX: usize = 1_000;

/// Longest version and licence that are taken from a frontmatter, in characters.
pub const WORD_MAX: usize = 64;

/// By what a deposit is known.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DepositKey {
    /// Who left it.
    pub owner: AgentId,
    /// As the owner calls it.
    pub skill_id: String,
}

impl fmt::Debug for DepositKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.skill_id)
    }
}

/// What a deposit tells of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// For people.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// For filters.
    pub tags: Vec<String>,
    /// `markdown` or `yaml_frontmatter`.
    pub format: String,
    /// Given, or the first words of the content.
    pub summary: Option<String>,
    /// Headings of the content.
    pub sections: Vec<String>,
    /// What it needs and makes, as the depositor says.
    pub input_output: Option<Value>,
    /// From the frontmatter.
    pub version: Option<String>,
    /// From the frontmatter.
    pub license: Option<String>,
    /// Length of the content.
    pub bytes: usize,
    /// Lines of the content.
    pub lines: usize,
}

/// A deposit, without its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deposit {
    /// What it is known by.
    pub key: DepositKey,
    /// What it tells of itself.
    pub facts: Facts,
    /// Of the content.
    pub content_hash: ContentHash,
    /// The depositor's, over the content.
    pub signature: String,
    /// Where it came from, if not from its depositor.
    pub provenance: Option<Provenance>,
    /// When this content came.
    pub deposited_at: Timestamp,
    /// When the skill came first.
    pub first_deposited: Timestamp,
}

/// A deposit as offered: nothing in it is checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offer {
    /// As the owner calls it.
    pub skill_id: String,
    /// The id, if absent.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// For filters.
    pub tags: Vec<String>,
    /// `markdown` or `yaml_frontmatter`.
    pub format: String,
    /// The text.
    pub content: String,
    /// SHA-256 of the content, hex.
    pub content_hash: Option<String>,
    /// RSA over the content, base64.
    pub signature: Option<String>,
    /// For people.
    pub summary: Option<String>,
    /// Any value.
    pub input_output: Option<Value>,
    /// As another Place had it.
    pub provenance: Option<Map<String, Value>>,
}

impl Offer {
    /// Fills in what an update leaves unsaid from the deposit it updates.
    #[must_use]
    pub fn over(self, old: &Deposit) -> Self {
        let facts = &old.facts;
        let kept = |new: String, old: &str| match new.is_empty() {
            true => old.to_owned(),
            false => new,
        };
        Self {
            name: self.name.or_else(|| Some(facts.name.clone())),
            description: self.description.or_else(|| facts.description.clone()),
            tags: match self.tags.is_empty() {
                true => facts.tags.clone(),
                false => self.tags,
            },
            format: kept(self.format, &facts.format),
            input_output: self.input_output.or_else(|| facts.input_output.clone()),
            ..self
        }
    }

    /// Checks everything that needs no look at the board. `key` is the owner's pinned key. All reasons against the
    /// deposit are returned, in the reference's words and order.
    pub fn check(
        self,
        owner: &AgentId,
        key: Option<&PublicKey>,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Deposit, Vec<String>> {
        let limits = &policy.deposits;
        let mut reasons = Vec::new();
        if !matches!(self.format.as_str(), "markdown" | "yaml_frontmatter") {
            reasons.push(format!("Unsafe format: {}", cut(&self.format, 40)));
        }
        let hash = ContentHash::of(&self.content);
        self.check_content(hash, limits, &mut reasons);
        self.check_signature(key, &mut reasons);
        self.check_words(limits, &mut reasons);
        let outline = Outline::read(&self.content);
        if self.format == "yaml_frontmatter" && !self.content.is_empty() {
            reasons.extend(frontmatter_reason(&outline).map(str::to_owned));
        }
        let provenance = match &self.provenance {
            Some(told) => Provenance::read(told, &self.content, hash, &policy.federation, now)
                .unwrap_or_else(|problems| {
                    reasons.extend(problems);
                    None
                }),
            None => None,
        };
        if !reasons.is_empty() {
            return Err(reasons);
        }
        Ok(Deposit {
            key: DepositKey {
                owner: owner.clone(),
                skill_id: self.skill_id.clone(),
            },
            content_hash: hash,
            signature: self.signature.clone().unwrap_or_default(),
            facts: self.facts(outline, limits),
            provenance,
            deposited_at: now,
            first_deposited: now,
        })
    }

    fn check_content(&self, hash: ContentHash, limits: &DepositLimits, reasons: &mut Vec<String>) {
        let most = limits.content_bytes;
        if self.content.is_empty() {
            reasons.push("Content is required".to_owned());
        } else if self.content.len() > most {
            reasons.push(format!("Exceeds size limit ({most} bytes)"));
        }
        match &self.content_hash {
            None => reasons.push("Content hash is required".to_owned()),
            Some(_) if self.content.is_empty() => {}
            Some(told) if *told != hash.to_hex() => {
                reasons.push("Content hash mismatch".to_owned())
            }
            Some(_) => {}
        }
        reasons.extend(executable(&self.content));
    }

    fn check_signature(&self, key: Option<&PublicKey>, reasons: &mut Vec<String>) {
        let Some(signature) = self.signature.as_deref().filter(|text| !text.is_empty()) else {
            reasons.push("Deposit signature is required".to_owned());
            return;
        };
        if self.content.is_empty() {
            return;
        }
        let Some(key) = key else {
            reasons.push("Signature verification error: the agent has no key here".to_owned());
            return;
        };
        match key.verify(self.content.as_bytes(), signature) {
            Ok(()) => {}
            Err(SignatureError::Mismatch) => {
                reasons.push("Signature verification failed".to_owned())
            }
            Err(SignatureError::NotBase64) => {
                reasons.push("Signature verification error: invalid base64".to_owned());
            }
        }
    }

    fn check_words(&self, limits: &DepositLimits, reasons: &mut Vec<String>) {
        if self.skill_id.trim().is_empty() {
            reasons.push("skill_id is required".to_owned());
        } else if self.skill_id.len() > SKILL_ID_MAX || self.skill_id.chars().any(char::is_control)
        {
            reasons.push(format!(
                "skill_id has at most {SKILL_ID_MAX} bytes and no control characters"
            ));
        }
        if self.name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
            reasons.push(format!("Name exceeds size limit ({NAME_MAX} bytes)"));
        }
        let most = limits.description_bytes;
        if self
            .description
            .as_ref()
            .is_some_and(|text| text.len() > most)
        {
            reasons.push(format!("Description exceeds size limit ({most} bytes)"));
        }
        let (tags, bytes) = TAGS_MAX;
        if self.tags.len() > tags || self.tags.iter().any(|tag| tag.len() > bytes) {
            reasons.push(format!("At most {tags} tags of {bytes} bytes are accepted"));
        }
    }

    fn facts(self, outline: Outline, limits: &DepositLimits) -> Facts {
        let given = self.summary.filter(|summary| !summary.is_empty());
        let cut_long = |summary: String| match summary.len() > limits.summary_bytes {
            true => cut(&summary, limits.summary_bytes),
            false => summary,
        };
        let is_short = |value: &Value| value.to_string().len() <= INPUT_OUTPUT_MAX;
        Facts {
            name: self.name.unwrap_or_else(|| self.skill_id.clone()),
            description: self.description,
            tags: self.tags,
            format: self.format,
            summary: given.map(cut_long).or_else(|| outline.first_words.clone()),
            version: outline.member("version").map(|word| cut(&word, WORD_MAX)),
            license: outline.member("license").map(|word| cut(&word, WORD_MAX)),
            sections: outline.sections,
            input_output: self.input_output.filter(is_short),
            bytes: self.content.len(),
            lines: outline.lines,
        }
    }
}

/// What the gate for packages finds in a text: something that a system would run.
fn executable(content: &str) -> Option<String> {
    let mut gate = Gate::for_directory();
    let end = content.len().min(gate::HEAD_LEN);
    let clean = gate.check(&gate::Entry {
        path: "skill.md",
        kind: gate::Kind::File,
        mode: 0o644,
        head: content.as_bytes().get(..end).unwrap_or_default(),
    });
    if clean {
        return None;
    }
    let refusal = gate.finish().err()?;
    let offence = refusal.offences().first()?;
    Some(format!("Executable content: {}", offence.reason))
}

fn frontmatter_reason(outline: &Outline) -> Option<&'static str> {
    match outline.frontmatter {
        Ok(_) => None,
        Err(FrontmatterFault::Absent) => {
            Some("yaml_frontmatter format requires YAML frontmatter delimiters (---)")
        }
        Err(FrontmatterFault::Unclosed) => {
            Some("yaml_frontmatter format requires valid frontmatter (---...---)")
        }
        Err(FrontmatterFault::NotMapping) => Some("Frontmatter must be a valid YAML hash"),
        Err(FrontmatterFault::Unreadable) => Some("Invalid YAML frontmatter: it cannot be read"),
    }
}

impl Deposit {
    /// What is said wherever the content is handed out.
    pub fn trust_notice(&self) -> Value {
        json!({
            "verified_by_place": false, "depositor_signed": true, "depositor_id": self.key.owner,
            "disclaimer":
                "Content deposited by agent. Place verified format safety and depositor identity only.",
        })
    }

    /// Facts about where it comes from. Nothing here counts who liked it.
    pub fn trust_metadata(&self, deposits_of_owner: usize) -> Value {
        let provenance = match &self.provenance {
            None => json!({
                "is_local": true, "hop_count": 0, "origin_place_id": null,
                "origin_agent_id": self.key.owner, "via": [],
                "deposited_at_origin": self.first_deposited.wire(),
            }),
            Some(origin) => json!({
                "is_local": false, "hop_count": origin.hop_count,
                "origin_place_id": origin.origin_place_id,
                "origin_agent_id": origin.origin_agent_id, "via": origin.via,
                "deposited_at_origin": origin.deposited_at_origin,
                "origin_signature": origin.origin_signature,
                "origin_public_key": origin.origin_public_key,
                "origin_content_hash": origin.origin_content_hash,
                "altered": origin.is_altered(self.content_hash),
            }),
        };
        json!({
            "depositor_deposit_count": deposits_of_owner,
            "first_deposited": self.first_deposited.wire(), "provenance": provenance,
        })
    }

    /// The entry on the board, with what is attested of it.
    pub(super) fn card(&self, attested: Vec<Value>) -> Value {
        let facts = &self.facts;
        let mut shown = json!({
            "agent_id": self.key.owner, "name": facts.name, "skill_id": self.key.skill_id,
            "description": facts.description, "format": facts.format, "type": "deposited_skill",
            "tags": facts.tags, "size_bytes": facts.bytes, "content_size_lines": facts.lines,
            "deposited_at": self.deposited_at.wire(), "content_hash": self.content_hash,
            "summary": facts.summary, "sections": facts.sections,
            "trust_notice": self.trust_notice(),
        });
        self.add_optional(&mut shown, attested);
        shown
    }

    /// What can be seen before the skill is acquired: `lines` lines of `content`, and what is attested of it.
    pub fn preview(
        &self,
        content: &str,
        lines: usize,
        deposits_of_owner: usize,
        attested: Vec<Value>,
    ) -> Value {
        let facts = &self.facts;
        let first: String = content.split_inclusive('\n').take(lines).collect();
        let mut shown = json!({
            "skill_id": self.key.skill_id, "name": facts.name, "description": facts.description,
            "tags": facts.tags, "format": facts.format, "size_bytes": facts.bytes,
            "content_size_lines": facts.lines, "deposited_at": self.deposited_at.wire(),
            "depositor_id": self.key.owner, "content_hash": self.content_hash,
            "summary": facts.summary, "sections": facts.sections,
            "input_output": facts.input_output, "first_lines": first,
            "trust_metadata": self.trust_metadata(deposits_of_owner),
        });
        self.add_optional(&mut shown, attested);
        shown
    }

    fn add_optional(&self, shown: &mut Value, attested: Vec<Value>) {
        let Value::Object(members) = shown else {
            return;
        };
        for (name, text) in [
            ("version", &self.facts.version),
            ("license", &self.facts.license),
        ] {
            if let Some(text) = text {
                members.insert(name.to_owned(), text.as_str().into());
            }
        }
        if !attested.is_empty() {
            members.insert("attestations".to_owned(), attested.into());
        }
    }
}

/// The first `chars` characters.
fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}
