//! Files and ledger as one unit: a change that fails or dies at any point is whole or absent.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::chain::store::BlockStore;
use crate::chain::store::file::{FileStore, LOCK_PATIENCE};
use crate::knowledge::store::unit::Point;
use crate::passing::INTENT;

const POINTS: [Point; 8] = [
    Point::Staged,
    Point::Intended,
    Point::Recorded(1),
    Point::Recorded(2),
    Point::Stepped(1),
    Point::Stepped(2),
    Point::Stepped(3),
    Point::Done,
];
const ACTIONS: [&str; 6] = [
    "create",
    "update",
    "delete",
    "archive",
    "unarchive",
    "replace",
];
/// What tells the child process of a test what to do.
const TASK: &str = "KAIROS_TEST_UNIT";

fn name(text: &str) -> SkillName {
    text.parse().unwrap()
}

fn start(data: &Path, ledger: Arc<dyn BlockStore>, store: KnowledgeStore) -> Node {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_771_000_000)));
    let chain = ChainActor::start(ledger, clock.clone(), 8, PATIENCE);
    let knowledge = KnowledgeActor::start_on(store, chain.clone(), clock.clone(), 8, PATIENCE);
    Node {
        // Not the directory of the test, which outlives several of these.
        temp: tempfile::tempdir_in(data).unwrap(),
        clock,
        chain,
        knowledge: knowledge.unwrap(),
    }
}

fn plain(data: &Path) -> KnowledgeStore {
    KnowledgeStore::new(data, KnowledgePolicy::default())
}

/// What there is before each action.
async fn prepare(node: &Node) {
    for n in ["tea", "away"] {
        let create = Create {
            name: name(n),
            text: "first".to_owned(),
            reason: None,
            subdirectories: true,
        };
        node.knowledge.create(create).await.unwrap();
    }
    let away = Archive {
        name: name("away"),
        reason: None,
        superseded_by: None,
    };
    node.knowledge.archive(away).await.unwrap();
}

async fn act(knowledge: &KnowledgeHandle, action: &str) -> Result<(), KnowledgeError> {
    let (tea, reason) = (name("tea"), None);
    match action {
        "create" => knowledge.create(Create {
            name: name("new"),
            text: "new".to_owned(),
            reason,
            subdirectories: false,
        }),
        "update" => {
            let text = "second".to_owned();
            let update = Update {
                name: tea,
                text,
                reason,
                expect: None,
            };
            return knowledge.update(update).await.map(drop);
        }
        "delete" => {
            let delete = Delete {
                name: tea,
                reason,
                expect: None,
            };
            return knowledge.delete(delete).await.map(drop);
        }
        "archive" => {
            let archive = Archive {
                name: tea,
                reason,
                superseded_by: None,
            };
            return knowledge.archive(archive).await.map(drop);
        }
        "unarchive" => {
            let unarchive = Unarchive {
                name: name("away"),
                reason,
            };
            return knowledge.unarchive(unarchive).await.map(drop);
        }
        _ => return knowledge.receive(receive("tea", true)).await.map(drop),
    }
    .await
    .map(drop)
}

/// The files of the knowledge but the lock; the archive's own file names its directory, so only its name counts.
fn files(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let root = data.join("knowledge");
    let found = walkdir::WalkDir::new(&root).into_iter().map(Result::unwrap);
    let files = found.filter(|entry| entry.file_type().is_file());
    files
        .filter(|entry| entry.file_name() != ".lock")
        .map(|entry| {
            let path = entry
                .path()
                .strip_prefix(&root)
                .unwrap()
                .display()
                .to_string();
            let bytes = match path.ends_with(".yml") || path.ends_with(".json") {
                true => Vec::new(),
                false => fs::read(entry.path()).unwrap(),
            };
            (path, bytes)
        })
        .collect()
}

/// How often each entry is in the ledger: never more than once.
async fn records(node: &Node) -> usize {
    let ledger = node.ledger().await;
    let mut texts: Vec<_> = ledger.iter().flatten().map(Value::to_string).collect();
    let all = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), all, "{ledger:?}");
    all
}

