//! What an agent keeps about sealed messages: the secrets of its prekeys, which messages it took, what could not be
//! opened, and what was read. One lock for all of it.
//!
//! Blocking code: call it from a blocking thread. Several processes may share the directory.
//!
//! A message is taken in this order: its name is written down as arriving; it goes into the inbox; its name goes into the
//! list of those that were taken, and the secret that opened it is erased; its arrival is struck out. Whoever finds an
//! arrival that was cut off looks whether the inbox has the message, and finishes or forgets it. Only then may the Place
//! forget the message.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use kairos_place::session::Strength;
use kairos_protocol::crypto::{KeyError, Keypair, PublicKey};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{AgentId, MessageId, PrekeyId};
use kairos_protocol::json;
use kairos_protocol::relay::keyring::{Fresh, Keyring};
use kairos_protocol::relay::replay::{ReplayError, ReplayWindow, Seen};
use kairos_protocol::relay::{version_1, version_2};
use kairos_protocol::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::meeting::client::PeerUrl;
use crate::meeting::inbox::{Inbox, InboxEntry, InboxError, InboxLimits};
use crate::membership::{Collected, MembershipError};
use crate::passing::LOCK;
use crate::{durable, file_lock};

const PREKEYS: &str = "prekeys.json";
const ARRIVING: &str = "arriving.json";
const SEEN: &str = "seen.jsonl";
const UNOPENED: &str = "unopened.json";
const READ: &str = "read.json";
/// Longest of these files in bytes that is read; each is bounded by what is in it.
const FILE_MAX: u64 = 64 << 20;
/// Most notes of what could not be opened; the oldest goes first.
const NOTES_MAX: usize = 200;
/// Most of them about one sender, so that none drives out those of others. Further ones add to the last.
const NOTES_OF_SENDER_MAX: usize = 10;
/// How many times the list of taken messages may be longer than what still matters of it.
const WASTE: usize = 2;
/// Lines of that list that are never worth writing it anew.
const SEEN_MIN: usize = 1_000;

/// Something that arrived, with what is needed to open it.
#[derive(Debug)]
pub(in crate::membership) enum Parcel {
    /// In the reference's envelope.
    V1 {
        id: String,
        from: AgentId,
        kind: String,
        envelope: version_1::Envelope,
    },
    /// In ours; the sender's key is the one that is known for it.
    V2 {
        id: String,
        envelope: Box<version_2::Envelope>,
        sender: PublicKey,
    },
    /// In none.
    Unreadable {
        id: String,
        from: Option<AgentId>,
        reason: String,
    },
}

/// Messages that could not be opened for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unopened {
    /// At which Place they were.
    pub place: String,
    /// Who sent them, as the Place says.
    pub from: Option<AgentId>,
    /// What is wrong with them.
    pub reason: String,
    /// When the first was noted.
    pub first: Timestamp,
    /// When the last was noted.
    pub last: Timestamp,
    /// How many there were.
    pub count: u64,
    /// Whether the owner was told.
    pub told: bool,
}

/// What came of taking messages in.
#[derive(Debug, Default)]
pub(in crate::membership) struct Taken {
    /// The names, at the relay, of messages that the Place may forget.
    pub(in crate::membership) done: Vec<String>,
    pub(in crate::membership) counts: Collected,
}

/// What there is to read.
#[derive(Debug)]
pub(in crate::membership) struct Unread {
    pub(in crate::membership) messages: Vec<InboxEntry>,
    pub(in crate::membership) unopened: Vec<Unopened>,
}

/// A message on its way into the inbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arriving {
    seen: Seen,
    place: String,
    key_id: Option<PrekeyId>,
}

/// A message that was opened.
struct Opened {
    relay_id: String,
    arriving: Arriving,
    entry: InboxEntry,
}

/// See the module.
#[derive(Debug, Clone)]
pub(in crate::membership) struct MailStore {
    folder: PathBuf,
    inbox: PathBuf,
    limits: InboxLimits,
}

type Rings = BTreeMap<String, Keyring>;
type Marks = BTreeSet<(AgentId, String)>;

impl MailStore {
    /// The files in `folder`; touches none.
    pub(in crate::membership) fn new(folder: &Path, inbox: &Path, limits: InboxLimits) -> Self {
        Self {
            folder: folder.to_owned(),
            inbox: inbox.to_owned(),
            limits,
        }
    }

