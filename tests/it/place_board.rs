//! The board of a Meeting Place over HTTP: what is attested of skills.

use kairos_node::clock::SystemClock;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Clock as _;
use kairos_tests::{Home, Reply, Request, TestNode, TestPeer};
use serde_json::{Value, json};

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
