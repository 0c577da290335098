use fs_err as fs;
use kairos_protocol::search::Query;
use kairos_protocol::time::ManualClock;
use serde_json::json;
use tempfile::TempDir;

use super::store::tests::origin;
use super::*;
use crate::bounded_addr::AskError;
use crate::chain::ChainActor;
use crate::chain::store::memory::MemoryStore;

mod contexts;
mod finding;
mod layer;
mod units;

const PATIENCE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

struct Node {
    temp: TempDir,
    clock: Arc<ManualClock>,
    chain: ChainHandle,
    knowledge: KnowledgeHandle,
}

fn node() -> Node {
    let temp = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_771_000_000)));
    let chain = ChainActor::start(Arc::new(MemoryStore::default()), clock.clone(), 8, PATIENCE);
    let policy = KnowledgePolicy::default();
    let knowledge = KnowledgeActor::start(
        temp.path(),
        policy,
        chain.clone(),
        clock.clone(),
        8,
        PATIENCE,
    )
    .unwrap();
    Node {
        temp,
        clock,
        chain,
        knowledge,
    }
}

impl Node {
    fn write(&self, path: &str, text: &str) {
        let path = self.temp.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The entries of the ledger after the genesis block, oldest first, one list per block.
    async fn ledger(&self) -> Vec<Vec<Value>> {
        let mut blocks = self.chain.history(100).await.unwrap();
        blocks.reverse();
        let entries = |text: &String| serde_json::from_str(text).unwrap_or_default();
        blocks
            .iter()
            .skip(1)
            .map(|b| b.data().iter().map(entries).collect())
            .collect()
    }
}

fn receive(name: &str, replace: bool) -> Receive {
    Receive {
        name: name.to_owned(),
        bytes: b"---\npublic: true\n---\ntea\n".to_vec(),
        origin: origin(),
        replace,
    }
}

#[actix::test]
async fn a_catalogue_young_enough_is_given_at_once_and_an_old_one_is_checked() {
    let node = node();
    let first = node.knowledge.catalogue();
    node.write("knowledge/a.md", "---\npublic: true\n---\n");
    assert!(Arc::ptr_eq(&node.knowledge.fresh(SECOND).await, &first));
    node.clock.advance(2 * SECOND);
    let second = node.knowledge.fresh(SECOND).await;
    assert_eq!(second.entries().len(), 1);
    assert!(Arc::ptr_eq(&node.knowledge.catalogue(), &second));
    node.clock.advance(2 * SECOND);
    let third = node.knowledge.fresh(SECOND).await;
    assert!(
        Arc::ptr_eq(&third, &second),
        "nothing changed, so lists built from it stay good"
    );
}

#[actix::test]
async fn a_clock_that_was_set_back_hides_no_change() {
    let node = node();
    let now = node.clock.now();
    let find = async || {
        let query = Query::new("jasmine", 10).unwrap();
        let answer = node.knowledge.search(query, SECOND, false).await.unwrap();
        answer.hits.len()
    };
    node.clock.advance(3600 * SECOND);
    assert_eq!(node.knowledge.fresh(SECOND).await.entries(), []);
    assert_eq!(find().await, 0);
    node.clock.set(now);
    node.write("knowledge/a.md", "---\npublic: true\n---\njasmine\n");
    assert_eq!(node.knowledge.fresh(SECOND).await.entries().len(), 1);
    assert_eq!(find().await, 1);
}

#[actix::test]
async fn many_callers_cause_one_check_and_need_one_permit() {
    let node = node();
    node.write("knowledge/a.md", "---\npublic: true\n---\n");
    node.clock.advance(2 * SECOND);
    let asks = (0..100).map(|_| node.knowledge.fresh(SECOND));
    let answers = futures::future::join_all(asks).await;
    assert!(
        answers
            .iter()
            .all(|a| a.entries().len() == 1 && Arc::ptr_eq(a, &answers[0]))
    );
}

#[actix::test]
async fn the_last_catalogue_stays_when_the_actor_is_gone() {
    let node = node();
    node.knowledge.health().await.unwrap();
    node.knowledge.shutdown().await.unwrap();
    let stopped = node.knowledge.health().await.unwrap_err();
    assert!(matches!(stopped, KnowledgeError::Ask(AskError::Stopped)));
    node.clock.advance(2 * SECOND);
    assert_eq!(node.knowledge.fresh(SECOND).await.all(), []);
}

#[actix::test]
async fn what_is_received_is_stored_then_recorded_twice_and_listed_for_the_owner() {
    let node = node();
    let received = node
        .knowledge
        .receive(receive("tea making!", false))
        .await
        .unwrap();
    assert_eq!(received.path, "knowledge/tea_making_/tea_making_.md");
    let hash = received.content_hash;
    assert_eq!(
        node.ledger().await,
        [
            [json!({
                "type": "knowledge_update", "layer": "L1", "knowledge_id": "tea_making_", "action": "create",
                "prev_hash": null, "next_hash": hash, "reason": "Create knowledge: tea_making_",
                "timestamp": "2026-02-13T16:26:40+00:00",
            })],
            [json!({
                "_type": "skill_provenance", "skill_name": "tea making!", "original_hash": hash,
                "content_hash": hash, "received_from": "4d4827d24dbe5d28",
                "received_at": "2026-02-13T16:26:40Z", "provenance_chain": ["4d4827d24dbe5d28"],
                "origin": "4d4827d24dbe5d28", "hop_count": 0,
                "stored_path": "knowledge/tea_making_/tea_making_.md", "recorded_at": "2026-02-13T16:26:40Z",
            })],
        ]
    );
    let catalogue = node.knowledge.catalogue();
    assert_eq!((catalogue.all().len(), catalogue.entries().len()), (1, 0));
    let served = node
        .knowledge
        .content("tea_making_", Audience::Owner)
        .await
        .unwrap();
    assert_eq!(served.text, "---\npublic: true\n---\ntea\n");
    let hidden = node
        .knowledge
        .content("tea_making_", Audience::Peer)
        .await
        .unwrap_err();
    assert_eq!(hidden.to_string(), "Knowledge 'tea_making_' not found");
    let told = node
        .knowledge
        .provenance("tea_making_")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(told["share"], false);
}

#[actix::test]
async fn a_refused_text_leaves_no_record_and_a_replaced_one_says_what_it_replaced() {
    let node = node();
    let first = node.knowledge.receive(receive("tea", false)).await.unwrap();
    let refused = node
        .knowledge
        .receive(receive("tea", false))
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), "Knowledge 'tea' already exists");
    assert_eq!(node.ledger().await.len(), 2);
    node.knowledge.receive(receive("tea", true)).await.unwrap();
    let ledger = node.ledger().await;
    assert_eq!(ledger.len(), 4);
    assert_eq!(ledger[2][0]["action"], "update");
    assert_eq!(ledger[2][0]["prev_hash"], json!(first.content_hash));
}

