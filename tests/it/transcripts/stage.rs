//! The directories that the recording ran in, rebuilt from what the recording says about them.
//!
//! Skills and SkillSets of the recorder are rebuilt to the byte, and their recorded hashes prove it. What the
//! reference ships is not in the recording: stand-ins with the same paths, names, descriptions and tags take its
//! place, and their hashes are put where the recorded ones are expected.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use kairos_tests::{Call, Home};
use serde_json::{Value, json};

use super::recording::{Agent, Recording, Version, sha256};

/// The SkillSets that the reference ships, with code in them and no more than that known.
const SHIPPED: [Shipped; 3] = [
    Shipped {
        name: "mmp",
        version: "1.0.0",
        description: "Model Meeting Protocol for P2P agent communication and skill exchange",
        depends_on: [&[], &[]],
        tools: [4, 13],
    },
    Shipped {
        name: "hestia",
        version: "0.1.0",
        description: "HestiaChain: Meeting Place Server and trust anchor for KairosChain inter-agent interactions",
        depends_on: [&["mmp"], &["mmp", "synoptis"]],
        tools: [6, 7],
    },
    Shipped {
        name: "synoptis",
        version: "0.1.0",
        description: "Mutual Attestation Protocol for cross-agent trust verification and audit trails",
        depends_on: [&[], &["mmp"]],
        tools: [0, 12],
    },
];

/// A SkillSet of the reference; pairs are for the seed and for head.
struct Shipped {
    name: &'static str,
    version: &'static str,
    description: &'static str,
    depends_on: [&'static [&'static str]; 2],
    /// How many; none means that the version does not ship the SkillSet.
    tools: [usize; 2],
}

/// The files of a SkillSet: path, content, and whether it may be executed.
type Files = Vec<(String, Vec<u8>, bool)>;

pub(super) struct Stage {
    root: Home,
    version: Version,
    /// Recorded hash of a shipped skill to the hash of its stand-in.
    stand_ins: HashMap<String, String>,
}

/// The switches of `meeting.yml` that the recording turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Switches {
    pub(super) enabled: bool,
    pub(super) skill_sets: bool,
}

impl Switches {
    pub(super) const ON: Self = Self {
        enabled: true,
        skill_sets: true,
    };
}

