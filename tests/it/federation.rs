//! Places that agree with each other: by their operators' word, both signatures, and whoever lies left outside. What agents
//! of one get from others through it.

use kairos_protocol::crypto::Keypair;
use kairos_protocol::federation::agreement::{OPEN_FOR, Party, Proposal, Statement, Word};
use kairos_protocol::time::{Clock as _, Timestamp};
use kairos_tests::{Home, Reply, Request, TestNode, TestPeer, eventually};
use serde_json::{Value, json};

use crate::hostile_place::{Answer, Between};
use crate::membership::{TEA, id, member, place_at, read};
use crate::proofs::{rewrite, verify};

/// A Place that knows where others reach it.
struct Fed {
    home: Home,
    node: TestNode,
}

impl Fed {
    fn start() -> Self {
        let home = Home::new();
        let node = place_at(&home, 0);
        Self { home, node }
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let home = Home::new();
        let mut builder = TestNode::builder().home(&home).arg("--place");
        for (key, value) in settings {
            builder = builder.set(key, value);
        }
        let node = builder
            .set("limits.requests_per_address", "100000")
            .set("limits.requests_per_session", "10000")
            .start();
        Self { home, node }
    }

    fn id(&self) -> String {
        id(&self.home)
    }

    fn federation<const N: usize>(&self, args: [&str; N]) -> Value {
        let all: Vec<&str> = ["federation"].into_iter().chain(args).collect();
        self.home.json(all)
    }

    fn propose(&self, to: &Self) -> Value {
        self.propose_at(&to.node.url(""))
    }

    fn propose_at(&self, url: &str) -> Value {
        let own = self.node.url("");
        self.federation(["propose", url, "--own-url", &own])
    }

    /// How its agreement `id` stands; nothing if it has none.
    fn standing(&self, id: &str) -> Value {
        let all = self.federation(["list"]);
        let mut all = all["agreements"].as_array().unwrap().iter();
        let found = all.find(|agreement| agreement["agreement"] == id);
        found.map_or(Value::Null, |agreement| agreement["standing"].clone())
    }

    fn federate(&self, with: &Self) -> String {
        self.federate_at(&with.node.url(""), with)
    }

    fn federate_at(&self, url: &str, with: &Self) -> String {
        let proposed = self.propose_at(url);
        assert_eq!(proposed["told"], true, "{proposed}");
        let id = proposed["agreement"].as_str().unwrap().to_owned();
        let accepted = with.federation(["accept", &id]);
        assert_eq!(
            (&accepted["standing"], &accepted["told"]),
            (&json!("in_effect"), &json!(true)),
            "{accepted}"
        );
        assert_eq!(self.standing(&id), "in_effect");
        id
    }
}

#[test]
fn two_places_agree_when_both_operators_say_so_and_either_ends_it() {
    let (north, south) = (Fed::start(), Fed::start());
    let proposed = north.propose(&south);
    let id = proposed["agreement"].as_str().unwrap();
    assert_eq!(
        (&proposed["standing"], &proposed["told"], &proposed["place"]),
        (&json!("proposed"), &json!(true), &json!(south.id()))
    );
    assert_eq!(south.standing(id), "asked");
    assert_eq!(north.federation(["status"])["in_effect"], 0);
    let again = [
        "federation",
        "propose",
        &south.node.url(""),
        "--own-url",
        &north.node.url(""),
    ];
    let again = north.home.run(again).failed(1);
    assert!(again.contains("proposed already"), "{again}");
    let own = north.home.run(["federation", "accept", id]).failed(1);
    assert!(own.contains("not the Place that can say this"), "{own}");

    let accepted = south.federation(["accept", id]);
    assert_eq!(accepted["standing"], "in_effect");
    assert_eq!(north.standing(id), "in_effect");
    let ended = north.federation(["end", id]);
    assert_eq!(
        (&ended["standing"], &ended["told"]),
        (&json!("ended"), &json!(true))
    );
    assert_eq!(south.standing(id), "ended");
    let late = south.home.run(["federation", "accept", id]).failed(1);
    assert!(late.contains("ended already"), "{late}");

    let second = south.propose(&north)["agreement"]
        .as_str()
        .unwrap()
        .to_owned();
    let refused = north.federation(["refuse", &second]);
    assert_eq!(refused["standing"], "refused");
    assert_eq!(south.standing(&second), "refused");
    let audit = north.home.json(["place", "audit", "--type", "federation"]);
    let entries = audit["entries"].as_array().unwrap();
    let standings: Vec<&str> = entries
        .iter()
        .map(|e| e["standing"].as_str().unwrap())
        .collect();
    assert_eq!(
        standings,
        ["refused", "asked", "ended", "in effect", "proposed"]
    );
    assert_eq!(entries[0]["by"], "local");
}

