//! What the operator of a Place orders about other Places.

use kairos_actors::federation::{Decide, FederationError, Propose, Shown};
use kairos_actors::meeting::client::PeerUrl;
use kairos_place::meeting_place::Standing;
use kairos_protocol::federation::agreement::Word;
use kairos_protocol::id::AgreementId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::hosted::Hosted;

/// See the module. As commands send it to the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Offers a Place an agreement.
    Propose {
        /// Where it is.
        url: PeerUrl,
        /// Where it reaches ours.
        own: PeerUrl,
    },
    /// Accepts what another Place offered.
    Accept {
        /// Which.
        agreement: AgreementId,
    },
    /// Refuses it.
    Refuse {
        /// Which.
        agreement: AgreementId,
    },
    /// Ends an agreement, or takes a proposal back.
    End {
        /// Which.
        agreement: AgreementId,
    },
    /// Every agreement that is remembered.
    List {},
    /// Figures.
    Status {},
}

/// Carries out `order` for `by`.
pub async fn carry_out(order: Order, hosted: &Hosted, by: &str) -> Result<Value, FederationError> {
    let by = by.to_owned();
    Ok(match order {
        Order::Propose { url, own } => {
            let propose = Propose { url, own, by };
            shown(&hosted.federation.propose(propose).await?)
        }
        Order::Accept { agreement } => decide(hosted, agreement, Word::Accepted, by).await?,
        Order::Refuse { agreement } => decide(hosted, agreement, Word::Refused, by).await?,
        Order::End { agreement } => decide(hosted, agreement, Word::Ended, by).await?,
        Order::List {} => {
            let mut all = hosted.federation.list().await?;
            all.sort_by_key(|shown| shown.agreement.proposal.at);
            json!({"agreements": all.iter().map(shown).collect::<Vec<_>>()})
        }
        Order::Status {} => status(&hosted.federation.list().await?),
    })
}

async fn decide(
    hosted: &Hosted,
    agreement: AgreementId,
    word: Word,
    by: String,
) -> Result<Value, FederationError> {
    let decide = Decide {
        agreement,
        word,
        by,
    };
    Ok(shown(&hosted.federation.decide(decide).await?))
}

fn shown(shown: &Shown) -> Value {
    let Shown {
        agreement,
        standing,
        partner,
        trouble,
        ledger,
    } = shown;
    let ledger = ledger
        .as_ref()
        .map(|ledger| json!({"blocks": ledger.size, "at": ledger.at.wire(), "fork": ledger.fork}));
    json!({
        "agreement": agreement.id(), "place": partner.place_id, "url": partner.url,
        "key_fingerprint": partner.public_key.fingerprint(), "standing": standing,
        "proposed_at": agreement.proposal.at.wire(), "since": agreement.since.wire(),
        "told": !agreement.untold, "trouble": trouble,
        "ledger": ledger,
    })
}

fn status(all: &[Shown]) -> Value {
    let count = |wanted: Standing| all.iter().filter(|shown| shown.standing == wanted).count();
    let untold = all.iter().filter(|shown| shown.agreement.untold).count();
    json!({
        "in_effect": count(Standing::InEffect), "asked": count(Standing::Asked),
        "proposed": count(Standing::Proposed), "untold": untold,
    })
}
