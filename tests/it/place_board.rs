//! The board of a Meeting Place over HTTP: what is attested of skills, and whole SkillSets.

use std::collections::BTreeSet;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kairos_node::clock::SystemClock;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Clock as _;
use kairos_tests::{Home, Reply, Request, TestNode, TestPeer};
use serde_json::{Value, json};
use tar::EntryType;

use crate::hostile_packages::{Archive, NAME, TEXT, TOPIC, content_hash, metadata};

/// An agent with a proven session.
struct Member {
    peer: TestPeer,
    token: String,
}

impl Member {
    fn join(node: &TestNode, name: &str) -> Self {
        Self::rejoin(node, TestPeer::new(name))
    }

    fn rejoin(node: &TestNode, peer: TestPeer) -> Self {
        let register = |possession: &Value| {
            let introduction = peer.introduction_with(possession);
            let body = json!({
                "id": peer.id(), "name": "Agent", "public_key": introduction["public_key"],
                "capabilities": introduction["capabilities"], "identity": introduction["identity"],
                "identity_signature": introduction["identity_signature"],
                "possession": introduction["possession"],
            });
            let post = Request::post("/place/v1/register").json(&body);
            post.send(node).ok()
        };
        let first = register(&json!({"nonce": "00".repeat(32)}));
        let challenge = &first["possession"];
        let (nonce, audience) = (&challenge["nonce"], &challenge["audience"]);
        let proof = peer.proof(
            audience.as_str().unwrap(),
            nonce.as_str().unwrap(),
            SystemClock.now(),
        );
        let second = register(&json!({"proof": proof}));
        let token = second["session_token"].as_str().unwrap().to_owned();
        Self { peer, token }
    }

    fn get(&self, node: &TestNode, path: &str) -> Reply {
        Request::get(path).token(&self.token).send(node)
    }

    fn send(&self, node: &TestNode, method: &str, path: &str, body: &Value) -> Reply {
        Request::new(method, path)
            .token(&self.token)
            .json(body)
            .send(node)
    }

    fn post(&self, node: &TestNode, path: &str, body: &Value) -> Reply {
        self.send(node, "POST", path, body)
    }

    fn skill(&self, skill_id: &str, content: &str) -> Value {
        json!({
            "skill_id": skill_id, "name": skill_id, "format": "markdown", "content": content,
            "content_hash": ContentHash::of(content).to_hex(),
            "signature": self.peer.sign(content.as_bytes()),
        })
    }
}

impl Member {
    /// An archive as a SkillSet of this agent that says nothing wrong about it.
    fn skill_set(&self, archive: &[u8], hash: &str) -> Value {
        json!({
            "name": NAME, "version": "1.0.0", "description": "d", "content_hash": hash,
            "archive_base64": STANDARD.encode(archive), "signature": self.peer.sign(hash.as_bytes()),
            "file_list": [], "tags": ["t"], "provides": [],
        })
    }
}

fn hosted(home: &Home) -> TestNode {
    TestNode::builder()
        .home(home)
        .set("place.enabled", "true")
        .start()
}

fn told(answer: &Reply, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    answer.json()
}

#[test]
fn an_attestation_is_kept_over_a_kill_and_hidden_when_the_bytes_change() {
    let home = Home::initialized();
    let node = hosted(&home);
    let (author, reader) = (Member::join(&node, "Author"), Member::join(&node, "Reader"));
    author
        .post(&node, "/place/v1/deposit", &author.skill("sk", "# One\n"))
        .ok();
    let (id, owner) = (reader.peer.id(), author.peer.id().to_owned());
    let hash = ContentHash::of("# One\n");
    let payload = |hash: ContentHash| format!("{id}|works|sk|{owner}|{hash}|2026-01-01T00:00:00Z");
    let attest = |hash| {
        let payload = payload(hash);
        json!({
            "skill_id": "sk", "owner_agent_id": owner, "claim": "works",
            "signature": reader.peer.sign(payload.as_bytes()), "signed_payload": payload,
        })
    };
    let path = "/place/v1/board/attest";
    let kept = reader.post(&node, path, &attest(hash)).ok();
    assert_eq!(
        (&kept["valid"], &kept["status"]),
        (&json!(true), &json!("attestation_deposited"))
    );
    let wrong = told(
        &reader.post(&node, path, &attest(ContentHash::of("x"))),
        422,
    );
    assert_eq!(
        (&wrong["valid"], &wrong["error"]),
        (&json!(false), &json!("payload_mismatch"))
    );
    let twice = told(&reader.post(&node, path, &attest(hash)), 422);
    assert_eq!(twice["error"], "duplicate");
    let mut unknown = attest(hash);
    unknown["skill_id"] = json!("nope");
    let refused = told(&reader.post(&node, path, &unknown), 422);
    assert_eq!(refused["error"], "skill_not_found");
    unknown["owner_agent_id"] = json!("");
    let refused = told(&reader.post(&node, path, &unknown), 422);
    assert_eq!(refused["error"], "skill_not_found");
    reader
        .post(&node, path, &json!({"skill_id": "sk"}))
        .refused(400, "missing_fields");
    node.kill();

    let node = hosted(&home);
    let author = Member::rejoin(&node, author.peer);
    let preview = || author.get(&node, "/place/v1/preview/sk").ok()["attestations"].clone();
    let shown = preview();
    assert_eq!(shown[0]["signed_payload"], payload(hash));
    assert_eq!(shown[0]["attester_id"], id);
    let browse = "/place/v1/board/browse?type=deposited_skill";
    let listed = author.get(&node, browse).ok()["entries"][0]["attestations"].clone();
    assert_eq!(
        (&listed[0]["has_signature"], listed[0].get("signature")),
        (&json!(true), None)
    );
    let update = author.skill("sk", "# Two\n");
    author
        .send(&node, "PUT", "/place/v1/deposit/sk", &update)
        .ok();
    assert_eq!(preview(), Value::Null);
}

