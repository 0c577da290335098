//! Versions and requirements with the meaning RubyGems gives them, since that is what `depends_on` is written in.
//!
//! A version is dot-separated segments; a letter makes it a pre-release, below its release; missing segments are
//! zeros; `-x` reads as `.pre.x`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest version text in bytes.
pub const VERSION_MAX: usize = 128;
/// Longest requirement text in bytes.
pub const REQUIREMENT_MAX: usize = 512;

/// The text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Malformed version number string {}", clip(.0, VERSION_MAX))]
pub struct VersionError(String);

/// The text is not a requirement; names the clause that is not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Illformed requirement [{:?}]", clip(.0, VERSION_MAX))]
pub struct RequirementError(String);

/// The first `max` characters, for texts that quote what a stranger wrote.
fn clip(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

/// A version such as `1.2.0` or `2.0.0-beta.1`, at most [`VERSION_MAX`] bytes, each number below 2^64.
#[derive(Clone)]
pub struct Version {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Number(u64),
    Letters(String),
}

impl Segment {
    const ZERO: Self = Self::Number(0);

    fn is_letters(&self) -> bool {
        matches!(self, Self::Letters(_))
    }

    /// Letters sort below every number, so a pre-release sorts below its release.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.cmp(b),
            (Self::Letters(a), Self::Letters(b)) => a.cmp(b),
            (Self::Letters(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Letters(_)) => Ordering::Greater,
        }
    }
}

/// The segments without the zeros that end the release part or the pre-release part.
fn canonical(segments: &[Segment]) -> Vec<&Segment> {
    let split = segments
        .iter()
        .position(Segment::is_letters)
        .unwrap_or(segments.len());
    let (release, pre) = segments.split_at(split);
    let trimmed = |part: &[Segment]| {
        part.iter()
            .rposition(|s| *s != Segment::ZERO)
            .map_or(0, |last| last + 1)
    };
    let (kept, pre_kept) = (trimmed(release), trimmed(pre));
    release
        .iter()
        .take(kept)
        .chain(pre.iter().take(pre_kept))
        .collect()
}

fn compare(a: &[Segment], b: &[Segment]) -> Ordering {
    let (a, b) = (canonical(a), canonical(b));
    let at = |side: &[&Segment], i: usize| side.get(i).map_or(Segment::ZERO, |s| (*s).clone());
    (0..a.len().max(b.len()))
        .map(|i| at(&a, i).compare(&at(&b, i)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

impl Version {
    /// The text as it was written, without surrounding white space.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a segment has letters.
    pub fn is_prerelease(&self) -> bool {
        self.segments.iter().any(Segment::is_letters)
    }

    /// The numbers before the first letters.
    fn release(&self) -> &[Segment] {
        let end = self.segments.iter().position(Segment::is_letters);
        self.segments
            .get(..end.unwrap_or(self.segments.len()))
            .unwrap_or_default()
    }

    /// The first version that `~>` no longer allows: the last of several numbers dropped, the next raised.
    fn bump(&self) -> Vec<Segment> {
        let mut numbers = self.release().to_vec();
        if numbers.len() > 1 {
            numbers.pop();
        }
        if let Some(Segment::Number(last)) = numbers.last_mut() {
            *last = last.saturating_add(1);
        }
        numbers
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let malformed = || VersionError(text.to_owned());
        let trimmed = text.trim_ascii();
        if trimmed.len() > VERSION_MAX || !is_version(trimmed) {
            return Err(malformed());
        }
        let segments = segments(&trimmed.replace('-', ".pre.")).ok_or_else(malformed)?;
        let text = trimmed.to_owned();
        Ok(Self { text, segments })
    }
}

/// `1.2.x` with an optional `-tail`; the first part is a number, no part is empty.
fn is_version(text: &str) -> bool {
    let (release, tail) = match text.split_once('-') {
        Some((release, tail)) => (release, Some(tail)),
        None => (text, None),
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    let tail_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let first = release.split('.').next().unwrap_or_default();
    !first.is_empty()
        && first.bytes().all(|b| b.is_ascii_digit())
        && release.split('.').all(word)
        && tail.is_none_or(|tail| tail.split('.').all(tail_word))
}

/// The runs of digits and of letters in `text`; `None` if a number does not fit.
fn segments(text: &str) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    for part in text.split('.') {
        let mut rest = part;
        while let Some(first) = rest.chars().next() {
            let digits = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != digits);
            let (run, tail) = rest.split_at(end.unwrap_or(rest.len()));
            segments.push(if digits {
                Segment::Number(run.parse().ok()?)
            } else {
                Segment::Letters(run.to_owned())
            });
            rest = tail;
        }
    }
    Some(segments)
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.segments, &other.segments)
    }
}

