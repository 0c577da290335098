//! A peer that is only a key: what a stranger's program would do over HTTP.

use kairos_protocol::crypto::Keypair;
use kairos_protocol::wire::introduction::{Identity, SignedIdentity};
use serde_json::{Value, json};

use crate::TestNode;

/// An agent with a fresh key that introduces itself to nodes.
#[derive(Debug)]
pub struct TestPeer {
    /// Who it says it is.
    pub signed: SignedIdentity,
}

impl TestPeer {
    /// Makes one with a fresh key.
    pub fn new(name: &str) -> Self {
        let keypair = Keypair::generate().expect("a key can be made");
        let identity = Identity {
            name: name.to_owned(),
            description: "a peer of a test".to_owned(),
            scope: "testing".to_owned(),
            instance_id: keypair.public().agent_id(),
        };
        let signed = SignedIdentity::new(&identity, &keypair).expect("an identity can be signed");
        Self { signed }
    }

    /// Returns the least that opens a session.
    pub fn introduction(&self) -> Value {
        json!({
            "identity": self.signed.identity,
            "public_key": self.signed.public_key,
            "identity_signature": self.signed.signature,
        })
    }

    /// Opens a session at `node` and returns its token.
    pub async fn introduce(&self, client: &reqwest::Client, node: &TestNode) -> String {
        let answer = client
            .post(node.url("/meeting/v1/introduce"))
            .json(&self.introduction())
            .send()
            .await
            .expect("the node answers");
        let body: Value = answer.json().await.expect("the answer is JSON");
        let token = body.get("session_token").and_then(Value::as_str);
        token
            .unwrap_or_else(|| panic!("no session: {body}"))
            .to_owned()
    }
}
