use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use futures::future::{join, join_all};
use kairos_place::relay::message::BlobHash;
use kairos_place::relay::store::memory::MemoryStore;
use kairos_place::relay::store::{ReadWork, WriteWork};
use kairos_protocol::time::ManualClock;

use super::queue::WAITING_BYTES_MAX;
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the next writes do: waits for `go` if there is one, then fails or panics if told to.
#[derive(Default)]
struct Stage {
    inner: MemoryStore,
    writes: AtomicUsize,
    gate: Option<(Sender<()>, Mutex<Receiver<()>>)>,
    fault: Mutex<Option<Fault>>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    AtTheEnd,
    Panic,
}

impl RelayStore for Stage {
    fn write(&self, work: WriteWork<'_>) -> Result<(), StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        if let Some((begun, go)) = &self.gate {
            begun.send(()).unwrap();
            go.lock().unwrap().recv().unwrap();
        }
        let fault = self.fault.lock().unwrap().take();
        self.inner.write(&mut |tx| {
            work(tx)?;
            match fault {
                Some(Fault::AtTheEnd) => Err(StoreError::Damaged("as asked")),
                Some(Fault::Panic) => panic!("as asked"),
                None => Ok(()),
            }
        })
    }

    fn read(&self, work: ReadWork<'_>) -> Result<(), StoreError> {
        self.inner.read(work)
    }
}

fn gated() -> (Arc<Stage>, Receiver<()>, Sender<()>) {
    let ((begun, has_begun), (go, may_go)) = (channel(), channel());
    let gate = Some((begun, Mutex::new(may_go)));
    let stage = Stage {
        gate,
        ..Stage::default()
    };
    (Arc::new(stage), has_begun, go)
}

fn settings() -> RelaySettings {
    RelaySettings {
        policy: RelayPolicy {
            box_messages: 1_000,
            sender_in_box_messages: 1_000,
            ..RelayPolicy::default()
        },
        ..RelaySettings::default()
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)))
}

fn start_with(store: Arc<dyn RelayStore>, settings: RelaySettings) -> RelayHandle {
    RelayActor::start(store, settings, clock(), 4_096, PATIENCE)
}

fn start(store: Arc<dyn RelayStore>) -> RelayHandle {
    start_with(store, settings())
}

fn agent(name: &str) -> AgentId {
    name.parse().unwrap()
}

fn letter(to: &str, id: &str, text: &str) -> Letter {
    Letter {
        id: Some(id.parse().unwrap()),
        from: agent("sender"),
        to: agent(to),
        known: true,
        message_type: "message".parse().unwrap(),
        sealed: Sealed::new(text.to_owned(), BlobHash::of(text)).unwrap(),
    }
}

async fn ids(relay: &RelayHandle, of: &str) -> Vec<String> {
    let page = relay.receive(agent(of), 0, 100).await.unwrap();
    let ids = page.messages.iter();
    ids.map(|message| message.kept.header.id.to_string())
        .collect()
}

/// Lets tasks run until `true`.
async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    actix_rt::time::timeout(PATIENCE, wait).await.unwrap();
}

#[actix::test]
async fn changes_that_wait_share_one_transaction_in_the_order_of_asking() {
    let (stage, has_begun, go) = gated();
    let relay = start(stage.clone());
    let first = actix_rt::spawn({
        let relay = relay.clone();
        async move { relay.send(letter("b", "first", "x")).await }
    });
    until(async || has_begun.try_recv().is_ok()).await;
    let asks: Vec<_> = (0..50)
        .map(|n| {
            let relay = relay.clone();
            actix_rt::spawn(async move { relay.send(letter("b", &n.to_string(), "x")).await })
        })
        .collect();
    until(async || relay.health().await.unwrap().waiting == 50).await;
    go.send(()).unwrap();
    go.send(()).unwrap();
    let first = first.await.unwrap().unwrap();
    let mut last = first.seq;
    for ask in asks {
        let sent = ask.await.unwrap().unwrap();
        assert!(sent.seq > last);
        last = sent.seq;
    }
    assert_eq!(stage.writes.load(Ordering::SeqCst), 2);
    // Who waits is told before the actor counts.
    until(async || relay.health().await.unwrap().committed == 2).await;
}