#[test]
fn a_place_that_was_away_is_told_when_it_is_back_and_agreements_outlive_a_kill() {
    let (north, mut south) = (Fed::start(), Fed::start());
    let id = north.federate(&south);
    let port = south.node.address().port();
    south.node.kill();
    // Told it is later; what the operator decided counts at once.
    let ended = north.home.run(["--json", "federation", "end", &id]);
    ended.code_is(1);
    assert_eq!(north.standing(&id), "ended");
    south.node = place_at(&south.home, port);
    eventually("the south hears of the end", || {
        (south.standing(&id) == "ended").then_some(())
    });
    let all = north.federation(["list"]);
    assert_eq!(all["agreements"][0]["told"], true, "{all}");
}

fn post(node: &TestNode, token: &str, path: &str, body: &Value) -> Reply {
    let request = Request::post(&format!("/place/v1/federation/{path}"));
    request.token(token).json(body).send(node)
}

/// Somebody with a key who says to be a Place.
struct Liar {
    peer: TestPeer,
    keypair: Keypair,
}

impl Liar {
    fn new() -> Self {
        let keypair = Keypair::generate().unwrap();
        let id = keypair.public().agent_id();
        Self {
            peer: TestPeer::sharing(id.as_str(), &keypair),
            keypair,
        }
    }

    fn party(&self) -> Party {
        Party {
            place_id: self.keypair.public().agent_id(),
            public_key: self.keypair.public().clone(),
            url: "http://127.0.0.1:1".to_owned(),
        }
    }

    fn offers(&self, to: &Fed, at: Timestamp) -> Proposal {
        let Party { place_id, url, .. } = self.party();
        Proposal::sign(&self.keypair, place_id, url, party(to), at).unwrap()
    }
}

fn party(of: &Fed) -> Party {
    let identity = Request::get("/meeting/v1/introduce").send(&of.node).ok();
    let pem = identity["public_key"].as_str().unwrap();
    Party {
        place_id: of.id().parse().unwrap(),
        public_key: kairos_protocol::crypto::PublicKey::from_pem(pem).unwrap(),
        url: of.node.url(""),
    }
}

fn now() -> Timestamp {
    kairos_node::clock::SystemClock.now()
}