    /// Lets `make` change the secrets for `place`, and returns once they are durable.
    pub(in crate::membership) fn replenish(
        &self,
        place: &PeerUrl,
        make: impl FnOnce(&mut Keyring) -> Result<Option<Fresh>, KeyError>,
        now: Timestamp,
    ) -> Result<Option<Fresh>, MembershipError> {
        let _lock = self.lock().map_err(MembershipError::Store)?;
        let mut rings: Rings = self.load(PREKEYS).map_err(MembershipError::Store)?;
        let ring = rings.entry(place.to_string()).or_default();
        let swept = ring.sweep(now);
        let fresh = make(ring)?;
        if swept || fresh.is_some() {
            self.save(PREKEYS, &rings).map_err(MembershipError::Store)?;
        }
        Ok(fresh)
    }

    /// Erases the secrets for `place`, which was left.
    pub(in crate::membership) fn forget(&self, place: &PeerUrl) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut rings: Rings = self.load(PREKEYS)?;
        match rings.remove(&place.to_string()) {
            Some(_) => self.save(PREKEYS, &rings),
            None => Ok(()),
        }
    }

    /// Finishes an arrival that was cut off. Called before anything else may change the inbox.
    pub(in crate::membership) fn recover(&self) -> io::Result<()> {
        if !self.folder.join(ARRIVING).exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.finish_arrivals()
    }

    /// Opens what arrived and puts it into the inbox, each message once.
    pub(in crate::membership) fn take_in(
        &self,
        place: &PeerUrl,
        parcels: Vec<Parcel>,
        own: &AgentId,
        keypair: &Keypair,
        now: Timestamp,
    ) -> io::Result<Taken> {
        let mut taken = Taken::default();
        if parcels.is_empty() {
            return Ok(taken);
        }
        let _lock = self.lock()?;
        self.finish_arrivals()?;
        let mut window = self.window(now)?;
        let mut rings: Rings = self.load(PREKEYS)?;
        let mut notes: Vec<Unopened> = self.load(UNOPENED)?;
        let ring = rings.entry(place.to_string()).or_default();

        let mut opened = Vec::new();
        for parcel in parcels {
            if let Some(relay_id) = parcel.taken_before(&window) {
                taken.counts.repeated += 1;
                taken.done.push(relay_id);
                continue;
            }
            match open(parcel, place, ring, own, keypair, now) {
                Ok(found) => opened.push(found),
                Err((relay_id, from, reason)) => {
                    note(&mut notes, place, from, reason, now);
                    taken.counts.unopened += 1;
                    taken.done.push(relay_id);
                }
            }
        }
        let arriving: Vec<&Arriving> = opened.iter().map(|found| &found.arriving).collect();
        if !arriving.is_empty() {
            self.save(ARRIVING, &arriving)?;
        }
        let mut inbox = Inbox::open(&self.inbox, self.limits)?;
        let (mut seen, mut erased) = (Vec::new(), false);
        for Opened {
            relay_id,
            arriving,
            entry,
        } in opened
        {
            match window.check(&arriving.seen, now) {
                Ok(()) => {}
                Err(ReplayError::Seen(_)) => {
                    taken.counts.repeated += 1;
                    taken.done.push(relay_id);
                    continue;
                }
                Err(ReplayError::Full) => {
                    taken.counts.left += 1;
                    continue;
                }
                Err(error @ (ReplayError::TooOld { .. } | ReplayError::TooNew { .. })) => {
                    note(&mut notes, place, Some(entry.from), error.to_string(), now);
                    taken.counts.unopened += 1;
                    taken.done.push(relay_id);
                    continue;
                }
            }
            match inbox.keep(&entry) {
                Ok(()) => {}
                Err(InboxError::Full | InboxError::PeerFull { .. }) => {
                    taken.counts.left += 1;
                    continue;
                }
                Err(InboxError::Io(error)) => return Err(error),
            }
            // Checked above, and nothing came between.
            if let Err(error) = window.admit(&arriving.seen, now) {
                tracing::error!(%error, "a message that was kept could not be remembered");
            }
            erased |= arriving.key_id.as_ref().is_some_and(|id| ring.used(id));
            seen.push(arriving.seen);
            taken.counts.kept += 1;
            taken.done.push(relay_id);
        }
        self.append_seen(&seen)?;
        if erased {
            self.save(PREKEYS, &rings)?;
        }
        if taken.counts.unopened > 0 {
            self.save(UNOPENED, &notes)?;
        }
        self.strike_arrivals()?;
        Ok(taken)
    }

    /// The messages of the inbox that came sealed, of `place` or of all, and what could not be opened; those that were
    /// not shown before, or `all`. Marks them as shown.
    pub(in crate::membership) fn read(&self, place: Option<&str>, all: bool) -> io::Result<Unread> {
        let _lock = self.lock()?;
        let entries = Inbox::open(&self.inbox, self.limits)?.entries()?;
        let name = |entry: &InboxEntry| (entry.from.clone(), entry.id.clone().unwrap_or_default());
        let old: Marks = self.load(READ)?;
        let wanted = |of: &str| place.is_none_or(|place| place == of);
        let (mut messages, mut marks) = (Vec::new(), Marks::new());
        for entry in entries {
            let Some(of) = entry.place.clone() else {
                continue;
            };
            let mark = name(&entry);
            let known = old.contains(&mark);
            // Marks of what is no longer there go.
            if known || wanted(&of) {
                marks.insert(mark);
            }
            if wanted(&of) && (all || !known) {
                messages.push(entry);
            }
        }
        let mut notes: Vec<Unopened> = self.load(UNOPENED)?;
        let mut unopened = Vec::new();
        for note in notes.iter_mut().filter(|note| wanted(&note.place)) {
            if all || !note.told {
                unopened.push(note.clone());
            }
            note.told = true;
        }
        if marks != old {
            self.save(READ, &marks)?;
        }
        if unopened.iter().any(|note| !note.told) {
            self.save(UNOPENED, &notes)?;
        }
        Ok(Unread { messages, unopened })
    }

    fn lock(&self) -> io::Result<std::fs::File> {
        file_lock::hold(&self.folder.join(LOCK))
    }

    /// A whole file, or its default if it is not there.
    fn load<T: DeserializeOwned + Default>(&self, name: &str) -> io::Result<T> {
        let path = self.folder.join(name);
        match fs::metadata(&path) {
            Ok(found) if found.len() > FILE_MAX => {
                return Err(io::Error::other(format!("{} is too long", path.display())));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(T::default()),
            Err(error) => return Err(error),
        }
        serde_json::from_slice(&fs::read(&path)?)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    }

    fn save(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(content)?;
        durable::replace(&self.folder.join(name), &text)
    }

    /// Under the lock: what was arriving is in the inbox, or still at the Place.
    fn finish_arrivals(&self) -> io::Result<()> {
        let arriving: Vec<Arriving> = self.load(ARRIVING)?;
        if arriving.is_empty() {
            return self.strike_arrivals();
        }
        let mut inbox = Inbox::open(&self.inbox, self.limits)?;
        let mut rings: Rings = self.load(PREKEYS)?;
        let mut seen = Vec::new();
        for one in arriving {
            if inbox.holds(&one.seen.from, one.seen.message_id.as_str())? {
                if let (Some(ring), Some(id)) = (rings.get_mut(&one.place), &one.key_id) {
                    ring.used(id);
                }
                seen.push(one.seen);
            }
        }
        tracing::info!(
            messages = seen.len(),
            "finished taking in messages, which was cut off"
        );
        self.append_seen(&seen)?;
        self.save(PREKEYS, &rings)?;
        self.strike_arrivals()
    }

    fn strike_arrivals(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join(ARRIVING)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn append_seen(&self, seen: &[Seen]) -> io::Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for one in seen {
            serde_json::to_writer(&mut lines, one)?;
            lines.push(b'\n');
        }
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.folder.join(SEEN))?;
        file.write_all(&lines)?;
        file.sync_data()
    }

    /// The messages that were taken, as far as that still matters. A list that is mostly about others is written anew, and
    /// so is one whose last line was cut off.
    fn window(&self, now: Timestamp) -> io::Result<ReplayWindow> {
        let path = self.folder.join(SEEN);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let (mut seen, mut lines) = (Vec::new(), 0);
        let mut torn = !bytes.is_empty() && !bytes.ends_with(b"\n");
        for line in bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            lines += 1;
            match serde_json::from_slice::<Seen>(line) {
                Ok(one) => seen.push(one),
                Err(_) => torn = true,
            }
        }
        let window = ReplayWindow::default().restore(seen, now);
        let live = window.seen().count();
        if torn || lines > SEEN_MIN + live * WASTE {
            durable::replace_with(&path, |file| {
                for one in window.seen() {
                    serde_json::to_writer(&mut *file, one)?;
                    file.write_all(b"\n")?;
                }
                Ok(())
            })?;
        }
        Ok(window)
    }
}

