//! Agents at several Places at once, and a Place that begins again with what a killed one left.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kairos_protocol::hash::ContentHash;
use kairos_tests::{Home, Request, TestNode, TestPeer, eventually};
use serde_json::{Value, json};

use crate::hostile_packages::{Archive, NAME, TEXT, content_hash};
use crate::membership::{TEA, awake, id, inbox, member, place, place_at, write};

/// What the record of `agent` says of the Place at `url`.
fn told_of(agent: &Home, url: &str) -> Value {
    let all = agent.json(["place", "list"]);
    let places = all.as_array().unwrap().iter();
    let mut of_it = places.filter(|place| place["url"] == url);
    of_it.next().cloned().unwrap_or(Value::Null)
}

fn knows(place: &TestNode, asker: &TestPeer, agent: &str) -> bool {
    let token = asker.register(place);
    let get = Request::get(&format!("/place/v1/agent_profile/{agent}"));
    get.token(&token).send(place).status == 200
}

#[test]
fn an_agent_lives_at_two_places_while_one_is_down_and_after_it_left_the_other() {
    let (north_host, south_host) = (Home::new(), Home::new());
    let (north, south) = (place(&north_host), place(&south_host));
    let (north_url, south_url) = (north.url(""), south.url(""));
    let (ada, cid) = (member(&north), member(&south));
    let ben = member(&north);
    let joined = ben.json(["place", "join", &south_url]);
    assert_eq!(joined["proven"], true, "{joined}");
    let to = id(&ben);
    let ben_lives = awake(&ben);
    write(&ada, &to, "from the north");
    write(&cid, &to, "from the south");
    let all_of = |wanted: &[&str]| {
        let wanted: BTreeSet<String> = wanted.iter().map(|text| (*text).to_owned()).collect();
        eventually("all is there", || {
            let got = inbox(&ben);
            let set: BTreeSet<String> = got.iter().cloned().collect();
            assert_eq!(set.len(), got.len(), "{got:?}");
            (set == wanted).then_some(())
        });
    };
    all_of(&["from the north", "from the south"]);

    // The north is down: it is told of, and the south is as it was.
    let port = north.address().port();
    north.kill();
    eventually("the trouble is told", || {
        let told = told_of(&ben, &north_url);
        told["trouble"].is_string().then_some(())
    });
    assert_eq!(told_of(&ben, &south_url)["trouble"], Value::Null);
    write(&cid, &to, "once more");
    all_of(&["from the north", "from the south", "once more"]);
    let refused = ben.run(["place", "leave", &north_url]).failed(1);
    assert!(refused.contains("no connection"), "{refused}");
    assert_eq!(ben.json(["place", "list"]).as_array().unwrap().len(), 2);

    // Back, it has its agent back, which then leaves the south.
    let north = place_at(&north_host, port);
    write(&ada, &to, "back again");
    all_of(&[
        "from the north",
        "from the south",
        "once more",
        "back again",
    ]);
    write(&cid, &to, "farewell");
    ben.run(["place", "leave", &south_url]).done();
    all_of(&[
        "from the north",
        "from the south",
        "once more",
        "back again",
        "farewell",
    ]);
    let asker = TestPeer::new("Asker");
    assert!(!knows(&south, &asker, &to), "the south let it go");
    assert!(knows(&north, &asker, &to), "the north did not");
    write(&ada, &to, "and on");
    eventually("the north goes on", || {
        inbox(&ben).contains(&"and on".to_owned()).then_some(())
    });
    eventually("nobody lives in the south any more", || {
        let log = ben_lives.log();
        (!log.is_empty() && told_of(&ben, &south_url).is_null()).then_some(())
    });
    assert!(!knows(&south, &asker, &to), "nor came back");
}

#[test]
fn a_place_that_is_gone_for_good_is_left_by_force_and_its_secrets_are_erased() {
    let hosting = Home::new();
    let gone = place(&hosting);
    let ben = member(&gone);
    let url = gone.url("");
    let prekeys = ben.data_dir().join("storage/membership/mail/prekeys.json");
    let has_secrets = || {
        let rings = std::fs::read_to_string(&prekeys).unwrap();
        rings.contains(&url)
    };
    assert!(has_secrets());
    gone.kill();
    ben.run(["place", "leave", &url]).failed(1);
    assert!(has_secrets());
    ben.run(["place", "leave", &url, "--force"]).done();
    assert_eq!(ben.json(["place", "list"]), json!([]));
    assert!(!has_secrets());
}