#[test]
fn nobody_agrees_in_anothers_name_with_another_key_too_late_or_twice() {
    let place = Fed::start();
    let (liar, other) = (Liar::new(), Liar::new());
    let (token, others) = (
        liar.peer.register(&place.node),
        other.peer.register(&place.node),
    );
    let offer = |proposal: &Proposal, token: &str| {
        post(
            &place.node,
            token,
            "proposal",
            &json!({"proposal": proposal}),
        )
    };
    let good = liar.offers(&place, now());
    offer(&good, &others).refused(403, "not_yours");
    let late = liar.offers(
        &place,
        now().minus(OPEN_FOR + std::time::Duration::from_secs(60)),
    );
    offer(&late, &token).refused(409, "stale");
    let mut wrong = serde_json::to_value(&good).unwrap();
    wrong["acceptor"]["public_key"] = json!(other.keypair.public());
    let body = json!({"proposal": wrong});
    post(&place.node, &token, "proposal", &body).refused(422, "agreement_refused");
    for bad in [
        json!({}),
        json!({"proposal": 7}),
        json!({"proposal": good, "more": 1}),
    ] {
        post(&place.node, &token, "proposal", &bad).refused(400, "invalid_param");
    }
    let huge = json!({"proposal": good, "more": "x".repeat(64 * 1024)});
    post(&place.node, &token, "proposal", &huge).refused(413, "payload_too_large");
    assert_eq!(place.federation(["status"])["asked"], 0);
    for _ in 0..2 {
        assert_eq!(offer(&good, &token).ok()["standing"], "asked");
    }
    // Whoever offered it cannot accept it, and nobody else knows of it.
    let accept = |by: &Liar, token: &str, about: &Proposal| {
        let id = by.keypair.public().agent_id();
        let said = Statement::sign(&by.keypair, about, Word::Accepted, id, now()).unwrap();
        post(&place.node, token, "statement", &json!({"statement": said}))
    };
    accept(&liar, &token, &good).refused(422, "agreement_refused");
    accept(&other, &others, &good).refused(403, "not_yours");
    accept(&other, &others, &other.offers(&place, now())).refused(404, "unknown_agreement");
    assert_eq!(place.standing(good.id().as_str()), "asked");
    // There is no Place where it says to be: what is decided counts here, and is not told.
    let id = good.id().to_string();
    place.home.run(["federation", "accept", &id]).failed(1);
    assert_eq!(place.standing(&id), "in_effect");
    // It ends it itself, and its proposal brings nothing back.
    let ended = {
        let by = liar.keypair.public().agent_id();
        Statement::sign(&liar.keypair, &good, Word::Ended, by, now()).unwrap()
    };
    let body = json!({"statement": ended});
    assert_eq!(
        post(&place.node, &token, "statement", &body).ok()["standing"],
        "ended"
    );
    assert_eq!(offer(&good, &token).ok()["standing"], "ended");
}

#[test]
fn a_session_that_anybody_could_have_copied_says_nothing_for_a_place() {
    let home = Home::new();
    let node = TestNode::builder()
        .home(&home)
        .arg("--place")
        .set("place.write", "introduced")
        .start();
    let place = Fed { home, node };
    let liar = Liar::new();
    let body = liar.peer.registration(&Value::Null);
    let registered = Request::post("/place/v1/register")
        .json(&body)
        .send(&place.node)
        .ok();
    let token = registered["session_token"].as_str().unwrap();
    let body = json!({"proposal": liar.offers(&place, now())});
    post(&place.node, token, "proposal", &body).refused(403, "proof_required");
}

#[test]
fn another_place_at_the_same_address_is_told_nothing() {
    let (north, mut south) = (Fed::start(), Fed::start());
    let id = north.federate(&south);
    let port = south.node.address().port();
    south.node.kill();
    let other = Home::new();
    south.node = place_at(&other, port);
    north.home.run(["federation", "end", &id]).failed(1);
    let all = north.federation(["list"]);
    let trouble = all["agreements"][0]["trouble"].as_str().unwrap();
    assert!(trouble.contains("another"), "{trouble}");
}

/// Three Places in a row, what Ada left at the third, and Ben at the first.
struct Row {
    north: Fed,
    middle: Fed,
    south: Fed,
    ada: Home,
    ben: Home,
}

impl Row {
    fn start(north: Fed) -> Self {
        let (middle, south) = (Fed::start(), Fed::start());
        north.federate(&middle);
        middle.federate(&south);
        let (ada, ben) = (member(&south.node), member(&north.node));
        ada.skill("tea", TEA);
        ada.json(["place", "deposit", "tea"]);
        Self {
            north,
            middle,
            south,
            ada,
            ben,
        }
    }
}

fn checked<'v>(evidence: &'v Value, name: &str) -> &'v Value {
    let checks = evidence["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {evidence}"))
}

