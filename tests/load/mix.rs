//! What agents do, and how often each of it.

use std::fmt;
use std::str::FromStr;

/// One thing that an agent does. Each is timed and judged on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Introduces itself and proves its key; the new session takes the place of the old one.
    Introduce,
    /// Opens one more session, uses it, ends it, and is refused with it afterwards.
    Goodbye,
    /// Lists the skills of the node.
    List,
    /// Gets the text of one of them.
    Content,
    /// Registers at the Place anew.
    Register,
    /// Gives a sign of life.
    Heartbeat,
    /// Looks at the board.
    Browse,
    /// Leaves a skill, or a newer text of one.
    Deposit,
    /// Takes a skill that some agent left.
    Acquire,
    /// Seals a message to another agent and sends it.
    Send,
    /// Fetches what waits, opens it, and acknowledges it.
    Receive,
}

impl Operation {
    /// All, with their names and with their shares in their group.
    const ALL: [(Self, &'static str, f64); 11] = [
        (Self::Introduce, "introduce.prove", 3.0),
        (Self::Goodbye, "introduce.goodbye", 1.0),
        (Self::List, "exchange.list", 1.0),
        (Self::Content, "exchange.content", 1.0),
        (Self::Register, "place.register", 1.0),
        (Self::Heartbeat, "place.heartbeat", 4.0),
        (Self::Browse, "place.browse", 4.0),
        (Self::Deposit, "place.deposit", 2.0),
        (Self::Acquire, "place.acquire", 4.0),
        (Self::Send, "relay.send", 1.0),
        (Self::Receive, "relay.receive", 1.0),
    ];

    /// Its name, which begins with that of its group.
    pub(crate) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(operation, ..)| *operation == self);
        found.map_or("", |(_, name, _)| name)
    }

    /// Every one, in the order in which they are shown.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::ALL.iter().map(|(operation, ..)| *operation)
    }
}

/// How often each operation is done, relative to the others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mix {
    text: String,
    weights: Vec<(Operation, f64)>,
}

impl Mix {
    /// The operation at `point` from 0 to 1 of all weights in a row.
    pub(crate) fn choose(&self, point: f64) -> Operation {
        let all: f64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut left = point * all;
        for (operation, weight) in &self.weights {
            left -= weight;
            if left < 0.0 {
                return *operation;
            }
        }
        // Only rounding leads here.
        let last = self.weights.last();
        last.map_or(Operation::Heartbeat, |(operation, _)| *operation)
    }
}

impl FromStr for Mix {
    type Err = String;

    /// Reads `NAME=WEIGHT,…`; a name is that of a group or of one operation.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights: Vec<(Operation, f64)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (name, weight) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not NAME=WEIGHT"))?;
            let weight: f64 = weight
                .parse()
                .ok()
                .filter(|weight: &f64| weight.is_finite() && *weight >= 0.0)
                .ok_or_else(|| format!("`{weight}` is not a weight: a number from 0"))?;
            let belongs = |full: &str| {
                full == name
                    || full
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with('.'))
            };
            let group: Vec<_> = Operation::ALL
                .iter()
                .filter(|(_, full, _)| belongs(full))
                .collect();
            if group.is_empty() {
                let names: Vec<_> = Operation::ALL.iter().map(|(_, name, _)| *name).collect();
                return Err(format!(
                    "nothing is called `{name}`; there are introduce, exchange, place and relay, and of these {}",
                    names.join(", ")
                ));
            }
            let shares: f64 = group.iter().map(|(.., share)| share).sum();
            for (operation, _, share) in group {
                // Who is named again, alone or in its group, gets the later weight.
                weights.retain(|(other, _)| other != operation);
                weights.push((*operation, weight * share / shares));
            }
        }
        if weights.iter().all(|(_, weight)| *weight == 0.0) {
            return Err("every weight is 0, so there is nothing to do".to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            weights,
        })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(text: &str) -> Vec<(&'static str, f64)> {
        let mix: Mix = text.parse().unwrap();
        let all: f64 = mix.weights.iter().map(|(_, weight)| weight).sum();
        let share = |(operation, weight): &(Operation, f64)| (operation.name(), weight / all);
        mix.weights.iter().map(share).collect()
    }

    #[test]
    fn a_group_is_shared_out_and_an_operation_is_itself() {
        assert_eq!(
            shares("exchange=1,relay.send=3"),
            [
                ("exchange.list", 0.125),
                ("exchange.content", 0.125),
                ("relay.send", 0.75)
            ]
        );
        assert_eq!(
            shares("relay=1,relay.send=1"),
            [("relay.receive", 1.0 / 3.0), ("relay.send", 2.0 / 3.0)]
        );
    }

    #[test]
    fn every_point_chooses_by_weight() {
        let mix: Mix = "exchange.list=1,relay.send=0,place.browse=3"
            .parse()
            .unwrap();
        let chosen = |point| mix.choose(point).name();
        assert_eq!(
            [0.0, 0.24, 0.26, 0.99, 1.0].map(chosen),
            [
                "exchange.list",
                "exchange.list",
                "place.browse",
                "place.browse",
                "place.browse"
            ]
        );
    }

    #[test]
    fn what_is_no_mix_is_told_why() {
        let error = |text: &str| text.parse::<Mix>().unwrap_err();
        assert!(error("dance=1").starts_with("nothing is called `dance`"));
        assert!(error("rel=1").starts_with("nothing is called `rel`"));
        assert_eq!(error("relay"), "`relay` is not NAME=WEIGHT");
        assert_eq!(error("relay=-1"), "`-1` is not a weight: a number from 0");
        assert_eq!(
            error("relay=0"),
            "every weight is 0, so there is nothing to do"
        );
    }
}
