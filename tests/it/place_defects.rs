//! Defects seen in Meeting Places of the reference, by the numbers of a list made of them, and why ours has none of them.
//!
//! | Number | What goes wrong there | Here |
//! |---|---|---|
//! | 1 | a copied introduction is as good as its author | `defect_01_…` |
//! | 2 | the signed id is not compared with the claimed one | `place::nobody_takes_over_an_agent_by_registering_in_its_name` |
//! | 3 | a registration without a signature replaces name and key | the same, and `defect_3_…` of the machine |
//! | 4 | anybody removes anybody, the Place included | `defect_04_…`, and `defect_4_…` of the machine |
//! | 5 | signed bytes depend on a library's order of members | `defect_05_…` |
//! | 6 | ids derive from texts of settings, and one process has two | `defect_06_…` |
//! | 7 | the last word of a path chooses what is asked of the caller | `defect_07_…` |
//! | 8 | quotas count the wrong action | no actions are counted but attempts to deposit: `quotas_and_attempts_are_bounded` of the machine |
//! | 9 | registrations are not limited, and a header tells who asks | `defect_09_…` |
//! | 10 | tokens of two doors are taken for each other | `defect_10_…` |
//! | 11 | the Place that was started is not attached to the server | `defect_11_…` |
//! | 12 | declaring and observing fail and print every setting | `defect_12_…` |
//! | 13 | a client is told it is connected, and is not | `defect_13_…` |
//! | 14 | each call has a chain of its own, which ends with it | `defect_14_…` |
//! | 15 | keys are forgotten at a restart | `defect_15_…` |
//! | 16 | nobody ever fades, and a full Place refuses those it knows | `defect_16_…`, and `defect_16_…` of the machine |
//! | 17 | settings that nothing reads | a setting is a member of a struct, and a name that is none ends the start: `serving::an_unknown_setting_keeps_it_from_starting` |
//! | 18 | the hash of a relayed text cannot be anchored | `anchors_meetings_as_the_reference_does` of `protocol` |
//! | 19 | names of members are of two kinds, and nested members have no order | one kind; what is nested keeps its order, which the hash of the reference is over |
//! | 20 | a corrupt file is replaced by an empty one, a migration compares nothing | `what_cannot_be_read_is_never_replaced`, `migrates_with_every_content_compared_and_leaves_the_source` of `actors` |
//! | 21 | files lie below the working directory | `defect_21_…` |
//! | 22 | the query is ignored | `transcripts`, the cases of `browse` |
//! | 23 | nonsense is an error of the server, and nothing has a bound | `defect_23_…` |
//! | 24 | what came from another Place becomes local | `defect_24_…` of the machine |
//! | 25, 26, 27 | a page that fails, scores that are 0, payments that cannot be verified | there are no pages, scores or payments |
//! | 28 | two ids share a file | `defect_28_…` |
//! | 29 | how popular a skill is, on a board without ranks | `defect_29_…` |
//! | 30 | documents and code disagree | `docs` runs what is documented |
//! | 31 | envelopes without a sender, and no secrecy after a theft | version 2 of the envelope: `relay::version_2` of `protocol` |
//! | 32 | a relay without a lock | `defect_32_…`, `place::a_sealed_message_waits_for_its_recipient_over_a_kill_and_is_read_by_nobody_else`, `place::a_flood_fills_its_own_share_of_a_box_and_no_more` |
//! | 33 | gas too low, hashes that anybody may record first | there are no public chains |
//! | 34 | no witnesses, no Place that finds another | `proofs::agents_cosign_each_others_checkpoints`; the rest is still to come |

use std::fs;

use kairos_node::clock::SystemClock;
use kairos_protocol::time::Clock as _;
use kairos_tests::{Call, Home, Reply, Request, TestNode, TestPeer, eventually};
use serde_json::{Value, json};

use crate::place::{deposit, letter, place, proven, register, registration};