const DEPOSIT: &str = "/place/v1/skillset_deposit";
const WITHDRAW: &str = "/place/v1/skillset_withdraw";

#[test]
fn a_skill_set_is_there_after_a_kill_byte_for_byte_until_it_is_withdrawn() {
    let home = Home::initialized();
    let node = hosted(&home);
    let (author, reader) = (Member::join(&node, "Author"), Member::join(&node, "Reader"));
    let archive = Archive::proper().bytes();
    let (hash, size) = (content_hash(TEXT), archive.len());
    let mut body = author.skill_set(&archive, &hash);
    body["file_list"] = json!([TOPIC, "skillset.json"]);
    let done = author.post(&node, DEPOSIT, &body).ok();
    assert_eq!(
        (&done["status"], &done["file_count"], &done["content_hash"]),
        (&json!("deposited"), &json!(2), &json!(hash))
    );
    node.kill();

    let node = hosted(&home);
    let (author, reader) = (
        Member::rejoin(&node, author.peer),
        Member::rejoin(&node, reader.peer),
    );
    let browse = |query: &str| {
        let path = format!("/place/v1/skillset_browse?{query}");
        reader.get(&node, &path).ok()
    };
    let shown = browse("search=HOUSE&limit=-3");
    assert_eq!(shown["entries"][0]["archive_size_bytes"], size);
    assert_eq!(
        (&shown["total_available"], &shown["sampling"]),
        (&json!(1), &json!("all_shuffled"))
    );
    assert_eq!(browse("search=nothing")["returned"], 0);
    let get = |query: &str| reader.get(&node, &format!("/place/v1/skillset_content?{query}"));
    let got = get("name=house").ok();
    assert_eq!(got["archive_base64"], STANDARD.encode(&archive));
    assert_eq!(got["file_list"], body["file_list"]);
    assert_eq!(
        got["depositor_public_key"],
        author.peer.introduction()["public_key"]
    );
    get("").refused(400, "missing_name");
    get("name=nope").refused(404, "not_found");
    get("name=..%2F..").refused(404, "not_found");
    get("name=house&depositor=nobody").refused(404, "not_found");

    reader
        .post(&node, DEPOSIT, &reader.skill_set(&archive, &hash))
        .ok();
    let several = told(&get("name=house"), 409);
    assert_eq!(several["error"], "ambiguous");
    assert_eq!(several["depositors"].as_array().unwrap().len(), 2);
    let withdraw = |body: Value| author.post(&node, WITHDRAW, &body);
    withdraw(json!({"reason": "x"})).refused(400, "missing_name");
    withdraw(json!({"name": "house"})).refused(400, "reason_required");
    let gone = withdraw(json!({"name": "house", "reason": "outdated"})).ok();
    assert_eq!(gone["status"], "withdrawn");
    withdraw(json!({"name": "house", "reason": "again"})).refused(404, "not_found");
    assert_eq!(get("name=house").ok()["depositor_id"], reader.peer.id());
    let away = json!({"agent_id": reader.peer.id()});
    reader.post(&node, "/place/v1/unregister", &away).ok();
    get("name=house").refused(404, "not_found");
}

