//! The board of a Place: looking around, leaving skills, taking them back, and saying what we look for.

use std::sync::Arc;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::wire::place::Board;
use reqwest::Method;
use serde_json::{Value, json};

use super::error::MembershipError;
use super::message::{Browse, Deposit, Deposited, NeedChange, Seen, Withdraw};
use super::record::{DepositRecord, Membership, NeedRecord};
use super::session::Ask;
use super::{Member, blocking};
use crate::knowledge::{Audience, KnowledgeError, Served};
use crate::meeting::client::{OnlyIf, PeerUrl};

/// Most tags that are sent with a deposit, the bound of a Place.
const TAGS_MAX: usize = 32;
/// Longest summary that is sent with a deposit, in bytes, the bound of the reference.
const SUMMARY_MAX: usize = 500;
/// How often is looked anew what a deposit is to replace, where that changed in between.
const LOOKS: usize = 3;

impl Member {
    pub(super) async fn browse(&self, browse: Browse) -> Result<Seen, MembershipError> {
        let record = self.enter(&browse.url).await?;
        let (limit, tags) = (browse.limit.to_string(), browse.tags.join(","));
        let mut query = vec![("limit", limit.as_str())];
        query.extend(browse.kind.as_deref().map(|kind| ("type", kind)));
        query.extend(browse.words.as_deref().map(|words| ("search", words)));
        query.extend((!tags.is_empty()).then_some(("tags", tags.as_str())));
        let ask = Ask::get(&["board", "browse"]).query(&query);
        let board = Board::read(&self.ask(&browse.url, &ask).await?)?;
        let own = &self.signed.instance_id;
        let compared = board.entries.into_iter().take(browse.limit).map(|entry| {
            let freshness = record.freshness(&entry, own);
            (entry, freshness)
        });
        Ok(Seen {
            entries: compared.collect(),
            total: board.total,
            left_out: board.left_out,
        })
    }

    pub(super) async fn deposit(&self, deposit: Deposit) -> Result<Deposited, MembershipError> {
        let url = deposit.url;
        self.enter(&url).await?;
        self.knowledge.fresh(std::time::Duration::ZERO).await;
        let served = match self.knowledge.content(&deposit.skill, Audience::Peer).await {
            Err(KnowledgeError::NotFound { .. }) => {
                return Err(MembershipError::NotPublic(deposit.skill));
            }
            served => served?,
        };
        let done = Deposited {
            skill_id: served.skill.name.clone(),
            content_hash: served.skill.content_hash,
        };
        let body = self.signed_deposit(served).await?;
        let ask = Ask::send(Method::POST, &["deposit"], &body);
        self.ask_about(&url, &done.skill_id, ask).await?;
        self.note_deposit(&url, &done).await?;
        Ok(done)
    }

    /// Asks for a change of our deposit `skill_id` as it is there now, so that a copy of the request that arrives later
    /// finds something else and changes nothing.
    async fn ask_about(
        &self,
        url: &PeerUrl,
        skill_id: &str,
        mut ask: Ask<'_>,
    ) -> Result<(), MembershipError> {
        for remaining in (0..LOOKS).rev() {
            ask = ask.only_if(self.is_there(url, skill_id).await?);
            match self.ask(url, &ask).await {
                Err(error) if error.is_outdated() && remaining > 0 => {}
                answer => return answer.map(drop),
            }
        }
        Ok(())
    }

    /// What our deposit `skill_id` is at the Place; nothing if the Place does not tell.
    async fn is_there(
        &self,
        url: &PeerUrl,
        skill_id: &str,
    ) -> Result<Option<OnlyIf>, MembershipError> {
        let all = self.deposits_there(url).await?;
        let Some(found) = all.into_iter().find(|(id, _)| id == skill_id) else {
            return Ok(Some(OnlyIf::Absent));
        };
        Ok(found.1.map(OnlyIf::Is))
    }

    /// The body of a deposit, signed over the content itself as the reference asks for.
    async fn signed_deposit(&self, served: Served) -> Result<Value, MembershipError> {
        let keypair = Arc::clone(&self.keypair);
        let Served { skill, text } = served;
        let (text, signature) = blocking(move || {
            let signature = keypair.sign(text.as_bytes());
            (text, signature)
        })
        .await?;
        let mut summary = skill.summary.clone();
        while summary.len() > SUMMARY_MAX {
            summary.pop();
        }
        let tags: Vec<&str> = skill
            .tags
            .iter()
            .filter_map(Value::as_str)
            .take(TAGS_MAX)
            .collect();
        Ok(json!({
            "skill_id": skill.name, "name": skill.name, "description": summary, "summary": summary, "tags": tags,
            "format": skill.format.as_str(), "content": text, "content_hash": skill.content_hash,
            "signature": signature?,
        }))
    }

    async fn note_deposit(&self, url: &PeerUrl, done: &Deposited) -> Result<(), MembershipError> {
        let (skill_id, at) = (done.skill_id.clone(), self.clock.now());
        let content_hash = done.content_hash;
        self.change(url, move |record| {
            record
                .deposits
                .insert(skill_id, DepositRecord { content_hash, at });
        })
        .await
    }