impl Stage {
    pub(super) fn build(recording: &Recording) -> Self {
        let mut stage = Self {
            root: Home::new(),
            version: recording.version,
            stand_ins: HashMap::new(),
        };
        for agent in [Agent::A, Agent::B] {
            stage.build_agent(recording, agent);
        }
        stage.build_packs(recording);
        let reply = &recording.exchange("skillset_content_ok").response.body;
        let inner = json_of(reply)["skillset_package"].to_string();
        write(&stage.path("work/received_package.json"), reply, false);
        write(&stage.path("work/inner.json"), inner, false);
        stage
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    pub(super) fn data_dir(&self, agent: Agent) -> PathBuf {
        let letter = match agent {
            Agent::A => 'a',
            Agent::B => 'b',
        };
        self.path(&format!("{}_{letter}/.kairos", self.version.prefix()))
    }

    /// Where an archive that agent B takes in goes.
    pub(super) fn skill_set(&self, name: &str) -> PathBuf {
        self.data_dir(Agent::B).join("skillsets").join(name)
    }

    /// Puts this stage's paths and the hashes of its stand-ins into a recorded text.
    pub(super) fn expected(&self, recorded: &str) -> String {
        let text = self.actual(recorded);
        let replace = |text: String, (from, to): (&String, &String)| text.replace(from, to);
        self.stand_ins.iter().fold(text, replace)
    }

    /// Puts this stage's paths into a recorded text.
    pub(super) fn actual(&self, recorded: &str) -> String {
        recorded.replace("$DATA", &self.root.path().to_string_lossy())
    }

    /// Writes this stage's paths in a text as the recorder did.
    pub(super) fn recorded(&self, text: &str) -> String {
        text.replace(&*self.root.path().to_string_lossy(), "$DATA")
    }

    fn build_agent(&mut self, recording: &Recording, agent: Agent) {
        let dir = self.data_dir(agent);
        Call::new(["init", "--data-dir"]).arg(&dir).run().done();
        // The recorder's agents had the reference's guides, not ours.
        fs::remove_dir_all(dir.join("knowledge")).unwrap();
        let row = recording
            .exchanges()
            .find(|row| row.case == "introduce_get" && row.peer == agent);
        let introduction = json_of(&row.unwrap().response.body);
        // What the owner of a directory made by the reference would have to write to keep the agent's id.
        write(
            &dir.join("keys/instance_id"),
            text(&introduction["identity"]["instance_id"]),
            false,
        );
        self.configure(agent, &introduction, Switches::ON);
        for shipped in &SHIPPED {
            shipped.install(&dir.join("skillsets"), self.version);
        }
        let contents = skill_contents(recording);
        let tags = skill_tags(recording);
        for skill in introduction["skills"].as_array().unwrap() {
            let path = text(&skill["path"]).split_once(".kairos/").unwrap().1;
            let recorded = text(&skill["content_hash"]);
            let content = contents.get(recorded).cloned().unwrap_or_else(|| {
                let stand_in = stand_in(skill, tags.get(text(&skill["id"])));
                self.stand_ins
                    .insert(recorded.to_owned(), sha256(&stand_in));
                stand_in
            });
            write(&dir.join(path), content, false);
        }
    }

    /// Writes `meeting.yml` as the recorder did, with `switches` as given.
    pub(super) fn switch(&self, recording: &Recording, switches: Switches) {
        let introduction = json_of(&recording.exchange("introduce_get").response.body);
        self.configure(Agent::A, &introduction, switches);
    }

    fn configure(&self, agent: Agent, introduction: &Value, switches: Switches) {
        let identity = &introduction["identity"];
        let settings = json!({
            "enabled": switches.enabled,
            "identity": {
                "name": identity["name"], "description": identity["description"], "scope": identity["scope"],
            },
            "skill_exchange": {
                "allowed_formats": introduction["exchange_policy"]["allowed_formats"],
                "public_by_default": introduction["exchange_policy"]["public_by_default"],
            },
            "skillset_exchange": {"enabled": switches.skill_sets},
        });
        // JSON is YAML.
        let file = self
            .data_dir(agent)
            .join("skillsets/mmp/config/meeting.yml");
        write(&file, settings.to_string(), false);
    }

    /// The SkillSets that the recorder installed from directories.
    fn build_packs(&self, recording: &Recording) {
        let packed = packed_skill_sets(recording);
        let base = &packed["my_knowledge_pack"];
        let variant = |name: &str, edits: &[(&str, &str)], more: &[(&str, &str)]| -> Files {
            let edit = |(path, bytes, executable): &(String, Vec<u8>, bool)| {
                let mut bytes = bytes.clone();
                if path == "skillset.json" {
                    let mut json = String::from_utf8(bytes)
                        .unwrap()
                        .replace("my_knowledge_pack", name);
                    for (from, to) in edits {
                        assert!(json.contains(from), "{name}");
                        json = json.replace(from, to);
                    }
                    bytes = json.into_bytes();
                }
                (path.clone(), bytes, *executable)
            };
            let more = more
                .iter()
                .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec(), false));
            base.iter().map(edit).chain(more).collect()
        };
        let needs = "\"depends_on\": [\n    {\n      \"name\": \"nonexistent\",\n\
                     \x20     \"version\": \">= 9\"\n    }\n  ]";
        let packs: [(&str, Files); 11] = [
            ("my_knowledge_pack", base.clone()),
            ("weird_files", packed["weird_files"].clone()),
            ("sneaky_pack", packed["sneaky_pack"].clone()),
            (
                "bad_layer",
                variant("bad_layer", &[("\"L2\"", "\"L9\"")], &[]),
            ),
            ("l0_pack", variant("l0_pack", &[("\"L2\"", "\"L0\"")], &[])),
            (
                "dep_pack",
                variant("dep_pack", &[("\"depends_on\": []", needs)], &[]),
            ),
            // What is in the files that were never served does not matter, only where and what they are.
            (
                "hidden_pack",
                variant("hidden_pack", &[], &[("tools/.hidden.rb", "puts 1\n")]),
            ),
            (
                "exec_pack",
                variant("exec_pack", &[], &[("tools/run.rb", "puts 1\n")]),
            ),
            (
                "shebang_pack",
                variant(
                    "shebang_pack",
                    &[],
                    &[("tools/run", "#!/bin/sh\necho hi\n")],
                ),
            ),
            (
                "missing_version",
                variant(
                    "missing_version",
                    &[("  \"version\": \"1.0.0\",\n", "")],
                    &[],
                ),
            ),
            ("dirname_x", variant("bad name!", &[], &[])),
        ];
        let hashes = recorded_hashes(recording);
        for (name, files) in packs {
            if let Some(recorded) = hashes.get(name) {
                assert_eq!(
                    &content_hash(&files),
                    recorded,
                    "{name} is not what the recorder had"
                );
            }
            for (path, bytes, executable) in files {
                write(&self.path("packs").join(name).join(path), bytes, executable);
            }
        }
        fs::create_dir_all(self.path("packs/weird_files/emptydir")).unwrap();
    }
}

