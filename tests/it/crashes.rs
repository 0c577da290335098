//! Processes that die at any moment, and many at work at once: what was acknowledged is there, whole and recorded.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use kairos_tests::{Call, Home, Request, TestNode, TestPeer, eventually};
use serde_json::{Value, json};

use crate::persona::Persona;

/// Rounds of each crash test; the moment of death moves with the round.
const ROUNDS: u32 = 20;

/// How long a process of this round lives, where one that is left alone needs `whole`.
fn lifetime(whole: Duration, round: u32) -> Duration {
    whole * round * 5 / (4 * ROUNDS)
}

/// What is in the ledger, in one text.
fn ledger(home: &Home) -> String {
    let report = home.json(["chain", "verify"]);
    assert_eq!(report["valid"], true, "{report}");
    home.json(["chain", "history", "--limit", "1000"])
        .to_string()
}

/// Files and directories that a change makes on its way.
fn leftovers(home: &Home) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["skillsets", "storage", "storage/quarantine", "knowledge"] {
        let Ok(entries) = fs::read_dir(home.data_dir().join(folder)) else {
            continue;
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let temporary = |name: &String| name.starts_with('.') && !name.ends_with(".lock");
        found.extend(names.filter(temporary));
    }
    found
}

fn installed(home: &Home) -> Value {
    home.json(["skillset", "list"])
}

#[test]
fn an_install_killed_at_any_moment_is_whole_or_absent() {
    let home = Home::initialized();
    let prepare = |name: &str| {
        let set = home.skill_set(name);
        fs::write(set.join("knowledge/topic/large.md"), "x".repeat(1 << 20)).unwrap();
        Call::new(["skillset".as_ref(), "install".as_ref(), set.as_os_str()]).home(&home)
    };
    home.json(["skillset", "list"]); // makes its keys
    let begun = Instant::now();
    prepare("first").run().done();
    let whole = begun.elapsed();
    let mut acknowledged = BTreeSet::from(["first".to_owned()]);
    for round in 0..ROUNDS {
        let name = format!("set{round}");
        let mut child = prepare(&name).spawn();
        thread::park_timeout(lifetime(whole, round));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            acknowledged.insert(name);
        }
    }
    let listed = installed(&home);
    assert_eq!(listed["broken"], json!([]));
    let recorded = ledger(&home);
    let sets = listed["skillsets"].as_array().unwrap();
    let there: BTreeSet<_> = sets
        .iter()
        .map(|set| set["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        there.is_superset(&acknowledged),
        "{acknowledged:?} in {there:?}"
    );
    for set in sets {
        let name = set["name"].as_str().unwrap();
        assert_eq!(
            set["file_list"].as_array().unwrap().len(),
            3,
            "{name} is whole"
        );
        assert!(
            recorded.contains(set["content_hash"].as_str().unwrap()),
            "{name} is recorded"
        );
    }
    // Whatever did not come about can be installed now, and clears away what was left.
    for round in 0..ROUNDS {
        let name = format!("set{round}");
        if !there.contains(&name) {
            let set = home.path().join("sets").join(&name);
            home.run(["skillset".as_ref(), "install".as_ref(), set.as_os_str()])
                .done();
        }
    }
    home.json(["skillset", "disable", "set0"]);
    assert_eq!(leftovers(&home), [""; 0]);
    assert_eq!(installed(&home)["skillsets"].as_array().unwrap().len(), 21);
    ledger(&home);
}

#[test]
fn a_change_of_knowledge_killed_at_any_moment_is_in_files_and_ledger_or_in_neither() {
    let home = Home::initialized();
    home.json(["knowledge", "record", "--all"]);
    let text = |round: u32| format!("round {round}\n{}", "x".repeat(50_000));
    let file = |round: u32| {
        let path = home.path().join("text.md");
        fs::write(&path, text(round)).unwrap();
        path
    };
    home.run(["knowledge", "create", "tea", file(1000).to_str().unwrap()])
        .done();
    let begun = Instant::now();
    home.run(["knowledge", "update", "tea", file(1001).to_str().unwrap()])
        .done();
    let whole = begun.elapsed();
    for round in 0..ROUNDS {
        let path = file(round);
        let update = ["knowledge", "update", "tea", path.to_str().unwrap()];
        let mut child = Call::new(update).home(&home).spawn();
        thread::park_timeout(lifetime(whole, round));
        child.kill().unwrap();
        let done = child.wait().unwrap().success();
        // Whatever looks first settles it, and finds files and ledger agreed.
        let listed = home.json(["skill", "list"]);
        let status = home.json(["knowledge", "status", "--all"]);
        assert_eq!(
            status["not_recorded"], 0,
            "round {round}: {status}, {listed}"
        );
        let told = home.json(["knowledge", "show", "tea"]);
        let last = home.json(["knowledge", "history", "tea", "--limit", "1"]);
        assert_eq!(last["records"][0]["next_hash"], told["content_hash"]);
        assert!(
            !done || told["text"] == text(round),
            "round {round} was acknowledged"
        );
    }
    let recorded = ledger(&home);
    for round in 0..ROUNDS {
        let hash = kairos_protocol::hash::ContentHash::of(text(round)).to_hex();
        let times = recorded
            .matches(&format!("next_hash\\\":\\\"{hash}"))
            .count();
        assert!(times <= 1, "round {round} is recorded {times} times");
    }
    home.run(["knowledge", "update", "tea", "--text", "the end"])
        .done();
    assert_eq!(leftovers(&home), [""; 0]);
}

