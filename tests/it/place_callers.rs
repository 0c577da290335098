//! Every door of the Meeting Place, each tried by somebody who says in every way to be somebody else: the token decides who
//! acts. The list of doors is the node's own, so a door without a row here fails the test.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kairos_node::clock::SystemClock;
use kairos_node::http::place_doors;
use kairos_protocol::crypto::Keypair;
use kairos_protocol::federation::agreement::{Party, Proposal, Statement, Word};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Clock as _;
use kairos_tests::{Home, Reply, Request, TestNode, TestPeer, connect};
use serde_json::{Value, json};

use crate::hostile_packages::{Archive, NAME, TEXT, content_hash};

/// What a session must have shown for a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Session,
    Proof,
}

/// What comes of saying to be the victim.
enum Then {
    /// The answer is the same for everybody.
    Alike,
    /// It is refused so.
    Refused(u16, &'static str),
    /// It is done, by or for the caller. The member at the pointer names who that was.
    Own(&'static str),
    /// There is no such thing of the caller.
    NotFound,
    /// The answer tells of nothing by or for the victim alone.
    OnlyOwn,
}

struct Row {
    door: &'static str,
    needs: Needs,
    /// The path with which it is asked, with its query.
    path: String,
    body: Option<Value>,
    then: Then,
}

/// An agent, with its proven session.
struct Member {
    peer: TestPeer,
    token: String,
}

impl Member {
    fn new(node: &TestNode, name: &str) -> Self {
        let peer = TestPeer::new(name);
        let token = peer.register(node);
        Self { peer, token }
    }

    fn id(&self) -> &str {
        self.peer.id()
    }

    fn ask(&self, node: &TestNode, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let request = Request::new(method, path).token(&self.token);
        match body {
            Some(body) => request.json(body).send(node),
            None => request.send(node),
        }
    }

    fn skill(&self, skill_id: &str) -> Value {
        let content = "# Words\n";
        json!({
            "skill_id": skill_id, "name": skill_id, "format": "markdown", "content": content,
            "content_hash": ContentHash::of(content).to_hex(),
            "signature": self.peer.sign(content.as_bytes()),
        })
    }

    fn skill_set(&self) -> Value {
        let hash = content_hash(TEXT);
        json!({
            "name": NAME, "version": "1.0.0", "content_hash": hash,
            "archive_base64": STANDARD.encode(Archive::proper().bytes()),
            "signature": self.peer.sign(hash.as_bytes()),
        })
    }

    fn letter(&self, to: &str, text: &str) -> Value {
        json!({
            "from": self.id(), "to": to, "encrypted_blob": text,
            "blob_hash": format!("sha256:{}", ContentHash::of(text).to_hex()),
        })
    }
}

/// `body`, which also says in every way that somebody else acts.
fn as_if(mut body: Value, victim: &str, only: &[&str]) -> Value {
    let names = [
        "id",
        "agent_id",
        "from",
        "depositor_id",
        "attester_id",
        "owner",
    ];
    let members = body.as_object_mut().unwrap();
    for name in names {
        // Where a door reads the member, a refusal is a row of its own.
        if only.is_empty() || only.contains(&name) {
            members.insert(name.to_owned(), victim.into());
        }
    }
    body
}

fn rows(attacker: &Member, victim: &Member, mail: &str) -> Vec<Row> {
    use Needs::{Nothing, Proof, Session};
    let (v, me) = (victim.id(), attacker.id());
    let query = format!("agent_id={v}&id={v}&from={v}");
    let row = |door: &'static str, needs, path: String, body, then| Row {
        door,
        needs,
        path,
        body,
        then,
    };
    let plain = |door: &'static str, needs, then| {
        let (_, path) = door.split_once(' ').unwrap();
        row(door, needs, format!("{path}?{query}"), None, then)
    };
    let post = |door: &'static str, body: Value, then| {
        let (_, path) = door.split_once(' ').unwrap();
        row(door, Proof, format!("{path}?{query}"), Some(body), then)
    };
    let of = |door: &'static str, name: &str, then| {
        let (_, path) = door.split_once(' ').unwrap();
        let path = path.replace("{id:.*}", name);
        row(
            door,
            Session,
            format!("{path}?owner={v}&{query}"),
            None,
            then,
        )
    };
    let everywhere = |body: Value| as_if(body, v, &[]);
    let mut registration = attacker.peer.registration(&Value::Null);
    registration["id"] = v.into();
    let prekey = |id: &str| json!({"id": id, "record": STANDARD.encode([7; 64])});
    // Of two other Places.
    let [one, other] = [(); 2].map(|()| Keypair::generate().unwrap());
    let party = |key: &Keypair| Party {
        place_id: key.public().agent_id(),
        public_key: key.public().clone(),
        url: "http://127.0.0.1:1".to_owned(),
    };
    let Party { place_id, url, .. } = party(&one);
    let now = SystemClock.now();
    let proposal = Proposal::sign(&one, place_id, url, party(&other), now).unwrap();
    let by = other.public().agent_id();
    let statement = Statement::sign(&other, &proposal, Word::Accepted, by, now).unwrap();
    vec![
        plain("GET /v1/info", Nothing, Then::Alike),
        plain("GET /v1/welcome", Nothing, Then::Alike),
        row(
            "POST /v1/register",
            Nothing,
            format!("/v1/register?{query}"),
            Some(registration),
            Then::Refused(403, "identity_mismatch"),
        ),
        post(
            "POST /v1/unregister",
            everywhere(json!({})),
            Then::Refused(403, "not_yours"),
        ),
        row(
            "POST /v1/heartbeat",
            Session,
            format!("/v1/heartbeat?{query}"),
            Some(everywhere(json!({}))),
            Then::Own("/agent_id"),
        ),
        plain("GET /v1/agents", Session, Then::Alike),
        of("GET /v1/keys/{id:.*}", v, Then::Alike),
        of("GET /v1/agent_profile/{id:.*}", v, Then::Alike),
        plain("GET /v1/board/browse", Session, Then::Alike),
        post(
            "POST /v1/board/needs",
            everywhere(json!({"needs": [{"name": "forged"}]})),
            Then::Refused(403, "not_yours"),
        ),
        post(
            "DELETE /v1/board/needs",
            everywhere(json!({})),
            Then::Refused(403, "not_yours"),
        ),
        post(
            "POST /v1/board/attest",
            everywhere(json!({"skill_id": "victims", "owner_agent_id": v, "claim": "works"})),
            Then::OnlyOwn,
        ),
        post(
            "POST /v1/deposit",
            everywhere(attacker.skill("attackers")),
            Then::Own("/trust_notice/depositor_id"),
        ),
        row(
            "PUT /v1/deposit/{id:.*}",
            Proof,
            format!("/v1/deposit/victims?owner={v}&{query}"),
            Some(everywhere(attacker.skill("victims"))),
            Then::NotFound,
        ),
        row(
            "DELETE /v1/deposit/{id:.*}",
            Proof,
            format!("/v1/deposit/victims?owner={v}&{query}"),
            Some(everywhere(json!({"reason": "spite"}))),
            Then::NotFound,
        ),
        of("GET /v1/skill_content/{id:.*}", "victims", Then::Alike),
        of("GET /v1/preview/{id:.*}", "victims", Then::Alike),
        of("GET /v1/skills/metadata/{id:.*}", "victims", Then::Alike),
        of("GET /v1/skills/content/{id:.*}", "victims", Then::Alike),
        plain("GET /v1/deposits", Session, Then::Alike),
        plain("GET /v1/events", Session, Then::Alike),
        // Before the attacker has one of that name.
        post(
            "POST /v1/skillset_withdraw",
            everywhere(json!({"name": NAME, "depositor": v, "reason": "spite"})),
            Then::NotFound,
        ),
        post(
            "POST /v1/skillset_deposit",
            everywhere(attacker.skill_set()),
            Then::Own("/trust_notice/depositor_id"),
        ),
        plain("GET /v1/skillset_browse", Session, Then::Alike),
        row(
            "GET /v1/skillset_content",
            Session,
            format!("/v1/skillset_content?name={NAME}&depositor={v}"),
            None,
            Then::Alike,
        ),
        post(
            "POST /v1/keys/register",
            everywhere(json!({"public_key": attacker.peer.signed.public_key})),
            Then::Refused(403, "not_yours"),
        ),
        plain("GET /v1/prekeys", Proof, Then::Own("/agent_id")),
        post(
            "POST /v1/prekeys",
            as_if(json!({"signed": prekey("s1"), "one_time": []}), v, &[]),
            Then::Own("/agent_id"),
        ),
        row(
            "GET /v1/prekeys/{id:.*}",
            Proof,
            format!("/v1/prekeys/{me}?{query}"),
            None,
            Then::Own("/agent_id"),
        ),
        post(
            "POST /v1/relay/send",
            as_if(attacker.letter(me, "Rk9SR0VE"), v, &["from", "agent_id"]),
            Then::Refused(403, "not_yours"),
        ),
        plain(
            "GET /v1/relay/receive",
            Proof,
            Then::Refused(403, "not_yours"),
        ),
        plain("GET /v1/relay/peek", Proof, Then::Refused(403, "not_yours")),
        post(
            "POST /v1/relay/ack",
            everywhere(json!({"ids": [mail]})),
            Then::OnlyOwn,
        ),
        plain(
            "GET /v1/relay/status",
            Proof,
            Then::Refused(403, "not_yours"),
        ),
        plain("GET /v1/relay/stats", Session, Then::Alike),
        plain(
            "GET /v1/relay/events",
            Proof,
            Then::Refused(403, "not_yours"),
        ),
        post(
            "POST /v1/federation/proposal",
            json!({"proposal": proposal}),
            Then::Refused(403, "not_yours"),
        ),
        post(
            "POST /v1/federation/statement",
            json!({"statement": statement}),
            Then::Refused(404, "unknown_agreement"),
        ),
        row(
            "POST /v1/federation/ask",
            Session,
            format!("/v1/federation/ask?{query}"),
            Some(json!({
                "journey": {"path": [v], "route": []}, "nonce": "0".repeat(64),
                "ask": {"what": "places"},
            })),
            Then::Refused(403, "not_federated"),
        ),
        plain("GET /v1/audit", Proof, Then::OnlyOwn),
        plain("GET /v1/audit/stats", Session, Then::Alike),
    ]
}

