//! What every store must do. Each implementation runs these checks in its own tests.

use std::time::Duration;

use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;

use super::{OneTime, RelayStore, Scope, StoreError, change, look};
use crate::relay::audit::AuditFilter;
use crate::relay::message::{BlobHash, Message, Sealed};
use crate::relay::policy::{Limit, Refusal, RelayError, RelayPolicy};
use crate::relay::prekey::{Prekey, Published, USED_MAX};
use crate::relay::{MessageId, Page, Relay, Sent, Submission};

type Store = Box<dyn RelayStore>;

/// A moment, so many seconds after another one.
pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + secs)
}

pub(crate) fn agent(name: &str) -> AgentId {
    name.parse().unwrap()
}

pub(crate) fn sealed(text: &str) -> Sealed {
    Sealed::new(text.to_owned(), BlobHash::of(text)).unwrap()
}

pub(crate) fn given(id: &str) -> MessageId {
    MessageId::Given(id.parse().unwrap())
}

pub(crate) fn letter(from: &str, to: &str, id: &str, text: &str) -> Submission {
    Submission {
        id: given(id),
        from: agent(from),
        to: agent(to),
        known: true,
        message_type: "message".parse().unwrap(),
        sealed: sealed(text),
    }
}

pub(crate) fn prekey(id: &str) -> Prekey {
    Prekey::new(id.parse().unwrap(), format!("key {id}").into_bytes()).unwrap()
}

/// A relay on a store, each call a transaction of its own.
pub(crate) struct On<'a>(pub(crate) &'a Relay, pub(crate) &'a dyn RelayStore);

impl On<'_> {
    pub(crate) fn send(&self, letter: &Submission, secs: i64) -> Result<Sent, Refusal> {
        let sent = change(self.1, |tx| self.0.send(tx, letter, at(secs)));
        sent.map_err(refusal)
    }

    pub(crate) fn receive(&self, to: &str, after: u64, limit: usize, secs: i64) -> Page {
        let to = agent(to);
        look(self.1, |read| {
            self.0.receive(read, &to, after, limit, at(secs))
        })
        .unwrap()
    }

    pub(crate) fn remove(&self, to: &str, limit: usize, secs: i64) -> Page {
        let to = agent(to);
        let page = change(self.1, |tx| {
            Ok(self.0.receive_and_remove(tx, &to, limit, at(secs))?)
        });
        page.unwrap()
    }

    pub(crate) fn ack(&self, to: &str, ids: &[&str], secs: i64) -> Vec<String> {
        let ids = ids.iter().map(|id| id.parse().unwrap()).collect();
        let removed = change(self.1, |tx| self.0.ack(tx, &agent(to), ids, at(secs)));
        removed.unwrap().iter().map(ToString::to_string).collect()
    }

    pub(crate) fn expire(&self, secs: i64, bound: usize) -> (usize, usize, usize, bool) {
        let swept = change(self.1, |tx| Ok(self.0.expire(tx, at(secs), bound)?)).unwrap();
        (swept.messages, swept.receipts, swept.takes, swept.more)
    }

    pub(crate) fn tally(&self, scope: Scope<'_>) -> (u64, u64) {
        let tally = look(self.1, |read| read.tally(scope)).unwrap();
        (tally.count, tally.bytes)
    }

    /// The id of the one-time prekey handed out; nothing if there is only the long-lived one.
    pub(crate) fn take(&self, requester: &str, of: &str, secs: i64) -> Option<String> {
        let (requester, of) = (agent(requester), agent(of));
        let taken = change(self.1, |tx| {
            Ok(self.0.take(tx, &requester, &of, at(secs))?)
        });
        let one_time = taken.unwrap().unwrap().one_time;
        one_time.map(|prekey| prekey.id().to_string())
    }

    pub(crate) fn publish(&self, of: &str, ids: &[&str]) -> Result<Published, Refusal> {
        let keys = ids.iter().map(|id| prekey(id)).collect();
        let published = change(self.1, |tx| {
            self.0.publish(tx, &agent(of), &prekey("long"), keys)
        });
        published.map_err(refusal)
    }

    pub(crate) fn actions(&self) -> Vec<&'static str> {
        let page = look(self.1, |read| {
            self.0.audit(read, None, &AuditFilter::default(), 1_000)
        })
        .unwrap();
        page.entries
            .iter()
            .rev()
            .map(|entry| entry.action.as_str())
            .collect()
    }
}

fn refusal(error: RelayError) -> Refusal {
    match error {
        RelayError::Refused(refusal) => refusal,
        RelayError::Store(error) => panic!("{error:?}"),
    }
}

pub(crate) fn texts(page: &Page) -> Vec<&str> {
    page.messages
        .iter()
        .map(|message| message.sealed.text())
        .collect()
}

