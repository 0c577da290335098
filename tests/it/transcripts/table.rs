//! Tables of what is meant to differ from a recording, and of what is not replayed.
//!
//! A difference that a table does not list fails the replay, and so does a listed one that no longer occurs.

use super::compare::Finding;
use super::recording::Version;

/// One thing we do otherwise on purpose.
pub(super) struct Difference {
    pub(super) why: &'static str,
    pub(super) on: &'static [Version],
    /// Where it shows; all of it must.
    pub(super) seen: &'static [Seen],
}

/// Where a difference shows. `*` stands for any text.
pub(super) struct Seen {
    /// Cases of the recording; it shows in at least one of each pattern.
    pub(super) cases: &'static [&'static str],
    pub(super) member: &'static str,
    /// What the reference does.
    pub(super) reference: &'static str,
    /// What we do.
    pub(super) ours: &'static str,
}

/// Cases that are not replayed, and why.
pub(super) struct Skip {
    pub(super) on: &'static [Version],
    pub(super) cases: &'static [&'static str],
    pub(super) why: &'static str,
}

pub(super) const BOTH: &[Version] = &[Version::Seed, Version::Head];
pub(super) const SEED: &[Version] = &[Version::Seed];
pub(super) const HEAD: &[Version] = &[Version::Head];

/// Writes a table: `"why" on VERSIONS { ["case", ...] "member": "reference" => "ours"; ... }`.
macro_rules! differences {
    ($($why:literal on $on:ident {
        $([$($case:literal),+] $member:literal: $reference:literal => $ours:literal;)+
    })+) => {
        pub(in crate::transcripts) const DIFFERENCES: &[Difference] = &[$(Difference {
            why: $why,
            on: $on,
            seen: &[$(Seen {
                cases: &[$($case),+],
                member: $member,
                reference: $reference,
                ours: $ours,
            }),+],
        }),+];
    };
}
pub(super) use differences;

impl Skip {
    pub(super) fn is_on(&self, version: Version) -> bool {
        self.on.contains(&version)
    }
}

impl Difference {
    pub(super) fn is_on(&self, version: Version) -> bool {
        self.on.contains(&version)
    }

    pub(super) fn explains(&self, finding: &Finding) -> bool {
        let explains = |seen: &Seen| seen.cases.iter().any(|case| seen.shows(case, finding));
        self.seen.iter().any(explains)
    }
}

impl Seen {
    /// Whether this is what was found in a case that the pattern `case` stands for.
    pub(super) fn shows(&self, case: &str, finding: &Finding) -> bool {
        matches(case, &finding.case)
            && matches(self.member, &finding.member)
            && matches(self.reference, &finding.reference)
            && matches(self.ours, &finding.ours)
    }
}

/// Whether a case is one that `skipped` names.
pub(super) fn is_skipped(skipped: &[Skip], case: &str) -> bool {
    let mut patterns = skipped.iter().flat_map(|skip| skip.cases);
    patterns.any(|pattern| matches(pattern, case))
}

/// Whether `text` is what `pattern` says, where `*` stands for any text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            let starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.into_iter().any(|at| matches(tail, &rest[at..]))
        }),
    }
}

#[test]
fn a_pattern_stands_for_any_text_between_its_parts() {
    for (pattern, text, expected) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a*", "a", true),
        ("a*c", "abbc", true),
        ("a*c", "abbd", false),
        ("*é*", "aéb", true),
        ("*", "", true),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}