impl Parcel {
    /// The name at the relay of a message that was taken already, perhaps by another process just now: the secret that
    /// opened it is gone. Whoever only says so gets nothing by it.
    fn taken_before(&self, window: &ReplayWindow) -> Option<String> {
        match self {
            Self::V2 { id, envelope, .. } => window
                .knows(envelope.from(), envelope.message_id())
                .then(|| id.clone()),
            Self::V1 { .. } | Self::Unreadable { .. } => None,
        }
    }
}

/// Opens a parcel, or says whose it is and why that cannot be done.
fn open(
    parcel: Parcel,
    place: &PeerUrl,
    ring: &Keyring,
    own: &AgentId,
    keypair: &Keypair,
    now: Timestamp,
) -> Result<Opened, (String, Option<AgentId>, String)> {
    let entry = |from: &AgentId, strength, kind: String, payload, id: &MessageId| InboxEntry {
        id: Some(id.to_string()),
        place: Some(place.to_string()),
        ..InboxEntry::new(now, from.clone(), strength, kind, payload)
    };
    match parcel {
        Parcel::Unreadable { id, from, reason } => Err((id, from, reason)),
        Parcel::V1 {
            id,
            from,
            kind,
            envelope,
        } => match envelope.open(keypair) {
            Err(error) => Err((id, Some(from), error.to_string())),
            Ok(payload) => {
                // It has no name of its own, and the relay's is good at this Place only.
                let message_id = named(place, &id);
                let seen = Seen {
                    sent_at: Timestamp::from_secs(now.as_secs()),
                    from: from.clone(),
                    message_id: message_id.clone(),
                };
                Ok(Opened {
                    relay_id: id,
                    entry: entry(&from, Strength::Introduced, kind, payload, &message_id),
                    arriving: Arriving {
                        seen,
                        place: place.to_string(),
                        key_id: None,
                    },
                })
            }
        },
        Parcel::V2 {
            id,
            envelope,
            sender,
        } => {
            let from = envelope.from().clone();
            let Some(secret) = ring.secret(envelope.key_id()) else {
                let reason = "it was sealed to a prekey whose secret was erased";
                return Err((id, Some(from), reason.to_owned()));
            };
            match envelope.open(own, secret, &sender) {
                Err(error) => Err((id, Some(from), error.to_string())),
                Ok(draft) => {
                    let payload = json::parse(draft.body.as_bytes());
                    let payload = payload.unwrap_or_else(|_| Value::from(draft.body.as_str()));
                    let kind = draft.message_type.to_string();
                    Ok(Opened {
                        relay_id: id,
                        entry: entry(&from, Strength::Proven, kind, payload, &draft.message_id),
                        arriving: Arriving {
                            seen: draft.seen(),
                            place: place.to_string(),
                            key_id: Some(envelope.key_id().clone()),
                        },
                    })
                }
            }
        }
    }
}