/// Everything a message can hold comes back, also when the store is opened anew; numbers go on.
pub(crate) fn check_lifecycle(open: impl Fn() -> Store) {
    let relay = Relay::default();
    let store = open();
    let on = On(&relay, &*store);
    let odd = "quote \" nul \0 newline \n 日本語 😀";
    let mut letter = letter("alice ❤", "bob", "a", odd);
    letter.known = false;
    letter.message_type = "skill/offer 日".parse().unwrap();
    let precise = at(0).plus(Duration::from_nanos(123_456_789));
    let sent = change(&*store, |tx| relay.send(tx, &letter, precise)).unwrap();
    assert_eq!(sent.created_at, at(0).plus(Duration::from_micros(123_456)));
    assert_eq!(sent.expires_at.since(sent.created_at), relay.policy().ttl);

    let again = open();
    let on_again = On(&relay, &*again);
    let page = on_again.receive("bob", 0, 10, 1);
    assert_eq!((page.next, page.pending), (None, 1));
    let [Message { kept, sealed }] = &page.messages[..] else {
        panic!("{page:?}")
    };
    assert_eq!(sealed, &letter.sealed);
    let header = &kept.header;
    assert_eq!((kept.seq, &header.id), (sent.seq, &sent.id));
    assert_eq!((&header.from, &header.to), (&letter.from, &letter.to));
    assert_eq!(header.message_type, letter.message_type);
    assert_eq!(
        (header.hash, header.size),
        (letter.sealed.hash(), odd.len() as u64)
    );
    assert_eq!(
        (header.created_at, header.expires_at),
        (sent.created_at, sent.expires_at)
    );
    assert!(header.stranger);
    assert_eq!(on_again.tally(Scope::Strangers), (1, odd.len() as u64));

    assert_eq!(on.remove("bob", 10, 2), page);
    assert_eq!(on_again.receive("bob", 0, 10, 2).messages, []);
    assert_eq!(on_again.tally(Scope::Strangers), (0, 0));
    let again = open();
    let next = change(&*again, |tx| {
        relay.send(tx, &super::conformance::letter("c", "bob", "b", "x"), at(3))
    });
    assert!(next.unwrap().seq > sent.seq, "numbers never come twice");
    assert_eq!(
        On(&relay, &*open()).actions(),
        ["enqueue", "dequeue", "enqueue"]
    );
}