impl serde::Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({})", self.text)
    }
}

/// What versions a dependency may have: comma-separated clauses that must all hold. No clause allows everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    text: String,
    clauses: Vec<(Operator, Version)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    AtLeast,
    AtMost,
    /// `~> 1.2`: at least 1.2, below 2.
    Compatible,
}

/// Two-character operators first, so that `>=` is not read as `>`.
const OPERATORS: [(&str, Operator); 7] = [
    ("~>", Operator::Compatible),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("!=", Operator::NotEqual),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("=", Operator::Equal),
];

impl Requirement {
    /// Whether `version` satisfies every clause.
    pub fn allows(&self, version: &Version) -> bool {
        self.clauses.iter().all(|(operator, bound)| {
            let order = version.cmp(bound);
            match operator {
                Operator::Equal => order.is_eq(),
                Operator::NotEqual => order.is_ne(),
                Operator::Greater => order.is_gt(),
                Operator::Less => order.is_lt(),
                Operator::AtLeast => order.is_ge(),
                Operator::AtMost => order.is_le(),
                Operator::Compatible => {
                    order.is_ge() && compare(version.release(), &bound.bump()).is_lt()
                }
            }
        })
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Requirement {
    type Err = RequirementError;

    fn from_str(text: &str) -> Result<Self, RequirementError> {
        if text.len() > REQUIREMENT_MAX {
            return Err(RequirementError(text.to_owned()));
        }
        let clauses = if text.is_empty() {
            Vec::new()
        } else {
            text.split(',').map(clause).collect::<Result<_, _>>()?
        };
        let text = text.to_owned();
        Ok(Self { text, clauses })
    }
}

fn clause(text: &str) -> Result<(Operator, Version), RequirementError> {
    let text = text.trim_ascii();
    let (operator, version) = OPERATORS
        .iter()
        .find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)))
        .unwrap_or((Operator::Equal, text));
    let version = version
        .parse()
        .map_err(|_| RequirementError(text.to_owned()))?;
    Ok((operator, version))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn check(requirement: &str, allowed: &[&str], refused: &[&str]) {
        let parsed: Requirement = requirement.parse().unwrap();
        for text in allowed {
            assert!(parsed.allows(&version(text)), "{requirement} allows {text}");
        }
        for text in refused {
            assert!(
                !parsed.allows(&version(text)),
                "{requirement} refuses {text}"
            );
        }
    }

    #[test]
    fn orders_versions_as_rubygems_does() {
        let ascending = [
            "0.9",
            "1.0.a",
            "1.0.b1",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-beta",
            "1",
            "1.0.1",
            "1.2.a",
            "1.2",
            "1.10",
            "2.0.A",
            "2.0.a",
            "2",
        ];
        for pair in ascending.windows(2) {
            assert!(
                version(pair[0]) < version(pair[1]),
                "{} < {}",
                pair[0],
                pair[1]
            );
        }
        for (a, b) in [
            ("1.0", "1.0.0"),
            ("1.0.a", "1.a"),
            ("1.0.0-a", "1.pre.a"),
            (" 1\n", "1"),
        ] {
            assert_eq!(version(a), version(b));
        }
        assert!(version("1.0-a").is_prerelease() && !version("1.0").is_prerelease());
    }

    /// Random versions and requirements with the answers that RubyGems 3.3 gave.
    const RUBYGEMS: &str = include_str!("../tests/fixtures/rubygems-versions.json");

    #[test]
    fn answers_as_rubygems_answered() {
        let cases: serde_json::Value = serde_json::from_str(RUBYGEMS).unwrap();
        for case in cases["order"].as_array().unwrap() {
            let [a, b] = [&case[0], &case[1]].map(|text| version(text.as_str().unwrap()));
            assert_eq!(a.cmp(&b) as i64, case[2].as_i64().unwrap(), "{case}");
        }
        for case in cases["allows"].as_array().unwrap() {
            let requirement: Requirement = case[0].as_str().unwrap().parse().unwrap();
            let candidate = version(case[1].as_str().unwrap());
            assert_eq!(
                requirement.allows(&candidate),
                case[2].as_bool().unwrap(),
                "{case}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_version() {
        for bad in [
            "",
            "v1.0",
            "1.0+b",
            "1..2",
            ".1",
            "1.",
            "1-",
            "1.-a",
            "-1",
            "a",
            "1 .0",
            "1.é",
            "99999999999999999999",
            &"1.".repeat(100),
        ] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        assert_eq!(
            "v1".parse::<Version>().unwrap_err().to_string(),
            "Malformed version number string v1"
        );
    }

    #[test]
    fn requirements_mean_what_they_mean_in_rubygems() {
        check("1.0", &["1.0", "1"], &["1.0.1", "1.0.0-alpha"]);
        check(
            ">= 1.0.0",
            &["1.0.0", "2.0.a"],
            &["1.0.0-alpha", "0.9", "1.0.0.rc1"],
        );
        check("~> 1.2", &["1.2", "1.9.9"], &["1.1", "2", "2.0.a", "1.2.a"]);
        check("~> 1.2.0", &["1.2.0", "1.2.9"], &["1.3", "1.1.9", "1.3.a"]);
        check("~> 1", &["1", "1.9"], &["2", "0.9"]);
        check("~> 1.2.a", &["1.2.a", "1.2", "1.9"], &["2", "1.2.A"]);
        check("> 1, != 1.5 ,<2", &["1.4", "1.6"], &["1", "1.5.0", "2"]);
        check("<= 1.a", &["1.a", "0.1"], &["1"]);
        check("", &["0", "1.0.a"], &[]);
    }

    #[test]
    fn an_ill_formed_requirement_is_named_in_the_words_of_the_reference() {
        for (text, clause) in [
            ("^1.0", "^1.0"),
            (">= 1,", ""),
            (">=", ">="),
            ("= =1", "= =1"),
            ("  ", ""),
            (">= 1, x", "x"),
            ("~> v1", "~> v1"),
        ] {
            let error = text.parse::<Requirement>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("Illformed requirement [{clause:?}]")
            );
        }
        assert!("1,".repeat(1000).parse::<Requirement>().is_err());
    }

    fn any_version() -> impl Strategy<Value = String> {
        "[0-9]{1,2}(\\.([0-9]{1,2}|[ab][0-9]?)){0,4}(-[a-c]{1,2}(\\.[0-9])?)?"
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,40}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.as_str().parse::<Version>().unwrap(), version);
            }
            if let Ok(requirement) = text.parse::<Requirement>() {
                prop_assert_eq!(requirement.to_string(), text);
            }
        }

        #[test]
        fn the_order_is_total(a in any_version(), b in any_version(), c in any_version()) {
            let (a, b, c) = (version(&a), version(&b), version(&c));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c { prop_assert!(a <= c); }
            if a == b { prop_assert_eq!(a.cmp(&c), b.cmp(&c)); }
        }

        #[test]
        fn clauses_agree_with_the_order(a in any_version(), b in any_version()) {
            let (left, right) = (version(&a), version(&b));
            let holds = |sign: &str| format!("{sign} {b}").parse::<Requirement>().unwrap().allows(&left);
            prop_assert_eq!(holds(">="), left >= right);
            prop_assert_eq!(holds("<"), left < right);
            prop_assert_eq!(holds("="), left == right);
            prop_assert!(!holds("~>") || holds(">="));
        }
    }
}
