//! Bad input over HTTP: a clear refusal in the one shape of errors, and the state as before.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use kairos_protocol::time::Timestamp;
use kairos_tests::{Home, Reply, Request, TestNode, TestPeer, connect, eventually, finish};
use serde_json::{Value, json};

const INTRODUCE: &str = "/meeting/v1/introduce";
/// Keys that somebody made elsewhere, each with a signature of its own over the identity it came with.
const WEAK_KEY: &str = include_str!("../fixtures/keys/rsa-1024.pub.pem");
const CURVE_KEY: &str = include_str!("../fixtures/keys/p-256.pub.pem");

/// A node that offers a public skill, has a private one, a good SkillSet and one with scripts.
fn host() -> (Home, TestNode) {
    let home = home();
    let node = serve(&home, &[]);
    (home, node)
}

fn home() -> Home {
    let home = Home::initialized();
    home.skill("tea", "---\npublic: true\n---\n\nWarm the pot.\n");
    home.skill("diary", "---\npublic: false\n---\n\nDear diary.\n");
    for name in ["house", "runner"] {
        let set = home.skill_set(name);
        if name == "runner" {
            fs::create_dir_all(set.join("scripts")).unwrap();
            fs::write(set.join("scripts/run.sh"), "#!/bin/sh\n").unwrap();
        }
        home.run(["skillset".as_ref(), "install".as_ref(), set.as_os_str()])
            .done();
    }
    home
}

fn serve(home: &Home, settings: &[(&str, &str)]) -> TestNode {
    let builder = TestNode::builder().home(home);
    settings
        .iter()
        .fold(builder, |builder, (key, value)| builder.set(key, value))
        .start()
}

/// A node on a fresh directory with these settings.
fn with(settings: &[(&str, &str)]) -> TestNode {
    let builder = TestNode::builder();
    settings
        .iter()
        .fold(builder, |builder, (key, value)| builder.set(key, value))
        .start()
}

fn introduce(node: &TestNode, body: &Value) -> Reply {
    Request::post(INTRODUCE).json(body).send(node)
}