/// A transaction that fails, or panics, leaves nothing; its own reads see what it did.
pub(crate) fn check_transactions(store: Store) {
    let relay = Relay::default();
    let on = On(&relay, &*store);
    on.send(&letter("a", "b", "1", "kept"), 0).unwrap();
    let failed = store.write(&mut |tx| {
        relay
            .send(tx, &letter("a", "b", "2", "lost"), at(1))
            .unwrap();
        relay
            .ack(tx, &agent("b"), vec!["1".parse().unwrap()], at(1))
            .unwrap();
        relay
            .publish(tx, &agent("b"), &prekey("long"), vec![prekey("1")])
            .unwrap();
        let page = relay.receive(tx, &agent("b"), 0, 10, at(1)).unwrap();
        assert_eq!(texts(&page), ["lost"]);
        assert_eq!(tx.tally(Scope::Place).unwrap().count, 1);
        Err(StoreError::Damaged("as asked"))
    });
    assert!(matches!(failed, Err(StoreError::Damaged("as asked"))));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.write(&mut |tx| {
            relay
                .send(tx, &letter("a", "b", "3", "lost too"), at(1))
                .unwrap();
            panic!("as asked");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(texts(&on.receive("b", 0, 10, 1)), ["kept"]);
    assert_eq!(on.tally(Scope::Place), (1, 4));
    assert_eq!(on.tally(Scope::PrekeyAgents), (0, 0));
    assert_eq!(on.actions(), ["enqueue"]);
    let nothing = look(&*store, |read| relay.published(read, &agent("b"))).unwrap();
    assert_eq!(nothing, None);
    assert!(!on.send(&letter("a", "b", "2", "now"), 2).unwrap().repeated);
}

/// A count below nothing is damage, and takes the transaction with it.
pub(crate) fn check_counts(store: Store) {
    let below = store.write(&mut |tx| {
        tx.add(Scope::Place, 1, 5)?;
        tx.add(Scope::Place, 0, -6)
    });
    assert!(matches!(below, Err(StoreError::Damaged(_))));
    let relay = Relay::default();
    assert_eq!(On(&relay, &*store).tally(Scope::Place), (0, 0));
}

/// Readers see what is committed while a writer is at work, and wait for nobody.
pub(crate) fn check_reading(store: Store) {
    let relay = Relay::default();
    let on = On(&relay, &*store);
    on.send(&letter("a", "b", "1", "before"), 0).unwrap();
    let written = store.write(&mut |tx| {
        relay
            .send(tx, &letter("a", "b", "2", "within"), at(1))
            .unwrap();
        assert_eq!(texts(&on.receive("b", 0, 10, 1)), ["before"]);
        Ok(())
    });
    written.unwrap();
    assert_eq!(texts(&on.receive("b", 0, 10, 1)), ["before", "within"]);
}

/// Prekeys leave once each, in the order of publishing, and what left does not come back.
pub(crate) fn check_prekeys(open: impl Fn() -> Store) {
    let policy = RelayPolicy {
        prekeys_per_hour: 2,
        one_time_prekeys: 4,
        ..RelayPolicy::default()
    };
    let relay = Relay::new(policy);
    let store = open();
    let on = On(&relay, &*store);
    assert_eq!(on.publish("b", &["3", "1", "2"]).unwrap().one_time, 3);
    assert_eq!(on.take("x", "b", 0).as_deref(), Some("3"));
    assert_eq!(
        on.publish("b", &["3", "1", "2"]).unwrap().one_time,
        2,
        "a repetition"
    );

    let store = open();
    let on = On(&relay, &*store);
    assert_eq!(on.take("x", "b", 1).as_deref(), Some("1"));
    assert_eq!(on.take("x", "b", 3_599), None, "two per hour");
    assert_eq!(on.tally(Scope::Requesters), (1, 0));
    assert_eq!(on.take("y", "b", 2).as_deref(), Some("2"));
    assert_eq!(on.take("z", "b", 2), None, "none is left");
    assert_eq!(
        on.tally(Scope::Requesters),
        (2, 0),
        "nothing got is not counted"
    );
    on.publish("b", &["4", "5"]).unwrap();
    assert_eq!(
        on.take("x", "b", 3_600).as_deref(),
        Some("4"),
        "another hour"
    );
    assert_eq!(
        on.take("x", "b", -9).as_deref(),
        Some("5"),
        "the clock was set back"
    );

    assert_eq!(on.expire(3_602, 10), (0, 0, 2, false));
    assert_eq!(on.tally(Scope::Requesters), (0, 0));
    let known =
        |id: &str| look(&*store, |read| read.one_time(&agent("b"), prekey(id).id())).unwrap();
    assert_eq!((known("5"), known("6")), (Some(OneTime::Used), None));
    change(&*store, |tx| Ok(relay.forget(tx, &agent("b"), at(0))?)).unwrap();
    assert_eq!(known("5"), None);
    for scope in [
        Scope::PrekeyAgents,
        Scope::OneTime(&agent("b")),
        Scope::Used(&agent("b")),
    ] {
        assert_eq!(on.tally(scope), (0, 0));
    }
}

/// Of what was handed out a bounded number is remembered, the oldest forgotten first.
pub(crate) fn check_used_prekeys(store: Store) {
    let policy = RelayPolicy {
        prekeys_per_hour: u64::MAX,
        ..RelayPolicy::default()
    };
    let relay = Relay::new(policy);
    let owner = agent("b");
    let all = store.write(&mut |tx| {
        for n in 0..USED_MAX + 2 {
            let fresh = vec![prekey(&n.to_string())];
            relay.publish(tx, &owner, &prekey("long"), fresh).unwrap();
            relay
                .take(tx, &agent("x"), &owner, at(0))?
                .unwrap()
                .one_time
                .unwrap();
        }
        Ok(())
    });
    all.unwrap();
    assert_eq!(
        On(&relay, &*store).tally(Scope::Used(&owner)),
        (USED_MAX, 0)
    );
    let known = |id: u64| {
        look(&*store, |read| {
            read.one_time(&owner, prekey(&id.to_string()).id())
        })
        .unwrap()
    };
    assert_eq!((known(0), known(1)), (None, None));
    assert_eq!(
        (known(2), known(USED_MAX + 1)),
        (Some(OneTime::Used), Some(OneTime::Used))
    );
}

/// What is in the way is found where it is looked for.
pub(crate) fn check_oldest(store: Store) {
    let policy = RelayPolicy {
        box_messages: 2,
        sender_in_box_messages: 1,
        sender_messages: 2,
        ..RelayPolicy::default()
    };
    let relay = Relay::new(policy);
    let on = On(&relay, &*store);
    let full = |from: &str, to: &str| match on.send(&letter(from, to, "new", "x"), 9) {
        Err(Refusal::Full {
            limit,
            most,
            retry_at,
        }) => (limit, most, retry_at),
        other => panic!("{other:?}"),
    };
    on.send(&letter("z", "elsewhere", "0", "x"), 0).unwrap();
    on.send(&letter("a", "box", "1", "x"), 1).unwrap();
    on.send(&letter("b", "box", "2", "x"), 2).unwrap();
    on.send(&letter("b", "other", "3", "x"), 3).unwrap();
    assert_eq!(full("b", "box"), (Limit::SenderInBox, 1, at(3602)));
    assert_eq!(full("c", "box"), (Limit::Box, 2, at(3601)));
    assert_eq!(full("b", "third"), (Limit::SenderMessages, 2, at(3602)));
}
