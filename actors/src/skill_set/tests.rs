//! The actor with a real store and a chain that works, fails or hangs.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::crypto::Keypair;
use kairos_protocol::ledger::VerifyReport;
use kairos_protocol::package::PackageLimits;
use kairos_protocol::time::ManualClock;
use tempfile::TempDir;

use super::*;
use crate::chain::ChainActor;
use crate::chain::store::memory::MemoryStore;
use crate::chain::store::{BlockStore, StoreError};

const PATIENCE: Duration = Duration::from_secs(60);

/// A ledger that can be told to refuse.
#[derive(Default)]
struct Ledger {
    inner: MemoryStore,
    refuses: AtomicBool,
}

impl BlockStore for Ledger {
    fn append(
        &self,
        batch: Vec<Vec<String>>,
        clock: &dyn Clock,
    ) -> Result<Vec<BlockRef>, StoreError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(StoreError::Locked);
        }
        self.inner.append(batch, clock)
    }
    fn tip(&self) -> Result<Option<BlockRef>, StoreError> {
        self.inner.tip()
    }
    fn verify(&self) -> Result<VerifyReport, StoreError> {
        self.inner.verify()
    }
    fn history(&self, limit: usize) -> Result<Vec<Block>, StoreError> {
        self.inner.history(limit)
    }
    fn blocks(&self, first: u64, limit: usize) -> Result<Vec<Block>, StoreError> {
        self.inner.blocks(first, limit)
    }
}

struct Node {
    clock: Arc<ManualClock>,
    data: TempDir,
    ledger: Arc<Ledger>,
    chain: ChainHandle,
    sets: SkillSetHandle,
}

impl Node {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::default());
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        let key = Arc::new(Keypair::generate().unwrap());
        let signer = Signer {
            id: key.public().agent_id(),
            key,
        };
        let chain = ChainActor::start(ledger.clone(), clock.clone(), 8, PATIENCE);
        let store = SkillSetStore::open(data.path(), PackageLimits::default()).unwrap();
        let sets = SkillSetActor::start(
            store,
            chain.clone(),
            clock.clone(),
            Some(signer),
            64,
            PATIENCE,
        );
        Self {
            sets: sets.await.unwrap(),
            clock,
            data,
            ledger,
            chain,
        }
    }

    fn source(&self, name: &str, layer: &str) -> PathBuf {
        let source = self.data.path().join("sources").join(name);
        fs::create_dir_all(source.join("knowledge")).unwrap();
        let metadata = format!(r#"{{"name":"{name}","version":"1.0.0","layer":"{layer}"}}"#);
        fs::write(source.join("skillset.json"), metadata).unwrap();
        fs::write(source.join("knowledge/a.md"), "# A\n").unwrap();
        source
    }

    /// The catalogue as it is on disk now.
    async fn looked(&self) -> Arc<Catalogue> {
        self.clock.advance(Duration::from_secs(1));
        self.sets.fresh(Duration::ZERO).await.unwrap()
    }

    async fn install(&self, name: &str, layer: &str) -> Answer<Outcome> {
        self.sets
            .install(self.source(name, layer), Options::default())
            .await
    }

    /// The actions in the ledger, oldest first.
    async fn recorded(&self) -> Vec<String> {
        let mut blocks = self.chain.history(100).await.unwrap();
        blocks.reverse();
        let texts = blocks.iter().skip(1).flat_map(|block| block.data());
        let entries = texts.map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
        entries
            .map(|entry| entry["action"].as_str().unwrap_or("arrival").to_owned())
            .collect()
    }

    fn names(&self) -> Vec<String> {
        let catalogue = self.sets.catalogue();
        catalogue
            .sets
            .iter()
            .map(|listed| listed.set.metadata.name.to_string())
            .collect()
    }
}

#[actix::test]
async fn each_change_is_recorded_and_seen_in_the_catalogue() {
    let node = Node::start().await;
    assert_eq!(node.names(), [""; 0]);
    node.install("kp", "L1").await.unwrap();
    node.install("quiet", "L2").await.unwrap();
    assert_eq!(node.names(), ["kp", "quiet"]);
    assert!(!node.sets.disable("kp").await.unwrap().set.enabled);
    assert!(!node.sets.catalogue().find("kp").unwrap().set.enabled);
    node.sets.disable("kp").await.unwrap();
    node.sets.enable("kp").await.unwrap();
    node.sets.remove("kp").await.unwrap();
    assert_eq!(node.names(), ["quiet"]);
    assert_eq!(
        node.recorded().await,
        ["install", "disable", "enable", "remove"]
    );
    let health = SkillSetHealth {
        changed: 6,
        failed: 0,
    };
    assert_eq!(node.sets.health().await, Ok(health));
}