#[test]
fn archives_that_run_escape_or_explode_leave_nothing_behind() {
    let node = TestNode::builder()
        .arg("--place")
        .set("place.deposits_per_hour", "1000")
        .start();
    let author = Member::join(&node, "Author");
    let hash = content_hash(TEXT);
    let odd = |path: &str, kind, mode| Archive::proper().entry(path, kind, mode, b"").bytes();
    let zeros = vec![0; 8 * 1024 * 1024];
    let mut cut = Archive::proper().bytes();
    cut.truncate(cut.len() / 2);
    let cases = [
        (
            "executable_content",
            Archive::proper()
                .file("knowledge/run.md", b"#!/bin/sh\n")
                .bytes(),
        ),
        (
            "executable_content",
            Archive::proper().file("knowledge/run.RB", b"x").bytes(),
        ),
        (
            "executable_content",
            odd("house/knowledge/x.md", EntryType::Regular, 0o755),
        ),
        (
            "invalid_archive_structure",
            odd("house/knowledge/l.md", EntryType::Symlink, 0o644),
        ),
        (
            "invalid_archive_structure",
            odd("house/.hidden", EntryType::Regular, 0o644),
        ),
        (
            "path_traversal_detected",
            odd("house/../../x.md", EntryType::Regular, 0o644),
        ),
        (
            "path_traversal_detected",
            odd("/etc/x.md", EntryType::Regular, 0o644),
        ),
        (
            "archive_too_large",
            Archive::proper().file("knowledge/bomb.md", &zeros).bytes(),
        ),
        (
            "invalid_archive_structure",
            Archive::with_metadata(&metadata("other")).bytes(),
        ),
        ("invalid_archive_structure", Archive::empty().bytes()),
        ("tar_scan_failed", cut),
    ];
    for (word, archive) in cases {
        let body = author.skill_set(&archive, &hash);
        author.post(&node, DEPOSIT, &body).refused(422, word);
    }
    let with = |member: &str, value: Value| {
        let mut body = author.skill_set(&Archive::proper().bytes(), &hash);
        body[member] = value;
        author.post(&node, DEPOSIT, &body)
    };
    with("name", json!("../house")).refused(400, "invalid_name");
    with("name", Value::Null).refused(400, "invalid_name");
    with("archive_base64", json!("")).refused(400, "missing_archive");
    with("archive_base64", json!("?")).refused(400, "invalid_base64");
    with("archive_base64", json!("QUJD")).refused(400, "invalid_gzip");
    with("content_hash", json!("0".repeat(64))).refused(422, "content_hash_mismatch");
    with("signature", Value::Null).refused(422, "signature_required");
    with("signature", json!("QUJD")).refused(422, "signature_invalid");
    with("tags", json!("t")).refused(400, "invalid_param");
    with("file_list", json!([7])).refused(400, "invalid_param");
    with("description", json!({})).refused(400, "invalid_param");
    let huge = vec![b' '; 8 * 1024 * 1024];
    let sent = Request::post(DEPOSIT).token(&author.token).body(huge);
    sent.send(&node).refused(413, "payload_too_large");
    let shown = author.get(&node, "/place/v1/skillset_browse").ok();
    assert_eq!(shown["total_available"], 0);
    with("description", json!("fine")).ok();
}

#[test]
fn what_happens_on_the_board_is_anchored_as_hashes() {
    let home = Home::initialized();
    let node = hosted(&home);
    let (author, reader) = (Member::join(&node, "Author"), Member::join(&node, "Reader"));
    let path = "/place/v1/deposit/sk";
    author
        .post(&node, "/place/v1/deposit", &author.skill("sk", "# One\n"))
        .ok();
    reader.get(&node, "/place/v1/skill_content/sk").ok();
    let mut update = author.skill("sk", "# Two\n");
    update["reason"] = json!("a better word");
    let updated = author.send(&node, "PUT", path, &update).ok();
    assert_eq!(updated["chain_recorded"], "attempted");
    let said = json!({"skill_id": "sk", "owner_agent_id": author.peer.id(), "claim": "works"});
    reader.post(&node, "/place/v1/board/attest", &said).ok();
    author
        .send(&node, "DELETE", path, &json!({"reason": "private words"}))
        .ok();
    assert!(node.stop().success());
    let listed = home.json(["anchor", "list", "--limit", "100"]);
    let anchors = listed["anchors"].as_array().unwrap();
    let mut events: Vec<String> = anchors
        .iter()
        .map(|anchor| {
            let metadata = &anchor["metadata"];
            let event = metadata
                .get("direction")
                .or(metadata.get("observation_type"));
            event.unwrap().as_str().unwrap().to_owned()
        })
        .collect();
    events.sort();
    let expected = [
        "acquire",
        "attestation",
        "deposit",
        "initiated",
        "initiated",
        "update",
        "withdraw",
    ];
    assert_eq!(events, expected, "{listed}");
    assert!(!listed.to_string().contains("private words"), "{listed}");
}

