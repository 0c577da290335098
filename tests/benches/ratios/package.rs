//! Packing a large SkillSet, sending it as JSON and installing it, against `tar` and hashing.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use kairos_actors::skill_set::{Options, Origin, Signer, SkillSetStore};
use kairos_protocol::crypto::Keypair;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::package::{PackageLimits, SkillSetPackage};
use kairos_protocol::time::Timestamp;

use crate::table::{Aim, Row, median};

const FILES: usize = 1_000;
const FILE_BYTES: usize = 10_000;
const ROUNDS: usize = 5;

pub(crate) fn run() -> Vec<Row> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let set = dir.path().join("big");
    write_set(&set);
    let keypair = Keypair::generate().expect("a key");
    let signer = Signer {
        id: keypair.public().agent_id(),
        key: Arc::new(keypair),
    };
    let rounds: Vec<_> = (0..ROUNDS)
        .map(|n| {
            let round = dir.path().join(n.to_string());
            fs::create_dir(&round).expect("a directory");
            let times = (ours(&set, &round, &signer), baseline(dir.path(), &round));
            fs::remove_dir_all(&round).expect("a directory");
            times
        })
        .collect();
    let of = |number: fn(&(Times, Times)) -> f64| median(rounds.iter().map(number));
    let millis = |seconds: f64| format!("{:.0} ms", seconds * 1e3);
    let (ratio, least, most) = of(|(ours, tar)| ours.total() / tar.total());
    let (pack, ..) = of(|(ours, _)| ours.pack / ours.total());
    vec![Row {
        what: format!("package + install {FILES} x {FILE_BYTES} bytes, to tar cz, tar xz, sha256"),
        ours: millis(of(|(ours, _)| ours.total()).0),
        baseline: millis(of(|(_, tar)| tar.total()).0),
        ratio,
        aim: Aim::AtMost(2.0),
        note: format!("{least:.2}..{most:.2}, {:.0}% of it packing", pack * 100.0),
    }]
}

/// Seconds.
struct Times {
    pack: f64,
    unpack: f64,
}

impl Times {
    fn total(&self) -> f64 {
        self.pack + self.unpack
    }
}

fn write_set(set: &Path) {
    let files = set.join("knowledge/big");
    fs::create_dir_all(&files).expect("a directory");
    let metadata = r#"{"name": "big", "version": "1.0.0", "layer": "L2"}"#;
    fs::write(set.join("skillset.json"), metadata).expect("a file");
    let words = ["tea ", "house ", "guest ", "warm ", "pour ", "quiet "];
    let mut noise = 1_u64;
    for n in 0..FILES {
        let mut text = String::with_capacity(FILE_BYTES + 16);
        while text.len() < FILE_BYTES {
            // With some order in them, so that they compress as prose does.
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let word = words.get((noise >> 33) as usize % words.len());
            text.push_str(word.copied().unwrap_or_default());
            if noise >> 61 == 0 {
                text.push_str(&format!("{:x}\n", noise >> 40));
            }
        }
        text.truncate(FILE_BYTES);
        fs::write(files.join(format!("{n:04}.md")), text).expect("a file");
    }
}

fn ours(set: &Path, round: &Path, signer: &Signer) -> Times {
    let store = |name: &str| {
        SkillSetStore::open(&round.join(name), PackageLimits::default()).expect("a store")
    };
    let (sender, receiver) = (store("sender"), store("receiver"));
    let (options, now) = (Options::default(), Timestamp::EPOCH);
    let change = sender
        .install(set, options, now)
        .expect("it is fit to install");
    change.commit().expect("it is installed");

    let began = Instant::now();
    let package = sender
        .package("big", Some(signer), now)
        .expect("it is knowledge only");
    let json = package.to_json().expect("it has a JSON form").to_string();
    let pack = began.elapsed().as_secs_f64();

    let began = Instant::now();
    let package =
        SkillSetPackage::from_json(json.as_bytes(), &PackageLimits::default()).expect("a package");
    let change = receiver
        .install_archive(&package, &Origin::Local, options, now)
        .expect("it is fit to install");
    change.commit().expect("it is installed");
    let unpack = began.elapsed().as_secs_f64();
    Times { pack, unpack }
}

fn baseline(dir: &Path, round: &Path) -> Times {
    let (archive, target) = (round.join("big.tar.gz"), round.join("unpacked"));
    fs::create_dir(&target).expect("a directory");
    let tar = |flags: &str, at: &Path, names: &[&str]| {
        let mut tar = Command::new("tar");
        tar.arg(flags)
            .arg(&archive)
            .arg("-C")
            .arg(at)
            .args(names)
            .stdout(Stdio::null());
        assert!(tar.status().expect("tar starts").success());
    };
    let began = Instant::now();
    tar("czf", dir, &["big"]);
    let pack = began.elapsed().as_secs_f64();

    let began = Instant::now();
    tar("xzf", &target, &[]);
    for file in fs::read_dir(target.join("big/knowledge/big")).expect("a directory") {
        let bytes = fs::read(file.expect("an entry").path()).expect("a file");
        black_box(ContentHash::of(bytes));
    }
    let unpack = began.elapsed().as_secs_f64();
    Times { pack, unpack }
}