#[test]
fn an_agent_of_one_place_acquires_through_the_second_what_was_left_at_the_third() {
    let row = Row::start(Fed::start());
    let (north, middle, south) = (row.north.id(), row.middle.id(), row.south.id());
    let (ada, ben) = (id(&row.ada), &row.ben);
    let partners = |via: &[&str]| {
        let mut args = vec!["place", "partners"];
        args.extend(via.iter().flat_map(|id| ["--via", *id]));
        let told = ben.json(args);
        let all = told["answer"].as_array().unwrap().iter();
        let mut all: Vec<String> = all
            .map(|p| p["place_id"].as_str().unwrap().to_owned())
            .collect();
        all.sort();
        all
    };
    assert_eq!(partners(&[]), std::slice::from_ref(&middle));
    let mut both = [north.clone(), south.clone()];
    both.sort();
    assert_eq!(partners(&[&middle]), both);

    let there = ["--via", &middle, "--via", &south];
    let found = ben.json([&["place", "search", "tea"][..], &there].concat());
    assert_eq!(
        (
            &found["entries"][0]["entry"]["agent_id"],
            &found["entries"][0]["have"]
        ),
        (&json!(ada), &json!("new")),
        "{found}"
    );
    let profile = ben.json([&["place", "profile", &ada][..], &there].concat());
    assert_eq!(
        profile["answer"]["entries"][0]["skill_id"], "tea",
        "{profile}"
    );
    let key = ben.json([&["place", "key", &ada][..], &there].concat());
    let own = row.ada.json(["identity"]);
    assert_eq!(key["answer"]["public_key"], own["public_key"], "{key}");

    let came = ben.json([&["place", "acquire", "tea"][..], &there].concat());
    let evidence = &came["quarantined"]["evidence"];
    let carried = &evidence["carried"];
    let stations = carried["passage"].as_array().unwrap().iter();
    let stations: Vec<&Value> = stations.map(|station| &station["place_id"]).collect();
    assert_eq!(stations, [&json!(south), &json!(middle), &json!(north)]);
    assert_eq!(carried["facts"]["depositor"], json!(ada));
    for name in [
        "path",
        "content hash",
        "key pin",
        "depositor's signature",
        "origin",
    ] {
        assert_eq!(
            checked(evidence, name)["outcome"],
            "passed",
            "{name}: {evidence}"
        );
    }
    // What is shown can be checked by anybody, without asking anyone.
    let kept: kairos_protocol::federation::answer::Carried =
        serde_json::from_value(carried.clone()).unwrap();
    kept.verify(TEA).unwrap();
    let waiting = came["quarantined"]["id"].as_str().unwrap();
    let shown = ben.run(["quarantine", "show", waiting]).done();
    let path = format!("Path: {south} -> {middle} -> {north} -> us");
    assert!(shown.contains(&path), "{shown}");
    ben.run(["approve", "--yes", waiting]).done();
    let text = std::fs::read_to_string(ben.data_dir().join("knowledge/tea/tea.md")).unwrap();
    assert_eq!(text, TEA);

    // No way but the one that is named, none that comes back, and none without an agreement.
    let refused = |via: &[&str]| {
        let mut args = vec!["place", "acquire", "tea"];
        args.extend(via.iter().flat_map(|id| ["--via", *id]));
        ben.run(args).failed(1)
    };
    assert!(refused(&[&south]).contains("not federated with"));
    assert!(refused(&[&middle, &north]).contains("twice"));
    assert!(refused(&[&middle, &south, &middle]).contains("twice"));
    let unknown = ben
        .run([&["place", "acquire", "coffee"][..], &there].concat())
        .failed(1);
    assert!(unknown.contains("no skill `coffee`"), "{unknown}");
    let all = row.south.federation(["list"]);
    let agreement = all["agreements"][0]["agreement"].as_str().unwrap();
    row.south.federation(["end", agreement]);
    assert!(refused(&[&middle, &south]).contains("not federated with"));
}

