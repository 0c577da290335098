//! A Place whose operator means ill: it stands between an agent and a real one, and shows the agent's mail again, in another
//! order, changed, made up, or not at all. Nothing of it may reach the inbox twice or as somebody else's, and honest mail
//! must arrive once the Place lets it through.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kairos_node::clock::SystemClock;
use kairos_protocol::crypto::Keypair;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::relay::prekey::{PrekeyKind, PrekeySecret};
use kairos_protocol::time::Clock as _;
use kairos_protocol::wire::place::prekeys_to_publish;
use kairos_tests::{Asked, Home, Request, Stranger, TestNode};
use serde_json::{Value, json};

use crate::membership::{id, member, place, write};

pub(crate) type Answer = (u16, Value);
/// Gets what is asked, and a way to have the real Place answer it.
type Trick = Arc<dyn Fn(&Asked, &dyn Fn() -> Answer) -> Answer + Send + Sync>;

/// See the module.
pub(crate) struct Between {
    pub(crate) server: Stranger,
    trick: Arc<Mutex<Trick>>,
}

impl Between {
    pub(crate) fn start(place: &TestNode) -> Self {
        let address = place.address();
        let honest: Trick = Arc::new(|_: &Asked, forward: &dyn Fn() -> Answer| forward());
        let trick = Arc::new(Mutex::new(honest));
        let playing = Arc::clone(&trick);
        let server = Stranger::start(move |asked| {
            // Nobody is told of mail: it is asked for.
            if asked.what.starts_with("GET /place/v1/relay/events") {
                let body = json!({"error": "not_found", "message": "no"});
                return asked.answer(404, body.to_string());
            }
            let forward = || {
                let (method, path) = asked.what.split_once(' ').unwrap();
                let mut request = Request::new(method, path);
                if let Some(token) = &asked.token {
                    request = request.token(token);
                }
                if !asked.body.is_null() {
                    request = request.json(&asked.body);
                }
                let reply = request.send_to(address).unwrap();
                (reply.status, reply.json())
            };
            let trick = Arc::clone(&*playing.lock().unwrap());
            let (status, body) = trick(&asked, &forward);
            asked.answer(status, body.to_string());
        });
        Self { server, trick }
    }

    pub(crate) fn play(
        &self,
        trick: impl Fn(&Asked, &dyn Fn() -> Answer) -> Answer + Send + Sync + 'static,
    ) {
        *self.trick.lock().unwrap() = Arc::new(trick);
    }

    pub(crate) fn be_honest(&self) {
        self.play(|_, forward| forward());
    }

    /// Changes what an agent reads, and lets nothing be acknowledged.
    fn change_mail(&self, change: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.play(move |asked, forward| match path(asked) {
            "GET /place/v1/relay/peek" => {
                let (status, mut page) = forward();
                change(&mut page);
                (status, page)
            }
            "POST /place/v1/relay/ack" => unheard(asked),
            _ => forward(),
        });
    }

    fn joined(&self) -> Home {
        let home = Home::initialized();
        let joined = home.json(["place", "join", &self.server.url()]);
        assert_eq!(joined["proven"], true, "{joined}");
        home
    }
}

fn path(asked: &Asked) -> &str {
    asked.what.split('?').next().unwrap_or_default()
}

/// Says that it was done, and does not do it.
fn unheard(asked: &Asked) -> Answer {
    let removed = asked.body["ids"].clone();
    (200, json!({"status": "acknowledged", "removed": removed}))
}

/// Fetches mail, and tells what is new of it and what could not be opened.
fn read(home: &Home) -> (Vec<String>, Vec<Value>) {
    let ended = home.run(["--json", "place", "message", "read"]);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let texts = told["messages"].as_array().unwrap().iter();
    let texts = texts.map(|message| message["payload"].as_str().unwrap().to_owned());
    (
        texts.collect(),
        told["unopened"].as_array().unwrap().clone(),
    )
}

fn blob_hash(blob: &str) -> Value {
    format!("sha256:{}", ContentHash::of(blob)).into()
}

/// The envelope of a message, changed, with a hash that fits.
fn altered(message: &mut Value, change: impl Fn(&mut Value)) {
    let blob = message["encrypted_blob"].as_str().unwrap();
    let text = STANDARD.decode(blob).unwrap();
    let mut envelope: Value = serde_json::from_slice(&text).unwrap();
    change(&mut envelope);
    let blob = STANDARD.encode(envelope.to_string());
    message["blob_hash"] = blob_hash(&blob);
    message["encrypted_blob"] = blob.into();
}