#[test]
fn an_approval_killed_at_any_moment_can_be_given_again() {
    let host = Home::initialized();
    host.skill("first", "---\npublic: true\n---\n");
    for round in 0..ROUNDS {
        host.skill(
            &format!("skill{round}"),
            &format!("---\npublic: true\n---\n{round}\n"),
        );
    }
    let node = TestNode::builder()
        .home(&host)
        .set("limits.requests_per_address", "10000")
        .start();
    let home = Home::initialized();
    let first = home.json(["skill", "acquire", &node.url(""), "first"]);
    let begun = Instant::now();
    home.json([
        "approve",
        "--yes",
        first["quarantined"]["id"].as_str().unwrap(),
    ]);
    let whole = begun.elapsed();
    for round in 0..ROUNDS {
        let name = format!("skill{round}");
        let told = home.json(["skill", "acquire", &node.url(""), &name]);
        let id = told["quarantined"]["id"].as_str().unwrap();
        let mut child = Call::new(["approve", "--yes", id]).home(&home).spawn();
        thread::park_timeout(lifetime(whole, round));
        child.kill().unwrap();
        let path = home.data_dir().join(format!("knowledge/{name}/{name}.md"));
        if child.wait().unwrap().success() {
            assert!(!waits(&home, id), "{name} was decided about");
        } else if waits(&home, id) {
            // Installed or not, approving it once more ends well.
            home.run(["approve", "--yes", "--replace", id]).done();
        }
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            format!("---\npublic: true\n---\n{round}\n")
        );
        let told = home.json(["provenance", &name]);
        assert_eq!(
            told["provenance"]["hops"].as_array().unwrap().len(),
            1,
            "{name}"
        );
    }
    let recorded = ledger(&home);
    for round in 0..ROUNDS {
        assert!(
            recorded.contains(&format!("\\\"knowledge_id\\\":\\\"skill{round}\\\"")),
            "skill{round} is recorded"
        );
    }
    home.json(["quarantine", "list"]);
    assert_eq!(leftovers(&home), [""; 0]);
}

fn waits(home: &Home, id: &str) -> bool {
    home.json(["quarantine", "list"])["waiting"]
        .to_string()
        .contains(id)
}

#[test]
fn a_node_killed_under_load_keeps_what_it_acknowledged() {
    let home = Home::initialized();
    let mut said = Vec::new();
    let mut known = Vec::new();
    for round in 0..5 {
        let node = TestNode::builder().home(&home).start();
        let talkers = [0, 1].map(|n| TestPeer::new(&format!("{round}-{n}")));
        let tokens = talkers.each_ref().map(|peer| peer.session(&node));
        known.extend(talkers.map(|peer| peer.id().to_owned()));
        let acknowledged = thread::scope(|scope| {
            let node = &node;
            let talks = tokens.map(|token| {
                scope.spawn(move || {
                    let texts = (0..40).map(|n| format!("{round}-{n}-{}", token.get(..8).unwrap()));
                    let heard = |text: &String| {
                        let request = Request::post("/meeting/v1/reflect").token(&token);
                        let answer = request.json(&json!({"reflection": text})).try_send(node);
                        answer.is_some_and(|reply| reply.status == 200)
                    };
                    texts.take_while(heard).collect::<Vec<_>>()
                })
            });
            thread::park_timeout(Duration::from_millis(10 + 15 * round));
            node.signal("KILL");
            talks.map(|talk| talk.join().unwrap()).concat()
        });
        said.extend(acknowledged);
    }
    let inbox = home.json(["inbox"]).to_string();
    let lost: Vec<_> = said
        .iter()
        .filter(|text| !inbox.contains(text.as_str()))
        .collect();
    assert!(!said.is_empty() && lost.is_empty(), "lost {lost:?}");
    let peers = home.json(["peers", "list"]).to_string();
    assert!(known.iter().all(|id| peers.contains(id)), "{peers}");
    ledger(&home);
}

