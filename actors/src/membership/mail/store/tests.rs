use std::sync::LazyLock;
use std::time::Duration;

use kairos_protocol::id::MessageType;
use kairos_protocol::relay::keyring::Keyring;
use kairos_protocol::relay::prekey::{PrekeyBundle, Recipient};
use kairos_protocol::relay::version_2::Draft;
use kairos_protocol::relay::{Blob, Envelope};
use kairos_protocol::wire::place::Published;

use super::*;

static OURS: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());
static THEIRS: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());
const PLACE: &str = "http://localhost:1";

struct Home {
    folder: tempfile::TempDir,
    store: MailStore,
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000).plus(Duration::from_secs(secs))
}

fn place() -> PeerUrl {
    PLACE.parse().unwrap()
}

impl Home {
    fn new() -> Self {
        let limits = InboxLimits {
            total: 10,
            per_peer: 3,
        };
        let folder = tempfile::tempdir().unwrap();
        let inbox = folder.path().join("inbox.jsonl");
        let store = MailStore::new(&folder.path().join("mail"), &inbox, limits);
        Self { folder, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("mail").join(name)
    }

    fn prekeys(&self) -> Fresh {
        let own = OURS.public().agent_id();
        let make =
            |ring: &mut Keyring| ring.replenish(&Published::default(), 5, &own, &OURS, at(0));
        self.store
            .replenish(&place(), make, at(0))
            .unwrap()
            .unwrap()
    }

    fn take(&self, parcels: Vec<Parcel>) -> Taken {
        let own = OURS.public().agent_id();
        self.store
            .take_in(&place(), parcels, &own, &OURS, at(10))
            .unwrap()
    }

    fn inbox(&self) -> Vec<InboxEntry> {
        Inbox::open(&self.folder.path().join("inbox.jsonl"), self.store.limits)
            .unwrap()
            .entries()
            .unwrap()
    }

    fn secrets(&self) -> usize {
        let rings: Rings = self.store.load(PREKEYS).unwrap();
        rings.values().map(Keyring::len).sum()
    }
}

fn draft(body: &str) -> Draft {
    let kind: MessageType = "message".parse().unwrap();
    Draft::new(THEIRS.public().agent_id(), kind, body.to_owned(), at(0)).unwrap()
}

fn to(fresh: &Fresh, one_time: usize) -> Recipient {
    let bundle = PrekeyBundle {
        long_lived: fresh.long_lived.clone(),
        one_time: fresh.one_time.get(one_time).cloned(),
    };
    let own = OURS.public().agent_id();
    bundle.choose(&own, OURS.public(), at(0)).unwrap()
}

fn sealed(draft: &Draft, recipient: &Recipient) -> Blob {
    version_2::seal(draft, recipient, &THEIRS).unwrap()
}

fn parcel(id: &str, blob: &Blob) -> Parcel {
    let Envelope::V2(envelope) = blob.envelope().unwrap() else {
        panic!("version 2 was sealed");
    };
    Parcel::V2 {
        id: id.to_owned(),
        envelope: Box::new(envelope),
        sender: THEIRS.public().clone(),
    }
}

#[test]
fn a_message_is_kept_once_and_the_secret_that_opened_it_is_erased() {
    let home = Home::new();
    let fresh = home.prekeys();
    assert_eq!(home.secrets(), 6);
    let blob = sealed(&draft("hello"), &to(&fresh, 0));
    let taken = home.take(vec![parcel("r1", &blob), parcel("r2", &blob)]);
    assert_eq!(taken.done, ["r1", "r2"]);
    assert_eq!((taken.counts.kept, taken.counts.repeated), (1, 1));
    assert_eq!(home.secrets(), 5);
    let again = home.take(vec![parcel("r3", &blob)]);
    assert_eq!(
        (again.counts.repeated, again.counts.unopened),
        (1, 0),
        "no secret is needed to say so"
    );
    let [entry]: [InboxEntry; 1] = home.inbox().try_into().unwrap();
    assert_eq!(entry.payload, "hello");
    assert_eq!(
        (entry.strength, entry.place.as_deref()),
        (Strength::Proven, Some(PLACE))
    );
    // Not even when the owner emptied the inbox meanwhile.
    let mut inbox =
        Inbox::open(&home.folder.path().join("inbox.jsonl"), home.store.limits).unwrap();
    inbox.clear().unwrap();
    assert_eq!(home.take(vec![parcel("r4", &blob)]).counts.repeated, 1);
    assert!(home.inbox().is_empty());
}

#[test]
fn the_secrets_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.prekeys();
    let mode = fs::metadata(home.path(PREKEYS))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    home.store.forget(&place()).unwrap();
    assert_eq!(home.secrets(), 0);
}