/// Asks and reads the answer; of one that never ends, only its beginning.
fn asked(node: &TestNode, token: Option<&str>, row: &Row) -> Reply {
    let (method, _) = row.door.split_once(' ').unwrap();
    let request = Request::new(method, &format!("/place{}", row.path));
    let request = match token {
        Some(token) => request.token(token),
        None => request,
    };
    let request = match &row.body {
        Some(body) => request.json(body),
        None => request,
    };
    if !row.door.ends_with("/events") {
        return request.send(node);
    }
    let mut stream = connect(node.address());
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
    let head = format!(
        "{method} /place{} HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
        row.path,
        token.unwrap_or_default()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (mut answer, mut some) = (Vec::new(), [0; 1024]);
    while !String::from_utf8_lossy(&answer).contains("\r\n\r\n") {
        let count = stream.read(&mut some).unwrap();
        assert!(count > 0, "{}", row.door);
        answer.extend_from_slice(&some[..count]);
    }
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    let body = head.split("\r\n\r\n").nth(1).unwrap_or_default();
    Reply {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        body: body.as_bytes().to_vec(),
        headers: head,
    }
}

/// All that the Place has of the victim, as it and others see it, but for how often things were taken.
fn seen(node: &TestNode, victim: &Member, observer: &Member) -> Value {
    let get = |member: &Member, path: &str| member.ask(node, "GET", path, None).ok();
    let v = victim.id();
    let mut profile = get(observer, &format!("/place/v1/agent_profile/{v}"));
    let members = profile.as_object_mut().unwrap();
    members.remove("profile_generated_at");
    // Others may say what they think of a deposit.
    for deposit in members["deposited_skills"].as_array_mut().unwrap() {
        deposit.as_object_mut().unwrap().remove("attestations");
    }
    let set = format!("/place/v1/skillset_content?name={NAME}&depositor={v}");
    json!({
        "profile": profile,
        "key": get(observer, &format!("/place/v1/keys/{v}")),
        "set": get(observer, &set),
        "mail": get(victim, "/place/v1/relay/peek"),
        "prekeys": get(victim, "/place/v1/prekeys"),
        "audit": get(victim, "/place/v1/audit"),
    })
}

#[test]
fn the_token_decides_who_acts_at_every_door() {
    let home = Home::initialized();
    let node = TestNode::builder().home(&home).arg("--place").start();
    let (victim, attacker) = (Member::new(&node, "Victim"), Member::new(&node, "Attacker"));
    let observer = Member::new(&node, "Observer");
    let post = |member: &Member, path: &str, body: &Value| {
        let reply = member.ask(&node, "POST", path, Some(body));
        assert!(reply.status < 300, "{path}: {}", reply.text());
        reply.json()
    };
    post(&victim, "/place/v1/deposit", &victim.skill("victims"));
    post(&victim, "/place/v1/skillset_deposit", &victim.skill_set());
    let needs = json!({"agent_id": victim.id(), "needs": [{"name": "peace"}]});
    post(&victim, "/place/v1/board/needs", &needs);
    let record = STANDARD.encode([9; 64]);
    let prekeys = json!({"signed": {"id": "v1", "record": record}});
    post(&victim, "/place/v1/prekeys", &prekeys);
    let letter = observer.letter(victim.id(), "U0VDUkVU");
    let sent = post(&observer, "/place/v1/relay/send", &letter);
    let mail = sent["relay_id"].as_str().unwrap();

    let rows = rows(&attacker, &victim, mail);
    let tried: BTreeSet<String> = rows.iter().map(|row| row.door.to_owned()).collect();
    let doors = place_doors().into_iter();
    let doors: BTreeSet<String> = doors
        .map(|door| format!("{} {}", door.method, door.path))
        .collect();
    assert_eq!(
        tried, doors,
        "each door has a row here, and each row a door"
    );

    let before = seen(&node, &victim, &observer);
    let introduced = Request::post("/place/v1/register")
        .json(&attacker.peer.registration(&Value::Null))
        .send(&node)
        .ok();
    let introduced = introduced["session_token"].as_str().unwrap();
    for row in &rows {
        match row.needs {
            Needs::Nothing => {}
            _ => {
                asked(&node, None, row).refused(401, "authentication_required");
            }
        }
        if row.needs == Needs::Proof {
            let reply = asked(&node, Some(introduced), row);
            assert_eq!(reply.status, 403, "{}: {}", row.door, reply.text());
        }
        let reply = asked(&node, Some(&attacker.token), row);
        let text = reply.text();
        match row.then {
            Then::Alike => assert_eq!(reply.status, 200, "{}: {text}", row.door),
            Then::Refused(status, code) => {
                reply.refused(status, code);
            }
            Then::Own(pointer) => {
                let answer = reply.ok();
                let who = answer.pointer(pointer).and_then(Value::as_str);
                assert_eq!(who, Some(attacker.id()), "{}: {answer}", row.door);
            }
            Then::NotFound => assert_eq!(reply.status, 404, "{}: {text}", row.door),
            Then::OnlyOwn => {
                assert_eq!(reply.status, 200, "{}: {text}", row.door);
                assert!(!text.contains(mail), "{}: {text}", row.door);
            }
        }
        assert!(!text.contains("U0VDUkVU"), "{}: {text}", row.door);
    }
    assert_eq!(seen(&node, &victim, &observer), before);
    // The attestation is the attacker's, whoever the body names.
    let path = format!("/place/v1/preview/victims?owner={}", victim.id());
    let preview = observer.ask(&node, "GET", &path, None).ok();
    let attesters = preview["attestations"].as_array().unwrap().iter();
    let attesters: Vec<_> = attesters.map(|one| one["attester_id"].as_str()).collect();
    assert_eq!(attesters, [Some(attacker.id())]);
}