#[test]
fn many_processes_change_one_directory_and_lose_nothing() {
    const MANY: usize = 10;
    let host = Home::initialized();
    let home = Home::initialized();
    for n in 0..MANY {
        host.skill(
            &format!("skill{n}"),
            &format!("---\npublic: true\n---\n{n}\n"),
        );
        home.skill_set(&format!("set{n}"));
    }
    let hosting = TestNode::builder().home(&host).start();
    let ids: Vec<_> = (0..MANY)
        .map(|n| {
            let told = home.json(["skill", "acquire", &hosting.url(""), &format!("skill{n}")]);
            told["quarantined"]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let node = TestNode::builder().home(&home).start();
    let token = TestPeer::new("reader").session(&node);
    thread::scope(|scope| {
        for (n, id) in ids.iter().enumerate() {
            let home = &home;
            let set = home.path().join("sets").join(format!("set{n}"));
            scope.spawn(move || {
                home.run(["skillset".as_ref(), "install".as_ref(), set.as_os_str()])
                    .done()
            });
            scope.spawn(move || home.run(["approve", "--yes", id]).done());
        }
        for _ in 0..20 {
            Request::get("/meeting/v1/skillsets")
                .token(&token)
                .send(&node)
                .ok();
        }
    });
    let report = home.json(["chain", "verify"]);
    // One block for each SkillSet, two for each skill, and the first.
    assert_eq!(
        (&report["valid"], &report["length"]),
        (&json!(true), &json!(1 + MANY + 2 * MANY))
    );
    let sets = installed(&home)["skillsets"].clone();
    let sets = sets.as_array().unwrap();
    assert_eq!(sets.len(), MANY);
    assert!(
        sets.iter().all(|set| set["enabled"] == true),
        "no entry of the registry is lost: {sets:?}"
    );
    assert_eq!(home.json(["quarantine", "list"])["waiting"], json!([]));
    eventually("the node sees them all", || {
        let listed = Request::get("/meeting/v1/introduce").send(&node).ok();
        (listed["exchangeable_skillsets"].as_array()?.len() == MANY).then_some(())
    });
    assert_eq!(leftovers(&home), [""; 0]);
}

#[test]
fn many_processes_share_the_peers_they_meet() {
    const MANY: usize = 8;
    let home = Home::initialized();
    home.json(["peers", "list"]);
    let node = TestNode::builder().home(&home).start();
    let personas: Vec<_> = (0..MANY).map(|_| Persona::start()).collect();
    let visitors: Vec<_> = (0..MANY).map(|n| TestPeer::new(&n.to_string())).collect();
    thread::scope(|scope| {
        for (persona, visitor) in personas.iter().zip(&visitors) {
            let (home, node) = (&home, &node);
            scope.spawn(move || home.run(["meet", &persona.url()]).done());
            scope.spawn(move || visitor.session(node));
        }
    });
    let known = home.json(["peers", "list"]);
    assert_eq!(known.as_array().unwrap().len(), 2 * MANY, "{known}");
    // What one process decides, the others learn: a peer forgotten can come with a new key.
    let first = visitors[0].id();
    home.json(["peers", "forget", first]);
    let newcomer = TestPeer::claiming(first);
    eventually("the node has forgotten it", || {
        (newcomer.knock(&node).status == 200).then_some(())
    });
    assert!(Path::new(&home.data_dir().join("storage/peers.jsonl")).is_file());
}

#[test]
fn of_two_keys_for_one_new_id_the_first_to_be_written_is_the_pin() {
    let home = Home::initialized();
    home.json(["peers", "list"]); // makes its keys
    for round in 0..6 {
        let first = Persona::start();
        let id = first.peer.id().to_owned();
        let second = Persona::with(TestPeer::claiming(&id));
        let met = thread::scope(|scope| {
            let home = &home;
            let meets = [&first, &second]
                .map(|persona| scope.spawn(move || home.run(["meet", &persona.url()]).code));
            meets.map(|meet| meet.join().unwrap())
        });
        let winner = match met {
            [0, 1] => &first,
            [1, 0] => &second,
            _ => panic!("round {round}: both keys were taken, or none: {met:?}"),
        };
        let known = home.json(["peers", "show", &id]);
        assert_eq!(
            known["public_key"],
            winner.peer.signed.public_key.as_str(),
            "round {round}: {known}"
        );
        assert_ne!(known["conflict"], Value::Null, "round {round}: {known}");
    }
}