#[actix::test]
async fn what_cannot_be_recorded_is_not_done() {
    let node = Node::start().await;
    node.install("kp", "L1").await.unwrap();
    node.ledger.refuses.store(true, Ordering::SeqCst);
    for result in [
        node.install("other", "L1").await,
        node.sets.disable("kp").await,
        node.sets.remove("kp").await,
    ] {
        assert!(matches!(result, Err(SkillSetError::Unrecorded(_))));
    }
    assert!(node.looked().await.find("kp").unwrap().set.enabled);
    let left: Vec<_> = fs::read_dir(node.data.path().join("skillsets"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 3, "the set, the registry, the lock");
    node.install("quiet", "L2").await.unwrap();
}

#[actix::test]
async fn a_change_that_is_recorded_and_then_fails_says_so() {
    let node = Node::start().await;
    node.install("kp", "L1").await.unwrap();
    let root = node.data.path().join("skillsets");
    let store = SkillSetStore::open(node.data.path(), PackageLimits::default()).unwrap();
    let change = store.remove("kp", Timestamp::EPOCH).unwrap();
    fs::remove_dir_all(root.join("kp")).unwrap();
    let result = record_and_commit(node.chain.clone(), change).await;
    assert!(matches!(result, Err(SkillSetError::Unfinished(_))));
    assert_eq!(node.recorded().await, ["install", "remove"]);
}

#[actix::test]
async fn two_installs_of_one_name_give_one_installation() {
    let node = Node::start().await;
    let answers = join_all((0..5).map(|_| node.install("kp", "L1"))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let taken = |a: &&Answer<Outcome>| matches!(a, Err(SkillSetError::AlreadyInstalled { .. }));
    assert_eq!(answers.iter().filter(taken).count(), 4);
    assert_eq!(node.recorded().await, ["install"]);
}

#[actix::test]
async fn a_package_crosses_from_one_node_to_another() {
    let (here, there) = (Node::start().await, Node::start().await);
    here.install("kp", "L1").await.unwrap();
    let package = here.sets.package("kp").await.unwrap();
    let again = here.sets.package("kp").await.unwrap();
    assert!(
        Arc::ptr_eq(&package, &again),
        "an unchanged set is packed once"
    );
    let packer = &package.manifest.as_ref().unwrap().manifest().packer;
    let origin = Origin::Peer(store::PeerEvidence {
        peer: packer.instance_id.clone(),
        key: Some(packer.public_key.clone()),
        received_at: Timestamp::from_secs(1_800_000_000),
    });
    let outcome = there
        .sets
        .install_archive((*package).clone(), origin, Options::default())
        .await;
    assert!(!outcome.unwrap().set.enabled);
    assert_eq!(there.recorded().await, ["install_from_archive", "arrival"]);
    let info = there.sets.info("kp").await.unwrap();
    assert_eq!(info.origin.unwrap().received_from, packer.instance_id);
    let missing = there.sets.package("nope").await;
    assert!(matches!(missing, Err(SkillSetError::NotFound(_))));
}

#[actix::test]
async fn a_file_changed_behind_its_back_is_noticed() {
    let node = Node::start().await;
    node.install("kp", "L2").await.unwrap();
    let (before, packed) = (
        node.sets.catalogue(),
        node.sets.package("kp").await.unwrap(),
    );
    let hash = |catalogue: &Catalogue| catalogue.find("kp").unwrap().content_hash;
    fs::write(
        node.data.path().join("skillsets/kp/knowledge/a.md"),
        "changed",
    )
    .unwrap();
    let repacked = node.sets.package("kp").await.unwrap();
    assert_ne!(packed.content_hash, repacked.content_hash);
    assert_ne!(hash(&*node.looked().await), hash(&before));
    fs::write(node.data.path().join("skillsets/kp/run.sh"), "x").unwrap();
    assert_eq!(node.looked().await.shareable().count(), 0);
    assert!(matches!(
        node.sets.package("kp").await,
        Err(SkillSetError::NotExchangeable(_))
    ));
}

#[actix::test]
async fn the_catalogue_is_as_fresh_as_a_reader_wants_it() {
    let node = Node::start().await;
    let other = SkillSetStore::open(node.data.path(), PackageLimits::default()).unwrap();
    let change = other.install(
        &node.source("kp", "L2"),
        Options::default(),
        Timestamp::EPOCH,
    );
    change.unwrap().commit().unwrap();
    let age = Duration::from_secs(5);
    node.clock.advance(age);
    assert!(
        node.sets.fresh(age).await.unwrap().sets.is_empty(),
        "fresh enough"
    );
    node.clock.advance(Duration::from_secs(1));
    let seen = node.sets.fresh(age).await.unwrap();
    assert_eq!(seen.sets.len(), 1);
    node.clock.advance(age * 2);
    assert!(
        Arc::ptr_eq(&seen, &node.sets.fresh(age).await.unwrap()),
        "nothing changed"
    );
}

#[actix::test]
async fn packages_are_kept_only_as_far_as_there_is_room() {
    let node = Node::start().await;
    let mut packages = Packages::default();
    let mut listed = Vec::new();
    for name in ["a", "b", "c"] {
        node.install(name, "L2").await.unwrap();
        listed.push(Arc::clone(node.sets.catalogue().find(name).unwrap()));
    }
    for listed in &listed {
        let mut package = (*node
            .sets
            .package(listed.set.metadata.name.as_str())
            .await
            .unwrap())
        .clone();
        package.archive_base64 = "A".repeat(PACKAGES_KEPT_BYTES / 2);
        packages.keep(Arc::clone(listed), Arc::new(package));
    }
    let kept = |packages: &Packages| ["a", "b", "c"].map(|name| packages.find(name).is_some());
    assert_eq!(kept(&packages), [false, true, true]);
    node.sets.remove("b").await.unwrap();
    packages.retain(&node.sets.catalogue());
    assert_eq!(kept(&packages), [false, false, true]);
}

#[actix::test]
async fn after_a_shutdown_nobody_is_served() {
    let node = Node::start().await;
    node.sets.shutdown().await.unwrap();
    let result = node.install("kp", "L1").await;
    assert!(matches!(result, Err(SkillSetError::Ask(AskError::Stopped))));
    assert_eq!(node.sets.catalogue().sets.len(), 0);
}
