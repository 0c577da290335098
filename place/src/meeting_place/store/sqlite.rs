//! A Place in a SQLite database: one transaction for all changes of a commit, synced when it ends.

use std::path::Path;
use std::time::Duration;

use kairos_protocol::crypto::PublicKey;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Change, Snapshot, Store, StoreError};
use crate::meeting_place::audit::REGISTRATIONS_MAX;
use crate::meeting_place::{
    Agent, Agreement, Answered, Attestation, Ban, Deposit, DepositKey, Logged, OnceKey, PinnedKey,
    Presence, SkillSetDeposit, SkillSetKey,
};
use crate::session::Strength;

/// How long another process is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// The schema, each step on top of those before. `user_version` counts the steps that a database went through; one that
/// was released is never changed.
pub(super) const STEPS: [&str; 8] = [
    BEGINNING,
    ATTESTATIONS,
    SKILL_SETS,
    ORIGINS,
    ANSWERS,
    BANS,
    AGREEMENTS,
    GUESTS,
];

const BEGINNING: &str = "
CREATE TABLE agents (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT,
    scope TEXT,
    capabilities TEXT NOT NULL,
    public_key BLOB,
    strength TEXT,
    is_self INTEGER NOT NULL,
    registered_at TEXT NOT NULL,
    last_seen TEXT NOT NULL,
    visited_places TEXT NOT NULL,
    presence TEXT NOT NULL
) STRICT;
CREATE TABLE deposits (
    number INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    skill_id TEXT NOT NULL,
    deposit TEXT NOT NULL,
    content TEXT NOT NULL,
    UNIQUE (owner, skill_id)
) STRICT;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

const ATTESTATIONS: &str = "
CREATE TABLE attestations (
    number INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    skill_id TEXT NOT NULL,
    attester TEXT NOT NULL,
    claim TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    attestation TEXT NOT NULL,
    UNIQUE (owner, skill_id, attester, claim, content_hash)
) STRICT;
";

/// The archive comes last, so that what is in front of it is read without it.
const SKILL_SETS: &str = "
CREATE TABLE skill_sets (
    number INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    deposit TEXT NOT NULL,
    archive BLOB NOT NULL,
    UNIQUE (owner, name)
) STRICT;
";

const ORIGINS: &str = "
CREATE TABLE origins (
    number INTEGER PRIMARY KEY,
    content_hash TEXT NOT NULL UNIQUE,
    origin TEXT NOT NULL
) STRICT;
";

const ANSWERS: &str = "
CREATE TABLE answers (
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    request TEXT NOT NULL,
    answer TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (agent, key)
) STRICT, WITHOUT ROWID;
";

/// Numbers of the audit count on when entries are gone, which is what cursors rely on.
const BANS: &str = "
CREATE TABLE bans (target TEXT PRIMARY KEY, ban TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    of_agents INTEGER NOT NULL,
    event TEXT NOT NULL
) STRICT;
";