#[actix::test]
async fn a_look_waits_for_no_writer_and_sees_what_is_acknowledged() {
    let (stage, has_begun, go) = gated();
    let relay = start(stage);
    go.send(()).unwrap();
    relay.send(letter("b", "1", "x")).await.unwrap();
    has_begun.try_recv().unwrap();
    let sending = relay.send(letter("b", "2", "x"));
    let mut sending = Box::pin(sending);
    assert!(futures::poll!(sending.as_mut()).is_pending());
    until(async || has_begun.try_recv().is_ok()).await;
    assert_eq!(ids(&relay, "b").await, ["1"]);
    assert_eq!(relay.status(agent("b")).await.unwrap().count, 1);
    go.send(()).unwrap();
    sending.await.unwrap();
    assert_eq!(ids(&relay, "b").await, ["1", "2"]);
}

#[actix::test]
async fn a_message_whose_sender_went_away_while_it_waited_is_not_sent() {
    let (stage, has_begun, go) = gated();
    let relay = start(stage);
    let first = relay.send(letter("b", "1", "x"));
    let mut first = Box::pin(first);
    assert!(futures::poll!(first.as_mut()).is_pending());
    until(async || has_begun.try_recv().is_ok()).await;
    {
        let mut gone = Box::pin(relay.send(letter("b", "2", "x")));
        assert!(futures::poll!(gone.as_mut()).is_pending());
        until(async || relay.health().await.unwrap().waiting == 1).await;
    }
    let mut last = Box::pin(relay.send(letter("b", "3", "x")));
    assert!(futures::poll!(last.as_mut()).is_pending());
    until(async || relay.health().await.unwrap().waiting == 2).await;
    go.send(()).unwrap();
    go.send(()).unwrap();
    first.await.unwrap();
    last.await.unwrap();
    assert_eq!(ids(&relay, "b").await, ["1", "3"]);
}

#[actix::test]
async fn when_a_transaction_fails_everybody_in_it_is_told_and_nothing_happened() {
    for fault in [Fault::AtTheEnd, Fault::Panic] {
        let (stage, has_begun, go) = gated();
        let relay = start(stage.clone());
        let mut kept = Box::pin(relay.send(letter("b", "kept", "x")));
        assert!(futures::poll!(kept.as_mut()).is_pending());
        until(async || has_begun.try_recv().is_ok()).await;
        // All of these wait for the write that is held up, so one transaction takes them.
        let sends = (0..5).map(|n| relay.send(letter("b", &n.to_string(), "x")));
        let ack = relay.ack(agent("b"), vec!["kept".parse().unwrap()]);
        let mut asked = Box::pin(join(join_all(sends), ack));
        assert!(futures::poll!(asked.as_mut()).is_pending());
        until(async || relay.health().await.unwrap().waiting == 6).await;
        go.send(()).unwrap();
        kept.await.unwrap();
        until(async || has_begun.try_recv().is_ok()).await;
        *stage.fault.lock().unwrap() = Some(fault);
        let mut heard = relay.subscribe(agent("b")).unwrap();
        // For this write, and for the one that follows.
        go.send(()).unwrap();
        go.send(()).unwrap();
        let (sends, ack) = asked.await;
        let errors = sends.into_iter().map(Result::unwrap_err);
        for error in errors.chain([ack.unwrap_err()]) {
            match fault {
                Fault::AtTheEnd => {
                    assert!(matches!(error, RelayError::Store(StoreError::Damaged(_))))
                }
                Fault::Panic => assert!(matches!(error, RelayError::Crashed)),
            }
        }
        assert_eq!(ids(&relay, "b").await, ["kept"]);
        assert!(
            futures::poll!(Box::pin(heard.mail())).is_pending(),
            "there is no mail"
        );
        relay.send(letter("b", "1", "x")).await.unwrap();
        assert_eq!(ids(&relay, "b").await, ["kept", "1"]);
        // Who waits is told before the actor counts.
        until(async || {
            let health = relay.health().await.unwrap();
            (health.committed, health.failed) == (2, 1)
        })
        .await;
    }
}

#[actix::test]
async fn one_that_is_refused_disturbs_none_of_its_neighbours() {
    let relay = start_with(
        Arc::new(Stage::default()),
        RelaySettings {
            policy: RelayPolicy {
                blob_bytes: 3,
                ..RelayPolicy::default()
            },
            ..settings()
        },
    );
    let sends = ["x", "large", "y"].map(|text| relay.send(letter("b", text, text)));
    let [x, large, y] = join_all(sends).await.try_into().unwrap();
    assert!(matches!(
        large,
        Err(RelayError::Refused(Refusal::TooLarge { .. }))
    ));
    assert!(x.is_ok() && y.is_ok());
    assert_eq!(ids(&relay, "b").await, ["x", "y"]);
}