    pub(super) async fn withdraw(&self, withdraw: Withdraw) -> Result<(), MembershipError> {
        let Withdraw {
            url,
            skill_id,
            reason,
        } = withdraw;
        let record = self.enter(&url).await?;
        let body = json!({"reason": reason});
        let path = ["deposit", skill_id.as_str()];
        let ask = Ask::send(Method::DELETE, &path, &body);
        match self.ask_about(&url, &skill_id, ask).await {
            Ok(()) => {}
            // It is gone, which is what was asked for.
            Err(error) if error.is_not_found() && record.deposits.contains_key(&skill_id) => {}
            Err(error) if error.is_not_found() => {
                return Err(MembershipError::NotDeposited(skill_id));
            }
            Err(error) => return Err(error),
        }
        self.change(&url, move |record| {
            record.deposits.remove(&skill_id);
        })
        .await
    }

    pub(super) async fn change_needs(
        &self,
        url: PeerUrl,
        change: NeedChange,
    ) -> Result<Vec<NeedRecord>, MembershipError> {
        let mut record = self.enter(&url).await?;
        match change.clone() {
            NeedChange::Add(need) => record.need(need).map_err(MembershipError::Need)?,
            NeedChange::Remove(name) => {
                if !record.needs.iter().any(|need| need.name == name) {
                    return Err(MembershipError::NotDeposited(name));
                }
                record.needs.retain(|need| need.name != name);
            }
        }
        self.publish_needs(&url, &record.needs).await?;
        let needs = record.needs.clone();
        self.change(&url, move |record| match change {
            // Checked above; what another process added meanwhile may make it one too many.
            NeedChange::Add(need) => {
                if let Err(bound) = record.need(need) {
                    tracing::warn!(%bound, "a need was published and is not remembered");
                }
            }
            NeedChange::Remove(name) => record.needs.retain(|need| need.name != name),
        })
        .await?;
        Ok(needs)
    }

    async fn publish_needs(
        &self,
        url: &PeerUrl,
        needs: &[NeedRecord],
    ) -> Result<(), MembershipError> {
        let own = &self.signed.instance_id;
        let (method, body) = match needs.is_empty() {
            true => (Method::DELETE, json!({"agent_id": own})),
            false => (
                Method::POST,
                json!({
                    "agent_id": own, "agent_name": self.signed.identity.get("name"), "agent_mode": "node",
                    "needs": needs,
                }),
            ),
        };
        let ask = Ask::send(method, &["board", "needs"], &body);
        self.ask(url, &ask).await?;
        Ok(())
    }

    /// Leaves again what the Place took in anew no longer has: our needs, and, if the owner wants that, our deposits.
    /// A text that changed since is not left again: nobody said that the new one should be there. What the Place refuses
    /// is tried again with the next look.
    pub(super) async fn restore(
        &self,
        url: &PeerUrl,
        record: &Membership,
    ) -> Result<(), MembershipError> {
        if !record.needs.is_empty() {
            self.publish_needs(url, &record.needs).await?;
        }
        let mut all_there = true;
        if self.settings.redeposit && !record.deposits.is_empty() {
            let there = self.deposits_there(url).await?;
            let missing = record
                .deposits
                .iter()
                .filter(|(skill_id, _)| there.iter().all(|(there, _)| there != *skill_id));
            for (skill_id, left) in missing {
                match self.leave_again(url, skill_id, left).await {
                    Ok(()) => {}
                    Err(error) if error.is_final() => {
                        tracing::warn!(place.url = %url, skill = %skill_id, %error, "a skill was not taken again");
                        all_there = false;
                        // The Place counts what it refuses for that reason, too.
                        if error.to_string().contains("rate limit") {
                            break;
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.change(url, move |record| record.restore = !all_there)
            .await
    }

    async fn leave_again(
        &self,
        url: &PeerUrl,
        skill_id: &str,
        left: &DepositRecord,
    ) -> Result<(), MembershipError> {
        let Some(served) = self.still(skill_id, left).await? else {
            tracing::warn!(
                place.url = %url, skill = %skill_id,
                "a skill that was left there changed or became private since, and is not left again"
            );
            return Ok(());
        };
        let body = self.signed_deposit(served).await?;
        let ask = Ask::send(Method::POST, &["deposit"], &body);
        let ask = ask.only_if(Some(OnlyIf::Absent));
        match self.ask(url, &ask).await {
            // Another process of ours was quicker.
            Err(error) if error.is_outdated() => return Ok(()),
            answer => answer?,
        };
        tracing::info!(place.url = %url, skill = %skill_id, "left a skill again");
        Ok(())
    }

    /// The names of our deposits that the Place tells of, with their contents where it tells these too.
    async fn deposits_there(
        &self,
        url: &PeerUrl,
    ) -> Result<Vec<(String, Option<ContentHash>)>, MembershipError> {
        let own: &AgentId = &self.signed.instance_id;
        let path = ["agent_profile", own.as_str()];
        let answer = match self.ask(url, &Ask::get(&path)).await {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            answer => answer?,
        };
        let list = answer.get("deposited_skills").and_then(Value::as_array);
        let told = list.into_iter().flatten().filter_map(|deposit| {
            let id = deposit.get("skill_id")?.as_str()?.to_owned();
            let content = deposit.get("content_hash").and_then(Value::as_str);
            Some((id, content.and_then(|hash| hash.parse().ok())))
        });
        Ok(told.collect())
    }

    /// The public skill by this name, if its text is the one that was left.
    async fn still(
        &self,
        name: &str,
        left: &DepositRecord,
    ) -> Result<Option<Served>, MembershipError> {
        self.knowledge.fresh(std::time::Duration::ZERO).await;
        match self.knowledge.content(name, Audience::Peer).await {
            Ok(served) => Ok(Some(served).filter(|s| s.skill.content_hash == left.content_hash)),
            Err(
                KnowledgeError::NotFound { .. }
                | KnowledgeError::Unavailable
                | KnowledgeError::Unfit { .. },
            ) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
