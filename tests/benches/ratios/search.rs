//! Searching among thousands of texts, and bringing the index up to date, against reading them all.
//!
//! `KAIROS_BENCH_TEXTS` names a directory of text files to search instead of made-up ones.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use kairos_protocol::search::{Document, Index, Layer, Query};

use crate::table::{Aim, Row, median};

const DOCUMENTS: usize = 5_000;
const WORDS: usize = 1_200;
const VOCABULARY: u64 = 20_000;
const ROUNDS: usize = 9;
/// Longest text taken from a directory; what is longer is cut.
const TEXT_MAX: usize = 1024 * 1024;

pub(crate) fn run() -> Vec<Row> {
    let texts = match std::env::var_os("KAIROS_BENCH_TEXTS") {
        Some(folder) => read(Path::new(&folder)),
        None => made_up(),
    };
    let mut index = Index::default();
    let began = Instant::now();
    for (key, body) in &texts {
        assert!(index.put(&document(key, body)), "there is room");
    }
    let built = began.elapsed().as_secs_f64();
    let queries = [
        "protocol",
        "the message",
        "routing table update failure",
        "secure transport of session keys",
    ];
    let queries = queries.map(|text| Query::new(text, 10).expect("a query"));
    let rounds: Vec<_> = (0..ROUNDS)
        .map(|_| (search(&index, &queries), scan(&texts)))
        .collect();
    let (ratio, least, most) = median(rounds.iter().map(|(ours, scan)| ours / scan));
    let (ours, ..) = median(rounds.iter().map(|(ours, _)| *ours));
    let (scanned, ..) = median(rounds.iter().map(|(_, scan)| *scan));
    let millis = |seconds: f64| format!("{:.3} ms", seconds * 1e3);
    let mut rows = vec![Row {
        what: format!(
            "search of {} texts, to looking for a word in all",
            texts.len()
        ),
        ours: millis(ours),
        baseline: millis(scanned),
        ratio,
        aim: Aim::Open,
        note: format!("{least:.4}..{most:.4}, aim 10 ms; built in {built:.1} s"),
    }];
    if let Some((key, body)) = texts.first() {
        let times: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let (few, many) = (
                    put(&mut Index::default(), key, body),
                    put(&mut index, key, body),
                );
                (few, many)
            })
            .collect();
        let (ratio, least, most) = median(times.iter().map(|(few, many)| many / few));
        let (few, ..) = median(times.iter().map(|(few, _)| *few));
        let (many, ..) = median(times.iter().map(|(_, many)| *many));
        rows.push(Row {
            what: format!("one text put among {}, to among none", texts.len()),
            ours: millis(many),
            baseline: millis(few),
            ratio,
            aim: Aim::AtMost(3.0),
            note: format!("{least:.2}..{most:.2}"),
        });
    }
    rows
}

fn document<'a>(key: &'a str, body: &'a str) -> Document<'a> {
    Document {
        key,
        layer: Layer::L1,
        stamp: 0,
        name: key,
        tags: &[],
        description: "",
        body,
    }
}

/// Seconds for one query.
fn search(index: &Index, queries: &[Query]) -> f64 {
    let began = Instant::now();
    for query in queries {
        black_box(index.search(query));
    }
    began.elapsed().as_secs_f64() / queries.len() as f64
}

/// Seconds for the least that finds a word without an index.
fn scan(texts: &[(String, String)]) -> f64 {
    let began = Instant::now();
    let found = texts
        .iter()
        .filter(|(_, body)| body.contains("protocol"))
        .count();
    black_box(found);
    began.elapsed().as_secs_f64()
}

fn put(index: &mut Index, key: &str, body: &str) -> f64 {
    let began = Instant::now();
    assert!(index.put(&document(key, body)), "there is room");
    began.elapsed().as_secs_f64()
}

fn read(folder: &Path) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).expect("a directory of texts") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let mut bytes = fs::read(&path).expect("a file");
            bytes.truncate(TEXT_MAX);
            let body = String::from_utf8_lossy(&bytes).into_owned();
            texts.push((path.display().to_string(), body));
        }
    }
    texts
}

/// Texts in which a few words are everywhere and most are rare, as in prose.
fn made_up() -> Vec<(String, String)> {
    let common = [
        "the", "message", "protocol", "table", "session", "of", "a", "secure",
    ];
    let mut noise = 1_u64;
    let mut next = || {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        noise >> 33
    };
    let text = |n: usize| {
        let mut body = String::new();
        for _ in 0..WORDS {
            let word = next();
            match common.get((word % 16) as usize) {
                Some(word) => body.push_str(word),
                // Squared, so that the first words of the vocabulary are frequent.
                None => body.push_str(&format!(
                    "w{}",
                    (next() % VOCABULARY) * (next() % VOCABULARY) / VOCABULARY
                )),
            }
            body.push(' ');
        }
        (format!("text-{n}"), body)
    };
    (0..DOCUMENTS).map(text).collect()
}
