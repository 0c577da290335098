//! The recorded transcripts of the reference, replayed against our server and commands.
//!
//! Every exchange is made again in order: requests as they were recorded, with our session tokens in the place of
//! the recorded ones. Status, headers, and each member of each body are compared. What differs must be in the table
//! of [`differences`], or of [`place::differences`], and what the table lists must differ.

mod answer;
mod compare;
mod differences;
mod place;
mod recording;
mod replay;
mod stage;
mod table;

use std::fmt::Write as _;

use self::compare::Finding;
use self::recording::{Recording, Version};
use self::replay::Replay;
use self::table::{Difference, Skip, matches};

#[tokio::test]
async fn the_seed_would_recognize_our_answers() {
    meet(Version::Seed).await;
}

#[tokio::test]
async fn head_would_recognize_our_answers() {
    meet(Version::Head).await;
}

#[tokio::test]
async fn the_seed_would_recognize_our_place() {
    gather(Version::Seed).await;
}

#[tokio::test]
async fn head_would_recognize_our_place() {
    gather(Version::Head).await;
}

async fn meet(version: Version) {
    let recording = Recording::load(version);
    let found = Replay::run(&recording).await;
    check(
        &recording,
        &found,
        differences::DIFFERENCES,
        differences::SKIPPED,
    );
}

async fn gather(version: Version) {
    let recording = place::recording(version);
    let found = place::Replay::run(&recording).await;
    let (differences, skipped) = (place::differences::DIFFERENCES, place::differences::SKIPPED);
    check(&recording, &found, differences, skipped);
}

/// Fails on every difference that is not listed, and for every listed one that there is not.
fn check(recording: &Recording, found: &[Finding], differences: &[Difference], skipped: &[Skip]) {
    let version = recording.version;
    let table = || differences.iter().filter(|row| row.is_on(version));
    let mut told = String::new();
    for finding in found
        .iter()
        .filter(|finding| !table().any(|row| row.explains(finding)))
    {
        let Finding {
            seq,
            case,
            member,
            reference,
            ours,
        } = finding;
        let _ = writeln!(
            told,
            "{seq} {case}: {member}\n  reference: {}\n  ours:      {}",
            cut(reference),
            cut(ours)
        );
    }
    for (row, seen) in table().flat_map(|row| row.seen.iter().map(move |seen| (row, seen))) {
        for case in seen
            .cases
            .iter()
            .filter(|case| !found.iter().any(|finding| seen.shows(case, finding)))
        {
            let _ = writeln!(told, "no longer: {case}: {} ({})", seen.member, row.why);
        }
    }
    for skip in skipped.iter().filter(|skip| skip.is_on(version)) {
        for case in skip
            .cases
            .iter()
            .filter(|case| !recording.cases().any(|seen| matches(case, seen)))
        {
            let _ = writeln!(told, "not recorded, but skipped: {case} ({})", skip.why);
        }
    }
    assert!(told.is_empty(), "{version:?}:\n{told}");
}

/// The start of a long value.
fn cut(value: &str) -> String {
    const SHOWN: usize = 300;
    match value.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &value[..at]),
        None => value.to_owned(),
    }
}
