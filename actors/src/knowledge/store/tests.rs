use std::os::unix::fs::{PermissionsExt as _, symlink};

use kairos_place::session::Strength;
use kairos_protocol::crypto::Keypair;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::provenance::{Kind, Provenance};
use kairos_protocol::skill::agent_skill::SIDECAR;
use kairos_protocol::time::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::unit::{Locked, Prepared};
use super::*;
use crate::check::Checks;
use crate::quarantine::{Evidence, HeldKind};
use crate::staging::Held;

const PUBLIC: &str = "---\npublic: true\n---\nbody\n";
const PRIVATE: &str = "---\npublic: false\n---\nbody\n";

struct Node {
    temp: TempDir,
    store: KnowledgeStore,
}

fn node() -> Node {
    with(KnowledgePolicy::default())
}

fn with(policy: KnowledgePolicy) -> Node {
    let temp = tempfile::tempdir().unwrap();
    let store = KnowledgeStore::new(&temp.path().join("data"), policy);
    Node { temp, store }
}

impl Node {
    fn path(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn catalogue(&self) -> Catalogue {
        self.store
            .look(&Snapshot::default())
            .unwrap()
            .unwrap_or_default()
            .1
    }

    fn public(&self) -> Vec<String> {
        self.catalogue()
            .entries()
            .iter()
            .map(|e| e.name.clone())
            .collect()
    }

    fn unfit(&self) -> Vec<(String, String)> {
        let catalogue = self.catalogue();
        catalogue
            .unfit()
            .iter()
            .map(|u| (u.path.clone(), u.reason.clone()))
            .collect()
    }

    fn import(&self, directory: &str, public: bool) -> Result<Imported, KnowledgeError> {
        let (directory, now) = (self.path(directory), Timestamp::EPOCH);
        self.store
            .see_through(|store, held| store.import(held, &directory, public, false, now))
    }
}

impl KnowledgeStore {
    /// Makes a change without a ledger.
    fn see_through<T>(
        &self,
        prepare: impl FnOnce(&Self, Held) -> Result<Prepared<T>, KnowledgeError>,
    ) -> Result<T, KnowledgeError> {
        let Locked { held, left } = self.lock()?;
        assert_eq!(left, None);
        let (held, intent, done) = self.intend(prepare(self, held)?, None)?;
        self.roll_forward(&held, &intent)?;
        Ok(done)
    }

    pub(super) fn received(
        &self,
        name: &SkillName,
        bytes: &[u8],
        origin: &Origin,
        replace: bool,
    ) -> Result<Stored, KnowledgeError> {
        self.see_through(|store, held| {
            store.receive(held, name, bytes, origin, replace, Timestamp::EPOCH)
        })
    }

    fn shares(&self, name: &str, share: bool) -> Result<(), KnowledgeError> {
        self.set_share(&self.lock()?.held, name, share)
    }
}

fn name(text: &str) -> SkillName {
    text.parse().unwrap()
}

pub(in crate::knowledge) fn origin() -> Origin {
    Origin {
        skill_name: "tea making!".to_owned(),
        from: "4d4827d24dbe5d28".parse().unwrap(),
        url: "http://127.0.0.1:8080".to_owned(),
        key_fingerprint: "73:ba".to_owned(),
        session: Strength::Proven,
        received_at: Timestamp::from_secs(1_771_000_000),
        earlier_holders: Vec::new(),
        evidence: json!({"checks": []}),
    }
}

#[test]
fn lists_texts_depth_first_in_byte_order_without_dot_files_and_links() {
    let node = node();
    for path in [
        "b.md",
        "a/z.md",
        "a/B/x.md",
        "a.md",
        "Z/z.md",
        ".hidden.md",
        ".archived/o/o.md",
        "a/.x/y.md",
        "a/n.MD",
        "a/n.txt",
    ] {
        node.write(&format!("data/knowledge/{path}"), PUBLIC);
    }
    node.write("outside/secret.md", PUBLIC);
    symlink(node.path("outside"), node.path("data/knowledge/linked")).unwrap();
    symlink(
        node.path("outside/secret.md"),
        node.path("data/knowledge/link.md"),
    )
    .unwrap();
    let catalogue = node.catalogue();
    let paths: Vec<_> = catalogue.all().iter().map(|s| s.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "knowledge/Z/z.md",
            "knowledge/a/B/x.md",
            "knowledge/a/z.md",
            "knowledge/a.md",
            "knowledge/b.md"
        ]
    );
    assert_eq!(catalogue.find("z").unwrap().path, "knowledge/Z/z.md");
    assert_eq!(catalogue.unfit(), []);
}

