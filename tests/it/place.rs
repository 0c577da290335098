//! A Meeting Place over HTTP: agents register, show their keys, look around, leave skills and take them.

use std::ffi::OsStr;
use std::io::Read as _;

use kairos_protocol::hash::ContentHash;
use kairos_tests::{Call, Home, Request, TestNode, TestPeer};
use serde_json::{Value, json};

pub(crate) fn place() -> TestNode {
    TestNode::builder().arg("--place").start()
}

pub(crate) fn registration(peer: &TestPeer, possession: &Value) -> Value {
    peer.registration(possession)
}

pub(crate) fn register(node: &TestNode, body: &Value) -> Value {
    Request::post("/place/v1/register")
        .json(body)
        .send(node)
        .ok()
}

/// Returns the token of a proven session.
pub(crate) fn proven(node: &TestNode, peer: &TestPeer) -> String {
    peer.register(node)
}

pub(crate) fn deposit(peer: &TestPeer, skill_id: &str, content: &str) -> Value {
    json!({
        "skill_id": skill_id, "name": skill_id, "format": "markdown", "content": content,
        "content_hash": ContentHash::of(content).to_hex(), "signature": peer.sign(content.as_bytes()),
        "tags": ["t1"],
    })
}

#[test]
fn without_a_place_every_door_of_it_is_closed() {
    let node = TestNode::start();
    for path in ["/place/v1/info", "/place/v1/agents", "/place/nope"] {
        Request::get(path)
            .send(&node)
            .refused(503, "place_not_started");
    }
}

#[test]
fn an_agent_proves_itself_leaves_a_skill_and_another_one_takes_it() {
    let node = place();
    let info = Request::get("/place/v1/info").send(&node).ok();
    assert_eq!(info["registered_agents"], 1);
    let (author, reader) = (TestPeer::new("Author"), TestPeer::new("Reader"));
    let token = proven(&node, &author);
    let text = "# Words\n\nFirst.\n\n## Part\n";
    let body = deposit(&author, "words", text);
    let done = Request::post("/place/v1/deposit")
        .token(&token)
        .json(&body)
        .send(&node)
        .ok();
    assert_eq!(done["status"], "deposited");

    // Reading needs no more than a signed registration, as clients of the reference make it.
    let registered = register(&node, &registration(&reader, &Value::Null));
    let reads = registered["session_token"].as_str().unwrap();
    let get = |path: &str| Request::get(path).token(reads).send(&node);
    let found = get("/place/v1/board/browse?type=deposited_skill&tags=t1").ok();
    assert_eq!(found["entries"][0]["skill_id"], "words");
    let preview = get("/place/v1/preview/words?first_lines=1").ok();
    assert_eq!(
        (&preview["first_lines"], &preview["summary"]),
        (&json!("# Words\n"), &json!("First."))
    );
    let content = get(&format!(
        "/place/v1/skill_content/words?owner={}",
        author.id()
    ))
    .ok();
    assert_eq!(content["content"], text);
    assert_eq!(content["content_hash"], ContentHash::of(text).to_hex());
    let key = get(&format!("/place/v1/keys/{}", author.id())).ok();
    assert_eq!(key["public_key"], author.introduction()["public_key"]);
    let profile = get(&format!("/place/v1/agent_profile/{}", author.id())).ok();
    assert_eq!(profile["deposit_count"], 1);
    get("/place/v1/skill_content/nope").refused(404, "not_found");
    get("/place/v1/nope").refused(404, "not_found");

    // It may not write, nor may anybody in the name of somebody else.
    let mine = deposit(&reader, "mine", "x");
    Request::post("/place/v1/deposit")
        .token(reads)
        .json(&mine)
        .send(&node)
        .refused(403, "proof_required");
    let other = json!({"agent_id": reader.id()});
    Request::post("/place/v1/unregister")
        .token(&token)
        .json(&other)
        .send(&node)
        .refused(403, "not_yours");
    let forged = deposit(&reader, "forged", "x");
    let refused = Request::post("/place/v1/deposit")
        .token(&token)
        .json(&forged)
        .send(&node);
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.json()["reasons"],
        json!(["Signature verification failed"])
    );
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let home = Home::initialized();
    let start = || {
        TestNode::builder()
            .home(&home)
            .set("place.enabled", "true")
            .start()
    };
    let author = TestPeer::new("Author");
    let node = start();
    let token = proven(&node, &author);
    let body = deposit(&author, "words", "# Words\n");
    Request::post("/place/v1/deposit")
        .token(&token)
        .json(&body)
        .send(&node)
        .ok();
    node.kill();
    let node = start();
    let registered = register(&node, &registration(&author, &Value::Null));
    assert_eq!(registered["status"], "updated");
    let token = registered["session_token"].as_str().unwrap();
    let content = Request::get("/place/v1/skill_content/words")
        .token(token)
        .send(&node)
        .ok();
    assert_eq!(content["content"], "# Words\n");
    // Another process cannot host the same Place.
    let data = home.data_dir();
    let second = Call::new(["serve", "--port", "0", "--data-dir"])
        .arg(&data)
        .env("KAIROS_PLACE__ENABLED", "true");
    let told = second.run().failed(1);
    assert!(told.contains(" is served by process "), "{told}");
}