#[actix::test]
async fn what_waits_is_bounded_in_bytes() {
    let (stage, has_begun, go) = gated();
    let relay = start(stage);
    let large = "x".repeat(1024 * 1024);
    let ask = |n: usize| {
        let (relay, letter) = (relay.clone(), letter("b", &n.to_string(), &large));
        actix_rt::spawn(async move { relay.send(letter).await })
    };
    let first = ask(0);
    until(async || has_begun.try_recv().is_ok()).await;
    let most = WAITING_BYTES_MAX / large.len();
    let waiting: Vec<_> = (1..=most).map(ask).collect();
    until(async || relay.health().await.unwrap().waiting == most).await;
    let busy = ask(most + 1).await.unwrap();
    assert!(matches!(busy, Err(RelayError::Ask(AskError::Busy))));
    drop(go);
    drop(has_begun);
    assert!(matches!(first.await.unwrap(), Err(RelayError::Crashed)));
    for asked in waiting {
        assert!(asked.await.unwrap().is_err());
    }
    let asked_now = relay.health().await.unwrap();
    assert_eq!(asked_now.waiting, 0);
}

#[actix::test]
async fn ten_thousand_wait_for_mail_and_only_those_with_mail_hear_of_it() {
    let relay = start_with(
        Arc::new(Stage::default()),
        RelaySettings {
            subscribers_per_agent: 2,
            ..settings()
        },
    );
    let name = |n: usize| agent(&n.to_string());
    let mut all: Vec<_> = (0..9_999)
        .map(|n| relay.subscribe(name(n)).unwrap())
        .collect();
    all.push(relay.subscribe(name(7)).unwrap());
    let full = |limit| move |error: RelayError| matches!(error, RelayError::Subscribers { limit: l } if l == limit);
    assert!(relay.subscribe(name(8)).err().is_some_and(full(10_000)));
    assert_eq!(relay.health().await.unwrap().subscribers, 10_000);
    all.swap_remove(0);
    assert!(relay.subscribe(name(7)).err().is_some_and(full(2)));

    for id in ["1", "2", "3"] {
        relay.send(letter("7", id, "x")).await.unwrap();
    }
    relay.send(letter("7", "3", "x")).await.unwrap();
    let mut heard = Vec::new();
    for subscription in &mut all {
        let mut mail = Box::pin(subscription.mail());
        if let std::task::Poll::Ready(number) = futures::poll!(mail.as_mut()) {
            heard.push(number);
            drop(mail);
            let again = futures::poll!(Box::pin(subscription.mail()));
            assert!(again.is_pending(), "many messages are one tick");
        }
    }
    assert_eq!(heard, [Some(3), Some(3)]);
    let mut one = all.pop().unwrap();
    drop(all);
    assert_eq!(relay.health().await.unwrap().subscribers, 1);
    relay.shutdown().await.unwrap();
    assert_eq!(one.mail().await, None);
    let late = relay.subscribe(agent("late")).err();
    assert!(matches!(late, Some(RelayError::Ask(AskError::Stopped))));
}

#[actix::test]
async fn what_is_over_is_swept_in_steps_without_being_asked() {
    let clock = clock();
    let settings = RelaySettings {
        sweep: Duration::from_millis(5),
        policy: RelayPolicy {
            sender_messages: 2_000,
            box_messages: 2_000,
            sender_in_box_messages: 2_000,
            ..RelayPolicy::default()
        },
        ..settings()
    };
    let store = Arc::new(Stage::default());
    let total = SWEEP_STEP + 1;
    let filled = store.write(&mut |tx| {
        let relay = Relay::new(settings.policy.clone());
        for n in 0..total {
            let Letter {
                from,
                to,
                known,
                message_type,
                sealed,
                ..
            } = letter("b", "-", "x");
            let id = MessageId::Random((n as u64).to_be_bytes());
            let submission = Submission {
                id,
                from,
                to,
                known,
                message_type,
                sealed,
            };
            relay.send(tx, &submission, clock.now()).unwrap();
        }
        Ok(())
    });
    filled.unwrap();
    let relay = RelayActor::start(store, settings, clock.clone(), 64, PATIENCE);
    assert_eq!(relay.stats().await.unwrap().waiting.count, total as u64);
    clock.advance(Duration::from_secs(3_600));
    until(async || relay.stats().await.unwrap().waiting.count == 0).await;
    let page = relay
        .audit(None, AuditFilter::default(), 1_000)
        .await
        .unwrap();
    let expired = page
        .entries
        .iter()
        .filter(|entry| entry.action.as_str() == "expired");
    assert_eq!(expired.count(), total);
}

