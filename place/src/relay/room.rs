//! Whether there is room for one more message.

use super::Relay;
use super::message::Header;
use super::policy::{Limit, Refusal};
use super::store::{RelayTx, Scope, StoreError, Within};

/// What one count may come to.
struct Bound<'a> {
    scope: Scope<'a>,
    /// Where to look for the oldest message in the way.
    within: Within<'a>,
    count: (u64, Limit),
    bytes: Option<(u64, Limit)>,
}

impl Relay {
    /// Whether one more message has a place everywhere. `given` if its id is to be remembered.
    pub(super) fn room(
        &self,
        tx: &dyn RelayTx,
        header: &Header,
        given: bool,
    ) -> Result<Result<(), Refusal>, StoreError> {
        for bound in self.bounds(header, given) {
            let tally = tx.tally(bound.scope)?;
            let many = Some(bound.count).filter(|(most, _)| tally.count >= *most);
            let sum = tally.bytes.saturating_add(header.size);
            let reached = many.or_else(|| bound.bytes.filter(|(most, _)| sum > *most));
            if let Some((most, limit)) = reached {
                let oldest = tx.first(bound.within)?;
                let retry_at = oldest.map_or(header.expires_at, |kept| kept.header.expires_at);
                return Ok(Err(Refusal::Full {
                    limit,
                    most,
                    retry_at,
                }));
            }
        }
        Ok(Ok(()))
    }

    /// The narrowest first, so that whoever is refused learns what concerns them most.
    fn bounds<'a>(&self, header: &'a Header, given: bool) -> Vec<Bound<'a>> {
        let policy = &self.policy;
        let (from, to) = (&header.from, &header.to);
        let bound = |scope, within, most, limit| Bound {
            scope,
            within,
            count: (most, limit),
            bytes: None,
        };
        let with_bytes = |bound, most, limit| Bound {
            bytes: Some((most, limit)),
            ..bound
        };
        let pair = policy.sender_in_box_messages;
        let pair = bound(
            Scope::Pair(from, to),
            Within::Pair(from, to),
            pair,
            Limit::SenderInBox,
        );
        let inbox = bound(
            Scope::Box(to),
            Within::Box(to),
            policy.box_messages,
            Limit::Box,
        );
        let (scope, within) = (Scope::Sender(from), Within::Sender(from));
        let sender = bound(scope, within, policy.sender_messages, Limit::SenderMessages);
        let sender = with_bytes(sender, policy.sender_bytes, Limit::SenderBytes);
        let mut bounds = vec![pair, inbox, sender];
        if header.stranger {
            let (most, limit) = (policy.stranger_messages, Limit::StrangerMessages);
            let strangers = bound(Scope::Strangers, Within::Place, most, limit);
            bounds.push(with_bytes(
                strangers,
                policy.stranger_bytes,
                Limit::StrangerBytes,
            ));
        }
        let (most, limit) = (policy.place_messages, Limit::PlaceMessages);
        let place = bound(Scope::Place, Within::Place, most, limit);
        bounds.push(with_bytes(place, policy.place_bytes, Limit::PlaceBytes));
        if given {
            let (most, limit) = (policy.sender_remembered, Limit::SenderRemembered);
            bounds.push(bound(Scope::RememberedOf(from), within, most, limit));
            let (most, limit) = (policy.place_remembered, Limit::PlaceRemembered);
            bounds.push(bound(Scope::Remembered, Within::Place, most, limit));
        }
        bounds
    }
}
