//! Having the agents we meet cosign our ledger.
//!
//! Whoever cosigns it keeps its checkpoint, and would tell if we came with another history. So it is asked of every agent
//! whose software can, and a refusal is told to our owner, but ends nothing.

use kairos_protocol::tlog::statement::{LogStatement, witness_name};
use kairos_protocol::wire::history::Continued;
use kairos_protocol::wire::introduction::VerifiedIdentity;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::Outbound;
use super::client::{Answer, ClientError, PeerUrl};
use crate::chain::tlog::TlogError;
use crate::check::Checks;
use crate::recent::RECENT;

/// What the check is called.
const CHECK: &str = "our ledger";

/// Why the agent did not cosign.
enum Refusal {
    /// There is nothing to cosign, or its software cannot.
    Nothing,
    /// In words.
    Because(String),
}

impl From<TlogError> for Refusal {
    fn from(error: TlogError) -> Self {
        match error {
            TlogError::NoLedger => Self::Nothing,
            error => Self::Because(error.to_string()),
        }
    }
}

/// Has the agent at `url` cosign our last checkpoint, unless it did.
pub(super) async fn ask(
    out: &Outbound,
    url: &PeerUrl,
    token: &str,
    identity: &VerifiedIdentity,
    checks: &mut Checks,
) {
    match cosigned(out, url, token, identity).await {
        Ok(size) => checks.pass(CHECK, format!("the peer cosigned its {size} blocks")),
        Err(Refusal::Nothing) => {}
        Err(Refusal::Because(why)) => checks.unknown(CHECK, format!("not cosigned: {why}")),
    }
}

async fn cosigned(
    out: &Outbound,
    url: &PeerUrl,
    token: &str,
    identity: &VerifiedIdentity,
) -> Result<u64, Refusal> {
    let first = out.tlog.continued(0).await?;
    let head = first.now.checkpoint.head();
    let witness = witness_name(&identity.agent_id);
    if let Some(cosigned) = &out.tlog.status(RECENT).await?.cosigned
        && cosigned.head() == head
        && cosigned
            .note()
            .signatures()
            .iter()
            .any(|line| line.name() == witness)
    {
        return Ok(head.size);
    }
    let mut answer = post(out, url, token, &first).await?;
    let mut size = head.size;
    if let Some(known) = answer.get("known").and_then(Value::as_u64) {
        let continued = match out.tlog.continued(known).await {
            Err(TlogError::NoBlock { .. }) => {
                return Err(because(format!(
                    "it says that it saw {known} blocks of our ledger, which has {size}"
                )));
            }
            continued => continued?,
        };
        size = continued.now.checkpoint.head().size;
        answer = post(out, url, token, &continued).await?;
    }
    let statement = answer
        .get("log")
        .and_then(|log| LogStatement::deserialize(log).ok());
    let own = statement.filter(|statement| {
        statement.instance_id == identity.agent_id
            && statement.identity_key == identity.key
            && statement.verify().is_ok()
    });
    let Some((statement, line)) = own.zip(answer.get("cosignature").and_then(Value::as_str)) else {
        return Err(because("its answer holds no cosignature of its own"));
    };
    let keys = vec![statement.witness_key];
    match out.tlog.add_cosignatures(line.to_owned(), keys).await {
        Ok(_) => Ok(size),
        Err(TlogError::UnknownWitness) => Err(because("it signed with another key than its own")),
        Err(error) => Err(error.into()),
    }
}

fn because(why: impl Into<String>) -> Refusal {
    Refusal::Because(why.into())
}

async fn post(
    out: &Outbound,
    url: &PeerUrl,
    token: &str,
    continued: &Continued,
) -> Result<Map<String, Value>, Refusal> {
    let (path, body) = ("checkpoint", continued.to_value());
    let sent = out
        .client
        .post(url, path, &body, Some(token), Answer::Ordinary, &|_, _| ())
        .await;
    sent.map_err(|error| match error {
        ClientError::Refused {
            status: 404 | 405, ..
        } => Refusal::Nothing,
        error => Refusal::Because(error.to_string()),
    })
}