const AGREEMENTS: &str = "
CREATE TABLE agreements (id TEXT PRIMARY KEY, agreement TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

const GUESTS: &str = "
CREATE TABLE guests (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    public_key BLOB NOT NULL
) STRICT;
";

/// See the module.
#[derive(Debug)]
pub struct SqliteStore(Connection);

impl SqliteStore {
    /// Opens the database at `path`; begins one if there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let begin = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = begin.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
        let Some(steps) = usize::try_from(found).ok().and_then(|at| STEPS.get(at..)) else {
            return Err(StoreError::Newer { found, known });
        };
        for step in steps {
            begin.execute_batch(step)?;
        }
        begin.pragma_update(None, "user_version", known)?;
        begin.commit()?;
        Ok(Self(connection))
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        let all = self.0.transaction()?;
        let snapshot = Snapshot {
            agents: rows(&all, "SELECT * FROM agents ORDER BY number", agent)?,
            deposits: rows(
                &all,
                "SELECT deposit, owner FROM deposits ORDER BY number",
                |row| {
                    parsed(
                        &row.get::<_, String>(0)?,
                        "deposit",
                        &row.get::<_, String>(1)?,
                    )
                },
            )?,
            attestations: rows(
                &all,
                "SELECT attestation, owner FROM attestations ORDER BY number",
                |row| {
                    let said: String = row.get(0)?;
                    parsed(&said, "attestation", &row.get::<_, String>(1)?)
                },
            )?,
            origins: rows(
                &all,
                "SELECT content_hash, origin FROM origins ORDER BY number",
                |row| {
                    let (hash, origin): (String, String) = (row.get(0)?, row.get(1)?);
                    let parsed_hash = parsed(&format!("\"{hash}\""), "origin", &hash)?;
                    Ok((parsed_hash, parsed(&origin, "origin", &hash)?))
                },
            )?,
            skill_sets: rows(
                &all,
                "SELECT deposit, name FROM skill_sets ORDER BY number",
                |row| {
                    let set: String = row.get(0)?;
                    parsed(&set, "SkillSet", &row.get::<_, String>(1)?)
                },
            )?,
            answers: rows(&all, "SELECT * FROM answers ORDER BY agent, key", answered)?,
            agreements: rows(
                &all,
                "SELECT agreement, id FROM agreements ORDER BY id",
                |row| {
                    let agreement: String = row.get(0)?;
                    parsed::<Agreement>(&agreement, "agreement", &row.get::<_, String>(1)?)
                },
            )?,
            guests: rows(
                &all,
                "SELECT id, public_key FROM guests ORDER BY number",
                guest,
            )?,
            bans: {
                let mut bans: Vec<Ban> = rows(&all, "SELECT ban, target FROM bans", |row| {
                    parsed(&row.get::<_, String>(0)?, "ban", &row.get::<_, String>(1)?)
                })?;
                bans.sort_by(|a, b| a.target.cmp(&b.target));
                bans
            },
            exchanges: exchanges(&all)?,
        };
        Ok(snapshot)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let all = self
            .0
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in changes {
            apply(&all, change)?;
        }
        all.commit()?;
        Ok(())
    }

    fn deposit(&mut self, key: &DepositKey) -> Result<Option<(Deposit, String)>, StoreError> {
        let query = "SELECT deposit, content FROM deposits WHERE owner = ?1 AND skill_id = ?2";
        let mut query = self.0.prepare_cached(query)?;
        let found = query.query_row(params![key.owner.as_str(), key.skill_id], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?))
        });
        match found.optional()? {
            Some((deposit, content)) => {
                Ok(Some((parsed(&deposit, "deposit", &key.skill_id)?, content)))
            }
            None => Ok(None),
        }
    }

    fn skill_set(
        &mut self,
        key: &SkillSetKey,
    ) -> Result<Option<(SkillSetDeposit, Vec<u8>)>, StoreError> {
        let query = "SELECT deposit, archive FROM skill_sets WHERE owner = ?1 AND name = ?2";
        let mut query = self.0.prepare_cached(query)?;
        let found = query.query_row(params![key.owner.as_str(), key.name.as_str()], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?))
        });
        match found.optional()? {
            Some((set, archive)) => Ok(Some((
                parsed(&set, "SkillSet", key.name.as_str())?,
                archive,
            ))),
            None => Ok(None),
        }
    }

    fn audit(&mut self, before: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        let query =
            "SELECT number, at, event FROM audit WHERE number < ?1 ORDER BY number DESC LIMIT ?2";
        let mut query = self.0.prepare_cached(query)?;
        let (before, limit) = (number(before), i64::try_from(limit).unwrap_or(i64::MAX));
        let mut rows = query.query(params![before, limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let place: i64 = row.get(0)?;
            found.push(Logged {
                number: u64::try_from(place).unwrap_or_default(),
                at: Timestamp::EPOCH.plus(Duration::from_micros(
                    u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default(),
                )),
                event: parsed(&row.get::<_, String>(2)?, "audit entry", &place.to_string())?,
            });
        }
        Ok(found)
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn rows<T>(
    all: &Transaction<'_>,
    query: &str,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut query = all.prepare(query)?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn exchanges(all: &Transaction<'_>) -> Result<u64, StoreError> {
    let query = "SELECT value FROM counters WHERE name = 'exchanges'";
    let found: Option<i64> = all.query_row(query, [], |row| row.get(0)).optional()?;
    Ok(found
        .and_then(|count| u64::try_from(count).ok())
        .unwrap_or_default())
}

fn apply(all: &Transaction<'_>, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Agent(agent) => put_agent(all, agent)?,
        Change::AgentGone(id) => run(
            all,
            "DELETE FROM agents WHERE id = ?1",
            params![id.as_str()],
        )?,
        Change::Seen(seen) => {
            for (id, at) in seen {
                let update = "UPDATE agents SET last_seen = ?2 WHERE id = ?1";
                run(all, update, params![id.as_str(), at.block()])?;
            }
        }
        Change::Deposit(deposit, content) => {
            let put = "INSERT INTO deposits (owner, skill_id, deposit, content) VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT (owner, skill_id) DO UPDATE SET deposit = excluded.deposit, content = excluded.content";
            let key = &deposit.key;
            run(
                all,
                put,
                params![key.owner.as_str(), key.skill_id, text(deposit)?, content],
            )?;
        }
        Change::DepositGone(key) => {
            let gone = "DELETE FROM deposits WHERE owner = ?1 AND skill_id = ?2";
            run(all, gone, params![key.owner.as_str(), key.skill_id])?;
            let said = "DELETE FROM attestations WHERE owner = ?1 AND skill_id = ?2";
            run(all, said, params![key.owner.as_str(), key.skill_id])?;
        }
        Change::Attestation(attestation) => put_attestation(all, attestation)?,
        Change::AttestationGone(key) => {
            let gone = "DELETE FROM attestations WHERE owner = ?1 AND skill_id = ?2 AND attester = ?3 AND claim = ?4
                AND content_hash = ?5";
            let deposit = &key.deposit;
            let values = params![
                deposit.owner.as_str(),
                deposit.skill_id,
                key.attester.as_str(),
                key.claim,
                key.content_hash.to_hex(),
            ];
            run(all, gone, values)?;
        }
        Change::Origin(hash, origin) => {
            let gone = "DELETE FROM origins WHERE content_hash = ?1";
            run(all, gone, params![hash.to_hex()])?;
            // Its number is one more than the largest there is.
            let put = "INSERT INTO origins (content_hash, origin) VALUES (?1, ?2)";
            run(all, put, params![hash.to_hex(), text(origin)?])?;
        }
        Change::OriginGone(hash) => {
            let gone = "DELETE FROM origins WHERE content_hash = ?1";
            run(all, gone, params![hash.to_hex()])?;
        }
        Change::SkillSet(set, archive) => {
            let put = "INSERT INTO skill_sets (owner, name, deposit, archive) VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT (owner, name) DO UPDATE SET deposit = excluded.deposit, archive = excluded.archive";
            let (owner, name) = (set.key.owner.as_str(), set.key.name.as_str());
            run(all, put, params![owner, name, text(set)?, &archive[..]])?;
        }
        Change::SkillSetGone(key) => {
            let gone = "DELETE FROM skill_sets WHERE owner = ?1 AND name = ?2";
            run(all, gone, params![key.owner.as_str(), key.name.as_str()])?;
        }
        Change::Answered(answered) => {
            let put = "INSERT INTO answers (agent, key, request, answer, at) VALUES (?1, ?2, ?3, ?4, ?5)
                ON CONFLICT (agent, key) DO UPDATE SET request = excluded.request, answer = excluded.answer,
                    at = excluded.at";
            let values = params![
                answered.key.agent.as_str(),
                answered.key.key,
                answered.request.to_hex(),
                answered.answer,
                answered.at.block(),
            ];
            run(all, put, values)?;
        }
        Change::AnswerGone(key) => {
            let gone = "DELETE FROM answers WHERE agent = ?1 AND key = ?2";
            run(all, gone, params![key.agent.as_str(), key.key])?;
        }
        Change::Agreement(agreement) => {
            let put = "INSERT INTO agreements (id, agreement) VALUES (?1, ?2)
                ON CONFLICT (id) DO UPDATE SET agreement = excluded.agreement";
            run(all, put, params![agreement.id().as_str(), text(agreement)?])?;
        }
        Change::AgreementGone(id) => {
            let gone = "DELETE FROM agreements WHERE id = ?1";
            run(all, gone, params![id.as_str()])?;
        }
        Change::Guest(id, key) => {
            let gone = "DELETE FROM guests WHERE id = ?1";
            run(all, gone, params![id.as_str()])?;
            // Its number is one more than the largest there is.
            let put = "INSERT INTO guests (id, public_key) VALUES (?1, ?2)";
            run(all, put, params![id.as_str(), key.spki_der()])?;
        }
        Change::GuestGone(id) => {
            let gone = "DELETE FROM guests WHERE id = ?1";
            run(all, gone, params![id.as_str()])?;
        }
        Change::Ban(ban) => {
            let put = "INSERT INTO bans (target, ban) VALUES (?1, ?2)
                ON CONFLICT (target) DO UPDATE SET ban = excluded.ban";
            run(all, put, params![ban.target.to_string(), text(ban)?])?;
        }
        Change::BanGone(target) => {
            let gone = "DELETE FROM bans WHERE target = ?1";
            run(all, gone, params![target.to_string()])?;
        }
        Change::Logged(at, event) => {
            let micros = at.since(Timestamp::EPOCH).as_micros();
            let add = "INSERT INTO audit (at, of_agents, event) VALUES (?1, ?2, ?3)";
            let micros = i64::try_from(micros).unwrap_or(i64::MAX);
            run(
                all,
                add,
                params![micros, event.is_of_agents(), text(event)?],
            )?;
            let over = all
                .last_insert_rowid()
                .saturating_sub(number(REGISTRATIONS_MAX));
            let prune = "DELETE FROM audit WHERE number <= ?1 AND of_agents";
            run(all, prune, params![over])?;
        }
        Change::Exchanges(count) => {
            let put = "INSERT INTO counters VALUES ('exchanges', ?1)
                ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            run(all, put, params![count])?;
        }
    }
    Ok(())
}

fn run(
    all: &Transaction<'_>,
    query: &str,
    values: impl rusqlite::Params,
) -> Result<(), StoreError> {
    all.prepare_cached(query)?.execute(values)?;
    Ok(())
}

fn put_attestation(all: &Transaction<'_>, attestation: &Attestation) -> Result<(), StoreError> {
    let put = "INSERT INTO attestations (owner, skill_id, attester, claim, content_hash, attestation)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (owner, skill_id, attester, claim, content_hash) DO UPDATE SET attestation = excluded.attestation";
    let key = &attestation.key;
    let values = params![
        key.deposit.owner.as_str(),
        key.deposit.skill_id,
        key.attester.as_str(),
        key.claim,
        key.content_hash.to_hex(),
        text(attestation)?,
    ];
    run(all, put, values)
}

fn put_agent(all: &Transaction<'_>, agent: &Agent) -> Result<(), StoreError> {
    let put = "INSERT INTO agents (id, name, description, scope, capabilities, public_key, strength, is_self,
            registered_at, last_seen, visited_places, presence)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,
            scope = excluded.scope, capabilities = excluded.capabilities, public_key = excluded.public_key,
            strength = excluded.strength, is_self = excluded.is_self, registered_at = excluded.registered_at,
            last_seen = excluded.last_seen, visited_places = excluded.visited_places, presence = excluded.presence";
    let values = params![
        agent.id.as_str(),
        agent.name,
        agent.description,
        agent.scope,
        agent.capabilities,
        agent.key.as_ref().map(PinnedKey::spki_der),
        agent.strength.map(Strength::as_str),
        agent.is_self,
        agent.registered_at.block(),
        agent.last_seen.block(),
        text(&agent.visited_places)?,
        text(&agent.presence)?,
    ];
    run(all, put, values)
}

fn agent(row: &Row<'_>) -> Result<Agent, StoreError> {
    let key: String = row.get("id")?;
    let damaged = |reason: String| StoreError::Damaged {
        what: "agent",
        key: key.clone(),
        reason,
    };
    let time = |name: &str| {
        let text: String = row.get(name)?;
        Timestamp::parse(&text).map_err(|error| damaged(error.to_string()))
    };
    let id: AgentId = key.parse().map_err(|error| damaged(format!("{error}")))?;
    let spki: Option<Vec<u8>> = row.get("public_key")?;
    let pinned = spki.map(|der| PublicKey::from_der(&der)).transpose();
    let strength: Option<String> = row.get("strength")?;
    let strength = strength.map(|text| parsed::<Strength>(&format!("\"{text}\""), "agent", &key));
    let places: String = row.get("visited_places")?;
    let presence: String = row.get("presence")?;
    Ok(Agent {
        name: row.get("name")?,
        description: row.get("description")?,
        scope: row.get("scope")?,
        capabilities: row.get::<_, String>("capabilities")?.into(),
        key: pinned
            .map_err(|error| damaged(error.to_string()))?
            .as_ref()
            .map(PinnedKey::from),
        strength: strength.transpose()?,
        is_self: row.get("is_self")?,
        registered_at: time("registered_at")?,
        last_seen: time("last_seen")?,
        visited_places: parsed(&places, "agent", &key)?,
        presence: parsed::<Presence>(&presence, "agent", &key)?,
        id,
    })
}

fn guest(row: &Row<'_>) -> Result<(AgentId, PinnedKey), StoreError> {
    let (id, der): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
    let damaged = |reason: String| StoreError::Damaged {
        what: "guest",
        key: id.clone(),
        reason,
    };
    let key = PublicKey::from_der(&der).map_err(|error| damaged(error.to_string()))?;
    let parsed = id.parse().map_err(|error| damaged(format!("{error}")))?;
    Ok((parsed, PinnedKey::from(&key)))
}

fn answered(row: &Row<'_>) -> Result<Answered, StoreError> {
    let key: String = row.get("key")?;
    let (agent, at): (String, String) = (row.get("agent")?, row.get("at")?);
    let damaged = |reason: String| StoreError::Damaged {
        what: "answer",
        key: key.clone(),
        reason,
    };
    let request: String = row.get("request")?;
    Ok(Answered {
        request: parsed(&format!("\"{request}\""), "answer", &key)?,
        answer: row.get("answer")?,
        at: Timestamp::parse(&at).map_err(|error| damaged(error.to_string()))?,
        key: OnceKey {
            agent: agent.parse().map_err(|error| damaged(format!("{error}")))?,
            key,
        },
    })
}

fn text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged {
        what: "value",
        key: String::new(),
        reason: error.to_string(),
    })
}

fn parsed<T: DeserializeOwned>(text: &str, what: &'static str, key: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged {
        what,
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
