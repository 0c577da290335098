//! Introductions and lists as bytes, made once per change and shared by every request.
//!
//! The parts come from the knowledge, SkillSet and log actors, which publish a new snapshot when something changed. A
//! listing remembers which snapshots it was made from; a request that finds the same ones takes the bytes as they
//! are. Only the `timestamp` of an introduction is filled in later, once per second.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use arc_swap::ArcSwapOption;
use kairos_actors::Handles;
use kairos_actors::chain::tlog::TlogHandle;
use kairos_actors::extensions::{Extensions, Offer};
use kairos_actors::knowledge::KnowledgeHandle;
use kairos_actors::knowledge::catalogue::Catalogue;
use kairos_actors::skill_set::{Catalogue as SkillSets, SkillSetHandle};
use kairos_protocol::time::Timestamp;
use kairos_protocol::tlog::statement::Attributed;
use kairos_protocol::wire::introduction::{ExchangePolicy, SignedIdentity, introduction_with};
use kairos_protocol::wire::listing::SkillSetEntry;
use serde_json::json;

use super::error::ApiError;

/// Stands in for the time while the bytes are made. Nothing else in an introduction can hold it: ids and keys have
/// no such character, and the members before the timestamp that could are objects with other names.
const TIME_MARK: &str = "\u{1}time\u{1}";

/// One consistent view of what this agent offers.
pub struct Listing {
    /// Every skill, public or not.
    pub catalogue: Arc<Catalogue>,
    /// Every SkillSet, exchangeable or not.
    pub sets: Arc<SkillSets>,
    /// Our checkpoint, if there is one to give.
    pub checkpoint: Option<Arc<Attributed>>,
    extensions: Arc<Offer>,
    /// The SkillSets that peers may ask for.
    pub offered: Vec<SkillSetEntry>,
    /// The answer of `GET /skills`.
    pub skills: Bytes,
    /// The answer of `GET /skillsets`.
    pub skill_sets: Bytes,
    before_time: Bytes,
    after_time: Bytes,
    filled_in: ArcSwapOption<(i64, Bytes)>,
}

impl Listing {
    fn new(
        signed: &SignedIdentity,
        policy: &ExchangePolicy,
        exchange: bool,
        catalogue: Arc<Catalogue>,
        sets: Arc<SkillSets>,
        checkpoint: Option<Arc<Attributed>>,
        extensions: Arc<Offer>,
    ) -> Self {
        let skills = catalogue.entries();
        let offered = if exchange { sets.entries() } else { Vec::new() };
        let ledger = checkpoint.as_deref();
        let adopted = &extensions.extensions;
        let whole = introduction_with(signed, policy, skills, &offered, TIME_MARK, ledger, adopted);
        let whole = whole.to_string();
        // The last one: a skill may carry anything in its summary, but stands before the timestamp.
        let mark = json!(TIME_MARK).to_string();
        let (before, after) = whole.rsplit_once(&mark).unwrap_or((&whole, ""));
        Self {
            skills: json!({"skills": skills, "count": skills.len()})
                .to_string()
                .into(),
            skill_sets: json!({"skillsets": offered, "count": offered.len()})
                .to_string()
                .into(),
            before_time: Bytes::copy_from_slice(before.as_bytes()),
            after_time: Bytes::copy_from_slice(after.as_bytes()),
            filled_in: ArcSwapOption::empty(),
            catalogue,
            sets,
            checkpoint,
            extensions,
            offered,
        }
    }

    /// The introduction as of `now`, whole seconds.
    pub fn introduction(&self, now: Timestamp) -> Bytes {
        if let Some(made) = &*self.filled_in.load()
            && made.0 == now.as_secs()
        {
            return made.1.clone();
        }
        let mut body = Vec::with_capacity(self.before_time.len() + self.after_time.len() + 24);
        body.extend_from_slice(&self.before_time);
        body.extend_from_slice(format!("\"{}\"", now.wire()).as_bytes());
        body.extend_from_slice(&self.after_time);
        let body = Bytes::from(body);
        self.filled_in
            .store(Some(Arc::new((now.as_secs(), body.clone()))));
        body
    }
}

/// Keeps the current [`Listing`].
pub struct Listings {
    signed: Arc<SignedIdentity>,
    policy: ExchangePolicy,
    knowledge: KnowledgeHandle,
    skill_sets: SkillSetHandle,
    tlog: TlogHandle,
    extensions: Extensions,
    max_age: Duration,
    exchange: bool,
    current: ArcSwapOption<Listing>,
}

impl Listings {
    /// A keeper without a listing yet; the first request makes it. Changes by hand show after `max_age` at most;
    /// without `exchange` no SkillSets are listed.
    pub fn new(
        signed: Arc<SignedIdentity>,
        policy: ExchangePolicy,
        handles: &Handles,
        max_age: Duration,
        exchange: bool,
    ) -> Self {
        Self {
            signed,
            policy,
            knowledge: handles.knowledge.clone(),
            skill_sets: handles.skill_sets.clone(),
            tlog: handles.tlog.clone(),
            extensions: handles.extensions.clone(),
            max_age,
            exchange,
            current: ArcSwapOption::empty(),
        }
    }

    /// The listing of what is there now.
    pub async fn current(&self) -> Result<Arc<Listing>, ApiError> {
        let catalogue = self.knowledge.fresh(self.max_age).await;
        let sets = self.skill_sets.fresh(self.max_age).await?;
        let checkpoint = self.tlog.fresh(self.max_age).await;
        let extensions = self.extensions.current().await;
        if let Some(listing) = &*self.current.load()
            && Arc::ptr_eq(&listing.catalogue, &catalogue)
            && Arc::ptr_eq(&listing.sets, &sets)
            && Arc::ptr_eq(&listing.extensions, &extensions)
            && listing.checkpoint.as_ref().map(Arc::as_ptr) == checkpoint.as_ref().map(Arc::as_ptr)
        {
            return Ok(Arc::clone(listing));
        }
        let listing = Listing::new(
            &self.signed,
            &self.policy,
            self.exchange,
            catalogue,
            sets,
            checkpoint,
            extensions,
        );
        let listing = Arc::new(listing);
        self.current.store(Some(Arc::clone(&listing)));
        Ok(listing)
    }
}