fn post(node: &TestNode, token: &str, path: &str, body: &Value) -> Reply {
    Request::post(path).token(token).json(body).send(node)
}

fn get(node: &TestNode, token: &str, path: &str) -> Reply {
    Request::get(path).token(token).send(node)
}

/// Registers as an agent of the reference does, and returns the token.
fn introduced(node: &TestNode, peer: &TestPeer) -> String {
    let answer = register(node, &registration(peer, &Value::Null));
    assert_eq!(answer["session_strength"], "introduced", "{answer}");
    answer["session_token"].as_str().unwrap().to_owned()
}

/// A Place where those may write who can show no more than agents of the reference.
fn trusting() -> TestNode {
    TestNode::builder()
        .arg("--place")
        .set("place.write", "introduced")
        .start()
}

#[test]
fn defect_01_a_replayed_registration_gives_no_proven_session() {
    let node = place();
    let owner = TestPeer::new("Owner");
    let asks = json!({"nonce": "00".repeat(32)});
    let asked = register(&node, &registration(&owner, &asks));
    let (challenge, at) = (&asked["possession"], SystemClock.now());
    let nonce = challenge["nonce"].as_str().unwrap();
    let audience = challenge["audience"].as_str().unwrap();
    let proof = json!({"proof": owner.proof(audience, nonce, at)});
    let sent = registration(&owner, &proof);
    assert_eq!(register(&node, &sent)["session_strength"], "proven");
    // Whoever read that, and sends it again, is refused or no stronger than any copy.
    let again = Request::post("/place/v1/register").json(&sent).send(&node);
    if again.status == 200 {
        assert_eq!(again.json()["session_strength"], "introduced");
    }
    let copy = introduced(&node, &owner);
    let body = deposit(&owner, "words", "x");
    post(&node, &copy, "/place/v1/deposit", &body).refused(403, "proof_required");
    // A proof made for one Place says nothing at another.
    let other = place();
    let elsewhere = Request::post("/place/v1/register").json(&sent).send(&other);
    assert_ne!(elsewhere.status, 500);
    if elsewhere.status == 200 {
        assert_eq!(elsewhere.json()["session_strength"], "introduced");
    }
}

#[test]
fn defect_04_a_token_acts_for_nobody_but_its_agent() {
    let node = place();
    let (victim, other) = (TestPeer::new("Victim"), TestPeer::new("Other"));
    let (own, token) = (proven(&node, &victim), proven(&node, &other));
    post(
        &node,
        &own,
        "/place/v1/deposit",
        &deposit(&victim, "words", "x"),
    )
    .ok();
    let info = Request::get("/place/v1/info").send(&node).ok();
    let needs = json!({"agent_id": victim.id(), "needs": [{"name": "spoof"}]});
    post(&node, &token, "/place/v1/board/needs", &needs).refused(403, "not_yours");
    for id in [victim.id(), info["place_id"].as_str().unwrap()] {
        let body = json!({"agent_id": id});
        post(&node, &token, "/place/v1/unregister", &body).refused(403, "not_yours");
        Request::new("DELETE", "/place/v1/board/needs")
            .token(&token)
            .json(&body)
            .send(&node)
            .refused(403, "not_yours");
    }
    let reason = json!({"reason": "r"});
    Request::new("DELETE", "/place/v1/deposit/words")
        .token(&token)
        .json(&reason)
        .send(&node)
        .refused(404, "not_found");
    let now = Request::get("/place/v1/info").send(&node).ok();
    assert_eq!(now["registered_agents"], info["registered_agents"]);
    get(&node, &token, "/place/v1/skill_content/words").ok();
}

