//! Rules of the workspace that no compiler checks: who may depend on whom, and what no file may say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::{env, fs};

use serde::Deserialize;

/// Each member, the directory it lies in, and the members its normal and build dependencies may name.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("kairos-protocol", "protocol", &[]),
    ("kairos-place", "place", &["kairos-protocol"]),
    // Apart, so that libp2p's generic types are compiled in one place only.
    ("kairos-p2p", "p2p", &[]),
    (
        "kairos-actors",
        "actors",
        &["kairos-protocol", "kairos-place", "kairos-p2p"],
    ),
    (
        "kairos-node",
        "node",
        &["kairos-protocol", "kairos-place", "kairos-actors"],
    ),
    // Independent of the node: nothing that runs the node may decide what it finds.
    ("kairos-verify", "verify", &["kairos-protocol"]),
    // It knows the program as its users do, as a file to run.
    ("kairos-deploy", "deploy", &[]),
    (
        "kairos-tests",
        "tests",
        &[
            "kairos-protocol",
            "kairos-place",
            "kairos-actors",
            "kairos-node",
        ],
    ),
];

/// Crates that only the named members may depend on directly: each keeps a concern in its layer.
const OWNED: &[(&str, &[&str])] = &[
    ("actix", &["kairos-actors", "kairos-node", "kairos-tests"]),
    ("actix-rt", &["kairos-actors", "kairos-node"]),
    ("actix-web", &["kairos-node", "kairos-tests"]),
    (
        "clap",
        &[
            "kairos-node",
            "kairos-verify",
            "kairos-deploy",
            "kairos-tests",
        ],
    ),
    ("config", &["kairos-node"]),
    ("libp2p", &["kairos-p2p"]),
    ("reqwest", &["kairos-actors", "kairos-tests"]),
    ("rusqlite", &["kairos-actors", "kairos-place"]),
];

/// Members without sockets and clocks, and the crates that must not be anywhere in what they are built from.
const PURE: &[&str] = &["kairos-protocol", "kairos-place"];
const IO: &[&str] = &[
    "actix",
    "actix-rt",
    "actix-web",
    "async-std",
    "hyper",
    "libp2p",
    "mio",
    "reqwest",
    "smol",
    "tokio",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    workspace_root: PathBuf,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    /// None for a path.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    /// None for a normal dependency, else `build` or `dev`.
    kind: Option<String>,
}

impl Metadata {
    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Returns the names of everything that is compiled into `member`, itself included.
    fn tree(&self, member: &str) -> BTreeSet<&str> {
        let names: BTreeMap<_, _> = self
            .packages
            .iter()
            .map(|package| (package.id.as_str(), package.name.as_str()))
            .collect();
        let edges: BTreeMap<_, _> = self
            .resolve
            .nodes
            .iter()
            .map(|node| (node.id.as_str(), &node.deps))
            .collect();
        let root = self
            .members()
            .find(|package| package.name == member)
            .expect("a member");
        let mut seen = BTreeSet::from([root.id.as_str()]);
        let mut open = vec![root.id.as_str()];
        while let Some(id) = open.pop() {
            for edge in edges[id] {
                let normal = edge.dep_kinds.iter().any(|dep| dep.kind.is_none());
                if normal && seen.insert(&edge.pkg) {
                    open.push(&edge.pkg);
                }
            }
        }
        seen.into_iter().map(|id| names[id]).collect()
    }
}

/// What cargo says of the workspace on this platform, from the lock file and without the network.
static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = stdout(Command::new(rustc).arg("-vV"));
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host");
    let metadata = stdout(
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .args(["--filter-platform", host])
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    );
    serde_json::from_str(&metadata)
        .expect("cargo prints the metadata that its documentation describes")
});

fn stdout(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Fails with every finding at once.
#[track_caller]
fn none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}\n  {}", findings.join("\n  "));
}

/// Returns every file of the repository: what git tracks or would track.
fn files() -> Vec<PathBuf> {
    let root = &METADATA.workspace_root;
    stdout(
        Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root),
    )
    .split_terminator('\0')
    .map(|file| root.join(file))
    // A file that was removed and not yet committed is still listed.
    .filter(|file| file.is_file())
    .collect()
}

fn shown(file: &Path) -> String {
    let root = &METADATA.workspace_root;
    file.strip_prefix(root)
        .unwrap_or(file)
        .display()
        .to_string()
}

#[test]
fn dependencies_between_members_point_one_way() {
    let members: BTreeSet<_> = METADATA
        .members()
        .map(|member| member.name.as_str())
        .collect();
    let known: BTreeSet<_> = ARROWS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(members, known, "a new member needs a line in ARROWS");
    let mut findings = Vec::new();
    for (name, directory, allowed) in ARROWS {
        let member = METADATA
            .members()
            .find(|member| member.name == *name)
            .expect("just compared");
        let expected = METADATA.workspace_root.join(directory).join("Cargo.toml");
        assert_eq!(member.manifest_path, expected);
        for dependency in &member.dependencies {
            // Even a test of a lower layer that needs a higher one is in the wrong layer.
            if known.contains(dependency.name.as_str())
                && !allowed.contains(&dependency.name.as_str())
            {
                findings.push(format!("{name} -> {}", dependency.name));
            }
        }
    }
    none(
        &findings,
        "dependencies point from tests to node, actors, place, protocol",
    );
}

