//! Fetching a skill or a SkillSet from an agent that was met, and checking it before anything is kept.
//!
//! Nothing is installed here. What passes every check is handed to the quarantine with the checks as evidence, and
//! waits there for a person.

use kairos_protocol::hash::ContentHash;
use kairos_protocol::package::{PackageLimits, SkillSetPackage, unpack};
use kairos_protocol::provenance::{Kind, Provenance};
use kairos_protocol::skill::findings::{Finding, findings};
use kairos_protocol::skill::{ReadOptions, Skill};
use kairos_protocol::skill_set::Layer;
use serde_json::{Map, Value, json};

use super::client::{Answer, Progress};
use super::encounter::{Encounter, fail};
use super::{MeetingError, Outbound};
use crate::check::Checks;

/// Something fetched that passed every check.
#[derive(Debug, Clone)]
pub struct Acquisition {
    /// Skill or SkillSet.
    pub kind: Kind,
    /// Its name at the peer.
    pub name: String,
    /// Its version, for a SkillSet.
    pub version: Option<String>,
    /// Hash of the skill's text, or over the SkillSet's files.
    pub content_hash: ContentHash,
    /// The skill's text, or the package as JSON.
    pub payload: Vec<u8>,
    /// Who authored it and through whom it came, if told and verified.
    pub provenance: Option<Provenance>,
    /// What a person should look at before approving.
    pub findings: Vec<Finding>,
    /// What was checked.
    pub checks: Checks,
}

/// Fetches the skill `wanted` (id or name).
pub(super) async fn skill(
    out: &Outbound,
    met: &Encounter,
    wanted: &str,
    progress: Progress<'_>,
) -> Result<Acquisition, MeetingError> {
    let body = json!({
        "skill_id": wanted, "to": met.peer.id, "from": out.signed.instance_id,
        "in_reply_to": "direct_request",
    });
    let token = Some(met.token.as_str());
    let reply = out
        .client
        .post(
            &met.url,
            "skill_content",
            &body,
            token,
            Answer::Ordinary,
            progress,
        )
        .await?;
    let mut checks = Checks::default();
    let payload = payload_of(&reply);
    let text = |name: &str| payload.get(name).and_then(Value::as_str);
    let Some(content) = text("content") else {
        return Err(fail(&mut checks, "content", "the answer holds no text"));
    };

    let limit = out.policy.max_skill_bytes;
    if content.len() as u64 > limit {
        let detail = format!("{} bytes, the limit is {limit}", content.len());
        return Err(fail(&mut checks, "size", detail));
    }
    checks.pass("size", format!("{} bytes", content.len()));

    let found = ContentHash::of(content);
    match text("content_hash") {
        Some(told) if told == found.to_hex() => checks.pass("content hash", found.to_hex()),
        Some(_) => {
            return Err(fail(
                &mut checks,
                "content hash",
                "the text is not the one the hash was made of",
            ));
        }
        None => return Err(fail(&mut checks, "content hash", "the peer sent no hash")),
    }
    let name = text("skill_name").unwrap_or(wanted).to_owned();
    if name != wanted && text("skill_id") != Some(wanted) {
        let shown: String = name.chars().take(200).collect();
        let detail = format!("asked for `{wanted}`, got `{shown}`");
        return Err(fail(&mut checks, "name", detail));
    }
    let offered = met
        .skills
        .iter()
        .find(|s| s.id == wanted || s.name == wanted);
    match offered.and_then(|s| s.content_hash.as_deref()) {
        Some(told) if told == found.to_hex() => {
            checks.pass("as listed", "the hash in the peer's list")
        }
        Some(_) => {
            return Err(fail(
                &mut checks,
                "as listed",
                "the peer's list names another hash",
            ));
        }
        None => checks.unknown("as listed", "the peer does not list it"),
    }

    let options = ReadOptions {
        max_bytes: usize::try_from(limit).unwrap_or(usize::MAX),
        ..ReadOptions::default()
    };
    let skill = match Skill::parse(
        &format!("knowledge/{wanted}.md"),
        content.as_bytes(),
        &options,
    ) {
        Ok(skill) => skill,
        Err(fault) => return Err(fail(&mut checks, "format", fault.to_string())),
    };
    let told_format = text("format").unwrap_or("markdown");
    let accepted = |format: &str| out.policy.allowed_formats.iter().any(|f| f == format);
    if !accepted(told_format) || !accepted(skill.format.as_str()) {
        return Err(fail(
            &mut checks,
            "format",
            format!("Format '{told_format}' is not allowed"),
        ));
    }
    checks.pass("format", skill.format.as_str());

    let provenance = provenance_in(&reply, &found, &mut checks)?;
    Ok(Acquisition {
        kind: Kind::Skill,
        name,
        version: None,
        content_hash: found,
        payload: content.as_bytes().to_vec(),
        provenance,
        findings: findings(content),
        checks,
    })
}

/// Where a skill's members are: in the message, in `payload`, or at the top, as implementations differ.
fn payload_of(reply: &Map<String, Value>) -> Map<String, Value> {
    let in_message = reply.get("message").and_then(|m| m.get("payload"));
    let payload = in_message
        .or_else(|| reply.get("payload"))
        .and_then(Value::as_object);
    payload.unwrap_or(reply).clone()
}