#[test]
fn what_came_through_a_place_is_left_there_as_nobodys_own() {
    let row = Row::start(Fed::with(&[("place.accept_federated", "true")]));
    let (middle, south) = (row.middle.id(), row.south.id());
    let there = ["--via", &middle, "--via", &south];
    let came = row
        .ben
        .json([&["place", "acquire", "tea"][..], &there].concat());
    let waiting = came["quarantined"]["id"].as_str().unwrap();
    row.ben.run(["approve", "--yes", "--share", waiting]).done();
    // Ben says nothing of where he has it from; the Place knows.
    row.ben.json(["place", "deposit", "tea"]);
    let reader = TestPeer::new("Reader");
    let token = reader.register(&row.north.node);
    let get = |owner: &str| {
        let path = format!("/place/v1/preview/tea?owner={owner}");
        let told = Request::get(&path).token(&token).send(&row.north.node).ok();
        told["trust_metadata"]["provenance"].clone()
    };
    let origin = get(&id(&row.ben));
    assert_eq!(
        (
            &origin["is_local"],
            &origin["origin_place_id"],
            &origin["origin_agent_id"]
        ),
        (&json!(false), &json!(south), &json!(id(&row.ada)))
    );
    assert_eq!(origin["via"], json!([south, middle, row.north.id()]));
    assert_eq!(
        (&origin["hop_count"], &origin["altered"]),
        (&json!(2), &json!(false))
    );
    let key = origin["origin_public_key"].as_str().unwrap();
    let key = kairos_protocol::crypto::PublicKey::from_pem(key).unwrap();
    key.verify(TEA.as_bytes(), origin["origin_signature"].as_str().unwrap())
        .unwrap();

    // Who authored it leaves it anywhere as its own; where nothing from elsewhere is taken, nobody else leaves it.
    row.ada.json(["place", "join", &row.north.node.url("")]);
    row.ada.json([
        "place",
        "deposit",
        "tea",
        "--place",
        &row.north.node.url(""),
    ]);
    assert_eq!(get(&id(&row.ada))["is_local"], true);
    row.ben.json(["place", "join", &row.middle.node.url("")]);
    let at_middle = [
        "place",
        "deposit",
        "tea",
        "--place",
        &row.middle.node.url(""),
    ];
    let refused = row.ben.run(at_middle).failed(1);
    assert!(
        refused.contains("does not accept federated deposits"),
        "{refused}"
    );
}

type Trick = Box<dyn Fn(Value, &mut Option<Value>) -> Value + Send + Sync>;

/// Ways to lie about an answer; what is kept of one can be shown at the next.
fn tricks(mallory: &Keypair) -> Vec<(&'static str, Trick)> {
    let id = mallory.public().agent_id();
    let key = json!(mallory.public());
    let forged = mallory.sign(b"x").unwrap();
    let change = |pointer: &'static str, value: Value| -> Trick {
        Box::new(move |mut told, _| {
            *told.pointer_mut(pointer).unwrap() = value.clone();
            told
        })
    };
    vec![
        (
            "keep",
            Box::new(|told, kept| {
                *kept = Some(told.clone());
                json!({"answer": told["answer"]})
            }),
        ),
        ("replay", Box::new(|_, kept| kept.clone().unwrap())),
        ("content", change("/content", json!("Heat the pot."))),
        ("depositor", change("/answer/facts/depositor", json!(id))),
        (
            "signature",
            change("/answer/facts/depositor_signature", json!(forged)),
        ),
        (
            "depositor's key",
            change("/answer/facts/depositor_key", key.clone()),
        ),
        (
            "time",
            change("/answer/facts/deposited_at", json!("2020-01-01T00:00:00Z")),
        ),
        ("place", change("/passage/0/place_id", json!(id))),
        ("key", change("/passage/0/public_key", key)),
        ("recipient", change("/passage/0/to", json!(id))),
        (
            "no station",
            Box::new(|mut told, _| {
                told["passage"].as_array_mut().unwrap().remove(0);
                told
            }),
        ),
        (
            "one more",
            Box::new(|mut told, _| {
                let again = told["passage"][0].clone();
                told["passage"].as_array_mut().unwrap().push(again);
                told
            }),
        ),
        (
            "other member",
            Box::new(|mut told, _| {
                told["more"] = json!(1);
                told
            }),
        ),
        (
            "too long",
            Box::new(|mut told, _| {
                told["content"] = json!("x".repeat(2 << 20));
                told
            }),
        ),
        ("something else", Box::new(|_, _| json!({"entries": []}))),
    ]
}

