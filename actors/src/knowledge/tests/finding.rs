//! Search over all layers, through the handle.

use kairos_protocol::search::Layer;

use super::*;
use crate::knowledge::Answer;

impl Node {
    async fn find(&self, words: &str) -> Answer {
        self.clock.advance(SECOND);
        let query = Query::new(words, 10).unwrap();
        self.knowledge
            .search(query, Duration::ZERO, false)
            .await
            .unwrap()
    }

    async fn uris(&self, words: &str) -> Vec<String> {
        self.find(words)
            .await
            .hits
            .into_iter()
            .map(|hit| hit.uri)
            .collect()
    }

    fn cache(&self) -> PathBuf {
        self.temp.path().join("storage/search/index.bin")
    }
}

fn filled() -> Node {
    let node = node();
    node.write(
        "skills/kairos.md",
        "# Law\n\n## [SPEC-010] Ledger\n\nEvery change is recorded.\n",
    );
    node.write(
        "skills/kairos.rb",
        "skill :core_safety do\n  title \"Core Safety\"\n  content 'guard the ledger'\nend\n",
    );
    node.write(
        "knowledge/tea/tea.md",
        "---\ndescription: How to serve tea\ntags: [Drinks]\n---\n\nWarm the pot. 緑茶の入れ方\n",
    );
    node.write("knowledge/tea/references/leaves.md", "oolong leaves");
    node.write("knowledge/pot/SKILL.md", "---\nname: pot\n---\nclay\n");
    node.write("knowledge/.archived/old/old.md", "oolong, put away");
    node.write(
        "context/s1/plan/plan.md",
        "---\ndescription: a plan\n---\nserve oolong to the guests\n",
    );
    node
}

#[actix::test]
async fn every_layer_is_searched_and_each_hit_can_be_read() {
    let node = filled();
    assert_eq!(node.uris("recorded").await, ["l0://kairos.md#SPEC-010"]);
    assert_eq!(
        node.uris("core safety").await,
        ["l0://kairos.rb#core_safety"]
    );
    assert_eq!(node.uris("緑茶").await, ["knowledge://tea"]);
    assert_eq!(node.uris("clay").await, ["knowledge://pot"]);
    let both = node.find("oolong").await;
    assert_eq!(both.documents, 6);
    let mut found: Vec<_> = both
        .hits
        .iter()
        .map(|hit| (hit.uri.as_str(), hit.layer))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            ("context://s1/plan", Layer::L2),
            ("knowledge://tea/references/leaves.md", Layer::L1)
        ]
    );
    for hit in &both.hits {
        assert!(
            hit.snippet.as_deref().unwrap().contains("oolong"),
            "{hit:?}"
        );
        let read = node
            .knowledge
            .resource(hit.uri.parse().unwrap())
            .await
            .unwrap();
        assert!(String::from_utf8(read.bytes).unwrap().contains("oolong"));
    }
    let tea = &node.find("warm").await.hits[0];
    assert_eq!(tea.tags, ["Drinks"]);
    assert_eq!(node.uris("drinks").await, ["knowledge://tea"]);
}

#[actix::test]
async fn what_changes_is_found_and_what_goes_is_not() {
    let node = filled();
    assert_eq!(node.uris("jasmine").await, [""; 0]);
    node.write("knowledge/tea/tea.md", "jasmine");
    node.write("context/s1/plan/plan.md", "jasmine too, and then some");
    assert_eq!(node.uris("jasmine").await.len(), 2);
    assert_eq!(node.uris("guests").await, [""; 0]);
    fs::remove_dir_all(node.temp.path().join("context/s1")).unwrap();
    fs::remove_file(node.temp.path().join("skills/kairos.md")).unwrap();
    assert_eq!(node.uris("jasmine recorded").await, ["knowledge://tea"]);
}

#[actix::test]
async fn an_answer_young_enough_is_given_without_a_look() {
    let node = filled();
    assert_eq!(node.uris("jasmine").await, [""; 0]);
    node.write("context/s1/plan/plan.md", "jasmine");
    let query = Query::new("jasmine", 10).unwrap();
    let young = node
        .knowledge
        .search(query.clone(), SECOND, false)
        .await
        .unwrap();
    assert_eq!(young.hits, []);
    let anew = node.knowledge.search(query, SECOND, true).await.unwrap();
    assert_eq!(anew.hits.len(), 1);
}

#[actix::test]
async fn what_this_process_changes_is_found_at_once_with_its_text() {
    let node = filled();
    let find = async || {
        let query = Query::new("jasmine", 10).unwrap();
        let hour = Duration::from_secs(3600);
        let answer = node.knowledge.search(query, hour, false).await.unwrap();
        let snippets = answer.hits.into_iter().map(|hit| hit.snippet.unwrap());
        snippets.collect::<Vec<_>>()
    };
    assert_eq!(find().await, [""; 0]);
    let create = Create {
        name: "blend".parse().unwrap(),
        text: "jasmine and mint".to_owned(),
        reason: None,
        subdirectories: false,
    };
    node.knowledge.create(create).await.unwrap();
    assert_eq!(find().await, ["jasmine and mint"]);
    assert_eq!(find().await, ["jasmine and mint"]);
    let update = Update {
        name: "blend".parse().unwrap(),
        text: "jasmine and rose".to_owned(),
        reason: None,
        expect: None,
    };
    node.knowledge.update(update).await.unwrap();
    assert_eq!(find().await, ["jasmine and rose"]);
}

#[actix::test]
async fn the_cache_is_used_and_a_bad_one_is_built_anew() {
    let node = filled();
    let data = node.temp.path();
    let expected = node.find("oolong").await;
    let again = || {
        let chain = node.chain.clone();
        let policy = KnowledgePolicy::default();
        KnowledgeActor::start(data, policy, chain, node.clock.clone(), 8, PATIENCE).unwrap()
    };
    let query = || Query::new("oolong", 10).unwrap();
    let good = fs::read(node.cache()).unwrap();
    for bytes in [
        good.clone(),
        b"rubbish".to_vec(),
        good[..good.len() - 1].to_vec(),
        Vec::new(),
    ] {
        fs::write(node.cache(), bytes).unwrap();
        let answer = again()
            .search(query(), Duration::ZERO, false)
            .await
            .unwrap();
        assert_eq!(answer, expected);
    }
    // Where it cannot be kept, searching goes on.
    fs::remove_dir_all(data.join("storage/search")).unwrap();
    fs::write(data.join("storage/search"), "in the way").unwrap();
    let answer = again()
        .search(query(), Duration::ZERO, false)
        .await
        .unwrap();
    assert_eq!(answer, expected);
}

#[actix::test]
async fn many_searches_at_once_are_all_answered() {
    let node = filled();
    node.clock.advance(2 * SECOND);
    let query = Query::new("oolong", 10).unwrap();
    let asks = (0..100).map(|_| node.knowledge.search(query.clone(), SECOND, false));
    let answers = futures::future::join_all(asks).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap().hits.len() == 2)
    );
}