#[test]
fn refuses_what_it_does_not_have_or_cannot_read_and_stays_as_it_was() {
    let (home, node) = host();
    let token = TestPeer::new("curious").session(&node);
    let before = home.state();
    let long = "x".repeat(2000);
    let get = |path: &str| Request::get(path).token(&token).send(&node);
    let post = |path: &str, body: Value| Request::post(path).token(&token).json(&body).send(&node);

    let details = |query: &str| get(&format!("/meeting/v1/skill_details{query}"));
    assert_eq!(
        details("").refused(400, "missing_param"),
        "skill_id is required"
    );
    assert_eq!(
        details("?skill_id=").refused(404, "not_found"),
        "Skill not found: "
    );
    assert_eq!(
        details("?skill_id=no").refused(404, "not_found"),
        "Skill not found: no"
    );
    assert_eq!(
        details("?skill_id=diary").refused(404, "not_found"),
        "Skill not found: diary"
    );
    details("?skill_id=%ff%00..%2f..").refused(404, "not_found");
    details(&format!("?skill_id={long}")).refused(404, "not_found");

    let sets = |query: &str| get(&format!("/meeting/v1/skillset_details{query}"));
    assert_eq!(sets("").refused(400, "missing_param"), "name is required");
    assert_eq!(
        sets("?name=no").refused(404, "not_found"),
        "SkillSet not found: no"
    );
    let runner = "SkillSet 'runner' contains executable code and cannot be exchanged";
    assert_eq!(
        sets("?name=runner").refused(403, "not_exchangeable"),
        runner
    );
    sets("?name=../../etc/passwd").refused(404, "not_found");

    for (path, member) in [("skill_content", "skill_id"), ("skillset_content", "name")] {
        let path = format!("/meeting/v1/{path}");
        let send = |body: Value| post(&path, body);
        assert_eq!(
            send(json!({})).refused(400, "missing_param"),
            format!("{member} is required")
        );
        send(json!({member: null})).refused(400, "missing_param");
        send(json!({member: "no"})).refused(404, "not_found");
        for wrong in [
            json!(1),
            json!(true),
            json!(["tea"]),
            json!({"a": 1}),
            json!(long),
        ] {
            send(json!({member: wrong})).refused(400, "invalid_param");
        }
        for body in ["[1]", "\"x\"", "1", "null", "true"] {
            let request = Request::post(&path).token(&token).body(body);
            request.send(&node).refused(400, "invalid_body");
        }
        for body in [
            &b"{"[..],
            b"{\"a\":}",
            b"\xff\xfe",
            b"{\"skill_id\":\"\xff\"}",
            b"{\"a\":NaN}",
            b"{} {}",
        ] {
            let request = Request::post(&path).token(&token).body(body);
            request.send(&node).refused(400, "invalid_json");
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let deep = Request::post(&path)
            .token(&token)
            .body(format!("{{\"a\":{deep}}}"))
            .send(&node);
        deep.refused(400, "invalid_json");
        let empty = Request::post(&path).token(&token).send(&node);
        empty.refused(400, "missing_param");
    }
    post(
        "/meeting/v1/skill_content",
        json!({"skill_id": "tea", "to": 7}),
    )
    .refused(400, "invalid_param");
    post("/meeting/v1/skill_content", json!({"skill_id": "diary"})).refused(404, "not_found");
    let said = post("/meeting/v1/skillset_content", json!({"name": "runner"}))
        .refused(403, "not_exchangeable");
    assert_eq!(
        said,
        "Only knowledge-only SkillSets can be packaged for exchange"
    );
    post(
        "/meeting/v1/message",
        json!({"action": "offer_skill", "payload": [1]}),
    )
    .refused(400, "invalid_param");
    assert_eq!(home.state(), before, "a refusal leaves nothing behind");
}

#[test]
fn private_things_and_paths_stay_inside() {
    let (home, node) = host();
    let secret = home.path().join("secret.md");
    fs::write(&secret, "---\npublic: true\n---\nhidden\n").unwrap();
    symlink(&secret, home.data_dir().join("knowledge/tea/link.md")).unwrap();
    let token = TestPeer::new("nosy").session(&node);
    let get = |path: &str| Request::get(path).token(&token).send(&node).ok();
    let post = |path: &str, body: Value| {
        Request::post(path)
            .token(&token)
            .json(&body)
            .send(&node)
            .ok()
    };
    let answers = [
        Request::get(INTRODUCE).send(&node).ok(),
        introduce(&node, &TestPeer::new("other").introduction()).ok(),
        get("/meeting/v1/skills"),
        get("/meeting/v1/skill_details?skill_id=tea"),
        post("/meeting/v1/skill_content", json!({"skill_id": "tea"})),
        get("/meeting/v1/skillsets"),
        get("/meeting/v1/skillset_details?name=house"),
        post("/meeting/v1/skillset_content", json!({"name": "house"})),
        Request::get("/health").send(&node).ok(),
    ];
    for answer in &answers {
        let text = answer.to_string();
        for leak in [
            "diary",
            "runner",
            "hidden",
            "\"path\":\"/",
            "kairos-test-",
            "PRIVATE",
            ".provenance",
        ] {
            assert!(!text.contains(leak), "`{leak}` in {text}");
        }
    }
    assert!(!answers[2].to_string().contains("\"path\""));
    assert_eq!(
        (&answers[2]["count"], &answers[5]["count"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn one_broken_skill_set_hides_no_other() {
    let (home, node) = host();
    let token = TestPeer::new("reader").session(&node);
    let sets = home.data_dir().join("skillsets");
    for (name, metadata) in [
        ("broken", "{"),
        ("liar", r#"{"name":"other","version":"1"}"#),
        ("empty", ""),
    ] {
        fs::create_dir_all(sets.join(name)).unwrap();
        fs::write(sets.join(name).join("skillset.json"), metadata).unwrap();
    }
    fs::create_dir_all(sets.join("nothing")).unwrap(); // not a SkillSet at all
    let told = home.json(["skillset", "list"]);
    assert_eq!(told["broken"].as_array().unwrap().len(), 3, "{told}");
    let listed = Request::get("/meeting/v1/skillsets")
        .token(&token)
        .send(&node)
        .ok();
    assert_eq!(listed["skillsets"][0]["name"], "house", "{listed}");
    for name in ["broken", "liar", "other", "empty", "nothing"] {
        let details = Request::get(&format!("/meeting/v1/skillset_details?name={name}"));
        details.token(&token).send(&node).refused(404, "not_found");
        let content = Request::post("/meeting/v1/skillset_content").token(&token);
        content
            .json(&json!({"name": name}))
            .send(&node)
            .refused(404, "not_found");
    }
}

#[test]
fn changes_made_by_hand_show_by_themselves() {
    let home = home();
    let node = serve(&home, &[("meeting.rescan", "100ms")]);
    let token = TestPeer::new("watcher").session(&node);
    let offers = |what: &str, name: &str| {
        let listed = Request::get("/meeting/v1/introduce").send(&node).ok();
        listed[what]
            .as_array()
            .unwrap()
            .iter()
            .any(|offer| offer["name"] == name)
    };
    let content = |name: &str| {
        let request = Request::post("/meeting/v1/skill_content").token(&token);
        request.json(&json!({"skill_id": name})).send(&node)
    };
    home.skill("coffee", "---\npublic: true\n---\nGrind.\n");
    eventually("a new skill shows", || {
        offers("skills", "coffee").then_some(())
    });
    let first = content("coffee").ok()["packaged_skill"]["content_hash"].clone();
    home.skill("coffee", "---\npublic: true\n---\nGrind finely.\n");
    eventually("a changed skill shows", || {
        (content("coffee").ok()["packaged_skill"]["content_hash"] != first).then_some(())
    });
    home.skill("coffee", "---\npublic: false\n---\nGrind.\n");
    eventually("a skill made private goes", || {
        (content("coffee").status == 404).then_some(())
    });
    fs::write(home.data_dir().join("knowledge/coffee/coffee.md"), b"\xff").unwrap();
    assert_eq!(content("coffee").status, 404);
    fs::remove_dir_all(home.data_dir().join("skillsets/house")).unwrap();
    eventually("a removed SkillSet goes", || {
        (!offers("exchangeable_skillsets", "house")).then_some(())
    });
}

#[test]
fn a_body_that_is_too_large_is_cut_off() {
    let home = home();
    let node = serve(&home, &[("limits.body", "1KiB")]);
    let token = TestPeer::new("loud").session(&node);
    let before = home.state();
    let body = json!({"reflection": "x".repeat(2000)});
    let reflect = || Request::post("/meeting/v1/reflect").token(&token);
    let said = reflect()
        .json(&body)
        .send(&node)
        .refused(413, "payload_too_large");
    assert!(said.contains("1024 bytes"), "{said}");
    // Announced, and never sent: answered all the same.
    let mut stream = reflect()
        .header("content-length", "1000000000000")
        .body("{")
        .begin(&node);
    let endless = "x".repeat(64 * 1024);
    while stream.write_all(endless.as_bytes()).is_ok() {}
    // In pieces, which announce nothing.
    let mut stream = reflect()
        .header("transfer-encoding", "chunked")
        .begin(&node);
    for _ in 0..3 {
        let _ = write!(stream, "200\r\n{}\r\n", "x".repeat(512));
    }
    finish(&mut stream).refused(413, "payload_too_large");
    assert_eq!(home.state(), before);
    reflect()
        .json(&json!({"reflection": "short"}))
        .send(&node)
        .ok();
}

#[test]
fn a_slow_sender_is_told_or_cut_off() {
    let node = with(&[("limits.body_timeout", "1s")]);
    let token = TestPeer::new("slow").session(&node);
    let paths = [
        INTRODUCE,
        "/meeting/v1/reflect",
        "/meeting/v1/skill_content",
    ];
    let begun: Vec<_> = paths
        .map(|path| {
            Request::post(path)
                .token(&token)
                .header("content-length", "100")
                .body("{")
                .begin(&node)
        })
        .into();
    let half_a_head = {
        let mut stream = connect(node.address());
        stream.write_all(b"GET /meeting/v1/introduce HT").unwrap();
        stream
    };
    for mut stream in begun {
        let reply = finish(&mut stream);
        assert!(reply.refused(408, "request_timeout").contains("1 seconds"));
    }
    // Others are served meanwhile.
    Request::get(INTRODUCE).send(&node).ok();
    // The head has a deadline of its own, ten seconds.
    let mut stream = half_a_head;
    let reply = finish(&mut stream);
    assert!(matches!(reply.status, 0 | 408), "{reply:?}");
}

#[test]
fn a_body_without_end_does_not_keep_the_connection() {
    let node = TestNode::start();
    let chunked = |method: &str, path: &str| {
        let request = Request::new(method, path).header("transfer-encoding", "chunked");
        request.body("5\r\nhello\r\n").begin(&node)
    };
    // None of these reads the body; all are answered at once, and the rest is not waited for.
    for (method, path, status) in [
        ("POST", "/meeting/v1/reflect", 401),
        ("POST", "/nothing", 404),
        ("GET", INTRODUCE, 200),
        ("GET", "/health", 200),
    ] {
        let begun = Instant::now();
        let reply = finish(&mut chunked(method, path));
        assert_eq!(reply.status, status, "{path}");
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{path}: {:?}",
            begun.elapsed()
        );
    }
    // One that ends is read, and the connection serves the next request.
    let mut stream = connect(node.address());
    let body = "5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n";
    let last = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    write!(
        stream,
        "POST {INTRODUCE} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{body}{last}"
    )
    .unwrap();
    let both = finish(&mut stream).text();
    assert!(
        both.contains("identity_verified") && both.contains("\"place_started\":false"),
        "{both}"
    );
}

#[test]
fn what_is_not_http_is_closed() {
    let node = TestNode::start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = connect(node.address());
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let reply = finish(&mut stream);
        assert!(
            matches!(reply.status, 0 | 400 | 505),
            "{bytes:?}: {reply:?}"
        );
    }
    let mut stream = Request::get("/health")
        .header("x", &"y".repeat(1 << 20))
        .begin(&node);
    let reply = finish(&mut stream);
    assert!(matches!(reply.status, 0 | 400 | 431), "{reply:?}");
    Request::get("/health").send(&node).ok();
}

#[test]
fn an_introduction_that_does_not_hold_opens_no_session() {
    let (home, node) = host();
    let peer = TestPeer::new("honest");
    let other = TestPeer::new("other");
    let private = peer.keypair.to_pem().unwrap().to_string();
    let change = |member: &str, value: Value| {
        let mut body = peer.introduction();
        body[member] = value;
        body
    };
    let mut renamed = peer.introduction();
    renamed["identity"]["name"] = json!("somebody else");
    let before = home.state();
    for (body, reason) in [
        (json!({}), "there is no identity object"),
        (json!({"identity": "x"}), "there is no identity object"),
        (json!({"identity": [1]}), "there is no identity object"),
        (json!({"identity": {}}), "identity.instance_id is missing"),
        (change("public_key", Value::Null), "there is no public_key"),
        (change("public_key", json!("x")), "public_key: "),
        (change("public_key", json!(private)), "private"),
        (change("public_key", json!(WEAK_KEY)), "2048"),
        (change("public_key", json!(CURVE_KEY)), "public_key: "),
        (
            change("public_key", json!(other.signed.public_key)),
            "identity_signature: ",
        ),
        (
            change("public_key", json!("x".repeat(900_000))),
            "public_key: ",
        ),
        (
            change("identity_signature", Value::Null),
            "there is no identity_signature",
        ),
        (
            change("identity_signature", json!("!")),
            "identity_signature: ",
        ),
        (
            change("identity_signature", json!(other.signed.signature)),
            "identity_signature: ",
        ),
        (renamed, "identity_signature: "),
        (
            change("identity", json!({"instance_id": "a\nb"})),
            "identity.instance_id",
        ),
        (
            change("identity", json!({"instance_id": "x".repeat(200)})),
            "identity.instance_id",
        ),
        (
            change("identity", json!({"instance_id": 7})),
            "identity.instance_id is missing",
        ),
    ] {
        let reply = introduce(&node, &body).ok();
        assert_eq!(
            (&reply["identity_verified"], reply.get("session_token")),
            (&json!(false), None)
        );
        assert!(
            reply["reason"].as_str().unwrap().contains(reason),
            "`{reason}`: {}",
            reply["reason"]
        );
        assert!(
            !reply["reason"].as_str().unwrap().contains("PRIVATE KEY"),
            "{}",
            reply["reason"]
        );
    }
    for body in ["[1]", "x", "\"x\""] {
        let reply = Request::post(INTRODUCE).body(body).send(&node);
        let code = if body == "x" {
            "invalid_json"
        } else {
            "invalid_body"
        };
        reply.refused(400, code);
    }
    assert_eq!(home.state(), before, "nobody became known");
}

#[test]
fn an_id_stays_with_the_key_it_came_with() {
    let (home, node) = host();
    let peer = TestPeer::new("first");
    let token = peer.session(&node);
    let thief = TestPeer::claiming(peer.id());
    for _ in 0..3 {
        thief.knock(&node).refused(409, "identity_conflict");
        let shown = home.json(["peers", "show", peer.id()]);
        assert_eq!(shown["public_key"], peer.signed.public_key.as_str());
        assert_eq!(
            shown["conflict"]["key_fingerprint"],
            thief.signed.key_fingerprint.as_str()
        );
    }
    Request::get("/meeting/v1/skills")
        .token(&token)
        .send(&node)
        .ok();
    assert!(home.run(["peers", "list"]).done().contains("CONFLICT"));
    assert!(
        home.run(["peers", "show", peer.id()])
            .done()
            .contains("CONFLICT")
    );

    // The owner decides; the server learns of it.
    home.json(["peers", "resolve", peer.id(), "--keep"]);
    assert_eq!(
        home.json(["peers", "show", peer.id()])["conflict"],
        Value::Null
    );
    let fingerprint = eventually("it is told of the next attempt", || {
        thief.knock(&node).refused(409, "identity_conflict");
        let shown = home.json(["peers", "show", peer.id()]);
        Some(shown["conflict"]["key_fingerprint"].as_str()?.to_owned())
    });
    home.run(["peers", "resolve", peer.id(), "--accept", "00:11"])
        .failed(1);
    home.json(["peers", "resolve", peer.id(), "--accept", &fingerprint]);
    eventually("the new key is known to the server", || {
        (thief.knock(&node).status == 200).then_some(())
    });
    peer.knock(&node).refused(409, "identity_conflict");
}

#[test]
fn its_own_introduction_coming_back_is_a_replay() {
    let (home, node) = host();
    let own = Request::get(INTRODUCE).send(&node).ok();
    let before = home.state();
    introduce(&node, &own).refused(409, "own_identity");
    let id = own["identity"]["instance_id"].as_str().unwrap();
    introduce(&node, &TestPeer::claiming(id).introduction()).refused(409, "own_identity");
    assert_eq!(home.state(), before);
}

#[test]
fn a_challenge_is_answered_once_by_its_holder_for_this_node_and_in_time() {
    let (_home, node) = host();
    let now = || {
        Timestamp::parse(
            Request::get(INTRODUCE).send(&node).ok()["timestamp"]
                .as_str()
                .unwrap(),
        )
        .unwrap()
    };
    let asking = json!({"nonce": "0".repeat(64)});
    let peer = TestPeer::new("prover");
    let challenge = || {
        let reply = introduce(&node, &peer.introduction_with(&asking)).ok();
        assert_eq!(reply["session_strength"], "introduced");
        let audience = reply["possession"]["audience"].as_str().unwrap().to_owned();
        (
            reply["possession"]["nonce"].as_str().unwrap().to_owned(),
            audience,
        )
    };
    let answer = |peer: &TestPeer, audience: &str, nonce: &str, at: Timestamp| {
        introduce(
            &node,
            &peer.introduction_with(&json!({"proof": peer.proof(audience, nonce, at)})),
        )
    };
    let (nonce, audience) = challenge();
    answer(&peer, "somebody", &nonce, now()).refused(401, "invalid_proof");
    let (minute, hour) = (61, 3600);
    for seconds in [minute, hour] {
        let late = Timestamp::from_secs(now().as_secs() - seconds);
        answer(&peer, &audience, &nonce, late).refused(401, "invalid_proof");
        let early = Timestamp::from_secs(now().as_secs() + seconds + 5);
        answer(&peer, &audience, &nonce, early).refused(401, "invalid_proof");
    }
    answer(&peer, &audience, &"0".repeat(64), now()).refused(401, "invalid_proof");
    answer(&TestPeer::new("thief"), &audience, &nonce, now()).refused(401, "invalid_proof");
    let mut forged =
        peer.introduction_with(&json!({"proof": peer.proof(&audience, &nonce, now())}));
    forged["possession"]["proof"]["nonce"] = json!("1".repeat(64));
    introduce(&node, &forged).refused(401, "invalid_proof");

    // Failures did not use it up; success does.
    let proof = peer.introduction_with(&json!({"proof": peer.proof(&audience, &nonce, now())}));
    assert_eq!(introduce(&node, &proof).ok()["session_strength"], "proven");
    introduce(&node, &proof).refused(401, "invalid_proof");
    // A malformed member is that of a peer which does not know it.
    for member in [json!("x"), json!({"nonce": "short"}), json!({"proof": 1})] {
        let reply = introduce(&node, &peer.introduction_with(&member)).ok();
        assert_eq!(
            (&reply["session_strength"], reply.get("possession")),
            (&json!("introduced"), None)
        );
    }
}

#[test]
fn what_needs_a_proof_is_refused_without_one() {
    let node = with(&[("sessions.message", "proven")]);
    let token = TestPeer::new("introduced").session(&node);
    Request::get("/meeting/v1/skills")
        .token(&token)
        .send(&node)
        .ok();
    for path in ["reflect", "request_skill", "message"] {
        let request = Request::post(&format!("/meeting/v1/{path}")).token(&token);
        request
            .json(&json!({"action": "reflect"}))
            .send(&node)
            .refused(403, "proof_required");
    }
    let node = with(&[("sessions.read", "proven")]);
    let token = TestPeer::new("introduced").session(&node);
    Request::get("/meeting/v1/skills")
        .token(&token)
        .send(&node)
        .refused(403, "proof_required");
}

#[test]
fn without_a_good_token_nothing_is_told() {
    let node = with(&[("sessions.ttl", "1s")]);
    let peer = TestPeer::new("guest");
    let expired = peer.session(&node);
    let bare = |header: &str| {
        let request = Request::get("/meeting/v1/skills");
        let request = if header.is_empty() {
            request
        } else {
            request.header("authorization", header)
        };
        request.send(&node)
    };
    let none = "Bearer token required. Use POST /meeting/v1/introduce to obtain a session token.";
    for header in [
        "",
        "Bearer",
        "Bearer ",
        "bearer abc",
        "Basic abc",
        &format!("Bearer {}", "x".repeat(300)),
    ] {
        assert_eq!(
            bare(header).refused(401, "authentication_required"),
            none,
            "{header}"
        );
    }
    let bad = "Session token is invalid or has expired. Re-introduce to obtain a new token.";
    for token in ["x", &"0".repeat(64), "' OR 1=1"] {
        assert_eq!(
            bare(&format!("Bearer {token}")).refused(401, "invalid_or_expired_token"),
            bad
        );
    }
    let all = [
        ("GET", "skills"),
        ("GET", "skill_details?skill_id=x"),
        ("POST", "skill_content"),
        ("POST", "request_skill"),
        ("POST", "reflect"),
        ("POST", "message"),
        ("GET", "skillsets"),
        ("GET", "skillset_details?name=x"),
        ("POST", "skillset_content"),
        ("GET", "nothing"),
        ("DELETE", "introduce"),
        ("GET", "goodbye"),
    ];
    for (method, path) in all {
        let reply = Request::new(method, &format!("/meeting/v1/{path}")).send(&node);
        reply.refused(401, "authentication_required");
    }
    eventually("the session expires", || {
        (bare(&format!("Bearer {expired}")).status == 401).then_some(())
    });
    bare(&format!("Bearer {expired}")).refused(401, "invalid_or_expired_token");

    let token = peer.session(&node);
    let goodbye = || Request::post("/meeting/v1/goodbye");
    goodbye().send(&node).refused(400, "no_token");
    goodbye().token("unknown").send(&node).ok();
    goodbye().token(&token).send(&node).ok();
    bare(&format!("Bearer {token}")).refused(401, "invalid_or_expired_token");
}

#[test]
fn unknown_paths_and_methods_are_not_found() {
    let (_home, node) = host();
    let token = TestPeer::new("lost").session(&node);
    for (method, path) in [
        ("GET", "/meeting/v1/nothing"),
        ("GET", "/meeting/v1/Skills"),
        ("GET", "/meeting/v1/skills/"),
        ("GET", "/meeting//v1/skills"),
        ("GET", "/meeting/v2/skills"),
        ("DELETE", "/meeting/v1/skills"),
        ("POST", "/meeting/v1/skills"),
        ("GET", "/meeting/v1/skill_content"),
        ("GET", "/meeting/v1/goodbye"),
        ("PUT", "/meeting/v1/introduce"),
        ("GET", "/meeting/v1/../../etc/passwd"),
        ("GET", "/meeting/"),
    ] {
        let said = Request::new(method, path)
            .token(&token)
            .send(&node)
            .refused(404, "not_found");
        assert_eq!(
            said,
            format!("Unknown meeting endpoint: {path}"),
            "{method}"
        );
    }
    for path in [
        "/",
        "/nothing",
        "/Meeting/v1/skills",
        "/meetings",
        "/HEALTH",
        "/MCP",
        "/.kairos/keys",
    ] {
        Request::get(path).send(&node).refused(404, "not_found");
    }
    let long = format!("/meeting/v1/{}", "x".repeat(5000));
    assert!(
        Request::get(&long)
            .token(&token)
            .send(&node)
            .refused(404, "not_found")
            .len()
            < 1000
    );
}

#[test]
fn a_session_may_ask_so_often_a_minute() {
    let (_home, node) = host();
    let peer = TestPeer::new("eager");
    let token = peer.session(&node);
    let ask = |token: &str| Request::get("/meeting/v1/skills").token(token).send(&node);
    for _ in 0..100 {
        ask(&token).ok();
    }
    let refused = ask(&token);
    refused.refused(429, "rate_limited");
    assert!(
        refused.headers.contains("retry-after: "),
        "{}",
        refused.headers
    );
    ask(&peer.session(&node)).ok();
}

#[test]
fn an_address_may_ask_so_often_a_minute() {
    let node = with(&[("limits.requests_per_address", "10")]);
    for _ in 0..10 {
        Request::get(INTRODUCE).send(&node).ok();
    }
    for _ in 0..2 {
        let refused = Request::get(INTRODUCE).send(&node);
        refused.refused(429, "rate_limited");
        assert!(
            refused.headers.contains("retry-after: "),
            "{}",
            refused.headers
        );
    }
    // Whoever watches over the node is not counted.
    Request::get("/health").send(&node).ok();
}

#[test]
fn an_address_may_bring_so_many_new_agents_a_minute() {
    let node = with(&[("limits.new_peers_per_address", "2")]);
    let [first, second, third] = ["a", "b", "c"].map(TestPeer::new);
    first.session(&node);
    second.session(&node);
    third.knock(&node).refused(429, "rate_limited");
    first.session(&node);
}

#[test]
fn sessions_are_capped_for_a_key_and_in_all() {
    let node = with(&[("sessions.max_per_key", "2"), ("sessions.max_total", "3")]);
    let ask = |token: &str| {
        Request::get("/meeting/v1/skills")
            .token(token)
            .send(&node)
            .status
    };
    let [first, second, third] = ["a", "b", "c"].map(TestPeer::new);
    let tokens = [
        first.session(&node),
        first.session(&node),
        first.session(&node),
    ];
    let open = tokens.iter().filter(|token| ask(token) == 200).count();
    assert_eq!((open, ask(&tokens[2])), (2, 200), "the newest ones stay");
    let other = second.session(&node);
    third.knock(&node).refused(503, "full");
    assert_eq!(ask(&other), 200);
    Request::post("/meeting/v1/goodbye")
        .token(&other)
        .send(&node)
        .ok();
    third.session(&node);
}

#[test]
fn peers_are_bounded_too() {
    let node = with(&[("limits.peers", "1")]);
    let first = TestPeer::new("first");
    first.session(&node);
    TestPeer::new("second").knock(&node).refused(503, "full");
    first.session(&node);
}

#[test]
fn a_full_inbox_refuses_and_forgets_nothing() {
    let home = home();
    let node = serve(
        &home,
        &[("limits.inbox", "3"), ("limits.inbox_per_peer", "2")],
    );
    let tokens = ["a", "b", "c"].map(|name| TestPeer::new(name).session(&node));
    let say = |token: &str, text: &str| {
        let request = Request::post("/meeting/v1/reflect").token(token);
        request.json(&json!({"reflection": text})).send(&node)
    };
    say(&tokens[0], "1").ok();
    say(&tokens[0], "2").ok();
    say(&tokens[0], "3").refused(429, "inbox_full");
    say(&tokens[1], "4").ok();
    say(&tokens[2], "5").refused(429, "inbox_full");
    let kept = home.json(["inbox"]).to_string();
    for (text, is_kept) in [
        ("1", true),
        ("2", true),
        ("3", false),
        ("4", true),
        ("5", false),
    ] {
        assert_eq!(
            kept.contains(&format!("\"reflection\":\"{text}\"")),
            is_kept,
            "{text}: {kept}"
        );
    }
    home.json(["inbox", "clear"]);
    say(&tokens[2], "6").ok();
}

#[test]
fn a_message_sent_twice_is_kept_once() {
    let (home, node) = host();
    let token = TestPeer::new("again").session(&node);
    let message =
        json!({"id": "m-1", "action": "reflect", "from": "x", "payload": {"reflection": "hi"}});
    for _ in 0..2 {
        Request::post("/meeting/v1/message")
            .token(&token)
            .json(&message)
            .send(&node)
            .ok();
    }
    assert_eq!(home.json(["inbox"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_node_that_does_not_meet_says_so() {
    let node = with(&[("meeting.enabled", "false")]);
    Request::get(INTRODUCE)
        .send(&node)
        .refused(503, "mmp_unavailable");
    Request::get("/meeting/v1/x")
        .send(&node)
        .refused(503, "mmp_unavailable");
    Request::get("/health").send(&node).ok();
    let home = home();
    let node = serve(&home, &[("meeting.skillset_exchange", "false")]);
    let token = TestPeer::new("asker").session(&node);
    for (method, path) in [
        ("GET", "skillsets"),
        ("GET", "skillset_details?name=house"),
        ("POST", "skillset_content"),
    ] {
        let request = Request::new(method, &format!("/meeting/v1/{path}")).token(&token);
        request
            .send(&node)
            .refused(403, "skillset_exchange_disabled");
    }
    assert_eq!(
        Request::get(INTRODUCE).send(&node).ok()["exchangeable_skillsets"],
        json!([])
    );
    // A peer without SkillSets can be met all the same.
    assert_eq!(
        Home::initialized().json(["meet", &node.url("")])["skillsets"],
        json!([])
    );
}