#[test]
fn nobody_takes_over_an_agent_by_registering_in_its_name() {
    let node = place();
    let (owner, thief) = (TestPeer::new("Owner"), TestPeer::new("Thief"));
    proven(&node, &owner);
    let post = |body: &Value| Request::post("/place/v1/register").json(body).send(&node);
    // Unsigned, with another key, and with a signature over another id.
    post(&json!({"id": owner.id(), "name": "Taken over"})).refused(403, "signature_required");
    let claims = TestPeer::claiming(owner.id());
    post(&registration(&claims, &Value::Null)).refused(409, "identity_conflict");
    let mut theirs = registration(&thief, &Value::Null);
    theirs["id"] = json!(owner.id());
    post(&theirs).refused(403, "identity_mismatch");
    // A copied registration opens a session that may read, and renames nobody.
    let mut copied = registration(&owner, &Value::Null);
    copied["name"] = json!("Renamed");
    let answer = post(&copied).ok();
    assert_eq!(answer["session_strength"], "introduced");
    let token = answer["session_token"].as_str().unwrap();
    let agents = Request::get("/place/v1/agents?include_self=false")
        .token(token)
        .send(&node)
        .ok();
    assert_eq!(agents["agents"][0]["name"], "Agent");
}

#[test]
fn what_cannot_be_a_registration_is_refused_with_a_reason() {
    let node = place();
    let post = |body: Value| Request::post("/place/v1/register").json(&body).send(&node);
    post(json!({"name": "x"})).refused(400, "missing_id");
    post(json!({"id": null})).refused(400, "missing_id");
    post(json!({"id": 7})).refused(400, "invalid_param");
    post(json!({"id": ""})).refused(400, "invalid_param");
    post(json!({"id": "a", "name": 5})).refused(400, "invalid_param");
    post(json!({"id": "a", "capabilities": "all"})).refused(400, "invalid_param");
    post(json!([])).refused(400, "invalid_body");
    let unsigned =
        post(json!({"agent_id": "relay-client", "name": "x", "capabilities": ["a"]})).ok();
    assert_eq!(
        (
            &unsigned["identity_verified"],
            unsigned.get("session_token")
        ),
        (&json!(false), None)
    );
}

#[test]
fn a_backup_of_a_place_at_work_holds_what_was_acknowledged() {
    let home = Home::initialized();
    let node = TestNode::builder().home(&home).arg("--place").start();
    let author = TestPeer::new("Author");
    let token = proven(&node, &author);
    let body = deposit(&author, "words", "# Words\n");
    Request::post("/place/v1/deposit")
        .token(&token)
        .json(&body)
        .send(&node)
        .ok();
    let archive = home.path().join("place.backup");
    home.run([OsStr::new("backup"), archive.as_os_str()]).done();
    let withdrawn = json!({"reason": "later"});
    let path = "/place/v1/deposit/words";
    Request::new("DELETE", path)
        .token(&token)
        .json(&withdrawn)
        .send(&node)
        .ok();
    node.kill();
    let restored = Home::new();
    restored
        .run([OsStr::new("restore"), archive.as_os_str()])
        .done();
    let node = TestNode::builder().home(&restored).arg("--place").start();
    let again = register(&node, &registration(&author, &Value::Null));
    let token = again["session_token"].as_str().unwrap();
    let content = Request::get("/place/v1/skill_content/words")
        .token(token)
        .send(&node)
        .ok();
    assert_eq!(content["content"], "# Words\n");
}

pub(crate) fn letter(to: &TestPeer, text: &str) -> Value {
    json!({
        "to": to.id(), "message_type": "greeting", "encrypted_blob": text,
        "blob_hash": format!("sha256:{}", ContentHash::of(text).to_hex()),
    })
}

#[test]
fn a_sealed_message_waits_for_its_recipient_over_a_kill_and_is_read_by_nobody_else() {
    let home = Home::initialized();
    let start = || {
        TestNode::builder()
            .home(&home)
            .set("place.enabled", "true")
            .start()
    };
    let (sender, sleeper) = (TestPeer::new("Sender"), TestPeer::new("Sleeper"));
    let node = start();
    let token = proven(&node, &sender);
    let send = |body: &Value| {
        Request::post("/place/v1/relay/send")
            .token(&token)
            .json(body)
            .send(&node)
    };
    let sent = send(&letter(&sleeper, "QUJD"));
    assert_eq!(sent.status, 201, "{}", sent.text());
    let mut wrong = letter(&sleeper, "QUJD");
    wrong["blob_hash"] = json!(format!("sha256:{}", "0".repeat(64)));
    send(&wrong).refused(400, "invalid_param");
    let mut as_other = letter(&sleeper, "QUJD");
    as_other["from"] = json!(sleeper.id());
    send(&as_other).refused(403, "not_yours");
    let foreign = format!("/place/v1/relay/receive?agent_id={}", sleeper.id());
    Request::get(&foreign)
        .token(&token)
        .send(&node)
        .refused(403, "not_yours");
    node.kill();

    let node = start();
    let token = proven(&node, &sleeper);
    let get = |path: &str| Request::get(path).token(&token).send(&node).ok();
    assert_eq!(get("/place/v1/relay/status")["pending_count"], 1);
    let kept = get("/place/v1/relay/receive?ack=explicit");
    let message = &kept["messages"][0];
    assert_eq!(
        (&message["from"], &message["encrypted_blob"]),
        (&json!(sender.id()), &json!("QUJD"))
    );
    let ids = json!({"ids": [message["id"]]});
    let done = Request::post("/place/v1/relay/ack")
        .token(&token)
        .json(&ids)
        .send(&node)
        .ok();
    assert_eq!(done["removed"], ids["ids"]);
    assert_eq!(get("/place/v1/relay/receive")["count"], 0);
    let audit = get("/place/v1/audit");
    assert_eq!(audit["entries"][0]["action"], "ack");
    assert!(!audit.to_string().contains("QUJD"), "{audit}");
}

