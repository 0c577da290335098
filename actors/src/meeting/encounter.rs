//! Going to meet an agent: introduce both ways, verify, prove, pin, and look at what it offers.
//!
//! Every step leaves a [`Check`](crate::check::Check) for the person to read. A step that fails ends the encounter; one that the peer's
//! software cannot take part in is shown as unknown, never as passed.

use std::time::Duration;

use kairos_p2p::PeerName;
use kairos_place::session::Strength;
use kairos_protocol::crypto;
use kairos_protocol::wire::introduction::{ReceivedIntroduction, VerifiedIdentity};
use kairos_protocol::wire::listing::{
    OfferedSkill, OfferedSkillSet, offered_skill_sets, offered_skills,
};
use kairos_protocol::wire::possession::{Possession, Proof, Side};
use serde_json::{Map, Value, json};

use super::client::{Answer, PeerUrl};
use super::{MeetingError, Outbound, history, witnessed};
use crate::check::{Checks, Outcome};
use crate::peer_manager::table::Peer;

/// Most entries of a peer's list that are looked at.
pub const LIST_MAX: usize = 10_000;

/// Notes that something does not hold, and returns the error that ends the conversation.
pub(crate) fn fail(checks: &mut Checks, name: &str, detail: impl Into<String>) -> MeetingError {
    let detail = detail.into();
    checks.note(name, Outcome::Failed, detail.clone());
    MeetingError::Refused {
        check: name.to_owned(),
        detail,
        checks: std::mem::take(checks),
    }
}

/// An agent that was met, and the session it gave us.
#[derive(Debug, Clone)]
pub struct Encounter {
    /// Where.
    pub url: PeerUrl,
    /// Its record with us, key pinned.
    pub peer: Peer,
    /// What it says about itself.
    pub description: String,
    /// What it says about itself.
    pub scope: String,
    /// What was checked.
    pub checks: Checks,
    /// Our session with it.
    pub token: String,
    /// How strongly it knows us.
    pub our_strength: Strength,
    /// Whether it proved, this time, to hold its key.
    pub proved: Strength,
    /// Public skills.
    pub skills: Vec<OfferedSkill>,
    /// Exchangeable SkillSets.
    pub skill_sets: Vec<OfferedSkillSet>,
}

/// Meets the agent at `url`.
pub(super) async fn meet(out: &Outbound, url: &PeerUrl) -> Result<Encounter, MeetingError> {
    let mut checks = Checks::default();
    let introduction = out.client.get(url, "introduce", &[], None).await?;
    let received = ReceivedIntroduction::new(introduction);
    let identity = match received.verify(None) {
        Ok(identity) => identity,
        Err(fault) => return Err(fail(&mut checks, "identity signature", fault.to_string())),
    };
    checks.pass(
        "identity signature",
        format!("signed by key {}", identity.key.fingerprint()),
    );
    if identity.agent_id == out.signed.instance_id {
        return Err(fail(
            &mut checks,
            "not ourselves",
            "the agent at this URL is this agent",
        ));
    }
    if let Some(node) = url.node() {
        own_node(out, node, &identity, &mut checks).await?;
    }
    let before = out.peers.find(identity.agent_id.as_str()).await?;
    match &before {
        None => checks.pass(
            "key pin",
            "first contact; the key is remembered from now on",
        ),
        Some(known) if known.key == identity.key => {
            checks.pass(
                "key pin",
                format!("the key known since {}", known.first_seen),
            );
        }
        // Noted with the peer manager below, which keeps both keys for the owner to compare.
        Some(_) => {}
    }

    let (session, proved) = introduce(out, url, &identity, &mut checks).await?;
    let known_to_prove = before
        .as_ref()
        .is_some_and(|known| known.strength == Strength::Proven);
    if !proved && known_to_prove {
        let detail = "this agent proved its key before and does not now; its introduction may be a copy \
                      shown by somebody else";
        return Err(fail(&mut checks, "key possession", detail));
    }
    let strength = if proved {
        Strength::Proven
    } else {
        Strength::Introduced
    };
    let peer = match out
        .peers
        .meet(identity.clone(), url.to_string(), strength)
        .await
    {
        Ok(peer) => peer,
        Err(error) => return Err(fail(&mut checks, "key pin", error.to_string())),
    };
    if before.is_some_and(|known| known.key != peer.key) {
        checks.pass(
            "key pin",
            "the agent changed its key; the key we knew signed the change",
        );
    }

    history::check(out, url, &session.token, &identity, &received, &mut checks).await?;
    if proved && session.strength == Strength::Proven {
        witnessed::ask(out, url, &session.token, &identity, &mut checks).await;
    }

    let skills = out
        .client
        .get(url, "skills", &[], Some(&session.token))
        .await?;
    let skill_sets = match out
        .client
        .get(url, "skillsets", &[], Some(&session.token))
        .await
    {
        Err(error) if error.has_code("skillset_exchange_disabled") => Map::new(),
        other => other?,
    };
    Ok(Encounter {
        url: url.clone(),
        peer,
        description: received.shown("description"),
        scope: received.shown("scope"),
        checks,
        token: session.token,
        our_strength: session.strength,
        proved: strength,
        skills: offered_skills(skills.get("skills"), LIST_MAX),
        skill_sets: offered_skill_sets(skill_sets.get("skillsets"), LIST_MAX),
    })
}