/// Has `between` play each trick on every answer, and `take` find nothing of it.
fn nothing_passes(between: &Between, ben: &Home, take: &[&str]) {
    let mallory = Keypair::generate().unwrap();
    let kept = std::sync::Arc::new(std::sync::Mutex::new(None));
    for (name, trick) in tricks(&mallory) {
        let kept = std::sync::Arc::clone(&kept);
        between.play(move |asked, forward| -> Answer {
            let (status, told) = forward();
            match asked.what.as_str() {
                "POST /place/v1/federation/ask" if status == 200 => {
                    (200, trick(told, &mut kept.lock().unwrap()))
                }
                _ => (status, told),
            }
        });
        ben.run(take.iter().copied()).failed(1);
        let waiting = ben.json(["quarantine"]);
        assert_eq!(waiting["waiting"], json!([]), "{name}");
    }
    between.be_honest();
    ben.run(take.iter().copied()).done();
}

#[test]
fn a_place_in_between_that_lies_to_the_next_one_is_found_out() {
    let (north, south) = (Fed::start(), Fed::start());
    let between = Between::start(&south.node);
    north.federate_at(&between.server.url(), &south);
    let (ada, ben) = (member(&south.node), member(&north.node));
    ada.skill("tea", TEA);
    ada.json(["place", "deposit", "tea"]);
    nothing_passes(
        &between,
        &ben,
        &["place", "acquire", "tea", "--via", &south.id()],
    );
}

#[test]
fn a_place_that_lies_to_its_own_agent_is_found_out() {
    let (north, south) = (Fed::start(), Fed::start());
    north.federate(&south);
    let between = Between::start(&north.node);
    let (ada, ben) = (member(&south.node), Home::initialized());
    ben.json(["place", "join", &between.server.url()]);
    ada.skill("tea", TEA);
    ada.json(["place", "deposit", "tea"]);
    nothing_passes(
        &between,
        &ben,
        &["place", "acquire", "tea", "--via", &south.id()],
    );
}

#[test]
fn only_a_partner_asks_in_the_name_of_others() {
    let (north, south) = (Fed::start(), Fed::start());
    north.federate(&south);
    let agent = TestPeer::new("Agent");
    let token = agent.register(&south.node);
    let ask = |path: Value, route: Value| {
        let body = json!({
            "journey": {"path": path, "route": route}, "nonce": "0".repeat(64), "ask": {"what": "places"},
        });
        post(&south.node, &token, "ask", &body)
    };
    ask(json!([]), json!([])).ok();
    ask(json!([agent.id()]), json!([])).refused(403, "not_federated");
    ask(json!([north.id()]), json!([])).refused(403, "not_federated");
    ask(json!([]), json!([south.id()])).refused(409, "no_way");
    ask(json!([]), json!(["a", "b", "c", "d"])).refused(409, "no_way");
    ask(json!([]), json!(["a"])).refused(403, "not_federated");
    ask(json!([]), json!("a")).refused(400, "invalid_param");
}

#[test]
fn a_place_that_shows_each_partner_another_history_is_convicted_by_what_they_tell_each_other() {
    let north = Fed::with(&[("place.watch", "1s")]);
    let (middle, mut south) = (Fed::start(), Fed::start());
    north.federate(&middle);
    middle.federate(&south);
    for n in 0..3 {
        south
            .home
            .run(["chain", "record", &format!("entry {n}")])
            .done();
    }
    // The middle sees the one history, the north another one, which alone has nothing wrong with it.
    let port = south.node.address().port();
    let met = south.home.json(["meet", &middle.node.url("")]);
    assert_eq!(checked(&met, "our ledger")["outcome"], "passed", "{met}");
    assert!(south.node.stop().success());
    rewrite(&south.home, 7);
    south.node = place_at(&south.home, port);
    north.federate(&south);
    let fork = eventually("the north has evidence", || {
        let all = north.federation(["list"]);
        let all = all["agreements"].as_array().unwrap().clone();
        let of = all.into_iter().find(|a| a["place"] == json!(south.id()))?;
        of["ledger"]["fork"].as_str().map(str::to_owned)
    });
    let proven = verify(&["--json", "fork", &fork], &north.home).json();
    assert_eq!(proven["agent"], json!(south.id()));
    assert_eq!(
        (&proven["first_blocks"], &proven["second_blocks"]),
        (&json!(4), &json!(7)),
        "{proven}"
    );
    // Nothing more goes there, and nothing comes from there.
    let ben = member(&north.node);
    let refused = ben
        .run(["place", "partners", "--via", &south.id()])
        .failed(1);
    assert!(refused.contains("not federated with"), "{refused}");
    let told = south
        .home
        .run(["place", "partners", "--place", &north.node.url("")])
        .failed(1);
    assert!(told.contains("two_histories"), "{told}");
}