#[test]
fn an_absent_directory_is_an_empty_catalogue() {
    assert_eq!(node().catalogue().all(), []);
}

#[test]
fn reports_what_it_leaves_out() {
    let node = node();
    node.write("data/knowledge/a.md", b"\xff");
    node.write("data/knowledge/b.md", "---\n- x\n---\n");
    node.write("data/knowledge/c.md", "x".repeat(100_001));
    node.write("data/knowledge/good.md", PUBLIC);
    let bad = std::os::unix::ffi::OsStrExt::from_bytes(b"d\xff.md");
    fs::write(
        node.path("data/knowledge").join::<&std::ffi::OsStr>(bad),
        PUBLIC,
    )
    .unwrap();
    assert_eq!(node.public(), ["good"]);
    let reasons: Vec<_> = node.unfit().into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(
        reasons,
        [
            "the name is not UTF-8",
            "the skill is not UTF-8 at byte 0",
            "the frontmatter is an array, a mapping is expected",
            "the skill has 100001 bytes, the limit is 100000",
        ]
    );
}

#[test]
fn stops_at_the_bound_and_says_so_once() {
    let node = with(KnowledgePolicy {
        files: 3,
        ..KnowledgePolicy::default()
    });
    for n in 0..9 {
        node.write(&format!("data/knowledge/{n}/{n}.md"), PUBLIC);
    }
    assert_eq!(node.public(), ["0", "1", "2"]);
    assert_eq!(
        node.unfit(),
        [(
            "knowledge/3".to_owned(),
            "only the first 3 files are looked at".to_owned()
        )]
    );
}