#[test]
fn each_outside_concern_stays_in_its_layer() {
    let mut findings = Vec::new();
    for member in METADATA.members() {
        for dependency in &member.dependencies {
            let owned = OWNED.iter().find(|(name, _)| *name == dependency.name);
            if owned.is_some_and(|(_, owners)| !owners.contains(&member.name.as_str())) {
                findings.push(format!("{} -> {}", member.name, dependency.name));
            }
        }
    }
    none(
        &findings,
        "these crates are not named in OWNED for these members",
    );
}

#[test]
fn the_pure_members_are_built_from_nothing_that_does_io() {
    let mut findings = Vec::new();
    for member in PURE {
        let tree = METADATA.tree(member);
        assert!(tree.len() > 10, "{member} is built from more than {tree:?}");
        findings.extend(
            tree.into_iter()
                .filter(|name| IO.contains(name) || name.starts_with("libp2p-"))
                .map(|name| format!("{member} contains {name}")),
        );
    }
    none(
        &findings,
        "protocol and place open no socket, nor does what they are built from",
    );
    // Shows that the walk above finds such crates where they are.
    assert!(METADATA.tree("kairos-node").contains("tokio"));
}

#[test]
fn the_only_files_of_the_place_are_its_databases() {
    let source = METADATA.workspace_root.join("place/src");
    let sources: Vec<_> = files()
        .into_iter()
        .filter(|file| file.starts_with(&source) && !shown(file).contains("tests"))
        .collect();
    let touches = |file: &&PathBuf| {
        let text = fs::read_to_string(file).expect("a source file");
        let text = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .expect("a part");
        [
            "std::fs",
            "std::io::Read",
            "Instant",
            "TcpStream",
            "UdpSocket",
        ]
        .iter()
        .any(|word| text.contains(word))
    };
    let (stores, findings): (Vec<_>, Vec<_>) = sources
        .iter()
        .filter(touches)
        .map(|file| shown(file))
        .partition(|file| file.contains("/store/"));
    none(
        &findings,
        "only the stores of the place open files; nothing in it opens sockets or reads clocks",
    );
    // Shows that the words above are found where they are.
    assert!(!stores.is_empty());
}

#[test]
fn every_dependency_has_one_version_at_the_root() {
    let mut findings = Vec::new();
    for member in METADATA.members() {
        findings.extend(
            member
                .dependencies
                .iter()
                .filter(|dependency| dependency.source.is_some() && dependency.req.contains('*'))
                .map(|dependency| {
                    format!(
                        "{}: {} = \"{}\"",
                        member.name, dependency.name, dependency.req
                    )
                }),
        );
        let manifest = fs::read_to_string(&member.manifest_path).expect("a manifest");
        let mut in_dependencies = false;
        for line in manifest.lines().map(str::trim) {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace") {
                findings.push(format!("{}: {line}", member.name));
            }
        }
    }
    none(
        &findings,
        "members take versions from [workspace.dependencies], which has no wildcards",
    );
}

#[test]
fn every_member_inherits_the_lints() {
    let findings: Vec<_> = METADATA
        .members()
        .filter(|member| {
            let manifest = fs::read_to_string(&member.manifest_path).expect("a manifest");
            !manifest.contains("[lints]\nworkspace = true\n")
        })
        .map(|member| member.name.clone())
        .collect();
    none(
        &findings,
        "these members do not say `[lints] workspace = true`",
    );
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let findings: Vec<_> = files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        // What such a file is for is said by the module it tests.
        .filter(|file| file.file_name().is_some_and(|name| name != "tests.rs"))
        .filter(|file| {
            let text = fs::read_to_string(file).expect("a source file");
            let first = text
                .lines()
                .find(|line| !line.is_empty() && !line.starts_with("#!["));
            !first.is_some_and(|line| line.starts_with("//! "))
        })
        .map(|file| shown(&file))
        .collect();
    none(&findings, "these files do not start with a `//!` header");
}

#[test]
fn no_file_names_this_machine_or_a_registry_host() {
    let mut forbidden: Vec<String> = [
        // In two parts, so that this file does not name them either.
        concat!("/User", "s/"),
        concat!("C:\\User", "s\\"),
        concat!("index.crates", ".io"),
        concat!("static.crates", ".io"),
        concat!("crates.io-", "index"),
        concat!("pypi", ".org"),
        concat!("python", "hosted.org"),
        concat!("deb.debian", ".org"),
        concat!("registry.npm", "js.org"),
        concat!("proxy.golang", ".org"),
    ]
    .map(str::to_owned)
    .into();
    let homes = ["HOME", "CARGO_HOME", "RUSTUP_HOME"]
        .into_iter()
        .filter_map(env::var_os);
    for path in homes
        .map(PathBuf::from)
        .chain([METADATA.workspace_root.clone()])
    {
        // A root such as `/app` is a word of many files and tells nothing.
        let path = path.to_string_lossy();
        if path
            .trim_end_matches('/')
            .rfind('/')
            .is_some_and(|last| last > 0)
            || path == "/root"
        {
            forbidden.push(format!("{}/", path.trim_end_matches('/')));
        }
    }
    let mut findings = Vec::new();
    for file in files() {
        // Lock files name the index that cargo took each crate from.
        if file.file_name().is_some_and(|name| name == "Cargo.lock") {
            continue;
        }
        let bytes = fs::read(&file).expect("a file");
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in text.lines().enumerate() {
            let found = forbidden.iter().find(|word| line.contains(word.as_str()));
            findings.extend(found.map(|word| format!("{}:{}: {word}", shown(&file), number + 1)));
        }
    }
    none(
        &findings,
        "these lines mean nothing on another machine, or name a host that an ordinary client knows",
    );
}
