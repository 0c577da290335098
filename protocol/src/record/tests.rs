use std::sync::LazyLock;

use proptest::prelude::*;

use super::ask::{Query, RecordsAsked, RecordsTold};
use super::book::{Fingerprint, Summary};
use super::*;

static IDENTITY: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());
static NODE: LazyLock<PeerKey> = LazyLock::new(|| PeerKey::generate().unwrap());

const HOUR: Duration = Duration::from_secs(3600);
/// A record that must be read for as long as this version is spoken.
const VECTOR: &str = include_str!("../../tests/fixtures/record-1.json");

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn announcement() -> Announcement {
    Announcement {
        name: "Ada".to_owned(),
        sequence: 7,
        issued_at: now(),
        expires_at: now().plus(HOUR),
        scope: Scope::World,
        addresses: vec!["/ip4/192.0.2.7/tcp/4001".to_owned()],
        url: None,
        offers: vec![Offer {
            kind: OfferKind::Skill,
            name: "tea".to_owned(),
            content_hash: ContentHash::of("tea"),
            tags: vec!["drinks".to_owned()],
        }],
        place: None,
        ledger: None,
    }
}

fn signed(announcement: Announcement) -> Record {
    Record::sign(announcement, &IDENTITY, &NODE).unwrap()
}

#[test]
fn a_record_is_read_as_it_was_signed() {
    let record = signed(announcement());
    let read = Record::read(&record.to_bytes(), now()).unwrap();
    assert_eq!(read, record);
    assert_eq!(read.id(), &IDENTITY.public().agent_id());
    assert_eq!(read.peer_key(), NODE.public());
    assert_eq!(read.to_bytes(), record.to_bytes());
}

#[test]
fn the_record_of_this_version_is_read() {
    let value: Value = serde_json::from_str(VECTOR).unwrap();
    let bytes = json::canonical(&value["record"]).into_bytes();
    let record = Record::read(&bytes, now()).unwrap();
    assert_eq!(record.id().as_str(), value["id"]);
    assert_eq!(json!(record.peer_key()), value["peer_key"]);
    assert_eq!(record.0.text(), value["signed_text"]);
    let seed = hex::decode(value["seed"].as_str().unwrap()).unwrap();
    let node = PeerKey::from_seed(seed.try_into().unwrap()).unwrap();
    assert_eq!(node.public(), record.peer_key());
    let again = STANDARD.encode(node.pair.sign(record.0.text().as_bytes()));
    assert_eq!(again, value["record"]["peer_signature"]);
}

#[test]
fn no_member_can_be_changed() {
    let value: Value = serde_json::from_slice(&signed(announcement()).to_bytes()).unwrap();
    let other = Keypair::generate().unwrap();
    for (member, changed) in [
        ("purpose", json!("kairos-record-v2")),
        ("id", json!("somebody")),
        ("name", json!("Eve")),
        ("identity_key", json!(other.public())),
        ("peer_key", json!(PeerKey::generate().unwrap().public())),
        ("sequence", json!(8)),
        ("issued_at", json!(now().minus(HOUR).wire())),
        ("expires_at", json!(now().plus(HOUR + HOUR).wire())),
        ("scope", json!("lan")),
        ("addresses", json!(["/ip4/192.0.2.8/tcp/4001"])),
        ("url", json!("http://192.0.2.8")),
        ("offers", json!([])),
        ("identity_signature", json!("AAAA")),
        ("peer_signature", json!("AAAA")),
        ("more", json!(1)),
    ] {
        let mut value = value.clone();
        value[member] = changed;
        let read = Record::read(value.to_string().as_bytes(), now());
        assert!(read.is_err(), "{member}");
    }
}

#[test]
fn neither_key_can_be_claimed_without_the_other() {
    let theirs = signed(announcement());
    let (eve, eves_node) = (Keypair::generate().unwrap(), PeerKey::generate().unwrap());
    // Eve names the node of another agent, or the identity of one, and signs with what she has.
    for (identity_key, peer_key) in [
        (eve.public(), theirs.peer_key()),
        (IDENTITY.public(), eves_node.public()),
    ] {
        let mut forged = theirs.0.clone();
        forged.id = identity_key.agent_id();
        forged.identity_key = identity_key.clone();
        forged.peer_key = peer_key;
        let text = forged.text();
        forged.identity_signature = eve.sign(text.as_bytes()).unwrap();
        forged.peer_signature = STANDARD.encode(eves_node.pair.sign(text.as_bytes()));
        let read = Record::read(&Record(forged).to_bytes(), now());
        assert!(
            matches!(read, Err(RecordError::Peer | RecordError::Identity(_))),
            "{read:?}"
        );
    }
}

#[test]
fn a_record_holds_only_in_its_time() {
    let bytes = signed(announcement()).to_bytes();
    let at = |time| Record::read(&bytes, time);
    assert!(at(now().minus(SKEW)).is_ok());
    let early = at(now().minus(SKEW + Duration::from_secs(1)));
    assert!(matches!(early, Err(RecordError::Future { .. })));
    let late = at(now().plus(HOUR));
    assert!(matches!(late, Err(RecordError::Over { .. })));
    let lasting = Announcement {
        expires_at: now().plus(LIFETIME_MAX + Duration::from_secs(1)),
        ..announcement()
    };
    let lasting = Record::read(&signed(lasting).to_bytes(), now());
    assert!(matches!(lasting, Err(RecordError::TooLasting)));
}

