//! Fetching a skill that somebody left at a Place. It passes the same checks as one of a peer, and waits in the same
//! quarantine; the Place's word counts for nothing.

use kairos_place::session::Strength;
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::id::AgentId;
use kairos_protocol::skill::findings::findings;
use kairos_protocol::wire::place::{Board, Members};
use serde_json::Value;

use super::Member;
use super::error::MembershipError;
use super::message::Acquire;
use super::record::AcquiredRecord;
use super::session::Ask;
use crate::check::Checks;
use crate::meeting::acquire::{as_listed, compare_with_pins, measured, provenance_in, readable};
use crate::meeting::client::PeerUrl;
use crate::meeting::encounter::fail;
use crate::quarantine::{Evidence, Held, HeldKind};

/// Most entries of the board that are searched for the one that is wanted.
const LISTED_MAX: usize = 100;

impl Member {
    pub(super) async fn acquire(&self, acquire: Acquire) -> Result<Held, MembershipError> {
        let Acquire {
            url,
            skill_id,
            owner,
            progress,
        } = acquire;
        self.enter(&url).await?;
        let mut checks = Checks::default();
        let path = ["skill_content", skill_id.as_str()];
        let owner_of: Vec<_> = owner
            .iter()
            .map(|owner| ("owner", owner.as_str()))
            .collect();
        let ask = Ask::get(&path).query(&owner_of).progress(&*progress);
        let reply = self.ask(&url, &ask).await?;
        let text = |name: &str| reply.get(name).and_then(Value::as_str);
        let Some(content) = text("content") else {
            return Err(fail(&mut checks, "content", "the answer holds no text").into());
        };
        let found = measured(&self.policy, content, text("content_hash"), &mut checks)?;
        if text("skill_id") != Some(skill_id.as_str()) {
            let detail = format!("asked for `{skill_id}`, got something else");
            return Err(fail(&mut checks, "name", detail).into());
        }
        let from = depositor(&reply, owner.as_ref(), &mut checks)?;
        let listed = self.listed(&url, &skill_id, &from).await?;
        as_listed(listed.as_deref(), &found, &mut checks)?;
        readable(&self.policy, content, text("format"), &mut checks)?;

        let key = self.key_of(&url, &from, &mut checks).await?;
        let signature = text("depositor_signature").or_else(|| text("signature"));
        check_signature(content, signature, key.as_ref(), &from, &mut checks)?;
        let provenance = provenance_in(&reply, &found, &mut checks)?;
        let own = (&self.signed.instance_id, self.keypair.public());
        compare_with_pins(own, &self.peers, provenance.as_ref(), &mut checks).await?;

        let evidence = Evidence {
            kind: HeldKind::Skill,
            name: skill_id,
            version: None,
            content_hash: found,
            from,
            url: url.to_string(),
            key_fingerprint: key.map_or_else(|| "unknown".to_owned(), |key| key.fingerprint()),
            // Its author was not there: nothing but the signature speaks for it.
            session: Strength::Introduced,
            checks,
            provenance,
            carried: None,
            findings: findings(content),
            acquired_at: self.clock.now(),
        };
        self.hold(&url, evidence, content.as_bytes().to_vec()).await
    }

    /// Has a skill from the Place at `url` wait in the quarantine, and notes that it was fetched.
    pub(super) async fn hold(
        &self,
        url: &PeerUrl,
        evidence: Evidence,
        content: Vec<u8>,
    ) -> Result<Held, MembershipError> {
        let came = AcquiredRecord {
            skill_id: evidence.name.clone(),
            owner: evidence.from.clone(),
            content_hash: evidence.content_hash,
            at: evidence.acquired_at,
        };
        let held = self.quarantine.hold(evidence, content).await?;
        self.change(url, move |record| record.acquired(came))
            .await?;
        Ok(held)
    }

    /// The hash under which the board lists what is wanted, if it shows it.
    async fn listed(
        &self,
        url: &PeerUrl,
        skill_id: &str,
        owner: &AgentId,
    ) -> Result<Option<String>, MembershipError> {
        let limit = LISTED_MAX.to_string();
        let query = [
            ("type", "deposited_skill"),
            ("search", skill_id),
            ("limit", limit.as_str()),
        ];
        let ask = Ask::get(&["board", "browse"]).query(&query);
        let board = Board::read(&self.ask(url, &ask).await?)?;
        let entry = board
            .entries
            .into_iter()
            .find(|entry| entry.skill_id.as_deref() == Some(skill_id) && &entry.agent_id == owner);
        Ok(entry
            .and_then(|entry| entry.content_hash)
            .map(|hash| hash.to_hex()))
    }

    /// The key of an agent: ours, the pinned one, or the one that the Place shows, which is pinned.
    pub(super) async fn key_of(
        &self,
        url: &PeerUrl,
        agent: &AgentId,
        checks: &mut Checks,
    ) -> Result<Option<PublicKey>, MembershipError> {
        if agent == &self.signed.instance_id {
            checks.pass("key pin", "it is our own");
            return Ok(Some(self.keypair.public().clone()));
        }
        if let Some(known) = self.peers.find(agent.as_str()).await? {
            checks.pass(
                "key pin",
                format!("the key known since {}", known.first_seen),
            );
            return Ok(Some(known.key));
        }
        let path = ["keys", agent.as_str()];
        let answer = match self.ask(url, &Ask::get(&path)).await {
            Err(error) if error.is_not_found() => {
                checks.unknown(
                    "key pin",
                    "neither we nor the Place know a key of its depositor",
                );
                return Ok(None);
            }
            answer => answer?,
        };
        let pem = answer
            .get("public_key")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let key = PublicKey::from_pem(pem)?;
        let known = self.pin(agent, "", key, checks).await?;
        checks.pass(
            "key pin",
            "first contact, through the Place; the key is remembered from now on",
        );
        Ok(Some(known))
    }
}

/// Who left it, which must be the one it was asked of.
fn depositor(
    reply: &Members,
    owner: Option<&AgentId>,
    checks: &mut Checks,
) -> Result<AgentId, MembershipError> {
    let told = reply.get("depositor_id").and_then(Value::as_str);
    let Some(from) = told.and_then(|id| id.parse::<AgentId>().ok()) else {
        return Err(fail(checks, "depositor", "the Place does not say who left it").into());
    };
    if owner.is_some_and(|owner| owner != &from) {
        let detail = format!("the Place sent that of {from} in its stead");
        return Err(fail(checks, "depositor", detail).into());
    }
    checks.pass("depositor", from.as_str());
    Ok(from)
}

fn check_signature(
    content: &str,
    signature: Option<&str>,
    key: Option<&PublicKey>,
    from: &AgentId,
    checks: &mut Checks,
) -> Result<(), MembershipError> {
    let name = "depositor's signature";
    match (signature, key) {
        (None, _) => checks.unknown(name, "the Place's software does not hand it on"),
        (Some(_), None) => checks.unknown(name, "there is no key to check it with"),
        (Some(signature), Some(key)) => match key.verify(content.as_bytes(), signature) {
            Ok(()) => checks.pass(name, format!("signed by {from} ({})", key.fingerprint())),
            Err(error) => return Err(fail(checks, name, error.to_string()).into()),
        },
    }
    Ok(())
}
