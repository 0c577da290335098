//! Each recorded fixture is as it was recorded, and some test reads it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

/// A file below the root of the workspace, and what it is for.
struct Fixture {
    file: &'static str,
    /// The tests that read it; each names it.
    read_by: &'static [&'static str],
    /// The SHA-256 of the recorded file, uncompressed, for those that are whole files of the recorder.
    recorded: Option<&'static str>,
}

const FIXTURES: [Fixture; 33] = [
    Fixture {
        file: "node/tests/fixtures/kairos-meta-fresh-v2.2.0.yml",
        read_by: &["node/src/data_dir/init/tests.rs"],
        recorded: Some("83bc08213eb184c64b7dc9a903f5c9cc6931459c1307aa53f7c585e3446126b6"),
    },
    Fixture {
        file: "protocol/tests/fixtures/deposit-signature.json",
        read_by: &["protocol/src/crypto.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/eval/as_ruby.txt",
        read_by: &[
            "protocol/src/dsl/eval/tests/language.rs",
            "tests/it/ruby.rs",
        ],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/identity-signature.json",
        read_by: &["protocol/src/crypto.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/install-archive.jsonl",
        read_by: &["protocol/src/package/envelope/tests.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/record-1.json",
        read_by: &["protocol/src/record/tests.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/relay-envelope-1.json",
        read_by: &["protocol/src/relay/version_1/tests.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/relay-envelope-2.json",
        read_by: &["protocol/src/relay/version_2/tests/vectors.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/rubygems-versions.json",
        read_by: &["protocol/src/version.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/skills.json",
        read_by: &["protocol/src/skill/tests.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/skillset-content-hash.json",
        read_by: &["protocol/src/skill_set.rs"],
        recorded: Some("eba183099b894e7715b9957d555b455e13ae92becd74b82b1362b646b33603b5"),
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/block-and-merkle.json",
        read_by: &["protocol/tests/block_vectors.rs"],
        recorded: Some("60687c8b48fa9befcb30f9f7ba53f2629df9f60f5c65124ac870079047e724fa"),
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/blockchain-3.json",
        read_by: &[
            "actors/src/chain/store/file/tests.rs",
            "protocol/src/ledger/tests.rs",
            "protocol/tests/block_vectors.rs",
        ],
        recorded: Some("1e57ef5fd9ead8270c8bc1f50bba22592893f3556d36154cba3f71496d2594b2"),
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/01_node_kinds.json",
        read_by: &["protocol/src/dsl/definition/tests.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/01_node_kinds.rb",
        read_by: &["protocol/src/dsl/definition/tests.rs"],
        recorded: Some("eea7ba544cd58bc3dd6e734c81b431ef126575e9d6c47b59889b0065c50b5f05"),
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/02_conditions.json",
        read_by: &["protocol/src/dsl/definition/tests.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/02_conditions.rb",
        read_by: &["protocol/src/dsl/definition/tests.rs"],
        recorded: Some("5750d0e01410781e47db9db8931cb3cf4cfaaf707b95286660fb1e00a66ef36f"),
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/03_drift.json",
        read_by: &["protocol/src/dsl/definition/tests.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/03_drift.rb",
        read_by: &["protocol/src/dsl/definition/tests.rs"],
        recorded: Some("5f8c05a8e645f88c919e1ab7cf51eee354cc285a85f36dc1ad2aa3d47ba6ae5c"),
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/04_degenerate.json",
        read_by: &["protocol/src/dsl/definition/tests.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/04_degenerate.rb",
        read_by: &["protocol/src/dsl/definition/tests.rs"],
        recorded: Some("b8497dfa565c13b5e2ceba4362a02cc72d78df6e63062931a730679207bbc48c"),
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/05_decompile.json",
        read_by: &["protocol/src/dsl/definition/tests.rs"],
        recorded: None,
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/05_decompile.rb",
        read_by: &["protocol/src/dsl/definition/tests.rs"],
        recorded: Some("536ff06d44b269a4e8cb1d5c13d90ce4cee4cb137923e28032b3a33806954237"),
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/06_dynamic.rb",
        read_by: &["protocol/src/dsl/tests.rs"],
        recorded: Some("f7bda6a1fc9e3faedcf50815d98e48397831b33fdbb9dc007f8696ed01b3f768"),
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/dsl/10_skill_tools.rb",
        read_by: &["protocol/src/dsl/tests.rs"],
        recorded: Some("097cb00deea46170343165c22462604cac62101024f11e1d13f759c4feba0f2d"),
    },
    Fixture {
        file: "protocol/tests/fixtures/vectors/state-manifest.json",
        read_by: &["protocol/src/dsl/tests.rs", "protocol/src/state/tests.rs"],
        recorded: Some("bb2b5cbb92cc43afe021b65bd6c1e210fb24af86eb0ba29093a516591ccb4f89"),
    },
    Fixture {
        file: "tests/fixtures/keys/p-256.pub.pem",
        read_by: &["tests/it/bad_input.rs"],
        recorded: None,
    },
    Fixture {
        file: "tests/fixtures/keys/rsa-1024.pub.pem",
        read_by: &["tests/it/bad_input.rs"],
        recorded: None,
    },
    Fixture {
        file: "tests/fixtures/vectors/mcp-tools-list-v2.2.0.json",
        read_by: &["tests/it/mcp/tools.rs"],
        recorded: Some("6d23e12cdc3a1d6fd4e267e46a7bea06fc10bacba94690f2e708ae48454f7c7a"),
    },
    Fixture {
        file: "tests/fixtures/vectors/mmp-transcript-v2.2.0.jsonl.gz",
        read_by: &["tests/it/transcripts/recording.rs"],
        recorded: Some("b43f5f3bb079a66c4e3476d341cdbf7f74d921b97957f83acd23905266e5c8cb"),
    },
    Fixture {
        file: "tests/fixtures/vectors/mmp-transcript-v3.75.jsonl.gz",
        read_by: &["tests/it/transcripts/recording.rs"],
        recorded: Some("bffffbfe2250a3cb0f6af19df0b14a7e0daaee0f2afe220412cbbb14f7b87558"),
    },
    Fixture {
        file: "tests/fixtures/vectors/place-transcript-v2.2.0.jsonl.gz",
        read_by: &["tests/it/transcripts/recording.rs"],
        recorded: Some("69162cc1626c72fcbcfe03853e2e7eb6b6c54e708ce27643869a38275b524870"),
    },
    Fixture {
        file: "tests/fixtures/vectors/place-transcript-v3.75.jsonl.gz",
        read_by: &["tests/it/transcripts/recording.rs"],
        recorded: Some("5520b44c3a583cdb9c088fa535c3dbf6feca6c9b7a9044834b2ad934c3aed727"),
    },
];

#[test]
fn every_fixture_is_read_by_a_test() {
    let root = root();
    let mut found = BTreeSet::new();
    for member in fs::read_dir(&root).unwrap() {
        let member = member.unwrap().path();
        for fixtures in ["tests/fixtures", "fixtures"] {
            let dir = member.join(fixtures);
            if dir.is_dir() {
                collect(&dir, &root, &mut found);
            }
        }
    }
    let listed: BTreeSet<_> = FIXTURES
        .iter()
        .map(|fixture| fixture.file.to_owned())
        .collect();
    assert_eq!(found, listed, "on disk, listed here");
    for fixture in &FIXTURES {
        let name = Path::new(fixture.file)
            .file_name()
            .unwrap()
            .to_string_lossy();
        for test in fixture.read_by {
            let code = fs::read_to_string(root.join(test)).unwrap();
            assert!(code.contains(&*name), "{test} does not read {name}");
        }
        assert!(!fixture.read_by.is_empty(), "{name}");
    }
}

#[test]
fn recorded_fixtures_are_as_they_were_recorded() {
    for fixture in &FIXTURES {
        let Some(recorded) = fixture.recorded else {
            continue;
        };
        let mut bytes = fs::read(root().join(fixture.file)).unwrap();
        if fixture.file.ends_with(".gz") {
            let mut expanded = Vec::new();
            GzDecoder::new(bytes.as_slice())
                .read_to_end(&mut expanded)
                .unwrap();
            bytes = expanded;
        }
        assert_eq!(
            hex::encode(Sha256::digest(bytes)),
            recorded,
            "{}",
            fixture.file
        );
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn collect(dir: &Path, root: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, root, into);
        } else {
            let below = path.strip_prefix(root).unwrap();
            into.insert(below.to_string_lossy().into_owned());
        }
    }
}