/// Files and number of records after `action`, undisturbed.
async fn whole(action: &str) -> (BTreeMap<String, Vec<u8>>, usize) {
    let data = tempfile::tempdir().unwrap();
    let node = start(
        data.path(),
        Arc::new(MemoryStore::default()),
        plain(data.path()),
    );
    prepare(&node).await;
    if !action.is_empty() {
        act(&node.knowledge, action).await.unwrap();
    }
    (files(data.path()), records(&node).await)
}

/// Waits until nothing is half done. The process that a test beside this one starts has our lock too until it runs its
/// own program, so one look may not do.
async fn settled(node: &Node, data: &Path) {
    let intent = data.join("knowledge").join(INTENT);
    let began = std::time::Instant::now();
    node.knowledge.health().await.unwrap();
    while intent.exists() && began.elapsed() < PATIENCE {
        node.clock.advance(SECOND);
        node.knowledge.fresh(Duration::ZERO).await;
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn a_change_that_fails_at_any_point_is_whole_or_absent() {
    let before = whole("").await;
    for action in ACTIONS {
        let after = whole(action).await;
        assert_ne!(before, after);
        for point in POINTS {
            let data = tempfile::tempdir().unwrap();
            let ledger = MemoryStore::default();
            let armed = Arc::new(AtomicBool::new(false));
            let reached = Arc::new(AtomicBool::new(false));
            let fails = {
                let (armed, reached) = (armed.clone(), reached.clone());
                plain(data.path()).reaching(Box::new(move |at| {
                    let here = at == point && armed.swap(at != point, Ordering::SeqCst);
                    match here {
                        false => Ok(()),
                        true => {
                            reached.store(true, Ordering::SeqCst);
                            Err(io::Error::other("it fails here"))
                        }
                    }
                }))
            };
            let node = start(data.path(), Arc::new(ledger.clone()), fails);
            prepare(&node).await;
            armed.store(true, Ordering::SeqCst);
            let result = act(&node.knowledge, action).await;
            if !reached.load(Ordering::SeqCst) {
                result.unwrap(); // it has fewer steps
                continue;
            }
            let error = result.unwrap_err();
            let case = format!("{action} at {point:?}: {error}");
            let expected = match point {
                Point::Staged | Point::Intended => &before,
                _ => &after,
            };
            // The same process settles it with its next look, and any other when it starts.
            settled(&node, data.path()).await;
            assert_eq!(
                &(files(data.path()), records(&node).await),
                expected,
                "{case}"
            );
            let again = start(data.path(), Arc::new(ledger), plain(data.path()));
            assert_eq!(
                &(files(data.path()), records(&again).await),
                expected,
                "{case}"
            );
        }
    }
}

#[actix::test]
async fn a_process_killed_at_any_point_leaves_a_change_whole_or_absent() {
    if std::env::var_os(TASK).is_some() {
        return;
    }
    let before = whole("").await;
    for action in ACTIONS {
        let after = whole(action).await;
        let mut deaths = 0;
        for (n, point) in POINTS.iter().enumerate() {
            let data = tempfile::tempdir().unwrap();
            let path = data.path().join("blockchain.json");
            let ledger = || Arc::new(FileStore::open(&path, LOCK_PATIENCE).unwrap().0);
            {
                let node = start(data.path(), ledger(), plain(data.path()));
                prepare(&node).await;
                node.knowledge.shutdown().await.unwrap();
                node.chain.shutdown().await.unwrap();
            }
            let child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "knowledge::tests::units::dies_where_it_is_told",
                    "--nocapture",
                ])
                .env(TASK, format!("{action} {n} {}", data.path().display()))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            let case = format!("{action} at {point:?}: {child}");
            let died = !child.success();
            deaths += usize::from(died);
            let interrupted = data.path().join("knowledge").join(INTENT).exists();
            assert_eq!(interrupted, died && *point != Point::Staged, "{case}");
            // Somebody else is quicker to write to the ledger.
            use std::os::unix::process::ExitStatusExt as _;
            assert!(!died || child.signal() == Some(9), "{case}");
            let clock = ManualClock::new(Timestamp::from_secs(1_771_000_000));
            ledger()
                .append(vec![vec!["\"other\"".to_owned()]], &clock)
                .unwrap();

            let node = start(data.path(), ledger(), plain(data.path()));
            settled(&node, data.path()).await;
            let expected = match point {
                Point::Staged | Point::Intended => &before,
                _ => &after,
            };
            // What was staged before there was an intent goes with the next change; so do leftovers of any crash.
            node.knowledge.shutdown().await.unwrap();
            plain(data.path()).lock().unwrap();
            let (files_now, records_now) = (files(data.path()), records(&node).await - 1);
            assert_eq!(&files_now, &expected.0, "{case}");
            assert_eq!(records_now, expected.1, "{case}");
            assert!(node.chain.verify().await.unwrap().is_valid());
        }
        assert!(deaths >= 5, "{action}: {deaths}");
    }
}

