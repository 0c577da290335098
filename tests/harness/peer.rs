//! A peer that is only a key: what a stranger's program would do over HTTP.

use std::net::SocketAddr;

use kairos_node::clock::SystemClock;
use kairos_protocol::crypto::Keypair;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::{Clock as _, Timestamp};
use kairos_protocol::wire::introduction::{Identity, SignedIdentity};
use kairos_protocol::wire::possession::{Proof, Side};
use serde_json::{Value, json};

use crate::{Reply, Request, TestNode};

/// An agent with a fresh key that introduces itself to nodes.
#[derive(Debug)]
pub struct TestPeer {
    /// Who it says it is.
    pub signed: SignedIdentity,
    /// Its key.
    pub keypair: Keypair,
}

impl TestPeer {
    /// Makes one with a fresh key.
    pub fn new(name: &str) -> Self {
        let keypair = Keypair::generate().expect("a key can be made");
        let id = keypair.public().agent_id();
        Self::with(name, id, keypair)
    }

    /// Makes one that claims the id of another, with a key of its own.
    pub fn claiming(id: &str) -> Self {
        let keypair = Keypair::generate().expect("a key can be made");
        let id = id.parse().expect("an id is an id");
        Self::with("somebody else", id, keypair)
    }

    /// Makes one that is known by `id` and has a copy of `keypair`, for tests that need more agents than keys.
    pub fn sharing(id: &str, keypair: &Keypair) -> Self {
        let pem = keypair.to_pem().expect("a key has a PEM form");
        let keypair = Keypair::from_pem(&pem).expect("a key is a key");
        let id = id.parse().expect("an id is an id");
        Self::with("one of many", id, keypair)
    }

    fn with(name: &str, instance_id: AgentId, keypair: Keypair) -> Self {
        let identity = Identity {
            name: name.to_owned(),
            description: "a peer of a test".to_owned(),
            scope: "testing".to_owned(),
            instance_id,
        };
        let signed = SignedIdentity::new(&identity, &keypair).expect("an identity can be signed");
        Self { signed, keypair }
    }

    /// Returns its id.
    pub fn id(&self) -> &str {
        self.signed.instance_id.as_str()
    }

    /// Returns the least that opens a session.
    pub fn introduction(&self) -> Value {
        json!({
            "identity": self.signed.identity,
            "public_key": self.signed.public_key,
            "identity_signature": self.signed.signature,
        })
    }

    /// Returns an introduction that also says `possession`.
    pub fn introduction_with(&self, possession: &Value) -> Value {
        let mut body = self.introduction();
        if let Some(members) = body.as_object_mut() {
            members.insert("possession".to_owned(), possession.clone());
        }
        body
    }

    /// Returns what registers it at a Meeting Place, and says `possession`.
    pub fn registration(&self, possession: &Value) -> Value {
        let mut body = self.introduction_with(possession);
        if let Some(members) = body.as_object_mut() {
            members.insert("id".to_owned(), self.id().into());
            members.insert("name".to_owned(), "Agent".into());
        }
        body
    }

    /// Registers at the Place of `node` and answers its challenge; returns the token of the proven session.
    #[track_caller]
    pub fn register(&self, node: &TestNode) -> String {
        let registered = self.try_register(node.address());
        registered.expect("the Place takes it in")
    }

    /// The same with a node that may end at any time: nothing if it does not answer, or cannot at the moment.
    #[track_caller]
    pub fn try_register(&self, node: SocketAddr) -> Option<String> {
        let say = |possession: &Value| {
            let request = Request::post("/place/v1/register");
            let body = self.registration(possession);
            let reply = request.json(&body).send_to(node)?;
            (!matches!(reply.status, 0 | 503 | 504)).then(|| reply.ok())
        };
        let asked = say(&json!({"nonce": "00".repeat(32)}))?;
        let told = |name: &str| {
            let member = asked.pointer(&format!("/possession/{name}"));
            member.and_then(Value::as_str).expect("a challenge")
        };
        let proof = self.proof(told("audience"), told("nonce"), SystemClock.now());
        let proven = say(&json!({ "proof": proof }))?;
        assert_eq!(
            proven.get("session_strength"),
            Some(&"proven".into()),
            "{proven}"
        );
        Some(token(&proven))
    }

    /// Answers a challenge of `audience`.
    pub fn proof(&self, audience: &str, nonce: &str, at: Timestamp) -> Proof {
        let audience = audience.parse().expect("an id is an id");
        let own = &self.signed.instance_id;
        Proof::sign(Side::Guest, &self.keypair, own, &audience, nonce, at)
            .expect("a proof can be signed")
    }

    /// Signs any bytes.
    pub fn sign(&self, bytes: &[u8]) -> String {
        self.keypair.sign(bytes).expect("bytes can be signed")
    }

    /// Opens a session at `node` and returns its token.
    pub async fn introduce(&self, client: &reqwest::Client, node: &TestNode) -> String {
        let answer = client
            .post(node.url("/meeting/v1/introduce"))
            .json(&self.introduction())
            .send()
            .await
            .expect("the node answers");
        token(&answer.json().await.expect("the answer is JSON"))
    }

    /// Introduces itself to `node` and returns the whole answer.
    pub fn knock(&self, node: &TestNode) -> Reply {
        let request = Request::post("/meeting/v1/introduce");
        request.json(&self.introduction()).send(node)
    }

    /// Opens a session at `node` and returns its token.
    #[track_caller]
    pub fn session(&self, node: &TestNode) -> String {
        token(&self.knock(node).ok())
    }

    /// Opens a session at `node`, proves its key there, and returns the token.
    #[track_caller]
    pub fn proven_session(&self, node: &TestNode) -> String {
        let introduce = |possession: &Value| {
            let request = Request::post("/meeting/v1/introduce");
            let body = self.introduction_with(possession);
            request.json(&body).send(node).ok()
        };
        let asked = introduce(&json!({"nonce": "0".repeat(64)}));
        let text = |pointer: &str| asked.pointer(pointer).and_then(Value::as_str);
        let challenge = text("/possession/audience").zip(text("/possession/nonce"));
        let (audience, nonce) = challenge.expect("the node asks for a proof");
        let now = text("/peer_identity/timestamp").and_then(|now| Timestamp::parse(now).ok());
        let now = now.expect("the node tells its time");
        token(&introduce(
            &json!({"proof": self.proof(audience, nonce, now)}),
        ))
    }
}

#[track_caller]
fn token(body: &Value) -> String {
    let token = body.get("session_token").and_then(Value::as_str);
    token
        .unwrap_or_else(|| panic!("no session: {body}"))
        .to_owned()
}