impl Shipped {
    fn install(&self, skill_sets: &Path, version: Version) {
        let at = match version {
            Version::Seed => 0,
            Version::Head => 1,
        };
        if self.tools[at] == 0 {
            return;
        }
        let tools: Vec<_> = (0..self.tools[at]).map(|n| format!("Tool{n}")).collect();
        let metadata = json!({
            "name": self.name, "version": self.version, "description": self.description, "layer": "L1",
            "depends_on": self.depends_on[at], "tool_classes": tools,
        });
        let dir = skill_sets.join(self.name);
        write(&dir.join("skillset.json"), metadata.to_string(), false);
        write(&dir.join("tools/tools.rb"), "# code\n", false);
    }
}

/// The texts of skills by their hash: those that were served, and the two that were not.
fn skill_contents(recording: &Recording) -> HashMap<String, String> {
    let served = recording
        .exchanges()
        .filter(|row| row.request.path == "/meeting/v1/skill_content" && row.response.status == 200)
        .map(|row| text(&json_of(&row.response.body)["packaged_skill"]["content"]).to_owned());
    let refused = format!(
        "---\nname: big_skill\ndescription: Over the advertised limit\npublic: true\n---\n\n{}\n",
        "x".repeat(100_001)
    );
    let shadowed = "---\nname: dup\ndescription: second\npublic: true\n---\ntwo\n".to_owned();
    let known: HashMap<_, _> = served
        .chain([refused, shadowed])
        .map(|content| (sha256(&content), content))
        .collect();
    let introduction = &recording.exchange("introduce_get").response.body;
    for name in ["big_skill", "dup", "my_protocol", "private_note"] {
        let skills = json_of(introduction)["skills"].take();
        let mut skills = skills
            .as_array()
            .unwrap()
            .iter()
            .filter(|skill| skill["name"] == name);
        assert!(
            skills.all(|skill| known.contains_key(text(&skill["content_hash"]))),
            "{name}"
        );
    }
    known
}

/// The tags of each public skill by its id, which introductions leave out.
fn skill_tags(recording: &Recording) -> HashMap<String, Value> {
    let listed = json_of(&recording.exchange("skills_list").response.body);
    let skills = listed["skills"].as_array().unwrap().iter();
    skills
        .map(|skill| (text(&skill["id"]).to_owned(), skill["tags"].clone()))
        .collect()
}

/// A skill that is listed as the recorded one is.
fn stand_in(skill: &Value, tags: Option<&Value>) -> String {
    let (summary, tags) = (&skill["summary"], tags.unwrap());
    format!(
        "---\ndescription: {summary}\ntags: {tags}\n---\n\nA stand-in for {}.\n",
        text(&skill["id"])
    )
}

/// The files of each SkillSet that was served as a package.
fn packed_skill_sets(recording: &Recording) -> HashMap<String, Files> {
    let packages = recording
        .exchanges()
        .filter(|row| {
            row.request.path == "/meeting/v1/skillset_content" && row.response.status == 200
        })
        .map(|row| json_of(&row.response.body)["skillset_package"].take());
    packages
        .map(|package| {
            (
                text(&package["name"]).to_owned(),
                unpack(text(&package["archive_base64"])),
            )
        })
        .collect()
}

fn unpack(archive: &str) -> Files {
    let mut bytes = Vec::new();
    let compressed = STANDARD.decode(archive).unwrap();
    let mut tar = tar::Archive::new(GzDecoder::new(compressed.as_slice()));
    let mut files = Vec::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let path = path.split_once('/').unwrap().1.to_owned();
        let executable = entry.header().mode().unwrap() & 0o111 != 0;
        bytes.clear();
        entry.read_to_end(&mut bytes).unwrap();
        files.push((path, bytes.clone(), executable));
    }
    files
}

/// The recorded content hash of each listed SkillSet.
fn recorded_hashes(recording: &Recording) -> HashMap<String, String> {
    let listed = json_of(&recording.exchange("skillsets_list").response.body);
    let sets = listed["skillsets"].as_array().unwrap().iter();
    sets.map(|set| {
        (
            text(&set["name"]).to_owned(),
            text(&set["content_hash"]).to_owned(),
        )
    })
    .collect()
}

/// The reference's content hash, computed here without the code under test.
fn content_hash(files: &Files) -> String {
    let seen = files
        .iter()
        .filter(|(path, ..)| !path.split('/').any(|part| part.starts_with('.')));
    let hashes: std::collections::BTreeMap<_, _> =
        seen.map(|(path, bytes, _)| (path, sha256(bytes))).collect();
    sha256(json!(hashes).to_string())
}

fn write(path: &Path, content: impl AsRef<[u8]>, executable: bool) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    if executable {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn json_of(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
