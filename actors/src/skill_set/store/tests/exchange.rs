//! Packages that come and go, and what is listed for others.

use std::sync::LazyLock;

use kairos_protocol::gate::{Kind, Reason};
use serde_json::Value;

use super::*;

static KEY: LazyLock<Arc<Keypair>> = LazyLock::new(|| Arc::new(Keypair::generate().unwrap()));
static OTHER: LazyLock<Arc<Keypair>> = LazyLock::new(|| Arc::new(Keypair::generate().unwrap()));

impl Fixture {
    /// A package of a SkillSet that another node has, signed by `key`.
    fn foreign(&self, members: &str, key: &Arc<Keypair>) -> SkillSetPackage {
        let other = Fixture::new();
        other.install("kp", members, &[("knowledge/a.md", "# A\n")]);
        other
            .store
            .package("kp", Some(&signer(key)), now())
            .unwrap()
    }

    fn receive(
        &self,
        package: &SkillSetPackage,
        key: &Arc<Keypair>,
    ) -> Result<Change, SkillSetError> {
        let options = Options::default();
        self.store
            .install_archive(package, &peer(key), options, now())
    }
}

fn signer(key: &Arc<Keypair>) -> Signer {
    Signer {
        id: key.public().agent_id(),
        key: Arc::clone(key),
    }
}

fn peer(key: &Keypair) -> Origin {
    Origin::Peer(PeerEvidence {
        peer: key.public().agent_id(),
        key: Some(key.public().clone()),
        received_at: now(),
    })
}

#[test]
fn a_package_goes_from_node_to_node_and_on() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let package = here.foreign(r#","layer":"L2","description":"Pack""#, &KEY);
    let change = here.receive(&package, &KEY).unwrap();
    let id = KEY.public().agent_id();
    let hash = package.content_hash.clone().unwrap();
    assert_eq!(
        texts(&change),
        [format!(
            r#"{{"_type":"skillset_provenance","skillset_name":"kp","version":"1.0.0","content_hash":"{hash}","received_from":"{id}","received_at":"2026-02-20T12:00:00Z","provenance_chain":["{id}"],"origin":"{id}","hop_count":0,"recorded_at":"2026-02-20T12:00:00Z"}}"#
        )]
    );
    let outcome = change.commit().unwrap();
    assert!(!outcome.set.enabled, "never switched on by itself");
    let info = here.store.info("kp").unwrap();
    let origin = info.origin.unwrap();
    assert_eq!(
        (origin.received_from, &origin.provenance),
        (id, &package.provenance)
    );
    assert!(info.listed.is_exchangeable());
    assert_eq!(info.listed.file_list, package.file_list);

    let handed_on = here
        .store
        .package("kp", Some(&signer(&OTHER)), now())
        .unwrap();
    let provenance = handed_on.provenance.as_ref().unwrap();
    assert_eq!(provenance.hop_count(), 1);
    assert_eq!(provenance.author().unwrap().public_key, *KEY.public());
    there.receive(&handed_on, &OTHER).unwrap().commit().unwrap();

    // Whose it is cannot be told, so nothing is said in our name.
    let origin = here.store.root.join("kp").join(ORIGIN_FILE);
    let kept = fs::read(&origin).unwrap();
    fs::write(&origin, "damaged").unwrap();
    let claimed = here.store.package("kp", Some(&signer(&OTHER)), now());
    assert!(matches!(claimed, Err(SkillSetError::Io { .. })));
    let mut unsigned: Value = serde_json::from_slice(&kept).unwrap();
    unsigned.as_object_mut().unwrap().remove("provenance");
    fs::write(&origin, unsigned.to_string()).unwrap();
    let package = here
        .store
        .package("kp", Some(&signer(&OTHER)), now())
        .unwrap();
    assert_eq!(package.provenance, None);
    fs::write(&origin, kept).unwrap();

    // Changed here, so authored here.
    fs::write(here.store.root.join("kp/knowledge/a.md"), "changed").unwrap();
    let changed = here
        .store
        .package("kp", Some(&signer(&OTHER)), now())
        .unwrap();
    assert_eq!(
        changed.provenance.unwrap().author().unwrap().public_key,
        *OTHER.public()
    );
}

#[test]
fn an_archive_of_the_owner_keeps_the_hands_it_went_through() {
    let fixture = Fixture::new();
    let package = fixture.foreign("", &KEY);
    let options = Options::default();
    let installed = fixture
        .store
        .install_archive(&package, &Origin::Local, options, now());
    assert!(installed.unwrap().commit().unwrap().set.enabled);
    let again = fixture
        .store
        .package("kp", Some(&signer(&OTHER)), now())
        .unwrap();
    let provenance = again.provenance.unwrap();
    assert_eq!(provenance.author().unwrap().public_key, *KEY.public());
    assert_eq!(provenance.hop_count(), 1);
}