#[test]
fn prekeys_are_handed_out_once_and_go_with_their_agent() {
    let node = place();
    let (owner, friend) = (TestPeer::new("Owner"), TestPeer::new("Friend"));
    let (own, other) = (proven(&node, &owner), proven(&node, &friend));
    let key = |id: &str| json!({"id": id, "record": "QUJD"});
    let body = json!({"signed": key("s"), "one_time": [key("o")]});
    let post = |token: &str, path: &str, body: &Value| {
        Request::post(path).token(token).json(body).send(&node)
    };
    post(&own, "/place/v1/prekeys", &body).ok();
    let waiting = || {
        let told = Request::get("/place/v1/prekeys").token(&own).send(&node);
        told.ok()["one_time_waiting"].clone()
    };
    assert_eq!(waiting(), 1);
    let path = format!("/place/v1/prekeys/{}", owner.id());
    let take = || Request::get(&path).token(&other).send(&node);
    let first = take().ok();
    assert_eq!(
        (&first["signed"]["id"], &first["one_time"]["id"]),
        (&json!("s"), &json!("o"))
    );
    assert_eq!(
        (&take().ok()["one_time"], waiting()),
        (&Value::Null, json!(0))
    );
    let gone = json!({"agent_id": owner.id()});
    post(&own, "/place/v1/unregister", &gone).ok();
    take().refused(404, "not_found");
    post(&own, "/place/v1/prekeys", &body).refused(403, "not_registered");
}

#[test]
fn an_update_names_what_it_replaced_and_replaces_nothing_that_is_gone() {
    let node = place();
    let author = TestPeer::new("Author");
    let token = proven(&node, &author);
    let send = |method: &str, path: &str, body: &Value| {
        Request::new(method, path)
            .token(&token)
            .json(body)
            .send(&node)
    };
    let (first, second) = (
        deposit(&author, "words", "one"),
        deposit(&author, "words", "two"),
    );
    send("POST", "/place/v1/deposit", &first).ok();
    let updated = send("PUT", "/place/v1/deposit/words", &second).ok();
    assert_eq!(updated["previous_hash"], first["content_hash"]);
    assert_eq!(updated["new_hash"], second["content_hash"]);
    let content = Request::get("/place/v1/skill_content/words")
        .token(&token)
        .send(&node)
        .ok();
    assert_eq!(content["depositor_signature"], second["signature"]);
    send(
        "DELETE",
        "/place/v1/deposit/words",
        &json!({"reason": "done"}),
    )
    .ok();
    send("PUT", "/place/v1/deposit/words", &first).refused(404, "not_found");
}

#[test]
fn who_listens_hears_of_mail_and_does_not_hold_up_the_end() {
    let node = place();
    let (sender, listener) = (TestPeer::new("Sender"), TestPeer::new("Listener"));
    let (sends, hears) = (proven(&node, &sender), proven(&node, &listener));
    let mut stream = Request::get("/place/v1/relay/events")
        .token(&hears)
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
    let body = letter(&listener, "QUJD");
    let sent = Request::post("/place/v1/relay/send")
        .token(&sends)
        .json(&body)
        .send(&node);
    assert_eq!(sent.status, 201);
    until("event: mail");
    node.signal("TERM");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    // An end of the stream, and not a connection that was cut.
    assert!(
        rest.ends_with(b"0\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
    assert!(node.stop().success());
}

#[test]
fn a_flood_fills_its_own_share_of_a_box_and_no_more() {
    let node = place();
    let (flooder, friend, target) = (
        TestPeer::new("Flooder"),
        TestPeer::new("Friend"),
        TestPeer::new("Target"),
    );
    let (bad, good) = (proven(&node, &flooder), proven(&node, &friend));
    let send = |token: &str, text: &str| {
        let body = letter(&target, text);
        Request::post("/place/v1/relay/send")
            .token(token)
            .json(&body)
            .send(&node)
    };
    for n in 0..20 {
        assert_eq!(send(&bad, &format!("spam{n}")).status, 201);
    }
    send(&bad, "spam").refused(429, "relay_full");
    assert_eq!(send(&good, "hello").status, 201);
}