#[test]
fn what_cannot_be_opened_is_noted_and_stands_in_nobodys_way() {
    let home = Home::new();
    let fresh = home.prekeys();
    let forged = {
        let Parcel::V2 { id, envelope, .. } =
            parcel("forged", &sealed(&draft("x"), &to(&fresh, 0)))
        else {
            panic!("it is of version 2");
        };
        let sender = OURS.public().clone();
        Parcel::V2 {
            id,
            envelope,
            sender,
        }
    };
    let broken = |id: &str| Parcel::Unreadable {
        id: id.to_owned(),
        from: Some("mallory".parse().unwrap()),
        reason: "it is noise".to_owned(),
    };
    let good = parcel("good", &sealed(&draft("y"), &to(&fresh, 1)));
    let taken = home.take(vec![forged, broken("b1"), broken("b2"), good]);
    assert_eq!(taken.done, ["forged", "b1", "b2", "good"]);
    assert_eq!((taken.counts.kept, taken.counts.unopened), (1, 3));
    let read = home.store.read(None, false).unwrap();
    assert_eq!(read.messages.len(), 1);
    let [first, second]: [Unopened; 2] = read.unopened.try_into().unwrap();
    assert!(first.reason.contains("signature"), "{}", first.reason);
    assert_eq!((second.reason.as_str(), second.count), ("it is noise", 2));
    let read = home.store.read(None, false).unwrap();
    assert!(
        read.messages.is_empty() && read.unopened.is_empty(),
        "it is told once"
    );
    let read = home.store.read(Some(PLACE), true).unwrap();
    assert_eq!((read.messages.len(), read.unopened.len()), (1, 2));
    assert_eq!(
        home.store
            .read(Some("http://other"), true)
            .unwrap()
            .messages
            .len(),
        0
    );
}

#[test]
fn a_full_inbox_leaves_the_rest_where_it_is() {
    let home = Home::new();
    let fresh = home.prekeys();
    let mut parcels = Vec::new();
    for n in 0..4 {
        parcels.push(parcel(
            &format!("r{n}"),
            &sealed(&draft("x"), &to(&fresh, n)),
        ));
    }
    let taken = home.take(parcels);
    assert_eq!((taken.counts.kept, taken.counts.left), (3, 1));
    assert_eq!(taken.done.len(), 3);
    assert_eq!(home.secrets(), 3, "the secret of what was left is kept");
}

#[test]
fn an_arrival_that_was_cut_off_is_finished_or_forgotten() {
    let home = Home::new();
    let fresh = home.prekeys();
    let (kept, lost) = (draft("kept"), draft("lost"));
    let arriving: Vec<Arriving> = [(&kept, 0), (&lost, 1)]
        .map(|(draft, n)| Arriving {
            seen: draft.seen(),
            place: PLACE.to_owned(),
            key_id: Some(fresh.one_time[n].key_id.clone()),
        })
        .into();
    home.store.save(ARRIVING, &arriving).unwrap();
    let entry = InboxEntry {
        id: Some(kept.message_id.to_string()),
        ..InboxEntry::new(
            at(0),
            kept.from.clone(),
            Strength::Proven,
            "message".into(),
            "kept".into(),
        )
    };
    let inbox = home.folder.path().join("inbox.jsonl");
    Inbox::open(&inbox, home.store.limits)
        .unwrap()
        .keep(&entry)
        .unwrap();

    home.store.recover().unwrap();
    assert!(!home.path(ARRIVING).exists());
    assert_eq!(home.secrets(), 5);
    // The one is still at the Place, and so is the other: one is new and the other is not.
    let parcels = vec![
        parcel("r1", &sealed(&kept, &to(&fresh, 0))),
        parcel("r2", &sealed(&lost, &to(&fresh, 1))),
    ];
    let taken = home.take(parcels);
    assert_eq!((taken.counts.kept, taken.counts.repeated), (1, 1));
    assert_eq!(home.inbox().len(), 2);
}

#[test]
fn notes_about_one_sender_do_not_drive_out_those_about_others() {
    let mut notes = Vec::new();
    let sender = |name: &str| Some(name.parse().unwrap());
    note(
        &mut notes,
        &place(),
        sender("quiet"),
        "one".to_owned(),
        at(0),
    );
    for n in 0..5 * NOTES_MAX {
        note(&mut notes, &place(), sender("loud"), n.to_string(), at(1));
    }
    assert_eq!(notes.len(), 1 + NOTES_OF_SENDER_MAX);
    assert_eq!(notes[0].reason, "one");
    let loud: u64 = notes[1..].iter().map(|note| note.count).sum();
    assert_eq!(loud, 5 * NOTES_MAX as u64);
}

#[test]
fn the_list_of_taken_messages_is_written_anew_when_little_of_it_matters() {
    let home = Home::new();
    fs::create_dir_all(home.folder.path().join("mail")).unwrap();
    let old: Vec<Seen> = (0..SEEN_MIN + 10)
        .map(|n| Seen {
            sent_at: at(0),
            from: "a".parse().unwrap(),
            message_id: format!("{n:032x}").parse().unwrap(),
        })
        .collect();
    home.store.append_seen(&old).unwrap();
    let later = at(0).plus(kairos_protocol::relay::replay::PAST * 2);
    assert_eq!(home.store.window(at(0)).unwrap().seen().count(), old.len());
    assert_eq!(home.store.window(later).unwrap().seen().count(), 0);
    assert_eq!(fs::read(home.path(SEEN)).unwrap(), b"");
    // Half a line is what a crash leaves.
    home.store.append_seen(&old[..1]).unwrap();
    let mut bytes = fs::read(home.path(SEEN)).unwrap();
    bytes.extend_from_slice(b"{\"sent_at\"");
    fs::write(home.path(SEEN), &bytes).unwrap();
    assert_eq!(home.store.window(at(0)).unwrap().seen().count(), 1);
    home.store.append_seen(&old[1..2]).unwrap();
    assert_eq!(home.store.window(at(0)).unwrap().seen().count(), 2);
}
