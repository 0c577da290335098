mod model;
mod prekeys;

use std::collections::HashSet;

use super::audit::{Anonymiser, AuditEntry, AuditFilter};
use super::message::RELAY_ID_MAX;
use super::policy::{Limit, Refusal, RelayPolicy};
use super::store::conformance::{On, agent, at, given, letter, prekey, sealed, texts};
use super::store::memory::MemoryStore;
use super::store::{Scope, change, look};
use super::*;

fn relay(change: impl FnOnce(&mut RelayPolicy)) -> (Relay, MemoryStore) {
    let mut policy = RelayPolicy::default();
    change(&mut policy);
    (Relay::new(policy), MemoryStore::default())
}

#[test]
fn a_repetition_gets_the_same_answer_and_makes_no_second_copy_also_after_delivery() {
    let (relay, store) = relay(|_| ());
    let on = On(&relay, &store);
    let first = on.send(&letter("a", "b", "id", "x"), 0).unwrap();
    let again = |secs| on.send(&letter("a", "b", "id", "x"), secs).unwrap();
    let same = Sent {
        repeated: true,
        ..first.clone()
    };
    assert_eq!(again(5), same);
    assert_eq!(on.receive("b", 0, 10, 5).pending, 1);
    assert_eq!(on.ack("b", &["id"], 6), ["id"]);
    assert_eq!(again(3_599), same);
    assert_eq!(on.receive("b", 0, 10, 3_599).pending, 0);
    let later = again(3_600);
    assert!(!later.repeated && later.seq > first.seq);
    assert_eq!(on.tally(Scope::Remembered), (1, 0));
}

#[test]
fn an_id_stands_for_one_message_of_its_sender() {
    let (relay, store) = relay(|_| ());
    let on = On(&relay, &store);
    on.send(&letter("a", "b", "id", "x"), 0).unwrap();
    let mut kind = letter("a", "b", "id", "x");
    kind.message_type = "other".parse().unwrap();
    for other in [
        letter("a", "b", "id", "y"),
        letter("a", "c", "id", "x"),
        kind,
    ] {
        let id = "id".parse().unwrap();
        assert_eq!(on.send(&other, 1), Err(Refusal::Conflict { id }));
    }
    // Or an acknowledgement would take the one for the other.
    let id = "id".parse().unwrap();
    assert_eq!(
        on.send(&letter("z", "b", "id", "x"), 1),
        Err(Refusal::IdTaken { id })
    );
    on.send(&letter("z", "c", "id", "x"), 1).unwrap();
    on.ack("b", &["id"], 2);
    on.send(&letter("y", "b", "id", "x"), 3).unwrap();
}

#[test]
fn a_message_without_an_id_gets_one_and_is_not_remembered() {
    let (relay, store) = relay(|_| ());
    let on = On(&relay, &store);
    let mut message = letter("a", "b", "-", "x");
    message.id = MessageId::Random([1; 8]);
    let sent = on.send(&message, 0).unwrap();
    assert_eq!(sent.id.as_str(), "relay_0101010101010101");
    assert_eq!(on.tally(Scope::Remembered), (0, 0));
}

#[test]
fn a_box_is_read_in_pages_bounded_in_messages_and_in_bytes() {
    let (relay, store) = relay(|policy| {
        policy.page_messages = 3;
        policy.page_bytes = 5;
    });
    let on = On(&relay, &store);
    for (n, text) in ["1", "2", "3", "4", "five5", "sixsix", "7"]
        .iter()
        .enumerate()
    {
        on.send(&letter(&n.to_string(), "b", &n.to_string(), text), 0)
            .unwrap();
    }
    let mut pages = Vec::new();
    let mut after = Some(0);
    while let Some(cursor) = after {
        let page = on.receive("b", cursor, 1_000, 1);
        assert_eq!(page.pending, 7);
        pages.push(texts(&page).join(" "));
        after = page.next;
    }
    assert_eq!(pages, ["1 2 3", "4", "five5", "sixsix", "7"]);
    assert_eq!(texts(&on.receive("b", 0, 2, 1)), ["1", "2"]);
}

