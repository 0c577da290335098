use std::sync::LazyLock;

use serde_json::Value;

use super::*;

static OWNER: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());
const HOUR: Duration = Duration::from_hours(1);

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn id() -> AgentId {
    "owner".parse().unwrap()
}

fn prekey(kind: PrekeyKind) -> Prekey {
    let secret = PrekeySecret::generate(kind, now(), HOUR).unwrap();
    secret.publish(&id(), &OWNER).unwrap()
}

fn bundle() -> PrekeyBundle {
    PrekeyBundle {
        long_lived: prekey(PrekeyKind::LongLived),
        one_time: Some(prekey(PrekeyKind::OneTime)),
    }
}

#[test]
fn a_one_time_prekey_is_chosen_while_there_is_a_good_one() {
    let mut bundle = bundle();
    let one_time = bundle.one_time.clone().unwrap();
    let choose = |bundle: &PrekeyBundle| bundle.choose(&id(), OWNER.public(), now());
    assert_eq!(choose(&bundle).unwrap().key_id(), &one_time.key_id);
    bundle.one_time = None;
    let long_lived = bundle.long_lived.key_id.clone();
    assert_eq!(choose(&bundle).unwrap().key_id(), &long_lived);
    let past = now().minus(HOUR * 2);
    let over = PrekeySecret::generate(PrekeyKind::OneTime, past, HOUR).unwrap();
    bundle.one_time = Some(over.publish(&id(), &OWNER).unwrap());
    assert_eq!(choose(&bundle).unwrap().key_id(), &long_lived, "expired");
}

#[test]
fn prekeys_of_the_wrong_kind_are_refused() {
    let good = bundle();
    let one_time = good.one_time.clone().unwrap();
    let swapped = PrekeyBundle {
        long_lived: one_time.clone(),
        one_time: Some(one_time),
    };
    let both = PrekeyBundle {
        one_time: Some(good.long_lived.clone()),
        ..good
    };
    for bundle in [swapped, both] {
        let error = bundle.choose(&id(), OWNER.public(), now());
        assert_eq!(error, Err(PrekeyError::Kind));
    }
}

#[test]
fn a_bad_one_time_prekey_refuses_the_bundle() {
    let mut bundle = bundle();
    let other = Keypair::generate().unwrap();
    let forged = PrekeySecret::generate(PrekeyKind::OneTime, now(), HOUR).unwrap();
    bundle.one_time = Some(forged.publish(&id(), &other).unwrap());
    assert!(matches!(
        bundle.choose(&id(), OWNER.public(), now()),
        Err(PrekeyError::Signature(_))
    ));
}

#[test]
fn every_member_is_bound_by_the_signature() {
    let good = serde_json::to_value(prekey(PrekeyKind::LongLived)).unwrap();
    let other = serde_json::to_value(prekey(PrekeyKind::LongLived)).unwrap();
    let verify = |value: Value| {
        let read = Prekey::deserialize(value).unwrap();
        read.verify(&id(), OWNER.public(), now())
    };
    verify(good.clone()).unwrap();
    for (member, to) in [
        ("agent_id", json!("other")),
        ("kind", json!("one_time")),
        ("key_id", other["key_id"].clone()),
        ("public_key", other["public_key"].clone()),
        ("created", json!("2027-01-15T07:59:59Z")),
        ("expires", json!("2027-01-15T09:00:01Z")),
        ("signature", other["signature"].clone()),
    ] {
        let mut changed = good.clone();
        changed[member] = to;
        assert_ne!(changed, good, "{member}");
        assert!(verify(changed).is_err(), "{member}");
    }
    let mut both = good.clone();
    both["key_id"] = other["key_id"].clone();
    both["public_key"] = other["public_key"].clone();
    assert!(verify(both).is_err(), "another key with its id");
    for (member, to) in [
        ("created", json!("2027-01-15T08:00:00.5Z")),
        ("public_key", json!("AAAA")),
        ("key_id", json!("x")),
        ("more", json!(1)),
    ] {
        let mut changed = good.clone();
        changed[member] = to;
        assert!(Prekey::deserialize(changed).is_err(), "{member}");
    }
}

#[test]
fn a_prekey_is_good_for_its_time_only() {
    let good = prekey(PrekeyKind::LongLived);
    let verify = |at: Timestamp| good.verify(&id(), OWNER.public(), at);
    assert_eq!(verify(now()), Ok(()));
    assert_eq!(verify(now().minus(SKEW)), Ok(()));
    assert!(matches!(
        verify(now().minus(SKEW * 2)),
        Err(PrekeyError::Lifetime { .. })
    ));
    let end = now().plus(HOUR);
    assert_eq!(verify(end), Err(PrekeyError::Expired(end)));
    let asked = PREKEY_LIFETIME_MAX * 2;
    let longest = PrekeySecret::generate(PrekeyKind::LongLived, now(), asked).unwrap();
    assert_eq!(longest.expires(), now().plus(PREKEY_LIFETIME_MAX));
    let mut too_long = longest.publish(&id(), &OWNER).unwrap();
    too_long.expires = too_long.expires.plus(Duration::from_secs(1));
    too_long.signature = OWNER.sign(too_long.text().as_bytes()).unwrap();
    assert!(matches!(
        too_long.verify(&id(), OWNER.public(), now()),
        Err(PrekeyError::Lifetime { .. })
    ));
}

#[test]
fn a_secret_survives_the_disk_and_shows_itself_to_nobody() {
    let secret = PrekeySecret::generate(PrekeyKind::OneTime, now(), HOUR).unwrap();
    let text = serde_json::to_string(&secret).unwrap();
    let read: PrekeySecret = serde_json::from_str(&text).unwrap();
    assert_eq!(read.id().unwrap(), secret.id().unwrap());
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    let written: Value = serde_json::from_str(&text).unwrap();
    let hidden = written["secret"].as_str().unwrap();
    assert_eq!(
        format!("{secret:?}"),
        "PrekeySecret(OneTime until 2027-01-15T09:00:00Z)"
    );
    assert_eq!(hidden.len(), 44);
    for bad in [text.replace(hidden, "AAAA"), text.replace("one_time", "x")] {
        assert!(serde_json::from_str::<PrekeySecret>(&bad).is_err());
    }
}