#[test]
fn defect_05_either_order_of_the_signed_members_opens_a_session() {
    let node = place();
    for sorted in [false, true] {
        let peer = TestPeer::new("Agent");
        let text = |sorted: bool| {
            let (name, id) = (json!("Agent"), json!(peer.id()));
            match sorted {
                true => format!("{{\"instance_id\":{id},\"name\":{name},\"scope\":\"general\"}}"),
                false => format!("{{\"name\":{name},\"scope\":\"general\",\"instance_id\":{id}}}"),
            }
        };
        // Sent as an agent of the reference writes it, signed as either of its libraries does.
        let body = format!(
            "{{\"id\":{},\"name\":\"Agent\",\"public_key\":{},\"identity\":{},\"identity_signature\":{}}}",
            json!(peer.id()),
            peer.introduction()["public_key"],
            text(false),
            json!(peer.sign(text(sorted).as_bytes())),
        );
        let answer = Request::post("/place/v1/register")
            .body(body)
            .send(&node)
            .ok();
        assert_eq!(answer["identity_verified"], true, "{answer}");
        assert!(answer["session_token"].is_string(), "{answer}");
    }
}

#[test]
fn defect_06_an_id_comes_from_the_key_and_a_process_has_one() {
    let homes = [Home::initialized(), Home::initialized()];
    let ids = homes.each_ref().map(|home| {
        let node = TestNode::builder().home(home).arg("--place").start();
        let met = Request::get("/meeting/v1/introduce").send(&node).ok();
        let id = met["identity"]["instance_id"].as_str().unwrap().to_owned();
        let info = Request::get("/place/v1/info").send(&node).ok();
        assert_eq!(info["place_id"], *id);
        let token = introduced(&node, &TestPeer::new("Agent"));
        let agents = get(&node, &token, "/place/v1/agents").ok();
        assert_eq!(
            (&agents["agents"][0]["id"], &agents["agents"][0]["is_self"]),
            (&json!(id), &json!(true))
        );
        let key = get(&node, &token, &format!("/place/v1/keys/{id}")).ok();
        assert_eq!(key["public_key"], met["public_key"]);
        // Nor does it change with the settings.
        drop(node);
        let node = TestNode::builder()
            .home(home)
            .set("identity.name", "Renamed")
            .start();
        let met = Request::get("/meeting/v1/introduce").send(&node).ok();
        assert_eq!(met["identity"]["instance_id"], *id);
        id
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn defect_07_no_word_in_a_path_opens_what_is_closed() {
    let node = place();
    let (author, reader) = (TestPeer::new("Author"), TestPeer::new("Reader"));
    let token = proven(&node, &author);
    let reads = introduced(&node, &reader);
    let words = ["unregister", "browse", "info", "register", "keys"];
    for word in words {
        let body = deposit(&author, word, "x");
        post(&node, &token, "/place/v1/deposit", &body).ok();
    }
    for word in words {
        let path = format!("/place/v1/deposit/{word}");
        let body = deposit(&reader, word, "y");
        for method in ["PUT", "DELETE"] {
            let send = |request: Request| request.json(&body).send(&node);
            send(Request::new(method, &path)).refused(401, "authentication_required");
            send(Request::new(method, &path).token(&reads)).refused(403, "proof_required");
        }
        let path = format!("/place/v1/skill_content/{word}");
        Request::get(&path)
            .send(&node)
            .refused(401, "authentication_required");
        assert_eq!(get(&node, &reads, &path).ok()["content"], "x");
    }
}

#[test]
fn defect_09_registrations_of_an_address_are_limited_whatever_a_header_says() {
    let node = TestNode::builder()
        .arg("--place")
        .set("limits.new_peers_per_address", "3")
        .start();
    let answers: Vec<Reply> = (0..5)
        .map(|n| {
            Request::post("/place/v1/register")
                .header("x-real-ip", &format!("192.0.2.{n}"))
                .header("x-forwarded-for", &format!("192.0.2.{n}"))
                .json(&json!({"id": format!("agent-{n}"), "name": "Agent"}))
                .send(&node)
        })
        .collect();
    answers[0].ok();
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert!(refused >= 1, "{answers:?}");
    let info = Request::get("/place/v1/info").send(&node).ok();
    assert_eq!(info["registered_agents"], 1 + answers.len() - refused);
}

#[test]
fn defect_10_a_token_is_as_good_as_what_was_shown_for_it_at_either_door() {
    let node = place();
    let peer = TestPeer::new("Agent");
    // One that only met the agent reads at the Place, and changes nothing: it proved nothing, and is not registered.
    let met = peer.session(&node);
    get(&node, &met, "/place/v1/board/browse").ok();
    let body = deposit(&peer, "words", "x");
    post(&node, &met, "/place/v1/deposit", &body).refused(403, "proof_required");
    let node = trusting();
    let met = peer.session(&node);
    let refused = post(&node, &met, "/place/v1/deposit", &body);
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("the agent has no key here"));
    // One that registered meets the agent too, and saying goodbye ends both.
    let token = introduced(&node, &peer);
    get(&node, &token, "/meeting/v1/skills").ok();
    post(&node, &token, "/place/v1/deposit", &body).ok();
    post(&node, &token, "/meeting/v1/goodbye", &json!({})).ok();
    get(&node, &token, "/place/v1/agents").refused(401, "invalid_or_expired_token");
}

#[test]
fn defect_11_the_place_answers_as_soon_as_the_server_does() {
    let node = place();
    Request::get("/place/v1/info").send(&node).ok();
    let health = Request::get("/health").send(&node).ok();
    assert_eq!(health["place_started"], true);
}

#[test]
fn defect_12_declaring_and_observing_work_and_no_error_shows_settings() {
    let home = Home::initialized();
    let anchor = |args: &[&str]| home.run([&["anchor"], args].concat());
    anchor(&["declare", "exchange", "--text", "I share openly."]).done();
    anchor(&["observe", "agent-b", "completed", "--text", "a skill"]).done();
    for args in [
        ["declare", "nonsense", "--text", "x"].as_slice(),
        &["observe", "agent-b", "nonsense", "--text", "x"],
    ] {
        let told = anchor(args).failed(1);
        assert!(told.contains("nonsense") && told.len() < 400, "{told}");
        assert!(!told.contains("storage"), "{told}");
    }
}

#[test]
fn defect_13_who_got_no_session_is_told_so_and_why() {
    let node = place();
    let (peer, other) = (TestPeer::new("Agent"), TestPeer::new("Other"));
    // As a client of 2.2 registers whose library signs with another key than it shows.
    let mut body = registration(&peer, &Value::Null);
    body["identity_signature"] = json!(other.sign(body["identity"].to_string().as_bytes()));
    let answer = register(&node, &body);
    assert_eq!(answer["identity_verified"], false);
    assert_eq!(answer.get("session_token"), None);
    let reason = answer["reason"].as_str().unwrap();
    assert!(reason.contains("signature does not match"), "{reason}");
    // As its tool registers, which then reads without a token.
    let tool = json!({"agent_id": "kairos-1a2b", "name": "Tool", "capabilities": ["introduce"]});
    let answer = register(&node, &tool);
    let reason = answer["reason"].as_str().unwrap();
    assert_eq!(reason, "there is no identity object");
    let told = Request::get("/place/v1/agents").send(&node);
    let told = told.refused(401, "authentication_required");
    assert!(told.contains("Register first"), "{told}");
    // Neither keeps the agent from registering as it should.
    introduced(&node, &peer);
}

#[test]
fn defect_14_what_one_call_anchors_the_next_one_finds_and_a_migration_copies() {
    let home = Home::initialized();
    for n in ["1", "2", "3"] {
        home.run(["anchor", "submit", n, "--text", n]).done();
    }
    let listed = home.json(["anchor", "list"]);
    assert_eq!(listed.to_string().matches("anchor_hash").count(), 3);
    home.run(["anchor", "migrate", "1"]).done();
    let there = home.json(["--set", "anchors.backend=private", "anchor", "list"]);
    assert_eq!(there, listed);
}

#[test]
fn defect_15_a_key_is_there_after_a_kill_and_stays_pinned() {
    let home = Home::initialized();
    let start = || TestNode::builder().home(&home).arg("--place").start();
    let (owner, reader) = (TestPeer::new("Owner"), TestPeer::new("Reader"));
    let node = start();
    introduced(&node, &owner);
    node.kill();
    let node = start();
    let token = introduced(&node, &reader);
    let key = get(&node, &token, &format!("/place/v1/keys/{}", owner.id())).ok();
    assert_eq!(key["public_key"], owner.introduction()["public_key"]);
    let thief = registration(&TestPeer::claiming(owner.id()), &Value::Null);
    Request::post("/place/v1/register")
        .json(&thief)
        .send(&node)
        .refused(409, "identity_conflict");
}

#[test]
fn defect_16_who_gives_no_sign_of_life_fades_and_comes_back_to_a_full_place() {
    let node = TestNode::builder()
        .arg("--place")
        .set("place.max_agents", "2")
        .set("place.session_timeout", "1s")
        .start();
    let (first, second) = (TestPeer::new("First"), TestPeer::new("Second"));
    introduced(&node, &first);
    let agents = || {
        let info = Request::get("/place/v1/info").send(&node).ok();
        info["registered_agents"].as_u64()
    };
    eventually("the agent fades", || (agents() == Some(1)).then_some(()));
    introduced(&node, &second);
    // Full, and the first one is known by its key.
    let stranger = registration(&TestPeer::new("Third"), &Value::Null);
    let back = registration(&first, &Value::Null);
    let send = |body: &Value| Request::post("/place/v1/register").json(body).send(&node);
    eventually(
        "a stranger finds it full, and who is known does not",
        || {
            introduced(&node, &second);
            let full = send(&stranger).status == 503;
            (full && send(&back).status == 200).then_some(())
        },
    );
}

#[test]
fn defect_21_nothing_is_written_below_the_working_directory() {
    let (elsewhere, home) = (Home::new(), Home::initialized());
    let served = Call::new(["serve", "--place", "--port", "0", "--data-dir"])
        .arg(home.data_dir())
        .current_dir(elsewhere.path())
        .spawn();
    let place = home.data_dir().join("storage/place/place.db");
    eventually("the Place is there", || place.is_file().then_some(()));
    let mut served = served;
    served.kill().unwrap();
    served.wait().unwrap();
    let written: Vec<_> = fs::read_dir(elsewhere.path()).unwrap().collect();
    assert!(written.is_empty(), "{written:?}");
}

#[test]
fn defect_23_nonsense_is_the_callers_mistake_and_everything_is_bounded() {
    let node = trusting();
    let peer = TestPeer::new("Agent");
    let token = introduced(&node, &peer);
    for limit in ["-1", "abc", "99999999999999999999", "%00"] {
        let path = format!("/place/v1/board/browse?limit={limit}&search=a");
        get(&node, &token, &path).ok();
    }
    for (path, body) in [
        ("/place/v1/register", json!([])),
        ("/place/v1/register", json!({"id": "x", "name": 7})),
        ("/place/v1/register", json!({"id": "x".repeat(200)})),
        ("/place/v1/deposit", json!([1])),
        ("/place/v1/deposit", json!({"skill_id": 5})),
        ("/place/v1/unregister", json!("me")),
        ("/place/v1/relay/send", json!(null)),
        (
            "/place/v1/board/needs",
            json!({"agent_id": peer.id(), "needs": 5}),
        ),
    ] {
        let answer = post(&node, &token, path, &body);
        assert_eq!(answer.status, 400, "{path} {body}: {}", answer.text());
    }
    let long = json!({"id": peer.id(), "name": "n".repeat(2 << 20)});
    let answer = post(&node, &token, "/place/v1/register", &long);
    answer.refused(413, "payload_too_large");
    get(&node, &token, "/place/v1/agents").ok();
}

#[test]
fn defect_28_ids_that_look_alike_are_skills_of_their_own() {
    let home = Home::initialized();
    let start = || {
        TestNode::builder()
            .home(&home)
            .arg("--place")
            .set("place.write", "introduced")
            .start()
    };
    let node = start();
    let author = TestPeer::new("Author");
    let token = introduced(&node, &author);
    let ids = ["a.b", "a_b", "a/b", "a__b", "../../x", "スキル"];
    for id in ids {
        post(
            &node,
            &token,
            "/place/v1/deposit",
            &deposit(&author, id, id),
        )
        .ok();
    }
    node.kill();
    let node = start();
    let token = introduced(&node, &author);
    for id in ids {
        let encoded: String = id.bytes().map(|b| format!("%{b:02X}")).collect();
        let path = format!("/place/v1/skill_content/{encoded}");
        assert_eq!(get(&node, &token, &path).ok()["content"], id);
    }
    // And none of them is a file anywhere.
    let files = home.files();
    let named = |name: &str| {
        files
            .keys()
            .any(|path| path.to_string_lossy().contains(name))
    };
    assert!(!named("a_b") && !named("スキル"));
}

#[test]
fn defect_29_nobody_is_told_how_popular_a_skill_is() {
    let node = trusting();
    let (author, reader) = (TestPeer::new("Author"), TestPeer::new("Reader"));
    let (own, token) = (introduced(&node, &author), introduced(&node, &reader));
    let body = deposit(&author, "words", "x");
    post(&node, &own, "/place/v1/deposit", &body).ok();
    let profile = format!("/place/v1/agent_profile/{}", author.id());
    let look = || {
        [
            "/place/v1/board/browse?type=deposited_skill",
            "/place/v1/preview/words",
            &profile,
        ]
        .map(|path| {
            let mut told = get(&node, &token, path).ok();
            // Of the whole Place the number is told, as the reference does; and when it was asked changes.
            for varies in ["place_trust", "profile_generated_at"] {
                told.as_object_mut().unwrap().remove(varies);
            }
            told
        })
    };
    let before = look();
    for _ in 0..3 {
        get(&node, &token, "/place/v1/skill_content/words").ok();
    }
    assert_eq!(look(), before);
    assert!(!json!(before).to_string().contains("exchange_count"));
}

#[test]
fn defect_32_a_box_is_read_by_its_owner_alone_and_a_hash_is_that_of_its_text() {
    let node = trusting();
    let (sender, owner, thief) = (
        TestPeer::new("Sender"),
        TestPeer::new("Owner"),
        TestPeer::new("Thief"),
    );
    let (sends, owns, steals) = (
        introduced(&node, &sender),
        introduced(&node, &owner),
        introduced(&node, &thief),
    );
    let send = |body: &Value| post(&node, &sends, "/place/v1/relay/send", body);
    assert_eq!(send(&letter(&owner, "QUJD")).status, 201);
    let mut as_other = letter(&owner, "QUJE");
    as_other["from"] = json!(thief.id());
    send(&as_other).refused(403, "not_yours");
    let mut wrong = letter(&owner, "QUJF");
    wrong["blob_hash"] = letter(&owner, "QUJD")["blob_hash"].clone();
    send(&wrong).refused(400, "invalid_param");
    for verb in ["receive", "peek", "status"] {
        let path = format!("/place/v1/relay/{verb}?agent_id={}", owner.id());
        get(&node, &steals, &path).refused(403, "not_yours");
        Request::get(&path)
            .send(&node)
            .refused(401, "authentication_required");
    }
    assert_eq!(
        get(&node, &steals, "/place/v1/relay/receive").ok()["count"],
        0
    );
    // What is not acknowledged is there again; what is read for good is not.
    for _ in 0..2 {
        let kept = get(&node, &owns, "/place/v1/relay/receive?ack=explicit").ok();
        assert_eq!(kept["messages"][0]["from"], sender.id());
    }
    assert_eq!(
        get(&node, &owns, "/place/v1/relay/receive").ok()["count"],
        1
    );
    assert_eq!(
        get(&node, &owns, "/place/v1/relay/receive").ok()["count"],
        0
    );
}