#[actix::test]
async fn shutting_down_finishes_what_was_asked_before_and_refuses_what_comes_after() {
    let (stage, has_begun, go) = gated();
    let relay = start(stage);
    let ask = |id: &'static str| {
        let relay = relay.clone();
        actix_rt::spawn(async move { relay.send(letter("b", id, "x")).await })
    };
    let first = ask("1");
    until(async || has_begun.try_recv().is_ok()).await;
    let second = ask("2");
    until(async || relay.health().await.unwrap().waiting == 1).await;
    let stopping = actix_rt::spawn({
        let relay = relay.clone();
        async move { relay.shutdown().await }
    });
    tokio::task::yield_now().await;
    let late = relay.send(letter("b", "3", "x")).await;
    assert!(matches!(late, Err(RelayError::Ask(AskError::Stopped))));
    go.send(()).unwrap();
    go.send(()).unwrap();
    stopping.await.unwrap().unwrap();
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    assert_eq!(ids(&relay, "b").await, ["1", "2"]);
    assert_eq!(relay.health().await, Err(AskError::Stopped));
}

#[actix::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let key = |id: &str| Prekey::new(id.parse().unwrap(), id.into()).unwrap();
    let relay = start(open(folder.path()).unwrap());
    let mut without_id = letter("b", "-", "made up");
    without_id.id = None;
    let made_up = relay.send(without_id).await.unwrap().id;
    relay.send(letter("b", "1", "x")).await.unwrap();
    relay.send(letter("b", "2", "x")).await.unwrap();
    assert_eq!(
        relay
            .ack(agent("b"), vec!["1".parse().unwrap()])
            .await
            .unwrap()
            .len(),
        1
    );
    relay
        .publish(agent("b"), key("long"), vec![key("one"), key("two")])
        .await
        .unwrap();
    let taken = relay.take(agent("a"), agent("b")).await.unwrap().unwrap();
    assert_eq!(taken.one_time, Some(key("one")));
    relay.shutdown().await.unwrap();

    assert!(folder.path().join("storage/place/relay.db").exists());
    let relay = start(open(folder.path()).unwrap());
    assert!(relay.send(letter("b", "1", "x")).await.unwrap().repeated);
    assert_eq!(ids(&relay, "b").await, [made_up.as_str(), "2"]);
    let unique: HashSet<_> = ids(&relay, "b").await.into_iter().collect();
    assert_eq!(unique.len(), 2);
    assert_eq!(
        relay.published(agent("b")).await.unwrap().unwrap().one_time,
        1
    );
    assert_eq!(relay.relayed().await.unwrap().count, 3);
    assert_eq!(
        relay
            .receive_and_remove(agent("b"), 10)
            .await
            .unwrap()
            .messages
            .len(),
        2
    );
    relay.forget(agent("b")).await.unwrap();
    assert_eq!(relay.published(agent("b")).await.unwrap(), None);
    assert_eq!(relay.stats().await.unwrap(), Stats::default());
    let hours = relay.audit_hours(24).await.unwrap();
    assert_eq!(hours.values().map(|hour| hour.relays).sum::<u64>(), 3);
}

/// Many senders at once, each message durable: how many a second depends on the machine, that few syncs serve many
/// does not.
#[actix::test]
async fn many_senders_share_few_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let relay = start(open(folder.path()).unwrap());
    const SENDERS: usize = 64;
    const EACH: usize = 20;
    let senders = (0..SENDERS).map(|sender| {
        let relay = relay.clone();
        async move {
            for n in 0..EACH {
                let mut letter = letter(&format!("to-{sender}"), &n.to_string(), "x");
                letter.from = agent(&format!("from-{sender}"));
                relay.send(letter).await.unwrap();
            }
        }
    });
    join_all(senders).await;
    let health = relay.health().await.unwrap();
    assert!(health.committed <= 4 * EACH as u64, "{health:?}");
    assert_eq!(
        relay.stats().await.unwrap().waiting.count,
        (SENDERS * EACH) as u64
    );
}
