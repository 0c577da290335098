//! Whether an agent's ledger continues what it showed us before.
//!
//! Agents that know the member `ledger` of an introduction show their checkpoint. We keep the last one of each, and ask
//! at the next meeting how the new one continues it. The answer must keep to what the introduction showed as well. An
//! agent that showed two histories is not dealt with any more, until a person forgets it.

use kairos_protocol::tlog::statement::{Attributed, log_name};
use kairos_protocol::wire::history::Continued;
use kairos_protocol::wire::introduction::{ReceivedIntroduction, VerifiedIdentity};
use serde_json::Value;

use super::client::PeerUrl;
use super::encounter::{Encounter, fail};
use super::{MeetingError, Outbound};
use crate::check::Checks;
use crate::witness::{Observe, Observed, WitnessError};

/// What the check is called.
const CHECK: &str = "ledger history";

/// Compares the ledger that the agent at `url` shows with the one it showed before.
pub(super) async fn check(
    out: &Outbound,
    url: &PeerUrl,
    token: &str,
    identity: &VerifiedIdentity,
    received: &ReceivedIntroduction,
    checks: &mut Checks,
) -> Result<(), MeetingError> {
    let seen = out.witness.find(log_name(&identity.agent_id)).await?;
    let Some(introduced) = received.ledger() else {
        return match (seen, received.get("ledger")) {
            // Its software has none to show, or its ledger has not begun.
            (None, None) => Ok(()),
            (None, Some(_)) => {
                checks.unknown(CHECK, "its checkpoint is in a form that we do not know");
                Ok(())
            }
            (Some(seen), _) => {
                let known = seen.checkpoint.head().size;
                let detail =
                    format!("it showed a ledger of {known} blocks before, and does not now");
                Err(fail(checks, CHECK, detail))
            }
        };
    };
    let known = seen.map(|seen| seen.checkpoint.head().size);
    let grown = known.filter(|known| introduced.checkpoint.head().size > *known);
    let (shown, continued) = match grown {
        None => (introduced.clone(), None),
        Some(known) => {
            let continued = ask(out, url, token, known, checks).await?;
            (continued.now.clone(), Some(continued))
        }
    };
    let own = Observe::of(identity, introduced.clone()).and(Observe::of(identity, shown.clone()));
    let Some(observe) = own else {
        let detail = "its checkpoint is of another agent or key";
        return Err(fail(checks, CHECK, detail));
    };
    let size = shown.checkpoint.head().size;
    let observe = Observe {
        continued,
        ..observe
    };
    let observed = match out.witness.observe(observe).await {
        // It must keep to what it introduced itself with as well.
        Ok(observed) if shown.checkpoint.head() != introduced.checkpoint.head() => {
            let continued = since(out, url, token, (&introduced, shown), checks).await?;
            let rotations = identity.rotations.clone();
            let compared = out.witness.compare(introduced, continued, rotations).await;
            compared.map(|()| observed)
        }
        observed => observed,
    };
    match observed {
        Ok(Observed::First) => {
            checks.pass(CHECK, format!("{size} blocks, remembered from now on"));
        }
        Ok(Observed::Same) => checks.pass(CHECK, format!("the {size} blocks we know")),
        Ok(Observed::Grown { from }) => {
            checks.pass(
                CHECK,
                format!("{size} blocks, which continue the {from} we know"),
            );
        }
        Err(error @ (WitnessError::Shorter { .. } | WitnessError::Unproven { .. })) => {
            let id = &identity.agent_id;
            let begin_anew = format!("kairos-chain peers forget {id}");
            let detail =
                format!("{error}; if its owner can tell you why, begin anew: {begin_anew}");
            return Err(fail(checks, CHECK, detail));
        }
        Err(error @ (WitnessError::Fork { .. } | WitnessError::Statement(_))) => {
            return Err(fail(checks, CHECK, error.to_string()));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Has an agent that was met show how its ledger continues what others saw of it. What does not hold for its key is theirs
/// to explain who say that they saw it.
pub(super) async fn confront(
    out: &Outbound,
    met: &mut Encounter,
    seen: Vec<Attributed>,
) -> Result<(), MeetingError> {
    let (id, key) = (met.peer.id.clone(), met.peer.key.clone());
    let its_own = |shown: &Attributed| {
        shown.statement.instance_id == id && shown.statement.identity_key == key
    };
    for shown in seen {
        if !its_own(&shown) || shown.verify().is_err() {
            tracing::warn!(peer.id = %id, "somebody passes on a checkpoint that is not this agent's");
            continue;
        }
        let size = shown.checkpoint.head().size;
        let continued = ask(out, &met.url, &met.token, size, &mut met.checks).await?;
        if !its_own(&continued.now) {
            let detail = "its checkpoint is of another agent or key";
            return Err(fail(&mut met.checks, CHECK, detail));
        }
        match out.witness.compare(shown, continued, Vec::new()).await {
            Ok(()) => {}
            Err(
                error @ (WitnessError::Fork { .. }
                | WitnessError::Shorter { .. }
                | WitnessError::Unproven { .. }
                | WitnessError::Statement(_)),
            ) => return Err(fail(&mut met.checks, CHECK, error.to_string())),
            Err(error) => return Err(error.into()),
        }
        let detail = format!("the {size} blocks that others saw of it are the same");
        met.checks.pass(CHECK, detail);
    }
    Ok(())
}

/// How the ledger in `shown` continues the one that was introduced before it.
async fn since(
    out: &Outbound,
    url: &PeerUrl,
    token: &str,
    (introduced, shown): (&Attributed, Attributed),
    checks: &mut Checks,
) -> Result<Continued, MeetingError> {
    let before = introduced.checkpoint.head().size;
    let now = shown.checkpoint.head();
    if now.size > before {
        // It grew between the two requests. Of a third tree it would have to be shown that it continues both.
        let continued = ask(out, url, token, before, checks).await?;
        return match continued.now.checkpoint.head() == now {
            true => Ok(continued),
            false => {
                let detail = "its ledger grows while we look at it; meet it again";
                Err(fail(checks, CHECK, detail))
            }
        };
    }
    Ok(Continued {
        now: shown,
        before: now,
        proof: Vec::new(),
    })
}

/// How the agent says that its ledger continues that of `known` blocks.
async fn ask(
    out: &Outbound,
    url: &PeerUrl,
    token: &str,
    known: u64,
    checks: &mut Checks,
) -> Result<Continued, MeetingError> {
    let query = [("from", &*known.to_string())];
    let answer = out
        .client
        .get(url, "checkpoint", &query, Some(token))
        .await?;
    let continued = Continued::from_value(&Value::Object(answer));
    let continued = continued.filter(|continued| continued.before.size == known);
    continued.ok_or_else(|| fail(checks, CHECK, "it does not say how its ledger continues"))
}