/// One letter of a text becomes another.
fn flipped(text: &Value) -> Value {
    let text = text.as_str().unwrap();
    let at = text.len() / 2;
    let other = if text.as_bytes()[at] == b'A' {
        "B"
    } else {
        "A"
    };
    format!("{}{other}{}", &text[..at], &text[at + 1..]).into()
}

#[test]
fn mail_that_is_shown_again_and_again_in_any_order_arrives_once() {
    let (hosting, seen) = (Home::new(), Arc::new(Mutex::new(Vec::<Value>::new())));
    let place = place(&hosting);
    let between = Between::start(&place);
    let (ada, ben) = (member(&place), between.joined());
    let to = id(&ben);
    let shown = Arc::clone(&seen);
    between.play(move |asked, forward| match path(asked) {
        "GET /place/v1/relay/peek" => {
            let (status, mut page) = forward();
            let mut all = shown.lock().unwrap();
            for message in page["messages"].as_array().unwrap() {
                if !all.contains(message) {
                    all.push(message.clone());
                }
            }
            // All that ever was, the newest first, each of it twice.
            let twice: Vec<Value> = all.iter().rev().chain(all.iter()).cloned().collect();
            page["count"] = twice.len().into();
            page["messages"] = twice.into();
            page["next"] = Value::Null;
            (status, page)
        }
        "POST /place/v1/relay/ack" => unheard(asked),
        _ => forward(),
    });
    let mut got = Vec::new();
    for round in 0..3 {
        for n in 0..2 {
            write(&ada, &to, &format!("message {round} {n}"));
        }
        let (texts, unopened) = read(&ben);
        assert_eq!((texts.len(), unopened), (2, vec![]), "{texts:?}");
        got.extend(texts);
    }
    got.sort();
    let wanted: Vec<String> = (0..6)
        .map(|n| format!("message {} {}", n / 2, n % 2))
        .collect();
    assert_eq!(got, wanted);
    // Once it is honest it hears what was acknowledged all the time.
    between.be_honest();
    assert_eq!(read(&ben), (vec![], vec![]));
    let agent = id(&ben);
    let audit = hosting.json(["place", "audit", "--type", "relay"]);
    let acked = audit["entries"].as_array().unwrap().iter();
    let acked = acked
        .filter(|entry| entry["action"] == "ack" && entry["participants"][1] == agent.as_str());
    assert_eq!(acked.count(), 6);
}