#[actix::test]
async fn what_cannot_be_recorded_is_not_stored() {
    let node = node();
    node.chain.shutdown().await.unwrap();
    let refused = node.knowledge.receive(receive("tea", false)).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, KnowledgeError::Ledger(_)), "{refused}");
    assert_eq!(node.knowledge.fresh(Duration::ZERO).await.all(), []);
    let left = fs::read_dir(node.temp.path().join("knowledge")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
}

#[actix::test]
async fn sharing_is_decided_for_entries_and_seen_at_once() {
    let node = node();
    node.write("knowledge/a/a.md", "text");
    node.write("knowledge/a/references/side.md", "text");
    node.write("knowledge/single.md", "text");
    node.clock.advance(SECOND);
    node.knowledge
        .set_share("a".to_owned(), true)
        .await
        .unwrap();
    let catalogue = node.knowledge.catalogue();
    assert_eq!(catalogue.entries().len(), 1);
    assert_eq!(
        node.knowledge
            .content("a", Audience::Peer)
            .await
            .unwrap()
            .text,
        "text"
    );
    for other in ["side", "single"] {
        let refused = node
            .knowledge
            .set_share(other.to_owned(), true)
            .await
            .unwrap_err();
        assert!(
            matches!(refused, KnowledgeError::NotAnEntry { .. }),
            "{refused}"
        );
    }
    let refused = node
        .knowledge
        .set_share("absent".to_owned(), true)
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), "Knowledge 'absent' not found");
}

#[actix::test]
async fn an_agent_skill_is_imported_recorded_and_exported() {
    let node = node();
    node.write("in/tea/SKILL.md", "---\nname: tea\ndescription: d\n---\n");
    let import = Import {
        directory: node.temp.path().join("in/tea"),
        public: true,
        replace: false,
    };
    let imported = node.knowledge.import(import).await.unwrap();
    assert!(imported.shared);
    let ledger = node.ledger().await;
    assert_eq!(
        (ledger.len(), &ledger[0][0]["knowledge_id"]),
        (1, &json!("tea"))
    );
    assert_eq!(node.knowledge.catalogue().entries().len(), 1);
    let exported = node
        .knowledge
        .export("tea", &node.temp.path().join("out"))
        .await
        .unwrap();
    assert_eq!(fs::read_dir(exported).unwrap().count(), 1);
}