/// Not a test by itself: what the one above runs as a process of its own.
#[actix::test]
async fn dies_where_it_is_told() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let mut words = task.splitn(3, ' ');
    let (action, point, data) = (
        words.next().unwrap(),
        words.next().unwrap(),
        words.next().unwrap(),
    );
    let (point, data) = (POINTS[point.parse::<usize>().unwrap()], Path::new(data));
    let store = plain(data).reaching(Box::new(move |at| {
        if at == point {
            let me = std::process::id().to_string();
            Command::new("kill").args(["-9", &me]).status().unwrap();
            loop {
                std::thread::park();
            }
        }
        Ok(())
    }));
    let ledger = FileStore::open(&data.join("blockchain.json"), LOCK_PATIENCE)
        .unwrap()
        .0;
    let node = start(data, Arc::new(ledger), store);
    act(&node.knowledge, action).await.unwrap();
}

#[actix::test]
async fn files_that_somebody_changed_meanwhile_are_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let main = data.path().join("knowledge/tea/tea.md");
    let edits = {
        let main = main.clone();
        let armed = AtomicBool::new(true);
        // Two blocks of preparation come before the change.
        plain(data.path()).reaching(Box::new(move |at| {
            if at == Point::Recorded(1) && main.exists() && armed.swap(false, Ordering::SeqCst) {
                fs::write(&main, "by hand").unwrap();
            }
            Ok(())
        }))
    };
    let made = plain(data.path());
    let ledger = MemoryStore::default();
    let node = start(data.path(), Arc::new(ledger.clone()), made);
    prepare(&node).await;
    let node = start(data.path(), Arc::new(ledger), edits);
    let overtaken = act(&node.knowledge, "update").await.unwrap_err();
    assert!(
        matches!(overtaken, KnowledgeError::Overtaken { .. }),
        "{overtaken}"
    );
    assert_eq!(fs::read_to_string(&main).unwrap(), "by hand");
    let standings = node.knowledge.status().await.unwrap();
    let tea = standings.iter().find(|s| s.name == "tea").unwrap();
    assert_eq!(tea.state, State::Changed);
    act(&node.knowledge, "update").await.unwrap();
    assert_eq!(fs::read_to_string(&main).unwrap(), "second");
}

#[actix::test]
async fn an_intent_that_makes_no_sense_blocks_changes_and_not_reading() {
    let data = tempfile::tempdir().unwrap();
    let ledger = MemoryStore::default();
    let node = start(data.path(), Arc::new(ledger), plain(data.path()));
    prepare(&node).await;
    fs::write(data.path().join("knowledge").join(INTENT), "{}").unwrap();
    let refused = act(&node.knowledge, "update").await.unwrap_err();
    assert!(
        matches!(refused, KnowledgeError::Intent { .. }),
        "{refused}"
    );
    node.clock.advance(SECOND);
    assert_eq!(node.knowledge.fresh(Duration::ZERO).await.all().len(), 1);
    fs::remove_file(data.path().join("knowledge").join(INTENT)).unwrap();
    act(&node.knowledge, "update").await.unwrap();
}