#[test]
fn what_is_public_goes_to_the_place_it_is_left_at_and_to_no_other() {
    let (north_host, south_host) = (Home::new(), Home::new());
    let (north, south) = (place(&north_host), place(&south_host));
    let ada = member(&north);
    ada.json(["place", "join", &south.url("")]);
    ada.skill("tea", TEA);
    let which = ada.run(["place", "deposit", "tea"]).failed(2);
    assert!(which.contains("--place"), "{which}");
    ada.json(["place", "deposit", "tea", "--place", &north.url("")]);
    let asker = TestPeer::new("Asker");
    let has_it = |place: &TestNode| {
        let get = Request::get("/place/v1/skill_content/tea").token(&asker.register(place));
        get.send(place).status == 200
    };
    assert!(has_it(&north) && !has_it(&south));
    // Left again where it is there already, it is there once.
    ada.json(["place", "deposit", "tea", "--place", &north.url("")]);
    assert!(has_it(&north));
}

/// All that a Place holds of an agent and for it, as it tells the agent.
fn all_of(node: &TestNode, token: &str, peer: &TestPeer) -> Value {
    let get = |path: &str| Request::get(path).token(token).send(node).ok();
    let me = peer.id();
    let mut profile = get(&format!("/place/v1/agent_profile/{me}"));
    let members = profile.as_object_mut().unwrap();
    members.remove("profile_generated_at");
    // Needs are for as long as the Place runs, as in the reference.
    members.remove("posted_needs");
    json!({
        "profile": profile,
        "key": get(&format!("/place/v1/keys/{me}")),
        "skill": get("/place/v1/skill_content/words"),
        "set": get(&format!("/place/v1/skillset_content?name={NAME}&depositor={me}")),
        "preview": get("/place/v1/preview/words"),
        "mail": get("/place/v1/relay/peek"),
        "prekeys": get("/place/v1/prekeys"),
        "audit": get("/place/v1/audit"),
    })
}

#[test]
fn a_server_that_was_killed_begins_again_with_all_that_its_place_had_acknowledged() {
    let home = Home::initialized();
    let node = TestNode::builder().home(&home).arg("--place").start();
    let (author, reader) = (TestPeer::new("Author"), TestPeer::new("Reader"));
    let (token, other) = (author.register(&node), reader.register(&node));
    let post = |node: &TestNode, token: &str, path: &str, body: &Value| {
        let reply = Request::post(path).token(token).json(body).send(node);
        assert!(
            (200..300).contains(&reply.status),
            "{path}: {}",
            reply.text()
        );
        reply.json()
    };
    let text = "# Words\n";
    let skill = json!({
        "skill_id": "words", "name": "words", "format": "markdown", "content": text,
        "content_hash": ContentHash::of(text).to_hex(), "signature": author.sign(text.as_bytes()),
    });
    post(&node, &token, "/place/v1/deposit", &skill);
    let hash = content_hash(TEXT);
    let set = json!({
        "name": NAME, "version": "1.0.0", "content_hash": hash,
        "archive_base64": STANDARD.encode(Archive::proper().bytes()),
        "signature": author.sign(hash.as_bytes()),
    });
    post(&node, &token, "/place/v1/skillset_deposit", &set);
    let claim = json!({"skill_id": "words", "owner_agent_id": author.id(), "claim": "works"});
    post(&node, &other, "/place/v1/board/attest", &claim);
    let prekeys = json!({"signed": {"id": "lasting", "record": STANDARD.encode([7; 64])}});
    post(&node, &token, "/place/v1/prekeys", &prekeys);
    let letter = json!({
        "id": "letter-1", "to": author.id(), "encrypted_blob": "QUJD",
        "blob_hash": format!("sha256:{}", ContentHash::of("QUJD").to_hex()),
    });
    post(&node, &other, "/place/v1/relay/send", &letter);
    home.run(["place", "ban", "203.0.113.0/24"]).done();
    let page = Request::get("/place/v1/agents?limit=1").token(&token);
    let next = page.send(&node).ok()["next"].as_str().unwrap().to_owned();
    let before = all_of(&node, &token, &author);
    // Killed before anything that is only noted in passing is stored.
    node.kill();

    let node = TestNode::builder().home(&home).arg("--place").start();
    Request::get("/place/v1/agents")
        .token(&token)
        .send(&node)
        .refused(401, "invalid_or_expired_token");
    // They are here as before, without a word of theirs.
    let agents = home.json(["place", "agents"]);
    assert_eq!(agents["agents"].as_array().unwrap().len(), 3, "{agents}");
    let (token, other) = (author.register(&node), reader.register(&node));
    let after = all_of(&node, &token, &author);
    assert_eq!(after, before);
    let again = post(&node, &other, "/place/v1/relay/send", &letter);
    assert_eq!(again["repeated"], true, "{again}");
    let path = format!("/place/v1/agents?after={next}");
    let rest = Request::get(&path).token(&token).send(&node).ok();
    assert_eq!(rest["count"], 2, "{rest}");
    let bans = home.json(["place", "bans"]);
    assert_eq!(bans["bans"].as_array().unwrap().len(), 1, "{bans}");
}