/// Fetches the SkillSet `wanted`.
pub(super) async fn skill_set(
    out: &Outbound,
    met: &Encounter,
    wanted: &str,
    progress: Progress<'_>,
) -> Result<Acquisition, MeetingError> {
    let body = json!({"name": wanted});
    let token = Some(met.token.as_str());
    let reply = out
        .client
        .post(
            &met.url,
            "skillset_content",
            &body,
            token,
            Answer::Package,
            progress,
        )
        .await?;
    let payload = Value::Object(reply).to_string().into_bytes();
    let (wanted, limits) = (wanted.to_owned(), out.package_limits);
    let offered = met
        .skill_sets
        .iter()
        .find(|s| s.name == wanted)
        .and_then(|s| s.content_hash.clone());
    let inspected =
        tokio::task::spawn_blocking(move || inspect(payload, &wanted, offered.as_deref(), &limits));
    inspected.await.map_err(|_| MeetingError::Panicked)?
}

/// Checks a package without installing it. Blocks on decompression and hashing.
fn inspect(
    payload: Vec<u8>,
    wanted: &str,
    offered: Option<&str>,
    limits: &PackageLimits,
) -> Result<Acquisition, MeetingError> {
    let mut checks = Checks::default();
    let package = match SkillSetPackage::from_json(&payload, limits) {
        Ok(package) => package,
        Err(error) => return Err(fail(&mut checks, "package", error.to_string())),
    };
    if package.name.as_str() != wanted {
        return Err(fail(
            &mut checks,
            "package",
            format!("asked for `{wanted}`, got `{}`", package.name),
        ));
    }
    let archive = match package.archive() {
        Ok(archive) => archive,
        Err(error) => return Err(fail(&mut checks, "package", error.to_string())),
    };
    let mut findings_in = Vec::new();
    let look = |path: &str, _mode: u32, bytes: &mut dyn std::io::Read| {
        if path.ends_with(".md") {
            let mut text = String::new();
            if bytes.read_to_string(&mut text).is_ok() {
                findings_in.extend(
                    findings(&text)
                        .into_iter()
                        .map(|finding| in_file(finding, path)),
                );
            }
        }
        Ok(())
    };
    let contents = match unpack(archive.as_slice(), &package.name, limits, look) {
        Ok(contents) => contents,
        Err(error) => return Err(fail(&mut checks, "knowledge only", error.to_string())),
    };
    checks.pass(
        "knowledge only",
        format!("{} files, none can execute", contents.files.len()),
    );
    if package.content_hash.is_none() {
        return Err(fail(&mut checks, "content hash", "the peer sent no hash"));
    }
    let found = match package.check(&contents) {
        Ok(found) => found,
        Err(error) => return Err(fail(&mut checks, "content hash", error.to_string())),
    };
    checks.pass("content hash", found.to_hex());
    match offered {
        Some(told) if told == found.to_hex() => {
            checks.pass("as listed", "the hash in the peer's list")
        }
        Some(_) => {
            return Err(fail(
                &mut checks,
                "as listed",
                "the peer's list names another hash",
            ));
        }
        None => checks.unknown("as listed", "the peer does not list it"),
    }
    if contents.metadata.layer == Layer::L0 {
        return Err(fail(
            &mut checks,
            "layer",
            "a peer may not bring an L0 SkillSet",
        ));
    }
    checks.pass("layer", contents.metadata.layer.as_str());
    match &package.manifest {
        Some(manifest) => {
            let packer = &manifest.manifest().packer.instance_id;
            checks.pass(
                "signed manifest",
                format!("every file is named, signed by {packer}"),
            );
        }
        None => checks.unknown("signed manifest", "its software does not sign packages"),
    }
    match &package.provenance {
        Some(provenance) => checks.pass("provenance", told(provenance)),
        None => checks.unknown("provenance", "none came with it"),
    }
    Ok(Acquisition {
        kind: Kind::SkillSet,
        name: package.name.to_string(),
        version: Some(contents.metadata.version),
        content_hash: found,
        provenance: package.provenance,
        findings: findings_in,
        payload,
        checks,
    })
}

fn provenance_in(
    reply: &Map<String, Value>,
    found: &ContentHash,
    checks: &mut Checks,
) -> Result<Option<Provenance>, MeetingError> {
    let member = reply.get("provenance").filter(|value| !value.is_null());
    let Some(value) = member else {
        checks.unknown("provenance", "none came with it");
        return Ok(None);
    };
    let read = Provenance::from_value(value).and_then(|p| p.verify(found).map(|()| p));
    match read {
        Ok(provenance) if provenance.kind == Kind::Skill => {
            checks.pass("provenance", told(&provenance));
            Ok(Some(provenance))
        }
        Ok(_) => Err(fail(
            checks,
            "provenance",
            "it is the provenance of a SkillSet",
        )),
        Err(error) => Err(fail(checks, "provenance", error.to_string())),
    }
}

/// `authored by A, handed on by B`.
fn told(provenance: &Provenance) -> String {
    let mut words = Vec::new();
    for (n, hop) in provenance.hops().iter().enumerate() {
        let verb = if n == 0 {
            "authored by"
        } else {
            "handed on by"
        };
        words.push(format!(
            "{verb} {} ({})",
            hop.instance_id,
            hop.public_key.fingerprint()
        ));
    }
    words.join(", ")
}

/// A finding in one file of several.
fn in_file(finding: Finding, path: &str) -> Finding {
    Finding {
        excerpt: format!("{path}: {}", finding.excerpt),
        ..finding
    }
}