#[test]
fn a_sealed_message_is_handed_over_to_the_place_of_its_recipient_and_read_once() {
    let row = Row::start(Fed::start());
    let (middle, south) = (row.middle.id(), row.south.id());
    let there = ["--via", &middle, "--via", &south];
    let ada = id(&row.ada);
    let text = "the pot is behind the blue door";
    let send = [&["place", "message", "send", &ada, text][..], &there].concat();
    let sent = row.ben.json(send.clone());
    assert_eq!(
        (&sent["envelope"], &sent["repeated"]),
        (&json!(2), &json!(false)),
        "{sent}"
    );
    // Whoever does not know what became of a message sends it again under its name.
    let name = sent["message_id"].as_str().unwrap();
    let again = row.ben.json([&send[..], &["--id", name]].concat());
    assert_eq!(again["repeated"], true);
    for place in [&row.north, &row.middle, &row.south] {
        for (path, bytes) in place.home.files() {
            let seen = bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            assert!(!seen, "{} holds the message", path.display());
        }
    }
    let [message]: [Value; 1] = read(&row.ada).try_into().unwrap();
    assert_eq!(
        (&message["payload"], &message["from"], &message["strength"]),
        (&json!(text), &json!(id(&row.ben)), &json!("proven"))
    );
    assert!(read(&row.ada).is_empty(), "it is read once");

    let nobody = [&["place", "message", "send", "nobody", "x"][..], &there].concat();
    let refused = row.ben.run(nobody).failed(1);
    assert!(refused.contains("no key of the agent"), "{refused}");
}

#[test]
fn a_place_that_keeps_back_the_acknowledgement_makes_no_message_come_twice() {
    let (north, south) = (Fed::start(), Fed::start());
    let between = Between::start(&south.node);
    north.federate_at(&between.server.url(), &south);
    let (ada, ben) = (member(&south.node), member(&north.node));
    between.play(|asked, forward| -> Answer {
        let answer = forward();
        match asked.body["ask"]["what"] == "deliver" {
            true => (503, json!({"error": "busy", "message": "no"})),
            false => answer,
        }
    });
    let (to, via) = (id(&ada), south.id());
    let told = ben
        .run(["place", "message", "send", &to, "once", "--via", &via])
        .failed(1);
    let name = told.split("--id ").nth(1).unwrap();
    let name: String = name.chars().take_while(char::is_ascii_hexdigit).collect();
    between.be_honest();
    let again = [
        "place", "message", "send", &to, "once", "--via", &via, "--id", &name,
    ];
    assert_eq!(ben.json(again)["repeated"], true);
    assert_eq!(read(&ada).len(), 1);
    assert!(read(&ada).is_empty());
}

#[test]
fn nobody_writes_as_somebody_else_through_another_place() {
    let (north, south) = (Fed::start(), Fed::start());
    north.federate(&south);
    let ada = member(&south.node);
    let (liar, other) = (Liar::new(), Liar::new());
    let token = liar.peer.register(&north.node);
    let letter = |from: &Liar, key: &Liar| {
        let blob = "QUJD";
        let hash = kairos_protocol::hash::ContentHash::of(blob);
        json!({
            "what": "deliver", "letter": {
                "to": id(&ada), "from": from.keypair.public().agent_id(), "from_key": key.keypair.public(),
                "id": "0".repeat(32), "kind": "message", "blob": blob, "blob_hash": format!("sha256:{hash}"),
            },
        })
    };
    let ask = |ask: Value| {
        let body = json!({
            "journey": {"path": [], "route": [south.id()]}, "nonce": "0".repeat(64), "ask": ask,
        });
        post(&north.node, &token, "ask", &body)
    };
    ask(letter(&other, &other)).refused(403, "not_yours");
    ask(letter(&liar, &other)).refused(409, "other_place_refused");
    ask(letter(&liar, &liar)).ok();
}
