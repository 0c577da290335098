//! The two file layers: `config/kairos.yml`, where every key counts, and the reference's own files, of which a
//! few keys mean something here and the rest are left alone.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned};

use super::error::Problem;
use super::layer::{Layer, Reading, Source};

/// Our own file, below the data directory.
pub(crate) const OWN: &str = "config/kairos.yml";
/// The reference's file for its server, below the data directory.
pub(super) const SERVER: &str = "skills/config.yml";
/// The reference's file for meetings, below the data directory.
pub(super) const MEETING: &str = "skillsets/mmp/config/meeting.yml";

/// The reference's file for its Meeting Place and HestiaChain, below the data directory.
pub(super) const HESTIA: &str = "skillsets/hestia/config/hestia.yml";

/// The largest configuration file read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads `config/kairos.yml`.
pub(super) fn own(data_dir: &Path) -> Reading {
    type Group = Option<BTreeMap<String, Spanned<Value>>>;
    let path = data_dir.join(OWN);
    let mut reading = Reading::default();
    match read::<BTreeMap<String, Group>>(&path, DuplicateKeyPolicy::Error) {
        Ok(groups) => {
            let groups = groups.unwrap_or_default().into_iter();
            let fields = groups.flat_map(|(group, fields)| {
                fields
                    .unwrap_or_default()
                    .into_iter()
                    .map(move |field| (group.clone(), field))
            });
            for (group, (field, value)) in fields {
                let at = source(Layer::File, &path, value.referenced);
                reading.take_named(
                    &format!("{group}.{field}"),
                    str::to_owned,
                    |_| value.value,
                    at,
                );
            }
        }
        Err(problem) => reading.problems.push(problem),
    }
    reading
}

/// Reads what the reference's files say about settings of ours.
pub(super) fn reference(data_dir: &Path) -> Reading {
    let mut reading = Reading::default();
    // The reference's template gives one key twice, and its reader lets the last one win.
    let twice = DuplicateKeyPolicy::LastWins;
    let path = data_dir.join(SERVER);
    match read::<ServerFile>(&path, twice) {
        Ok(file) => file.unwrap_or_default().collect(&mut Target {
            reading: &mut reading,
            path: &path,
        }),
        Err(problem) => reading.problems.push(problem),
    }
    let path = data_dir.join(MEETING);
    match read::<MeetingFile>(&path, twice) {
        Ok(file) => file.unwrap_or_default().collect(&mut Target {
            reading: &mut reading,
            path: &path,
        }),
        Err(problem) => reading.problems.push(problem),
    }
    let path = data_dir.join(HESTIA);
    match read::<HestiaFile>(&path, twice) {
        Ok(file) => file.unwrap_or_default().collect(&mut Target {
            reading: &mut reading,
            path: &path,
        }),
        Err(problem) => reading.problems.push(problem),
    }
    reading
}