#[test]
fn looks_again_only_when_something_changed() {
    let node = node();
    node.write("data/knowledge/a/a.md", PUBLIC);
    node.write("data/knowledge/b/b.md", PUBLIC);
    let mut before = node.store.look(&Snapshot::default()).unwrap().unwrap().0;
    let mut changed = |then: &dyn Fn()| {
        assert!(node.store.look(&before).unwrap().is_none());
        then();
        let (now, catalogue) = node.store.look(&before).unwrap().unwrap();
        before = now;
        catalogue
            .entries()
            .iter()
            .map(|e| e.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        changed(&|| node.write("data/knowledge/a/a.md", PRIVATE)),
        ["b"]
    );
    assert_eq!(
        changed(&|| node.write("data/knowledge/c.md", PUBLIC)),
        ["b", "c"]
    );
    assert_eq!(
        changed(&|| node.write("data/knowledge/b/.provenance.json", "{\"share\":false}")),
        ["c"]
    );
    assert_eq!(
        changed(&|| node.write("data/knowledge/a/.provenance.json", "{\"share\":true}")),
        ["a", "c"]
    );
    assert_eq!(
        changed(&|| fs::remove_file(node.path("data/knowledge/c.md")).unwrap()),
        ["a"]
    );
    // The same bytes in another file: a replacement by rename is noticed too.
    assert_eq!(
        changed(&|| {
            node.write("data/knowledge/a/new", PRIVATE);
            fs::rename(
                node.path("data/knowledge/a/new"),
                node.path("data/knowledge/a/a.md"),
            )
            .unwrap();
        }),
        ["a"]
    );
}

#[test]
fn serves_what_is_there_now_or_nothing() {
    let node = node();
    node.write("data/knowledge/a/a.md", PUBLIC);
    let known = node.catalogue().find("a").unwrap().clone();
    let serve = |audience| node.store.content(&known, audience);
    assert_eq!(
        serve(Audience::Peer).unwrap(),
        Served {
            skill: known.clone(),
            text: PUBLIC.to_owned()
        }
    );
    let newer = "---\npublic: true\n---\nnewer\n";
    node.write("data/knowledge/a/a.md", newer);
    let served = serve(Audience::Peer).unwrap();
    assert_eq!(
        (served.skill.content_hash, served.text.as_str()),
        (ContentHash::of(newer), newer)
    );
    node.write("data/knowledge/a/.provenance.json", "{\"share\":false}");
    assert!(matches!(
        serve(Audience::Peer),
        Err(KnowledgeError::Unavailable)
    ));
    assert!(!serve(Audience::Owner).unwrap().skill.public);
    fs::remove_file(node.path("data/knowledge/a/.provenance.json")).unwrap();
    node.write("data/knowledge/a/a.md", PRIVATE);
    assert!(matches!(
        serve(Audience::Peer),
        Err(KnowledgeError::Unavailable)
    ));
    node.write("data/knowledge/a/a.md", "x".repeat(100_001));
    assert!(matches!(
        serve(Audience::Peer),
        Err(KnowledgeError::Unfit(SkillFault::TooLarge { .. }))
    ));
    fs::remove_file(node.path("data/knowledge/a/a.md")).unwrap();
    assert_eq!(
        serve(Audience::Peer).unwrap_err().to_string(),
        "Skill content unavailable"
    );
    node.write("secret.md", PUBLIC);
    symlink(node.path("secret.md"), node.path("data/knowledge/a/a.md")).unwrap();
    assert!(matches!(
        serve(Audience::Peer),
        Err(KnowledgeError::Unavailable)
    ));
}

#[test]
fn an_unreadable_sidecar_keeps_its_entry_private_and_is_reported() {
    let node = node();
    node.write("data/knowledge/a/a.md", PUBLIC);
    node.write("data/knowledge/b/b.md", PUBLIC);
    node.write("data/knowledge/a/.provenance.json", "{\"share\":tr");
    assert_eq!(node.public(), ["b"]);
    let unfit = node.unfit();
    assert_eq!(unfit[0].0, "knowledge/a/.provenance.json");
    assert!(
        unfit[0]
            .1
            .starts_with("the provenance of 'a' cannot be read:"),
        "{unfit:?}"
    );
    let known = node.catalogue().find("a").unwrap().clone();
    assert!(node.store.content(&known, Audience::Peer).is_err());
    assert!(matches!(
        node.store.shares("a", true),
        Err(KnowledgeError::Sidecar { .. })
    ));
}

#[test]
fn a_received_text_keeps_its_bytes_and_stays_private_until_shared() {
    let node = node();
    let stored = node
        .store
        .received(&name("tea"), PUBLIC.as_bytes(), &origin(), false)
        .unwrap();
    assert_eq!(stored.path, "knowledge/tea/tea.md");
    assert_eq!(
        (stored.content_hash, stored.previous_hash),
        (ContentHash::of(PUBLIC), None)
    );
    assert_eq!(
        fs::read(node.path("data/knowledge/tea/tea.md")).unwrap(),
        PUBLIC.as_bytes()
    );
    assert_eq!(node.public(), Vec::<String>::new());
    let provenance = node.store.provenance("tea").unwrap().unwrap();
    assert_eq!(
        Value::Object(provenance),
        json!({
            "version": 1, "skill_name": "tea making!", "received_from": "4d4827d24dbe5d28",
            "received_at": "2026-02-13T16:26:40Z", "url": "http://127.0.0.1:8080", "key_fingerprint": "73:ba",
            "session": "proven", "original_hash": ContentHash::of(PUBLIC),
            "provenance_chain": ["4d4827d24dbe5d28"], "share": false, "evidence": {"checks": []},
        })
    );
    node.store.shares("tea", true).unwrap();
    assert_eq!(node.public(), ["tea"]);
    assert_eq!(
        node.store.provenance("tea").unwrap().unwrap()["received_from"],
        "4d4827d24dbe5d28"
    );
    node.store.shares("tea", false).unwrap();
    assert_eq!(node.public(), Vec::<String>::new());
}

#[test]
fn what_its_author_signed_is_kept_beside_a_received_text() {
    let (hash, at) = (ContentHash::of(PUBLIC), Timestamp::from_secs(1_771_000_000));
    let author: AgentId = "4d4827d24dbe5d28".parse().unwrap();
    let key = Keypair::generate().unwrap();
    let signed = Provenance::authored(Kind::Skill, "tea", hash, author.clone(), &key, at).unwrap();
    let evidence = |provenance| Evidence {
        kind: HeldKind::Skill,
        name: "tea".to_owned(),
        version: None,
        content_hash: hash,
        from: author.clone(),
        url: "http://127.0.0.1:8080".to_owned(),
        key_fingerprint: "73:ba".to_owned(),
        session: Strength::Proven,
        checks: Checks::default(),
        provenance,
        carried: None,
        findings: Vec::new(),
        acquired_at: at,
    };
    for provenance in [None, Some(signed)] {
        let node = node();
        let origin = Origin::from(&evidence(provenance.clone()));
        node.store
            .received(&name("tea"), PUBLIC.as_bytes(), &origin, false)
            .unwrap();
        let sidecar = node.store.provenance("tea").unwrap().unwrap();
        let kept = sidecar["evidence"].get("provenance");
        let kept = kept.map(|value| Provenance::from_value(value).unwrap());
        assert_eq!(kept, provenance);
    }
}

#[test]
fn nothing_is_overwritten_unless_it_is_to_be_replaced() {
    let node = node();
    node.write("data/knowledge/tea/tea.md", "mine\n");
    node.write("data/knowledge/tea/references/r.md", "mine\n");
    let receive = |replace| {
        node.store
            .received(&name("tea"), b"theirs\n", &origin(), replace)
    };
    assert_eq!(
        receive(false).unwrap_err().to_string(),
        "Knowledge 'tea' already exists"
    );
    assert_eq!(
        fs::read(node.path("data/knowledge/tea/tea.md")).unwrap(),
        b"mine\n"
    );
    let stored = receive(true).unwrap();
    assert_eq!(stored.previous_hash, Some(ContentHash::of("mine\n")));
    assert_eq!(node.catalogue().all().len(), 1);
    let unfit = node
        .store
        .received(&name("bad"), b"\xff", &origin(), false)
        .unwrap_err();
    assert!(matches!(unfit, KnowledgeError::Unfit(_)));
    assert!(!node.path("data/knowledge/bad").exists());
}

#[test]
fn a_text_made_here_can_be_shared_and_hidden_without_touching_it() {
    let node = node();
    node.write("data/knowledge/a/a.md", PRIVATE);
    assert_eq!(node.store.provenance("a").unwrap(), None);
    node.store.shares("a", true).unwrap();
    assert_eq!(node.public(), ["a"]);
    for absent in ["b", "../data", ".", "knowledge/a"] {
        assert_eq!(
            node.store.shares(absent, true).unwrap_err().to_string(),
            format!("Knowledge '{absent}' not found")
        );
    }
}

#[test]
fn agent_skills_come_in_and_go_out_as_they_are() {
    let node = node();
    let main = "---\nname: tea-making\ndescription: d\npublic: true\n---\nSee references/r.txt\n";
    node.write("skills/tea-making/SKILL.md", main);
    node.write("skills/tea-making/references/r.txt", [0, 255]);
    let imported = node.import("skills/tea-making", false).unwrap();
    assert_eq!(imported.stored.path, "knowledge/tea-making/tea-making.md");
    assert_eq!(imported.stored.content_hash, ContentHash::of(main));
    assert!(!imported.shared);
    assert_eq!(
        node.public(),
        Vec::<String>::new(),
        "importing is not sharing"
    );
    node.store.shares("tea-making", true).unwrap();
    assert_eq!(node.public(), ["tea-making"]);
    assert!(matches!(
        node.import("skills/tea-making", false),
        Err(KnowledgeError::Exists { .. })
    ));
    let exported = node.store.export("tea-making", &node.path("out")).unwrap();
    assert_eq!(exported, node.path("out/tea-making"));
    let sorted = |folder: &str| {
        let mut files = node.store.files(&node.path(folder)).unwrap();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    };
    assert_eq!(sorted("out/tea-making"), sorted("skills/tea-making"));
    let again = node
        .store
        .export("tea-making", &node.path("out"))
        .unwrap_err();
    assert_eq!(again.to_string(), "`tea-making` already exists there");
    assert_eq!(
        fs::read_dir(node.path("out")).unwrap().count(),
        1,
        "nothing else is left there"
    );
}

#[test]
fn what_carries_scripts_is_imported_and_never_offered() {
    let node = node();
    node.write(
        "web/SKILL.md",
        "---\nname: web\ndescription: d\npublic: true\n---\n",
    );
    node.write("web/examples/run.py", "print()\n");
    fs::set_permissions(
        node.path("web/examples/run.py"),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let imported = node.import("web", true).unwrap();
    assert_eq!(
        (imported.shared, imported.scripts),
        (false, vec!["examples/run.py".to_owned()])
    );
    let mode = fs::metadata(node.path("data/knowledge/web/examples/run.py"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    let refused = node.store.shares("web", true).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "'web' carries scripts and is never offered to peers: examples/run.py"
    );
    node.write(
        "data/knowledge/web/.provenance.json",
        "{\"share\":true,\"scripts\":[\"examples/run.py\"]}",
    );
    assert_eq!(node.public(), Vec::<String>::new());
}

#[test]
fn directories_that_are_no_plain_files_or_too_much_are_refused() {
    let node = with(KnowledgePolicy {
        entry_files: 3,
        entry_bytes: 100,
        ..KnowledgePolicy::default()
    });
    let refused = |files: &[(&str, &str)], then: &dyn Fn()| {
        let _ = fs::remove_dir_all(node.path("s"));
        node.write("s/SKILL.md", "x");
        for (path, text) in files {
            node.write(&format!("s/{path}"), text);
        }
        then();
        node.import("s", false).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&[("a", ""), ("b", ""), ("c", "")], &|| ()),
        "the directory has more than 3 files"
    );
    assert_eq!(
        refused(&[("a", &"x".repeat(100))], &|| ()),
        "the directory has more than 100 bytes"
    );
    assert_eq!(
        refused(&[], &|| symlink("/etc/passwd", node.path("s/l")).unwrap()),
        "`l` is not a plain file with a UTF-8 name"
    );
    assert_eq!(
        refused(&[], &|| fs::remove_file(node.path("s/SKILL.md")).unwrap()),
        "`SKILL.md` is missing"
    );
    assert!(matches!(
        node.import("absent", false),
        Err(KnowledgeError::Io(_))
    ));
    assert!(!node.path("data/knowledge/s").exists());
}

#[test]
fn the_sidecar_of_an_import_from_elsewhere_decides_nothing_here() {
    let node = node();
    node.write("s/SKILL.md", PUBLIC);
    node.write(&format!("s/{SIDECAR}"), "{}");
    node.write("s/.provenance.json", "{\"share\":true}");
    node.import("s", false).unwrap();
    assert_eq!(node.public(), Vec::<String>::new());
    node.store.export("s", &node.path("out")).unwrap();
    assert_eq!(
        fs::read(node.path("out/s/.provenance.json")).unwrap(),
        b"{\"share\":true}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_text_is_received_whole_and_private_or_not_at_all(bytes in prop::collection::vec(any::<u8>(), 0..80), wish in "\\PC{0,30}") {
        let node = node();
        let name = SkillName::sanitized(&wish);
        match node.store.received(&name, &bytes, &origin(), false) {
            Ok(stored) => {
                prop_assert_eq!(fs::read(node.path("data").join(&stored.path)).unwrap(), bytes);
                prop_assert_eq!(node.catalogue().all().len(), 1);
            }
            Err(_) => prop_assert_eq!(node.catalogue().all().len(), 0),
        }
        prop_assert_eq!(node.public(), Vec::<String>::new());
    }
}