#[test]
fn what_is_too_much_is_neither_signed_nor_read() {
    let offer = announcement().offers.remove(0);
    let tagged = Offer {
        tags: vec![String::new(); TAGS_MAX + 1],
        ..offer.clone()
    };
    let long = |text: String| vec![text; ADDRESSES_MAX];
    for wrong in [
        Announcement {
            name: "x".repeat(NAME_MAX + 1),
            ..announcement()
        },
        Announcement {
            name: "a\u{1b}".to_owned(),
            ..announcement()
        },
        Announcement {
            addresses: vec![String::new(); ADDRESSES_MAX + 1],
            ..announcement()
        },
        Announcement {
            addresses: long("x".repeat(ADDRESS_MAX)),
            ..announcement()
        },
        Announcement {
            url: Some("x".repeat(ADDRESS_MAX + 1)),
            ..announcement()
        },
        Announcement {
            offers: vec![offer; OFFERS_MAX + 1],
            ..announcement()
        },
        Announcement {
            offers: vec![tagged],
            ..announcement()
        },
    ] {
        let refused = Record::sign(wrong, &IDENTITY, &NODE);
        assert!(
            matches!(refused, Err(RecordError::Bound(_) | RecordError::TooLong)),
            "{refused:?}"
        );
    }
    let long = vec![b' '; RECORD_MAX + 1];
    assert!(matches!(
        Record::read(&long, now()),
        Err(RecordError::TooLong)
    ));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Record::read(&bytes, now()).is_err());
    }

    #[test]
    fn a_changed_byte_never_verifies(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| signed(announcement()).to_bytes());
        let mut bytes = BYTES.clone();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        // White space between tokens is the one change that says the same.
        if let Ok(read) = Record::read(&bytes, now()) {
            prop_assert_eq!(read.to_bytes(), BYTES.clone());
        }
    }

    #[test]
    fn what_is_signed_is_read_again(
        name in "[a-zA-Z0-9 é]{0,20}",
        sequence in any::<u64>(),
        lasts in 1_u64..86_400,
        addresses in prop::collection::vec("/[a-z0-9/.]{1,40}", 0..ADDRESSES_MAX),
    ) {
        let expires_at = now().plus(Duration::from_secs(lasts));
        let told = Announcement { name, sequence, expires_at, addresses, ..announcement() };
        let record = signed(told);
        prop_assert_eq!(Record::read(&record.to_bytes(), now()).unwrap(), record);
    }
}

#[test]
fn what_is_asked_is_read_as_it_was_written() {
    let sets = vec![("a3".parse().unwrap(), Fingerprint::empty())];
    for asked in [
        RecordsAsked::Own(true),
        RecordsAsked::Agent("a1b2".parse().unwrap()),
        RecordsAsked::Sets(sets),
        RecordsAsked::Agents(vec!["a1b2".parse().unwrap()]),
        RecordsAsked::Find(Query::Tag("drinks".to_owned())),
        RecordsAsked::Find(Query::Content(ContentHash::of("tea"))),
    ] {
        assert_eq!(RecordsAsked::read(&asked.to_bytes()), Some(asked));
    }
    let many = json!({"agents": vec!["a1b2"; ask::ASKED_MAX + 1]}).to_string();
    let long = json!({"find": {"tag": "x".repeat(NAME_MAX + 1)}}).to_string();
    for wrong in [
        "",
        "{}",
        "[]",
        r#"{"own":false}"#,
        r#"{"agent":1}"#,
        r#"{"sets":[["A",""]]}"#,
        r#"{"own":true,"agent":"a"}"#,
        &many,
        &long,
    ] {
        assert_eq!(RecordsAsked::read(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn what_is_told_is_read_as_it_was_written() {
    let record = signed(announcement());
    for told in [
        RecordsTold::one(None),
        RecordsTold::one(Some(&record)),
        RecordsTold::several([&record, &record].into_iter()),
        RecordsTold::Sets(vec![
            None,
            Some(Summary::List(vec![(record.id().clone(), 7)])),
            Some(Summary::Parts(vec![Fingerprint::empty(); book::PARTS])),
        ]),
    ] {
        assert_eq!(RecordsTold::read(&told.to_bytes()).unwrap(), told);
    }
    let mut forged = record.to_value();
    forged["name"] = json!("Eve");
    let (records, bad) = RecordsTold::Records(vec![forged, record.to_value()]).records(now());
    assert_eq!((records, bad), (vec![record], 1));
    let few = json!({"sets": [{"parts": [String::from(Fingerprint::empty())]}]}).to_string();
    let long = " ".repeat(ask::ANSWER_MAX + 1);
    for wrong in ["", "{}", r#"{"records":1}"#, &few, &long] {
        assert!(RecordsTold::read(wrong.as_bytes()).is_err(), "{wrong:.40}");
    }
}

#[test]
fn a_search_finds_by_each_member_and_by_no_other() {
    let plain = signed(announcement());
    let place = signed(Announcement {
        place: Some("Tea house".to_owned()),
        ledger: Some(json!({"checkpoint": "c", "log": {}})),
        ..announcement()
    });
    let read = Record::read(&place.to_bytes(), now()).unwrap();
    assert_eq!(
        (read.place(), read.ledger()),
        (place.place(), place.ledger())
    );
    let asked = |text: &str| text.to_owned();
    for (query, matches) in [
        (Query::Place(asked("")), [false, true]),
        (Query::Place(asked("HOUSE")), [false, true]),
        (Query::Place(asked("inn")), [false, false]),
        (Query::Offer(asked("Tea")), [true, true]),
        (Query::Offer(asked("te")), [false, false]),
        (Query::Tag(asked("DRINKS")), [true, true]),
        (Query::Content(ContentHash::of("tea")), [true, true]),
        (Query::Content(ContentHash::of("cha")), [false, false]),
    ] {
        assert_eq!(
            [&plain, &place].map(|record| query.matches(record)),
            matches,
            "{query:?}"
        );
    }
}