#[test]
fn a_local_archive_is_switched_on_and_recorded_by_its_layer() {
    let fixture = Fixture::new();
    let package = fixture.foreign(r#","layer":"L1""#, &KEY);
    let bare = SkillSetPackage {
        content_hash: None,
        manifest: None,
        provenance: None,
        ..package
    };
    let install = || {
        fixture
            .store
            .install_archive(&bare, &Origin::Local, Options::default(), now())
    };
    let change = install().unwrap();
    assert!(texts(&change)[0].contains(r#""action":"install_from_archive""#));
    let outcome = change.commit().unwrap();
    assert!(outcome.set.enabled && OriginRecord::load(&outcome.set.path).unwrap().is_none());
    check_error(
        install(),
        &format!(
            "SkillSet 'kp' already installed at {}",
            outcome.set.path.display()
        ),
    );
}

#[test]
fn a_peer_may_not_do_what_the_owner_may() {
    let fixture = Fixture::new();
    let package = fixture.foreign(r#","layer":"L2""#, &KEY);
    let without_hash = SkillSetPackage {
        content_hash: None,
        ..package.clone()
    };
    check_error(
        fixture.receive(&without_hash, &KEY),
        "a package from a peer must declare its content_hash",
    );
    let l0 = fixture.foreign(r#","layer":"L0""#, &KEY);
    check_error(
        fixture.receive(&l0, &KEY),
        "L0 SkillSet 'kp' cannot come from a peer",
    );
    let options = Options {
        force: false,
        layer: Some(Layer::L0),
        ..Options::default()
    };
    let raised = fixture
        .store
        .install_archive(&package, &peer(&KEY), options, now());
    check_error(raised, "L0 SkillSet 'kp' cannot come from a peer");
    let id = KEY.public().agent_id();
    let forged = Fixture::new();
    forged.install("kp", "", &[]);
    let as_key = Signer {
        id: id.clone(),
        key: Arc::clone(&OTHER),
    };
    let forged = forged.store.package("kp", Some(&as_key), now()).unwrap();
    check_error(
        fixture.receive(&forged, &KEY),
        &format!("the manifest is signed in the name of {id} with another key than the one known"),
    );
    let needy = fixture.foreign(r#","depends_on":["base"]"#, &KEY);
    check_error(fixture.receive(&needy, &KEY), "Missing dependency: base");
    let hash = "0".repeat(64);
    let tampered = SkillSetPackage {
        content_hash: Some(hash),
        ..package
    };
    let result = fixture.receive(&tampered, &KEY).unwrap_err().to_string();
    assert!(
        result.starts_with("Content hash mismatch: expected 000"),
        "{result}"
    );
    assert_eq!(fixture.leftovers(), [""; 0]);
}

#[test]
fn only_knowledge_is_packed_and_what_speaks_against_it_is_named() {
    let fixture = Fixture::new();
    for (name, files) in [
        ("exec", [("tools/a.rb", "x")]),
        ("bang", [("knowledge/a.md", "#!/bin/sh")]),
        ("hidden", [("knowledge/a.md", "x")]),
        ("linked", [("knowledge/a.md", "x")]),
    ] {
        fixture.install(name, "", &files);
    }
    fs::write(fixture.store.root.join("hidden/.x.py"), "x").unwrap();
    symlink("/etc/passwd", fixture.store.root.join("linked/passwd.md")).unwrap();
    for (name, reason) in [
        ("exec", Reason::Extension("rb".to_owned())),
        ("bang", Reason::Shebang),
        ("hidden", Reason::Extension("py".to_owned())),
        ("linked", Reason::Kind(Kind::Symlink)),
    ] {
        let error = fixture.store.package(name, None, now()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Only knowledge-only SkillSets can be packaged for exchange"
        );
        let SkillSetError::NotExchangeable(refusal) = error else {
            panic!("{name}")
        };
        assert_eq!(refusal.offences()[0].reason, reason);
    }
    let catalogue = fixture.store.catalogue(&Catalogue::default()).unwrap();
    assert_eq!(
        (catalogue.sets.len(), catalogue.shareable().count()),
        (4, 0)
    );
    assert!(
        catalogue
            .find("exec")
            .unwrap()
            .refusal
            .as_ref()
            .unwrap()
            .contains("tools/a.rb")
    );
}

#[test]
fn a_catalogue_reads_anew_only_what_changed() {
    let fixture = Fixture::new();
    fixture.install("a", "", &[("knowledge/a.md", "x")]);
    fixture.install("b", "", &[("knowledge/b.md", "x")]);
    let first = fixture.store.catalogue(&Catalogue::default()).unwrap();
    let second = fixture.store.catalogue(&first).unwrap();
    assert!(
        first
            .sets
            .iter()
            .zip(&second.sets)
            .all(|(a, b)| Arc::ptr_eq(a, b))
    );
    fs::write(fixture.store.root.join("b/knowledge/b.md"), "changed").unwrap();
    let third = fixture.store.catalogue(&second).unwrap();
    assert!(Arc::ptr_eq(&first.sets[0], &third.sets[0]));
    assert_ne!(first.sets[1].content_hash, third.sets[1].content_hash);
    fixture.store.disable("a", now()).unwrap().commit().unwrap();
    let fourth = fixture.store.catalogue(&third).unwrap();
    assert!(!fourth.sets[0].set.enabled && fourth.shareable().count() == 2);
}

#[test]
fn a_large_set_is_flushed_and_packed_in_one_go() {
    let fixture = Fixture::new();
    let names: Vec<String> = (0..300).map(|i| format!("knowledge/{i}.md")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "text")).collect();
    fixture.install("kp", "", &files);
    let package = fixture.store.package("kp", None, now()).unwrap();
    assert_eq!(package.file_list.len(), 301);
}