#[test]
fn what_a_place_changes_or_makes_up_is_noted_and_the_honest_mail_arrives_later() {
    let hosting = Home::new();
    let place = place(&hosting);
    let between = Between::start(&place);
    let (ada, ben, cid) = (member(&place), between.joined(), member(&place));
    let to = id(&ben);
    // What the Place will pass off as mail for somebody else.
    let others = Arc::new(Mutex::new(Value::Null));
    write(&ada, &to, "hello");
    let found = Arc::clone(&others);
    between.play(move |asked, forward| {
        let answer = forward();
        if path(asked) == "GET /place/v1/relay/peek" {
            *found.lock().unwrap() = answer.1["messages"][0].clone();
        }
        answer
    });
    assert_eq!(read(&ben).0, ["hello"]);
    let spent = others.lock().unwrap().clone();
    let stranger = id(&cid);

    type Change = Box<dyn Fn(&mut Value) + Send + Sync>;
    let tricks: Vec<(&str, Change)> = vec![
        (
            "another letter in the sealed text",
            Box::new(|message: &mut Value| {
                altered(message, |envelope| {
                    envelope["ciphertext"] = flipped(&envelope["ciphertext"])
                });
            }),
        ),
        (
            "another hash",
            Box::new(|message: &mut Value| message["blob_hash"] = blob_hash("x")),
        ),
        (
            "another sender outside",
            Box::new({
                let stranger = stranger.clone();
                move |message: &mut Value| message["from"] = stranger.as_str().into()
            }),
        ),
        (
            "another sender everywhere",
            Box::new(move |message: &mut Value| {
                message["from"] = stranger.as_str().into();
                altered(message, |envelope| {
                    envelope["from"] = stranger.as_str().into()
                });
            }),
        ),
        (
            "no envelope",
            Box::new(|message: &mut Value| {
                let blob = STANDARD.encode("{}");
                message["blob_hash"] = blob_hash(&blob);
                message["encrypted_blob"] = blob.into();
            }),
        ),
        (
            "nothing at all",
            Box::new(|message: &mut Value| *message = json!({"id": "x"})),
        ),
        // A prekey that did its work is erased: what it opened once, nobody can open again.
        (
            "a message under another name",
            Box::new(move |message: &mut Value| {
                let id = message["id"].clone();
                *message = spent.clone();
                message["id"] = id;
            }),
        ),
    ];
    for (name, change) in tricks {
        write(&ada, &to, name);
        between.change_mail(move |page| {
            page["messages"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(&change);
        });
        let (texts, unopened) = read(&ben);
        assert_eq!(texts, Vec::<String>::new(), "{name}");
        // The one that was taken before is known, and no failure.
        assert!(
            !unopened.is_empty() || name.contains("another name"),
            "{name}"
        );
        between.be_honest();
        assert_eq!(read(&ben).0, [name]);
    }
}

#[test]
fn a_place_that_answers_with_nonsense_or_nothing_costs_time_and_no_mail() {
    let hosting = Home::new();
    let place = place(&hosting);
    let between = Between::start(&place);
    let (ada, ben) = (member(&place), between.joined());
    write(&ada, &id(&ben), "still here");
    let asked_for = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked_for);
    let nonsense: Vec<Value> = vec![
        json!({"messages": 7}),
        json!({"messages": [7, null, "x"]}),
        json!({"messages": []}),
        json!({}),
    ];
    for page in nonsense {
        between.change_mail(move |answer| *answer = page.clone());
        assert_eq!(read(&ben).0, Vec::<String>::new());
    }
    // A box without end is given up for this time.
    between.change_mail(move |answer| {
        let mut count = count.lock().unwrap();
        *count += 1;
        *answer = json!({"messages": [], "next": *count * 1_000});
    });
    assert_eq!(read(&ben).0, Vec::<String>::new());
    assert!((1..=20).contains(&*asked_for.lock().unwrap()));
    // An acknowledgement that fails is repeated; the message is not.
    between.play(|asked, forward| match path(asked) {
        "POST /place/v1/relay/ack" => (500, json!({"error": "internal_error", "message": "no"})),
        _ => forward(),
    });
    assert_eq!(read(&ben).0, ["still here"]);
    assert_eq!(read(&ben).0, Vec::<String>::new());
    between.be_honest();
    assert_eq!(read(&ben), (vec![], vec![]));
    let audit = hosting.json(["place", "audit", "--type", "relay"]);
    let newest = &audit["entries"][0];
    assert_eq!(newest["action"], "ack", "{audit}");
}

#[test]
fn a_place_that_hands_out_keys_of_its_own_gets_nothing_to_read() {
    let hosting = Home::new();
    let place = place(&hosting);
    let between = Between::start(&place);
    let (ada, ben) = (between.joined(), member(&place));
    let to = id(&ben);
    // Ada knows Ben's key from here on.
    write(&ada, &to, "first");
    let mallory = Arc::new(Keypair::generate().unwrap());
    let key = Arc::clone(&mallory);
    let owner = to.clone();
    between.play(move |asked, forward| {
        let asked_for = path(asked);
        if asked_for == format!("GET /place/v1/keys/{owner}") {
            return (
                200,
                json!({"agent_id": owner, "public_key": key.public().to_pem()}),
            );
        }
        if asked_for != format!("GET /place/v1/prekeys/{owner}") {
            return forward();
        }
        let now = SystemClock.now();
        let make = |kind| {
            let secret = PrekeySecret::generate(kind, now, std::time::Duration::from_secs(3600));
            secret
                .unwrap()
                .publish(&owner.parse().unwrap(), &key)
                .unwrap()
        };
        let (lasting, once) = (make(PrekeyKind::LongLived), make(PrekeyKind::OneTime));
        let body = prekeys_to_publish(&lasting, std::slice::from_ref(&once));
        (
            200,
            json!({"agent_id": owner, "signed": body["signed"], "one_time": body["one_time"][0]}),
        )
    });
    let refused = ada
        .run(["place", "message", "send", &to, "for Ben only"])
        .failed(1);
    assert!(refused.contains("nothing is sealed"), "{refused}");
    // Saying that he has none does not make her use the older envelope either.
    let owner = to.clone();
    between.play(move |asked, forward| {
        match path(asked) == format!("GET /place/v1/prekeys/{owner}") {
            true => (404, json!({"error": "not_found", "message": "No prekeys"})),
            false => forward(),
        }
    });
    ada.run(["place", "message", "send", &to, "for Ben only"])
        .failed(1);
    between.be_honest();
    write(&ada, &to, "for Ben only");
    assert_eq!(read(&ben).0, ["first", "for Ben only"]);
}