/// A name for a message that has none but the relay's.
#[expect(clippy::expect_used, reason = "32 hex digits are a message id")]
fn named(place: &PeerUrl, relay_id: &str) -> MessageId {
    let hash = ContentHash::of(format!("{place}\n{relay_id}")).to_hex();
    let short: String = hash.chars().take(32).collect();
    short.parse().expect("hex is a message id")
}

/// Notes what could not be opened.
fn note(
    notes: &mut Vec<Unopened>,
    place: &PeerUrl,
    from: Option<AgentId>,
    reason: String,
    now: Timestamp,
) {
    let place = place.to_string();
    tracing::warn!(place.url = %place, reason, "a sealed message could not be opened");
    let of_sender = notes
        .iter()
        .filter(|note| note.place == place && note.from == from);
    let many = of_sender.count() >= NOTES_OF_SENDER_MAX;
    let same = |note: &&mut Unopened| {
        note.place == place && note.from == from && (many || note.reason == reason)
    };
    if let Some(known) = notes.iter_mut().rev().find(same) {
        known.count = known.count.saturating_add(1);
        known.last = now;
        known.told = false;
        return;
    }
    if notes.len() >= NOTES_MAX {
        notes.remove(0);
    }
    notes.push(Unopened {
        place,
        from,
        reason,
        first: now,
        last: now,
        count: 1,
        told: false,
    });
}

#[cfg(test)]
mod tests;
