//! What was recorded from the reference: every exchange in order, with what the recorder cut put back.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// One version of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// 2.2.0.
    Seed,
    /// 3.75.
    Head,
}

impl Version {
    /// The recording of agents that meet.
    fn meeting(self) -> &'static str {
        match self {
            Self::Seed => "mmp-transcript-v2.2.0.jsonl.gz",
            Self::Head => "mmp-transcript-v3.75.jsonl.gz",
        }
    }

    /// The recording of a Meeting Place.
    pub(super) fn place(self) -> &'static str {
        match self {
            Self::Seed => "place-transcript-v2.2.0.jsonl.gz",
            Self::Head => "place-transcript-v3.75.jsonl.gz",
        }
    }

    /// How the recorder named the directories of its two agents.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Head => "head",
        }
    }
}

/// One of the two agents of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub(super) enum Agent {
    A,
    B,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Row {
    Meta(Meta),
    Http(Exchange),
    Cli(Command),
    InstalledTree(Tree),
    Summary(Summary),
    Fact(Fact),
    File(Named),
}

/// What the recorder said of the recording, or did without recording it.
#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    pub(super) note: String,
}

/// Who the agents are.
#[derive(Debug, Deserialize)]
pub(super) struct Fact {
    pub(super) case: String,
    pub(super) meeting_instance_id: String,
    pub(super) place_self_id: String,
}

/// A row of which no more than its case matters.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) case: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Exchange {
    pub(super) seq: u32,
    pub(super) case: String,
    pub(super) peer: Agent,
    pub(super) request: Request,
    pub(super) response: Response,
}

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Command {
    pub(super) seq: u32,
    pub(super) case: String,
    pub(super) argv: Vec<String>,
    pub(super) exit: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
    #[serde(default)]
    pub(super) stdin: String,
}

/// What an install left on disk, one text like `f 644 ./skillset.json` an entry.
#[derive(Debug, Deserialize)]
pub(super) struct Tree {
    pub(super) seq: u32,
    pub(super) case: String,
    pub(super) name: String,
    pub(super) entries: Vec<String>,
}

/// How many of a series of calls, not all of them recorded, had which status.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) seq: u32,
    pub(super) case: String,
    pub(super) statuses: BTreeMap<String, usize>,
}