#[test]
fn a_board_is_read_whole_page_by_page_over_a_restart() {
    let home = Home::initialized();
    let start = || {
        TestNode::builder()
            .home(&home)
            .arg("--place")
            .set("place.deposits_per_hour", "1000")
            .start()
    };
    let node = start();
    let author = Member::join(&node, "Author");
    for n in 0..7 {
        let body = author.skill(&format!("s{n}"), "words");
        author.post(&node, "/place/v1/deposit", &body).ok();
    }
    let first = author.get(&node, "/place/v1/deposits?limit=3").ok();
    assert_eq!(
        (&first["returned"], &first["total_available"]),
        (&json!(3), &json!(7))
    );
    node.kill();
    let node = start();
    let author = Member::rejoin(&node, author.peer);
    let mut pages = vec![first];
    while let Some(next) = pages.last().unwrap()["next"].as_str() {
        let path = format!("/place/v1/deposits?limit=3&after={next}");
        pages.push(author.get(&node, &path).ok());
    }
    let entries = pages
        .iter()
        .flat_map(|page| page["entries"].as_array().unwrap());
    let ids: Vec<_> = entries
        .map(|entry| entry["skill_id"].as_str().unwrap())
        .collect();
    assert_eq!((pages.len(), ids.len()), (3, 7));
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 7);
    let refused = |path: &str| {
        author.get(&node, path).refused(400, "invalid_param");
    };
    refused("/place/v1/deposits?after=-1");
    refused("/place/v1/deposits?type=agent");
    let sets = author.get(&node, "/place/v1/deposits?type=skillset").ok();
    assert_eq!(sets["next"], Value::Null);
    let agents = author.get(&node, "/place/v1/agents?limit=1").ok();
    let next = agents["next"].as_str().unwrap();
    let next = format!("/place/v1/agents?limit=1&after={next}");
    assert_ne!(author.get(&node, &next).ok()["agents"], agents["agents"]);
}

#[test]
fn changes_of_the_board_are_heard_by_kind_and_name() {
    let node = TestNode::builder().arg("--place").start();
    let author = Member::join(&node, "Author");
    let mut stream = Request::get("/place/v1/events")
        .token(&author.token)
        .begin(&node);
    let mut heard = String::new();
    let mut until = |word: &str| {
        let mut some = [0; 1024];
        while !heard.contains(word) {
            let count = stream.read(&mut some).unwrap();
            assert!(count > 0, "ended before {word}: {heard}");
            heard.push_str(&String::from_utf8_lossy(&some[..count]));
        }
    };
    until(": listening");
    author
        .post(
            &node,
            "/place/v1/deposit",
            &author.skill("sk", "secret words"),
        )
        .ok();
    until("\"kind\":\"deposit\"");
    let gone = json!({"agent_id": author.peer.id()});
    author.post(&node, "/place/v1/unregister", &gone).ok();
    until("\"kind\":\"withdrawal\"");
    assert!(!heard.contains("secret words"), "{heard}");
    node.signal("TERM");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(node.stop().success());
}

#[test]
fn a_request_that_is_repeated_over_a_kill_is_answered_the_same_and_done_once() {
    let home = Home::initialized();
    let node = hosted(&home);
    let author = Member::join(&node, "Author");
    let ask = |node: &TestNode, author: &Member, path: &str, body: &Value| {
        let post = Request::post(path).token(&author.token);
        post.header("Idempotency-Key", "key-1")
            .json(body)
            .send(node)
    };
    let path = "/place/v1/deposit";
    let body = author.skill("sk", "# One\n");
    let first = ask(&node, &author, path, &body).ok();
    let other = author.skill("sk", "# Two\n");
    ask(&node, &author, path, &other).refused(422, "idempotency_key_reused");
    // What came in between is not undone by a late repetition.
    author
        .send(&node, "PUT", "/place/v1/deposit/sk", &other)
        .ok();
    node.kill();
    let node = hosted(&home);
    let author = Member::rejoin(&node, author.peer);
    assert_eq!(ask(&node, &author, path, &body).ok(), first);
    let content = author.get(&node, "/place/v1/skill_content/sk").ok();
    assert_eq!(content["content"], "# Two\n");
    let needs = json!({"agent_id": author.peer.id(), "needs": [{"name": "tea"}]});
    // The same key for something else.
    ask(&node, &author, "/place/v1/board/needs", &needs).refused(422, "idempotency_key_reused");
    let post = |key: &str| {
        let post = Request::post("/place/v1/board/needs").token(&author.token);
        post.header("Idempotency-Key", key).json(&needs).send(&node)
    };
    assert_eq!(post("key-2").ok(), post("key-2").ok());
    post("a b").refused(400, "invalid_param");
}

