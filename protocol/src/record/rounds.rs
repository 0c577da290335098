//! Whom a node asks, round by round, for records that it has not.

/// Every so many rounds somebody is asked who is not connected: neighbours that only ask each other learn nothing new, and two
/// parts of a network that lost sight of each other
/// come together again as long as one record of the other part, or one address to begin with, is remembered.
pub const FAR_EVERY: u64 = 2;

/// Counts rounds. Chance is the caller's, so that a simulation can be played again.
#[derive(Debug, Clone, Default)]
pub struct Rounds(u64);

impl Rounds {
    /// Whom to ask in the next round, of those who are `connected` and those who are only `known`; `draw` is any number.
    pub fn next<P: Copy>(&mut self, connected: &[P], known: &[P], draw: u64) -> Option<P> {
        self.0 = self.0.wrapping_add(1);
        let is_far = self.0.is_multiple_of(FAR_EVERY);
        let (first, second) = match is_far {
            true => (known, connected),
            false => (connected, known),
        };
        pick(first, draw).or_else(|| pick(second, draw))
    }
}

fn pick<P: Copy>(some: &[P], draw: u64) -> Option<P> {
    let count = u64::try_from(some.len()).ok()?;
    let at = draw.checked_rem(count)?;
    some.get(usize::try_from(at).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_rounds_go_to_who_is_there_and_some_to_who_is_not() {
        let mut rounds = Rounds::default();
        let asked: Vec<_> = (0..10).map(|n| rounds.next(&[1, 2], &[9], n / 2)).collect();
        let far = asked.iter().filter(|asked| **asked == Some(9)).count();
        assert_eq!((asked.len(), far), (10, 5));
        assert!(asked.contains(&Some(1)) && asked.contains(&Some(2)));
        assert_eq!(rounds.next(&[], &[9], 0), Some(9));
        assert_eq!(Rounds::default().next::<u8>(&[], &[], 7), None);
    }
}