type Field<T> = Option<Spanned<T>>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServerFile {
    http: Option<ServerHttp>,
    storage: Option<ServerStorage>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServerStorage {
    backend: Field<String>,
    sqlite: Option<ServerSqlite>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServerSqlite {
    path: Field<String>,
    wal_mode: Field<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServerHttp {
    host: Field<String>,
    port: Field<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MeetingFile {
    enabled: Field<bool>,
    identity: Option<MeetingIdentity>,
    capabilities: Option<MeetingCapabilities>,
    skill_exchange: Option<SkillExchange>,
    skillset_exchange: Option<SkillSetExchange>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MeetingIdentity {
    name: Field<String>,
    description: Field<String>,
    scope: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MeetingCapabilities {
    meeting_protocol_version: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SkillExchange {
    allowed_formats: Field<Vec<String>>,
    public_by_default: Field<bool>,
    max_skill_size_bytes: Field<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SkillSetExchange {
    enabled: Field<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HestiaFile {
    meeting_place: Option<HestiaPlace>,
    chain: Option<HestiaChain>,
    trust_anchor: Option<TrustAnchor>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HestiaPlace {
    enabled: Field<bool>,
    name: Field<String>,
    max_agents: Field<u64>,
    session_timeout: Field<u64>,
    deposit_policy: Option<DepositPolicy>,
    federation: Option<PlaceFederation>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DepositPolicy {
    max_skills_per_agent: Field<u64>,
    max_total_deposits: Field<u64>,
    deposit_rate_limit: Field<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PlaceFederation {
    enabled: Field<bool>,
    accept_federated: Field<bool>,
    max_hop_count: Field<u64>,
    max_deposit_age_hours: Field<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TrustAnchor {
    record_exchanges: Field<bool>,
    record_registrations: Field<bool>,
    record_fadeouts: Field<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HestiaChain {
    enabled: Field<bool>,
    backend: Field<String>,
    private: Option<HestiaPrivate>,
    batching: Option<HestiaBatching>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HestiaPrivate {
    storage_path: Field<String>,
    max_anchors: Field<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HestiaBatching {
    enabled: Field<bool>,
    interval_seconds: Field<u64>,
    max_batch_size: Field<u64>,
}

/// Where the fields of one of the reference's files go.
struct Target<'a> {
    reading: &'a mut Reading,
    path: &'a Path,
}

impl Target<'_> {
    fn put<T: Into<Value>>(&mut self, key: &str, field: Field<T>) {
        if let Some(field) = field {
            let at = source(Layer::Reference, self.path, field.referenced);
            self.reading
                .take_named(key, str::to_owned, |_| field.value.into(), at);
        }
    }
}

impl ServerFile {
    fn collect(self, into: &mut Target<'_>) {
        let storage = self.storage.unwrap_or_default();
        let sqlite = storage.sqlite.unwrap_or_default();
        into.put("storage.backend", storage.backend);
        into.put("storage.sqlite_path", sqlite.path);
        into.put("storage.sqlite_wal", sqlite.wal_mode);
        let http = self.http.unwrap_or_default();
        into.put("http.host", http.host);
        into.put("http.port", http.port);
    }
}

impl HestiaFile {
    fn collect(self, into: &mut Target<'_>) {
        let chain = self.chain.unwrap_or_default();
        let private = chain.private.unwrap_or_default();
        let batching = chain.batching.unwrap_or_default();
        into.put("anchors.enabled", chain.enabled);
        into.put("anchors.backend", chain.backend);
        into.put("anchors.storage_path", private.storage_path);
        into.put("anchors.max_anchors", private.max_anchors);
        into.put("anchors.batching", batching.enabled);
        into.put("anchors.batch_interval", batching.interval_seconds);
        into.put("anchors.batch_size", batching.max_batch_size);
        let records = self.trust_anchor.unwrap_or_default();
        into.put("anchors.record_exchanges", records.record_exchanges);
        into.put("anchors.record_registrations", records.record_registrations);
        into.put("anchors.record_fadeouts", records.record_fadeouts);
        self.meeting_place.unwrap_or_default().collect(into);
    }
}

impl HestiaPlace {
    fn collect(self, into: &mut Target<'_>) {
        into.put("place.enabled", self.enabled);
        into.put("place.name", self.name);
        into.put("place.max_agents", self.max_agents);
        into.put("place.session_timeout", self.session_timeout);
        let deposits = self.deposit_policy.unwrap_or_default();
        into.put("place.deposits_per_agent", deposits.max_skills_per_agent);
        into.put("place.deposits", deposits.max_total_deposits);
        into.put("place.deposits_per_hour", deposits.deposit_rate_limit);
        let federation = self.federation.unwrap_or_default();
        // The reference wants both switches on, and the second is unless it says otherwise.
        let accepts = federation
            .accept_federated
            .is_none_or(|accept| accept.value);
        let both = federation.enabled.map(|mut enabled| {
            enabled.value &= accepts;
            enabled
        });
        into.put("place.accept_federated", both);
        into.put("place.federated_hops", federation.max_hop_count);
        let age = federation.max_deposit_age_hours.map(|mut hours| {
            hours.value = hours.value.saturating_mul(3_600);
            hours
        });
        into.put("place.federated_age", age);
    }
}

impl MeetingFile {
    fn collect(self, into: &mut Target<'_>) {
        let identity = self.identity.unwrap_or_default();
        let skills = self.skill_exchange.unwrap_or_default();
        into.put("meeting.enabled", self.enabled);
        into.put("identity.name", identity.name);
        into.put("identity.description", identity.description);
        into.put("identity.scope", identity.scope);
        into.put(
            "meeting.protocol_version",
            self.capabilities
                .unwrap_or_default()
                .meeting_protocol_version,
        );
        into.put("meeting.allowed_formats", skills.allowed_formats);
        into.put("meeting.public_by_default", skills.public_by_default);
        into.put("limits.skill", skills.max_skill_size_bytes);
        into.put(
            "meeting.skillset_exchange",
            self.skillset_exchange.unwrap_or_default().enabled,
        );
    }
}

fn source(layer: Layer, path: &Path, place: Location) -> Source {
    Source {
        layer,
        origin: Some(format!("{}:{}", path.display(), place.line())),
    }
}

/// Reads `path` as a `T`; nothing if there is no such file or it holds only comments.
fn read<T: DeserializeOwned>(path: &Path, twice: DuplicateKeyPolicy) -> Result<Option<T>, Problem> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Problem::Unreadable {
                path: path.to_owned(),
                error,
            });
        }
    };
    // Comments are skipped, not gathered: the parser gives up on files with many of them otherwise.
    let options = serde_saphyr::options! {
        duplicate_keys: twice, with_snippet: false, emit_comments: false,
    };
    serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
        let place = error.location();
        Problem::Syntax {
            path: path.to_owned(),
            line: place.map_or(0, |place| place.line()),
            column: place.map_or(0, |place| place.column()),
            message: error.to_string(),
        }
    })
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    if file.take(MAX_FILE + 1).read_to_string(&mut text)? as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
    }
    Ok(text)
}