#[test]
fn reading_keeps_and_acknowledging_removes() {
    let (relay, store) = relay(|_| ());
    let on = On(&relay, &store);
    for id in ["1", "2", "3"] {
        on.send(&letter("a", "b", id, id), 0).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(texts(&on.receive("b", 0, 10, 1)), ["1", "2", "3"]);
    }
    assert_eq!(on.ack("c", &["1"], 1), [] as [&str; 0], "another's box");
    assert_eq!(on.ack("b", &["2", "2", "x"], 1), ["2"]);
    assert_eq!(texts(&on.remove("b", 1, 1)), ["1"]);
    assert_eq!(texts(&on.receive("b", 0, 10, 1)), ["3"]);
    assert_eq!(
        on.actions(),
        ["enqueue", "enqueue", "enqueue", "ack", "dequeue"]
    );
    let many = vec!["x".parse().unwrap(); 101];
    let refused = change(&store, |tx| relay.ack(tx, &agent("b"), many, at(1)));
    assert!(matches!(
        refused,
        Err(RelayError::Refused(Refusal::TooMany { count: 101, .. }))
    ));
}

#[test]
fn what_is_over_is_invisible_before_it_is_swept_and_swept_in_steps() {
    let (relay, store) = relay(|_| ());
    let on = On(&relay, &store);
    for id in ["1", "2", "3"] {
        on.send(&letter("a", "b", id, id), 0).unwrap();
    }
    let status = |secs| look(&store, |read| relay.status(read, &agent("b"), at(secs))).unwrap();
    assert_eq!((status(3_599).count, status(3_600).count), (3, 0));
    assert_eq!(status(3_600).oldest_at, None);
    assert_eq!(on.receive("b", 0, 10, 3_600).messages, []);
    assert_eq!(on.ack("b", &["1"], 3_600), [] as [&str; 0]);
    assert_eq!(on.tally(Scope::Box(&agent("b"))), (3, 3));
    assert_eq!(on.expire(3_599, 9), (0, 0, 0, false));
    assert_eq!(on.expire(3_600, 2), (2, 2, 0, true));
    assert_eq!(on.expire(3_600, 2), (1, 1, 0, false));
    assert_eq!(on.tally(Scope::Box(&agent("b"))), (0, 0));
    assert_eq!(on.actions()[3..], ["expired"; 3]);
}

#[test]
fn a_full_box_refuses_says_what_and_when_and_drops_nobodys_mail() {
    let (relay, store) = relay(|policy| {
        policy.box_messages = 3;
        policy.sender_in_box_messages = 2;
    });
    let on = On(&relay, &store);
    let full = |limit, most, retry| {
        Err(Refusal::Full {
            limit,
            most,
            retry_at: at(retry),
        })
    };
    on.send(&letter("a", "b", "1", "x"), 0).unwrap();
    on.send(&letter("flood", "b", "2", "x"), 1).unwrap();
    on.send(&letter("flood", "b", "3", "x"), 2).unwrap();
    let refused = on.send(&letter("flood", "b", "4", "x"), 3);
    assert_eq!(refused, full(Limit::SenderInBox, 2, 3_601));
    assert_eq!(
        on.send(&letter("c", "b", "5", "x"), 3),
        full(Limit::Box, 3, 3_600)
    );
    assert_eq!(on.receive("b", 0, 10, 3).pending, 3);
    assert_eq!(
        on.tally(Scope::Remembered),
        (3, 0),
        "what is refused is not remembered"
    );
    // What is over makes room, swept or not.
    on.send(&letter("c", "b", "5", "x"), 3_600).unwrap();
}