impl Exchange {
    /// What was sent. The recorder wrote the only two bytes that are not UTF-8 as replacement characters.
    pub(super) fn sent(&self) -> Vec<u8> {
        let body = &self.request.body;
        match (self.case.as_str(), body.split_once("\u{fffd}\u{fffd}")) {
            ("introduce_post_invalid_utf8", Some((head, tail))) => {
                [head.as_bytes(), b"\xff\xfe", tail.as_bytes()].concat()
            }
            _ => body.clone().into_bytes(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Recording {
    pub(super) version: Version,
    pub(super) rows: Vec<Row>,
}

/// How the recorder begins what stands for a long text.
pub(super) const CUT: &str = " bytes elided";

impl Recording {
    pub(super) fn load(version: Version) -> Self {
        let mut recording = Self::read(version, version.meeting());
        recording.restore();
        recording
    }

    /// Reads a recording as it is.
    pub(super) fn read(version: Version, file: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/vectors")
            .join(file);
        let mut text = String::new();
        let file = std::fs::File::open(path).unwrap();
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
        Self {
            version,
            rows: rows.collect(),
        }
    }

    pub(super) fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.rows.iter().filter_map(|row| match row {
            Row::Http(exchange) => Some(exchange),
            _ => None,
        })
    }

    pub(super) fn cases(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(|row| match row {
            Row::Meta(_) => None,
            Row::Http(row) => Some(row.case.as_str()),
            Row::Cli(row) => Some(row.case.as_str()),
            Row::InstalledTree(row) => Some(row.case.as_str()),
            Row::Summary(row) => Some(row.case.as_str()),
            Row::Fact(row) => Some(row.case.as_str()),
            Row::File(row) => Some(row.case.as_str()),
        })
    }

    /// The first exchange of a case.
    pub(super) fn exchange(&self, case: &str) -> &Exchange {
        self.exchanges().find(|row| row.case == case).unwrap()
    }

    /// The first command of a case.
    fn command(&self, case: &str) -> &Command {
        let mut commands = self.rows.iter().filter_map(|row| match row {
            Row::Cli(command) => Some(command),
            _ => None,
        });
        commands.find(|row| row.case == case).unwrap()
    }

    /// Puts back what the recorder cut from long texts. What it left says how.
    fn restore(&mut self) {
        let whole: HashMap<String, String> = self
            .exchanges()
            .map(|row| (sha256(&row.response.body), row.response.body.clone()))
            .collect();
        let signed = self
            .exchange("introduce_post_signed_minimal")
            .request
            .body
            .clone();
        // Each of these holds the time or a path, so that no more than its like is known.
        let like: HashMap<_, _> = [
            ("introduce_query", "introduce_get"),
            (
                "introduce_post_nesting_99",
                "introduce_post_body_empty_object",
            ),
            ("introduce_post_5MB", "introduce_post_signed_minimal"),
        ]
        .map(|(case, like)| (case, self.exchange(like).response.body.clone()))
        .into();
        let bomb = bomb(self.command("archive_good_foreign_tar"));
        for row in &mut self.rows {
            match row {
                // Not replayed.
                Row::Http(row) if row.case.starts_with("mcp_") => {}
                Row::Http(row) => {
                    if row.request.body.contains(CUT) {
                        row.request.body = restored_request(row, &signed);
                    }
                    if row.response.body.contains(CUT) {
                        row.response.body = match like.get(row.case.as_str()) {
                            Some(like) => like.clone(),
                            None => restored_answer(row, &whole),
                        };
                    }
                }
                Row::Cli(row) if row.case == "archive_decompression_50MB" => {
                    assert!(
                        row.stdout.contains(&bomb.content_hash),
                        "{}",
                        bomb.content_hash
                    );
                    row.stdin.clone_from(&bomb.package);
                }
                _ => {}
            }
        }
    }
}

fn restored_request(row: &Exchange, signed: &str) -> String {
    let length = cut_length(&row.request.body);
    let restored = match row.case.as_str() {
        "introduce_post_deep_nesting" => nested("{\"identity\":", 101, "}"),
        "introduce_post_nesting_99" => nested("{\"identity\":{\"a\":", 97, "}}"),
        "introduce_post_5MB" => {
            let head = signed.strip_suffix('}').unwrap();
            padded(&format!("{head},\"pad\":\""), "\"}", length)
        }
        "skill_content_oversize_request_5MB" => {
            padded("{\"skill_id\":\"my_protocol\",\"pad\":\"", "\"}", length)
        }
        "skill_content_oversize_skill_id" => padded("{\"skill_id\":\"", "\"}", length),
        other => panic!("nothing says what was cut from the request {other}"),
    };
    assert_eq!(restored.len(), length, "{}", row.case);
    restored
}

fn restored_answer(row: &Exchange, whole: &HashMap<String, String>) -> String {
    let cut = row.response.body.split_once("sha256 ").unwrap().1;
    let hash = cut.split_once(':').unwrap().0;
    let long = format!(
        "{{\"error\":\"not_found\",\"message\":\"Skill not found: {}\"}}",
        "x".repeat(200_000)
    );
    let known = if sha256(&long) == hash {
        Some(&long)
    } else {
        whole.get(hash)
    };
    known
        .unwrap_or_else(|| panic!("nothing says what was cut from the answer {}", row.case))
        .clone()
}

/// A small package of a large SkillSet.
struct Bomb {
    package: String,
    content_hash: String,
}

/// Adds fifty million zeros to the SkillSet of `small`.
fn bomb(small: &Command) -> Bomb {
    let mut package: Value = serde_json::from_str(&small.stdin).unwrap();
    let archive = STANDARD
        .decode(package["archive_base64"].as_str().unwrap())
        .unwrap();
    let zeros = vec![b'0'; 50_000_000];
    let mut hashes = BTreeMap::from([("knowledge/t/big.txt".to_owned(), sha256(&zeros))]);
    let mut large = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    let mut small = tar::Archive::new(GzDecoder::new(archive.as_slice()));
    let mut header = tar::Header::new_ustar();
    for entry in small.entries().unwrap() {
        let mut entry = entry.unwrap();
        header = entry.header().clone();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if header.entry_type().is_file() {
            hashes.insert(path.split_once('/').unwrap().1.to_owned(), sha256(&content));
        }
        large.append(&header, content.as_slice()).unwrap();
    }
    header.set_size(zeros.len() as u64);
    large
        .append_data(&mut header, "h1/knowledge/t/big.txt", zeros.as_slice())
        .unwrap();
    let archive = large.into_inner().unwrap().finish().unwrap();
    let content_hash = sha256(json!(hashes).to_string());
    package["archive_base64"] = STANDARD.encode(archive).into();
    package["content_hash"] = content_hash.clone().into();
    Bomb {
        package: package.to_string(),
        content_hash,
    }
}

/// Reads the length that the recorder left for a text it cut.
pub(super) fn cut_length(cut: &str) -> usize {
    let digits = cut.trim_start_matches('<').split(' ').next().unwrap();
    digits.parse().unwrap()
}

fn padded(head: &str, tail: &str, length: usize) -> String {
    let pad = "x".repeat(length - head.len() - tail.len());
    format!("{head}{pad}{tail}")
}

fn nested(head: &str, depth: usize, tail: &str) -> String {
    format!("{head}{}{}{tail}", "[".repeat(depth), "]".repeat(depth))
}

/// Lower-case hex of the SHA-256.
pub(super) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}