/// Checks that the node is the agent's: whoever merely passes on what another agent says has no record for its own node
/// that the agent signed.
async fn own_node(
    out: &Outbound,
    node: PeerName,
    identity: &VerifiedIdentity,
    checks: &mut Checks,
) -> Result<(), MeetingError> {
    let (record, way) = out.client.carriage().record(node).await?;
    checks.pass("way", format!("libp2p, {}", way.as_str()));
    let is_same = *record.identity_key() == identity.key && *record.id() == identity.agent_id;
    match is_same {
        true => {
            checks.pass("node key", format!("{node}, signed by both keys"));
            Ok(())
        }
        false => {
            let detail = format!("the node belongs to {}, who is another agent", record.id());
            Err(fail(checks, "node key", detail))
        }
    }
}

/// A session a peer gave us.
struct OurSession {
    token: String,
    strength: Strength,
}

/// Introduces us, asks the peer to prove its key, and proves ours if it asks.
async fn introduce(
    out: &Outbound,
    url: &PeerUrl,
    identity: &VerifiedIdentity,
    checks: &mut Checks,
) -> Result<(OurSession, bool), MeetingError> {
    let nonce = hex::encode(crypto::random_bytes()?);
    let asking = Possession {
        nonce: Some(nonce.clone()),
        ..Possession::default()
    };
    let reply = post_introduction(out, url, &asking, None).await?;
    let Some(session) = session_in(&reply) else {
        let reason = reply.get("reason").and_then(Value::as_str);
        let detail = reason
            .unwrap_or("it gave no session token")
            .chars()
            .take(200)
            .collect::<String>();
        return Err(fail(
            checks,
            "our introduction",
            format!("the peer did not verify us: {detail}"),
        ));
    };
    checks.pass("our introduction", "the peer verified our signature");

    let answer = Possession::from_member(reply.get("possession"));
    let proved = match answer.proof {
        None => {
            let detail = "its software cannot prove it; the introduction could be a copy";
            checks.unknown("key possession", detail);
            false
        }
        Some(proof) => {
            let now = out.clock.now();
            let own = &out.signed.instance_id;
            let held = proof.verify(
                Side::Host,
                &identity.key,
                &identity.agent_id,
                own,
                now,
                out.proof_window,
            );
            match held {
                Ok(()) if proof.nonce == nonce => {
                    checks.pass("key possession", "the peer signed our fresh challenge");
                    true
                }
                Ok(()) => {
                    return Err(fail(
                        checks,
                        "key possession",
                        "it signed another challenge",
                    ));
                }
                Err(error) => return Err(fail(checks, "key possession", error.to_string())),
            }
        }
    };

    let (Some(nonce), Some(audience)) = (answer.nonce, answer.audience) else {
        return Ok((session, proved));
    };
    if audience != identity.agent_id {
        return Err(fail(
            checks,
            "our proof",
            "the challenge names another agent",
        ));
    }
    let (keypair, own, now) = (
        out.keypair.clone(),
        out.signed.instance_id.clone(),
        out.clock.now(),
    );
    let sign = move || Proof::sign(Side::Guest, &keypair, &own, &audience, &nonce, now);
    let proof = tokio::task::spawn_blocking(sign)
        .await
        .map_err(|_| crypto::KeyError::Library)??;
    let proving = Possession {
        proof: Some(proof),
        ..Possession::default()
    };
    let reply = post_introduction(out, url, &proving, Some(&session.token)).await?;
    match session_in(&reply) {
        Some(session) if session.strength == Strength::Proven => {
            checks.pass("our proof", "the peer accepted our answer to its challenge");
            Ok((session, proved))
        }
        _ => Err(fail(
            checks,
            "our proof",
            "the peer did not accept our answer to its challenge",
        )),
    }
}

async fn post_introduction(
    out: &Outbound,
    url: &PeerUrl,
    possession: &Possession,
    replaces: Option<&str>,
) -> Result<Map<String, Value>, MeetingError> {
    let mut body = out.introduction().await?;
    if let Some(members) = body.as_object_mut() {
        members.insert("possession".to_owned(), json!(possession));
    }
    Ok(out
        .client
        .post(
            url,
            "introduce",
            &body,
            replaces,
            Answer::Ordinary,
            &|_, _| (),
        )
        .await?)
}

fn session_in(reply: &Map<String, Value>) -> Option<OurSession> {
    let token = reply
        .get("session_token")
        .and_then(Value::as_str)
        .filter(|t| !t.is_empty())?;
    let proven = reply.get("session_strength").and_then(Value::as_str) == Some("proven");
    let strength = if proven {
        Strength::Proven
    } else {
        Strength::Introduced
    };
    Some(OurSession {
        token: token.to_owned(),
        strength,
    })
}

/// Ends our session at a peer. A peer that cannot be told forgets it by itself.
pub(super) async fn say_goodbye(out: &Outbound, encounter: &Encounter) {
    let nothing = json!({});
    let bye = out.client.post(
        &encounter.url,
        "goodbye",
        &nothing,
        Some(&encounter.token),
        Answer::Ordinary,
        &|_, _| (),
    );
    match tokio::time::timeout(Duration::from_secs(2), bye).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the peer did not take our goodbye"),
        Err(_) => tracing::debug!("the peer did not answer our goodbye"),
    }
}