/// Defect 7, and 23: a word of the protocol as an id changed what a request did, and odd input was an inner error.
#[test]
fn any_id_is_only_an_id_and_odd_input_is_told_so() {
    let node = TestNode::builder()
        .arg("--place")
        .set("place.deposits_per_hour", "1000")
        .start();
    let author = Member::join(&node, "Author");
    let ids = [
        ("unregister", "unregister"),
        ("a/b", "a%2Fb"),
        ("a/b", "a/b"),
        ("../ü", "..%2F%C3%BC"),
        ("100%", "100%25"),
    ];
    for (id, path) in ids {
        let body = author.skill(id, "# One\n");
        author.post(&node, "/place/v1/deposit", &body).ok();
        let content = format!("/place/v1/skill_content/{path}");
        assert_eq!(author.get(&node, &content).ok()["skill_id"], id);
        let said = json!({"skill_id": id, "owner_agent_id": author.peer.id(), "claim": "works"});
        author.post(&node, "/place/v1/board/attest", &said).ok();
        let (deposit, reason) = (
            format!("/place/v1/deposit/{path}"),
            json!({"reason": "done"}),
        );
        author.send(&node, "DELETE", &deposit, &reason).ok();
        author.get(&node, &content).refused(404, "not_found");
    }
    for path in [
        "/place/v1/deposit",
        "/place/v1/board/attest",
        "/place/v1/board/needs",
        "/place/v1/skillset_deposit",
        "/place/v1/skillset_withdraw",
    ] {
        for body in ["[]", "7", "null", "\"x\""] {
            let post = Request::post(path).token(&author.token);
            post.body(body).send(&node).refused(400, "invalid_body");
        }
        let post = Request::post(path).token(&author.token);
        post.body("{").send(&node).refused(400, "invalid_json");
    }
    for path in [
        "/place/v1/board/browse",
        "/place/v1/skillset_browse",
        "/place/v1/deposits",
        "/place/v1/agents",
    ] {
        for limit in ["-1", "x", "1e9", "99999999999999999999999999", "%00", "%FF"] {
            author.get(&node, &format!("{path}?limit={limit}")).ok();
        }
    }
}

#[test]
fn a_late_copy_of_an_older_deposit_is_refused_and_says_how_it_would_be_taken() {
    let home = Home::initialized();
    let node = hosted(&home);
    let author = Member::join(&node, "Author");
    let (one, two) = (author.skill("sk", "# One\n"), author.skill("sk", "# Two\n"));
    let tag = |content: &str| format!("\"{}\"", ContentHash::of(content));
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &Value| {
        let request = Request::new(method, path).token(&author.token);
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        request.json(body).send(&node)
    };
    let post =
        |headers: &[(&str, &str)], body: &Value| send("POST", "/place/v1/deposit", headers, body);
    let left = post(&[("if-none-match", "*")], &one);
    assert_eq!(left.status, 200, "{}", left.text());
    let told = format!("etag: {}", tag("# One\n"));
    assert!(
        left.headers.to_lowercase().contains(&told),
        "{}",
        left.headers
    );
    post(&[("if-match", &tag("# One\n"))], &two).ok();
    // The same request again is answered and does nothing; the one before is too late.
    post(&[("if-match", &tag("# One\n"))], &two).ok();
    post(&[("if-none-match", "*")], &one).refused(412, "precondition_failed");
    let stale = post(&[], &one);
    assert_eq!(stale.status, 422, "{}", stale.text());
    let reason = stale.json()["reasons"][0].as_str().unwrap().to_owned();
    assert!(
        reason.starts_with("Stale deposit") && reason.contains("If-Match"),
        "{reason}"
    );
    let content = author.get(&node, "/place/v1/skill_content/sk");
    assert_eq!(content.json()["content"], "# Two\n");
    for wrong in ["W/\"x\"", "x", ""] {
        post(&[("if-match", wrong)], &one).refused(400, "invalid_param");
    }
    let reason = json!({"reason": "old"});
    let path = "/place/v1/deposit/sk";
    send("DELETE", path, &[("if-match", &tag("# One\n"))], &reason)
        .refused(412, "precondition_failed");
    send("PUT", path, &[("if-match", "*")], &one).ok();
    send("DELETE", path, &[("if-match", &tag("# One\n"))], &reason).ok();
}
