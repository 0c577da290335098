//! The way of a question from Place to Place.
//!
//! Whoever asks names every Place on the way; none of them chooses another one. A question that comes back to a Place, or
//! that would pass more than [`PLACES_MAX`] of them, ends there.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::AgentId;

/// Most Places on one way, the first that is asked included.
pub const PLACES_MAX: usize = 4;

/// Where a question was, and where it is still to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journey {
    /// The Places it passed, the first that was asked first.
    pub path: Vec<AgentId>,
    /// The Places it is still to come to, the one that answers last.
    pub route: Vec<AgentId>,
}

/// What becomes of a question at a Place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is answered here.
    Here,
    /// It goes on.
    Onward {
        /// To whom.
        to: AgentId,
        /// What is told there.
        journey: Journey,
    },
}

/// Why a question is not taken further.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JourneyError {
    /// Too many Places.
    #[error("a question passes at most {PLACES_MAX} Places")]
    TooLong,
    /// It was here, or would come somewhere twice.
    #[error("the way comes to `{0}` twice")]
    Loop(AgentId),
    /// Who hands it over is not who it came from.
    #[error("the question came from `{0}`, which is not who hands it over")]
    NotFrom(AgentId),
    /// There is no agreement with who hands it over, or to whom it should go.
    #[error("this Place is not federated with `{0}`")]
    NotFederated(AgentId),
}

impl Journey {
    /// The way of a question that goes through the Places of `route`, behind the first one that is asked.
    pub fn along(route: Vec<AgentId>) -> Self {
        Self {
            path: Vec::new(),
            route,
        }
    }

    /// The Places that signed the answer when it is back at whoever handed the question to `here`: the one that answered
    /// first.
    pub fn back(&self, here: &AgentId) -> Vec<AgentId> {
        let behind = self.route.iter().rev();
        behind.chain([here]).cloned().collect()
    }

    /// What becomes of the question at the Place `me`, to which `caller` brings it.
    ///
    /// # Errors
    ///
    /// See [`JourneyError`]; `is_partner` tells with whom `me` has an agreement.
    pub fn arrive(
        &self,
        me: &AgentId,
        caller: &AgentId,
        is_partner: impl Fn(&AgentId) -> bool,
    ) -> Result<Next, JourneyError> {
        if self.path.len() + 1 + self.route.len() > PLACES_MAX {
            return Err(JourneyError::TooLong);
        }
        let all: Vec<&AgentId> = self.path.iter().chain([me]).chain(&self.route).collect();
        let twice = all.iter().enumerate().find(|(n, id)| {
            let before = all.iter().take(*n);
            before.into_iter().any(|earlier| earlier == *id)
        });
        if let Some((_, id)) = twice {
            return Err(JourneyError::Loop((*id).clone()));
        }
        if let Some(last) = self.path.last() {
            if last != caller {
                return Err(JourneyError::NotFrom(last.clone()));
            }
            if !is_partner(caller) {
                return Err(JourneyError::NotFederated(caller.clone()));
            }
        }
        let Some((to, rest)) = self.route.split_first() else {
            return Ok(Next::Here);
        };
        if !is_partner(to) {
            return Err(JourneyError::NotFederated(to.clone()));
        }
        let path = self.path.iter().chain([me]).cloned().collect();
        Ok(Next::Onward {
            to: to.clone(),
            journey: Self {
                path,
                route: rest.to_vec(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> AgentId {
        name.parse().unwrap()
    }

    fn ids(names: &str) -> Vec<AgentId> {
        names.split_whitespace().map(id).collect()
    }

    fn journey(path: &str, route: &str) -> Journey {
        Journey {
            path: ids(path),
            route: ids(route),
        }
    }

    #[test]
    fn goes_where_it_is_sent_and_ends_there() {
        let arrive = |journey: Journey, me: &str, caller: &str| {
            journey.arrive(&id(me), &id(caller), |other| other != &id("stranger"))
        };
        let Ok(Next::Onward { to, journey: next }) = arrive(journey("", "p2 p3"), "p1", "ann")
        else {
            panic!("it goes on");
        };
        assert_eq!((to, &next), (id("p2"), &journey("p1", "p3")));
        assert_eq!(next.back(&id("p2")), ids("p3 p2"));
        let Ok(Next::Onward { to, journey: next }) = arrive(next, "p2", "p1") else {
            panic!("it goes on");
        };
        assert_eq!((to, &next), (id("p3"), &journey("p1 p2", "")));
        assert_eq!(arrive(next, "p3", "p2"), Ok(Next::Here));
        for (path, route, me, caller, error) in [
            ("", "a b c d", "p1", "ann", JourneyError::TooLong),
            ("a b c", "d", "p1", "c", JourneyError::TooLong),
            ("", "p1", "p1", "ann", JourneyError::Loop(id("p1"))),
            ("p1 p2", "", "p1", "p2", JourneyError::Loop(id("p1"))),
            ("a", "b b", "p1", "a", JourneyError::Loop(id("b"))),
            ("a", "a", "p1", "a", JourneyError::Loop(id("a"))),
            ("a", "", "p1", "b", JourneyError::NotFrom(id("a"))),
            (
                "stranger",
                "",
                "p1",
                "stranger",
                JourneyError::NotFederated(id("stranger")),
            ),
            (
                "",
                "stranger",
                "p1",
                "ann",
                JourneyError::NotFederated(id("stranger")),
            ),
        ] {
            let refused = arrive(journey(path, route), me, caller);
            assert_eq!(refused, Err(error), "{path} / {route}");
        }
    }

    proptest! {
        /// Wherever a question is sent, it passes no Place twice and no more than allowed, if every Place does its part.
        #[test]
        fn no_way_is_endless(route in prop::collection::vec("[a-e]", 0..8)) {
            let mut journey = Journey::along(route.iter().map(|name| id(name)).collect());
            let (mut me, mut caller, mut passed) = (id("start"), id("ann"), Vec::new());
            while let Ok(next) = journey.arrive(&me, &caller, |_| true) {
                prop_assert!(!passed.contains(&me));
                passed.push(me.clone());
                let Next::Onward { to, journey: onward } = next else { break };
                caller = std::mem::replace(&mut me, to);
                journey = onward;
            }
            prop_assert!(passed.len() <= PLACES_MAX);
        }
    }
}