#[test]
fn every_bound_of_a_place_has_its_name() {
    let first = letter("a", "b", "1", "xxx");
    let second = letter("a", "c", "2", "xxx");
    let mut stranger = second.clone();
    stranger.known = false;
    type Case<'a> = (fn(&mut RelayPolicy), Limit, &'a Submission);
    let cases: [Case<'_>; 8] = [
        (|p| p.sender_messages = 1, Limit::SenderMessages, &second),
        (|p| p.sender_bytes = 5, Limit::SenderBytes, &second),
        (|p| p.place_messages = 1, Limit::PlaceMessages, &second),
        (|p| p.place_bytes = 5, Limit::PlaceBytes, &second),
        (
            |p| p.stranger_messages = 0,
            Limit::StrangerMessages,
            &stranger,
        ),
        (|p| p.stranger_bytes = 2, Limit::StrangerBytes, &stranger),
        (
            |p| p.sender_remembered = 1,
            Limit::SenderRemembered,
            &second,
        ),
        (|p| p.place_remembered = 1, Limit::PlaceRemembered, &second),
    ];
    for (bound, expected, message) in cases {
        let (relay, store) = relay(bound);
        let on = On(&relay, &store);
        on.send(&first, 0).unwrap();
        match on.send(message, 1) {
            Err(Refusal::Full { limit, .. }) => assert_eq!(limit, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
        assert_eq!(on.tally(Scope::Place), (1, 3));
    }
    let (relay, store) = relay(|policy| policy.blob_bytes = 2);
    let large = On(&relay, &store).send(&first, 0);
    assert_eq!(large, Err(Refusal::TooLarge { size: 3, limit: 2 }));
}

#[test]
fn an_agent_that_is_forgotten_leaves_its_box_and_keys_and_no_trace_in_the_counts() {
    let (relay, store) = relay(|_| ());
    let on = On(&relay, &store);
    on.send(&letter("a", "b", "1", "x"), 0).unwrap();
    on.send(&letter("b", "a", "2", "x"), 0).unwrap();
    on.publish("b", &["k"]).unwrap();
    let more = change(&store, |tx| Ok(relay.forget(tx, &agent("b"), at(1))?)).unwrap();
    assert!(!more);
    assert_eq!(on.receive("b", 0, 10, 1).pending, 0);
    assert_eq!(on.receive("a", 0, 10, 1).pending, 1, "what it sent stays");
    assert_eq!(
        (on.tally(Scope::Place), on.tally(Scope::Boxes)),
        ((1, 1), (1, 0))
    );
    assert_eq!(
        look(&store, |read| relay.published(read, &agent("b"))).unwrap(),
        None
    );
    assert_eq!(on.actions(), ["enqueue", "enqueue", "forgotten"]);
}

#[test]
fn stats_tell_what_waits() {
    let (relay, store) = relay(|_| ());
    let on = On(&relay, &store);
    let stats = || look(&store, |read| relay.stats(read)).unwrap();
    assert_eq!(stats(), Stats::default());
    on.send(&letter("a", "b", "1", "xxx"), 5).unwrap();
    on.send(&letter("a", "b", "2", "xxxxx"), 6).unwrap();
    on.send(&letter("a", "c", "3", "x"), 7).unwrap();
    on.ack("b", &["1"], 8);
    let Stats {
        waiting,
        boxes,
        oldest_at,
        largest,
    } = stats();
    assert_eq!((waiting.count, waiting.bytes, boxes, largest), (2, 6, 2, 5));
    assert_eq!(oldest_at, Some(at(6)));
    assert_eq!(on.tally(Scope::Relayed), (3, 9));
}

#[test]
fn prekeys_are_bounded_and_an_id_stands_for_one_key() {
    let (relay, store) = relay(|policy| {
        policy.one_time_prekeys = 2;
        policy.prekey_agents = 1;
        policy.prekey_requesters = 1;
    });
    let on = On(&relay, &store);
    let many = on.publish("b", &["1", "2", "3"]);
    assert!(matches!(
        many,
        Err(Refusal::TooMany {
            count: 3,
            limit: 2,
            ..
        })
    ));
    assert_eq!(
        on.publish("b", &["1", "1"]).unwrap().one_time,
        1,
        "told twice"
    );
    let full = on.publish("b", &["2", "3"]);
    assert_eq!(full, Err(Refusal::PrekeysFull { limit: 2 }));
    let full = on.publish("c", &[]);
    assert_eq!(full, Err(Refusal::PrekeyAgentsFull { limit: 1 }));

    let other = prekey::Prekey::new(prekey("1").id().clone(), b"other".to_vec()).unwrap();
    let id = other.id().clone();
    let conflict = change(&store, |tx| {
        relay.publish(tx, &agent("b"), &prekey("long"), vec![other])
    });
    assert!(
        matches!(conflict, Err(RelayError::Refused(Refusal::PrekeyConflict { id: i })) if i == id)
    );
    on.publish("b", &["2"]).unwrap();
    assert_eq!(on.take("x", "b", 0).as_deref(), Some("1"));
    assert_eq!(
        on.take("y", "b", 0),
        None,
        "one requester is counted at a time"
    );
    let nobody = change(&store, |tx| {
        Ok(relay.take(tx, &agent("x"), &agent("z"), at(0))?)
    });
    assert_eq!(nobody.unwrap(), None);
}

#[test]
fn the_audit_keeps_the_newest_and_is_read_in_pages() {
    let (relay, store) = relay(|policy| policy.audit_entries = 5);
    let on = On(&relay, &store);
    for n in 0..8 {
        on.send(&letter("a", &n.to_string(), &n.to_string(), "x"), n)
            .unwrap();
    }
    on.send(&letter("other", "b", "8", "x"), 8).unwrap();
    let page = |before, filter: &AuditFilter, limit| {
        let page = look(&store, |read| relay.audit(read, before, filter, limit)).unwrap();
        let ids = page.entries.iter().map(|entry| entry.relay_id.to_string());
        (ids.collect::<String>(), page.next)
    };
    let all = AuditFilter::default();
    assert_eq!(page(None, &all, 100), ("87654".to_owned(), None));
    let (newest, next) = page(None, &all, 2);
    assert_eq!(newest, "87");
    assert_eq!(page(next, &all, 2).0, "65");
    let recent = AuditFilter {
        since: Some(at(6)),
        ..AuditFilter::default()
    };
    assert_eq!(page(None, &recent, 100), ("876".to_owned(), None));
    // What is not asked for does not count against the limit.
    let of_a = AuditFilter {
        participant: Some(agent("a")),
        ..AuditFilter::default()
    };
    assert_eq!(page(None, &of_a, 2).0, "76");
}

#[test]
fn who_asks_for_no_messages_gets_none_and_loses_none() {
    let (relay, store) = relay(|_| ());
    let on = On(&relay, &store);
    on.send(&letter("a", "b", "1", "x"), 0).unwrap();
    let page = change(&store, |tx| {
        Ok(relay.receive_and_remove(tx, &agent("b"), 0, at(1))?)
    });
    let page = page.unwrap();
    assert_eq!((page.messages.len(), page.pending), (0, 1));
}

#[test]
fn the_audit_counts_hours_and_hides_names_where_asked() {
    let salted = || Some(Anonymiser::new("salt".to_owned()));
    let (relay, store) = relay(|policy| policy.anonymiser = salted());
    let on = On(&relay, &store);
    let hour = at(0).as_secs() % 3_600;
    on.send(&letter("a", "b", "1", "xx"), -hour).unwrap();
    on.send(&letter("a", "c", "2", "xxx"), 1 - hour).unwrap();
    on.send(&letter("a", "b", "3", "x"), 3_600 - hour).unwrap();
    on.ack("b", &["1"], 3_601 - hour);
    let hours = |hours, secs| {
        let stats = look(&store, |read| relay.audit_hours(read, hours, at(secs))).unwrap();
        let stats = stats.into_iter();
        let line = |(begin, s): (Timestamp, audit::HourStats)| {
            (
                begin.as_secs() - at(-hour).as_secs(),
                s.relays,
                s.bytes,
                s.agents,
            )
        };
        stats.map(line).collect::<Vec<_>>()
    };
    assert_eq!(hours(24, 4_000 - hour), [(0, 2, 5, 3), (3_600, 1, 1, 2)]);
    assert_eq!(hours(1, 4_000 - hour), [(3_600, 1, 1, 2)]);
    let page = look(&store, |read| {
        relay.audit(read, None, &AuditFilter::default(), 10)
    })
    .unwrap();
    let names: HashSet<_> = page.entries.iter().flat_map(|e| &e.participants).collect();
    let hidden = |name: &str| {
        let digits = kairos_protocol::hash::ContentHash::of(format!("{name}:salt")).to_hex();
        format!("anon_{}", &digits[..12])
    };
    let names: HashSet<_> = names
        .into_iter()
        .map(|name| name.as_str().to_owned())
        .collect();
    assert_eq!(names, ["a", "b", "c"].map(hidden).into());
    assert!(!format!("{:?}", relay.policy()).contains("salt\""));
}

/// An audit entry holds names, times, sizes and hashes, all of them short.
#[test]
fn no_audit_entry_tells_content() {
    let (relay, store) = relay(|_| ());
    let on = On(&relay, &store);
    let secret = "the sealed text";
    let mut message = letter("a", "b", "-", secret);
    message.id = given(&"i".repeat(RELAY_ID_MAX));
    message.sealed = sealed(secret);
    on.send(&message, 0).unwrap();
    on.remove("b", 1, 1);
    let page = look(&store, |read| {
        relay.audit(read, None, &AuditFilter::default(), 10)
    })
    .unwrap();
    for entry in page.entries {
        assert!(!format!("{entry:?}").contains(secret));
        // A new member of an entry must be thought about here.
        let AuditEntry {
            at: _,
            action: _,
            relay_id: _,
            participants: _,
            message_type: _,
            size,
            hash,
        } = entry;
        assert_eq!((size, hash), (secret.len() as u64, message.sealed.hash()));
    }
}

/// Withholds what these send.
#[derive(Debug)]
struct Those(std::sync::Mutex<HashSet<AgentId>>);

impl Withholding for Those {
    fn any(&self) -> bool {
        !self.0.lock().unwrap().is_empty()
    }

    fn of(&self, sender: &AgentId) -> bool {
        self.0.lock().unwrap().contains(sender)
    }
}

#[test]
fn mail_that_is_withheld_waits_unseen_and_is_handed_out_once_it_is_not() {
    let (relay, store) = relay(|policy| policy.sender_in_box_messages = 100);
    let those = Arc::new(Those(HashSet::from([agent("bad")]).into()));
    let relay = relay.withholding(Arc::clone(&those) as Arc<dyn Withholding>);
    let on = On(&relay, &store);
    for n in 0..12 {
        let from = if n % 4 == 3 { "a" } else { "bad" };
        on.send(&letter(from, "b", &format!("m{n}"), "x"), n)
            .unwrap();
    }
    let ids = |page: &Page| {
        let messages = page.messages.iter();
        messages
            .map(|message| message.kept.header.id.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    let first = on.receive("b", 0, 2, 20);
    assert_eq!(
        (ids(&first), first.pending),
        (vec!["m3".into(), "m7".into()], 3)
    );
    let second = on.receive("b", first.next.unwrap(), 2, 20);
    assert_eq!((ids(&second), second.next), (vec!["m11".to_owned()], None));
    assert_eq!(on.receive("b", 0, 0, 20).pending, 3);
    let waiting = look(&store, |read| {
        relay.waiting_of(read, &[agent("bad"), agent("a")])
    });
    assert_eq!(waiting.unwrap().count, 12);
    let status = look(&store, |read| relay.status(read, &agent("b"), at(20))).unwrap();
    assert_eq!((status.count, status.oldest_at), (3, Some(at(3))));
    // Reading for good takes no more than was read.
    let read = change(&store, |tx| {
        Ok(relay.receive_and_remove(tx, &agent("b"), 10, at(21))?)
    });
    assert_eq!(ids(&read.unwrap()), ["m3", "m7", "m11"]);
    those.0.lock().unwrap().clear();
    assert_eq!(on.receive("b", 0, 100, 22).messages.len(), 9);
}
