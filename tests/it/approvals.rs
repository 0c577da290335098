//! Changes that wait for a person: proposed with little, decided with much, carried out once.

use std::fs;
use std::thread;

use kairos_tests::{Call, Home, Reply, Request, TestNode};
use serde_json::{Value, json};

const APPROVALS: &str = "/api/v1/approvals";
const TEA: &str = "# Tea\n\nGreen.\n";

/// A node, and tokens of one holder of each role.
struct House {
    home: Home,
    node: TestNode,
    owner: String,
    member: String,
    guest: String,
}

impl House {
    fn new() -> Self {
        let home = Home::initialized();
        let token = |role: &str| {
            let args = ["token", "create", "--user", role, "--role", role];
            home.run(args).done().trim().to_owned()
        };
        let (owner, member, guest) = (token("owner"), token("member"), token("guest"));
        Self {
            node: TestNode::builder().data_dir(home.data_dir()).start(),
            home,
            owner,
            member,
            guest,
        }
    }

    fn propose(&self, token: &str, body: &Value) -> Reply {
        Request::post(APPROVALS)
            .token(token)
            .json(body)
            .send(&self.node)
    }

    fn create(&self, token: &str) -> Reply {
        self.propose(token, &tea())
    }

    fn get(&self, token: &str, id: &Value) -> Reply {
        let path = format!("{APPROVALS}/{}", id.as_str().unwrap());
        Request::get(&path).token(token).send(&self.node)
    }

    fn decide(&self, token: &str, waiting: &Value, how: &str) -> Reply {
        let path = format!("{APPROVALS}/{}/{how}", waiting["id"].as_str().unwrap());
        let body = json!({"seal": waiting["seal"]});
        Request::post(&path)
            .token(token)
            .json(&body)
            .send(&self.node)
    }

    fn main(&self) -> std::path::PathBuf {
        self.home.data_dir().join("knowledge/tea/tea.md")
    }

    fn ledger(&self) -> String {
        assert_eq!(self.home.json(["chain", "verify"])["valid"], true);
        self.home
            .json(["chain", "history", "--limit", "100"])
            .to_string()
    }
}

fn tea() -> Value {
    json!({"change": {"kind": "knowledge_create", "name": "tea"}, "content": TEA, "reason": "we drink it"})
}

#[test]
fn a_member_proposes_and_an_owner_decides() {
    let house = House::new();
    let waiting = house.create(&house.member).ok();
    assert_eq!(
        waiting["by"],
        json!({"user": "member", "role": "member", "door": "http"})
    );
    assert!(!house.main().exists());
    let shown = house.get(&house.owner, &waiting["id"]).ok();
    assert!(
        shown["diff"].as_str().unwrap().contains("+Green.\n"),
        "{shown}"
    );
    assert_eq!(shown["seal"], waiting["seal"]);
    let done = house.decide(&house.owner, &waiting, "approve").ok();
    assert_eq!(
        (&done["decided"], &done["stage"]["is"]),
        (&json!("approved"), &json!("done"))
    );
    assert_eq!(fs::read_to_string(house.main()).unwrap(), TEA);
    let ledger = house.ledger();
    for word in [
        "knowledge_update",
        "approval_decision",
        waiting["id"].as_str().unwrap(),
    ] {
        assert!(ledger.contains(word), "{word} in {ledger}");
    }
    let log = house.home.json(["log"]).to_string();
    assert!(
        log.contains("approval_proposed") && log.contains("approval_approved"),
        "{log}"
    );
    // The text that was approved is served and listed as any other.
    let skills = house.home.json(["skill", "list"]).to_string();
    assert!(skills.contains("tea"), "{skills}");
}

#[test]
fn roles_that_are_too_low_get_nowhere() {
    let house = House::new();
    let words = house.create(&house.guest).refused(403, "forbidden");
    assert_eq!(words, "propose needs the role member, yours is guest");
    let waiting = house.create(&house.member).ok();
    for token in [&house.guest, &house.member] {
        for how in ["approve", "reject"] {
            house.decide(token, &waiting, how).refused(403, "forbidden");
        }
    }
    // What is not theirs does not exist for them.
    house
        .get(&house.guest, &waiting["id"])
        .refused(404, "not_found");
    house.get(&house.member, &waiting["id"]).ok();
    let list = |token: &str| Request::get(APPROVALS).token(token).send(&house.node).ok();
    assert_eq!(list(&house.guest)["proposals"], json!([]));
    assert_eq!(list(&house.owner)["proposals"].as_array().unwrap().len(), 1);
    assert!(!house.main().exists());
}

#[test]
fn what_a_body_says_about_itself_is_no_consent() {
    let house = House::new();
    for (member, value) in [
        ("approved", json!(true)),
        ("decision", json!("approved")),
        (
            "by",
            json!({"user": "owner", "role": "owner", "door": "cli"}),
        ),
        ("state", json!("approved")),
    ] {
        let mut body = tea();
        body[member] = value;
        house
            .propose(&house.member, &body)
            .refused(400, "invalid_param");
    }
    for change in [
        json!({"kind": "knowledge_create", "name": "../../x"}),
        json!({"kind": "knowledge_create", "name": ".archived"}),
        json!({"kind": "instructions", "mode": "a/b"}),
        json!({"kind": "skillset_install", "name": "kp", "source": "/etc", "force": false, "layer": null}),
        json!({"kind": "rm", "name": "x"}),
        json!("law"),
    ] {
        let body = json!({"change": change, "content": TEA});
        house
            .propose(&house.owner, &body)
            .refused(400, "invalid_param");
    }
    assert_eq!(house.home.json(["approvals"])["proposals"], json!([]));
}

#[test]
fn an_approval_is_good_once_in_all_processes_and_after_a_restart() {
    let house = House::new();
    let waiting = house.create(&house.member).ok();
    let id = waiting["id"].as_str().unwrap().to_owned();
    // The server and two commands at the same time.
    let codes: Vec<i32> = thread::scope(|scope| {
        let commands: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| house.home.run(["approve", "--yes", &id]).code))
            .collect();
        let over_http = house.decide(&house.owner, &waiting, "approve");
        let mut codes = vec![i32::from(over_http.status != 200)];
        codes.extend(commands.into_iter().map(|command| command.join().unwrap()));
        codes
    });
    assert_eq!(
        codes.iter().filter(|code| **code == 0).count(),
        1,
        "{codes:?}"
    );
    fs::remove_file(house.main()).unwrap();
    fs::remove_dir(house.main().parent().unwrap()).unwrap();
    house
        .decide(&house.owner, &waiting, "approve")
        .refused(409, "already_decided");
    let House {
        home, node, owner, ..
    } = house;
    node.kill();
    let node = TestNode::builder().data_dir(home.data_dir()).start();
    let path = format!("{APPROVALS}/{id}/approve");
    let again = Request::post(&path)
        .token(&owner)
        .json(&json!({"seal": waiting["seal"]}));
    again.send(&node).refused(409, "already_decided");
    let error = home.run(["approve", "--yes", &id]).failed(1);
    assert!(error.contains("was approved already"), "{error}");
    assert!(!home.data_dir().join("knowledge/tea").exists());
    let ledger = home
        .json(["chain", "history", "--limit", "100"])
        .to_string();
    assert_eq!(ledger.matches("approval_id").count(), 1, "{ledger}");
}

#[test]
fn dies_when_one_byte_of_its_basis_changes() {
    let house = House::new();
    house.home.skill("tea", TEA);
    let body = json!({"change": {"kind": "knowledge_update", "name": "tea"}, "content": "# Tea\n\nBlack.\n"});
    let waiting = house.propose(&house.member, &body).ok();
    let wrong = json!({"id": waiting["id"], "seal": "0".repeat(64)});
    house
        .decide(&house.owner, &wrong, "approve")
        .refused(409, "not_as_shown");
    fs::write(house.main(), TEA.replace("Green", "Greed")).unwrap();
    assert_eq!(
        house.get(&house.owner, &waiting["id"]).ok()["state"],
        "void"
    );
    house
        .decide(&house.owner, &waiting, "approve")
        .refused(409, "basis_changed");
    fs::write(house.main(), TEA).unwrap();
    house
        .decide(&house.owner, &waiting, "approve")
        .refused(409, "already_decided");
    assert_eq!(fs::read_to_string(house.main()).unwrap(), TEA);
}

#[test]
fn the_keyboard_asks_before_it_carries_anything_out() {
    let home = Home::initialized();
    let law = home.data_dir().join("skills/kairos.rb");
    let before = fs::read_to_string(&law).unwrap();
    let config = home.data_dir().join("skills/config.yml");
    let settings = fs::read_to_string(&config).unwrap();
    let after = before.replace("180 days", "365 days");
    let propose = || {
        Call::new(["--json", "propose", "l0", "-", "--reason", "a test"])
            .home(&home)
            .stdin(after.as_str())
    };
    assert!(propose().run().failed(1).contains("Evolution is disabled"));
    let on = "evolution_enabled: true";
    fs::write(&config, settings.replace("evolution_enabled: false", on)).unwrap();
    let proposed = propose().run().json();
    let id = proposed["id"].as_str().unwrap();
    let ended = home.run(["approve", id]);
    assert!(ended.stdout.contains("365 days"), "{}", ended.stdout);
    assert!(ended.clone().failed(1).contains("Nobody can be asked here"));
    let ended = home.run(["approve", "--yes", "--seal", &"0".repeat(64), id]);
    assert!(ended.failed(1).contains("look at it again"));
    let ended = home.run(["approve", "--yes", "--replace", id]);
    assert!(ended.failed(2).contains("carried out as it is"));
    assert_eq!(fs::read_to_string(&law).unwrap(), before);
    home.run([
        "approve",
        "--yes",
        "--seal",
        proposed["seal"].as_str().unwrap(),
        id,
    ])
    .done();
    assert_eq!(fs::read_to_string(&law).unwrap(), after);
    let mut kept = fs::read_dir(home.data_dir().join("skills/versions")).unwrap();
    assert!(kept.any(|entry| fs::read_to_string(entry.unwrap().path()).is_ok_and(|text| text == before)));
}

#[test]
fn an_approval_killed_at_any_moment_is_carried_out_and_recorded_or_neither() {
    let home = Home::initialized();
    let begun = std::time::Instant::now();
    home.json(["approvals"]);
    let whole = begun.elapsed() * 2;
    let mut ids = Vec::new();
    for round in 0..20u32 {
        let name = format!("n{round}");
        let args = ["--json", "propose", "knowledge", "create", &name, "-"];
        let proposed = Call::new(args).home(&home).stdin(TEA).run().json();
        let id = proposed["id"].as_str().unwrap().to_owned();
        let mut child = Call::new(["approve", "--yes", &id]).home(&home).spawn();
        thread::park_timeout(whole * round / 20);
        child.kill().unwrap();
        let acknowledged = child.wait().unwrap().success();
        ids.push((name, id, acknowledged));
    }
    // Whatever opens the agent next finishes what was begun.
    let listed = home.json(["approvals", "list", "--all"]);
    assert_eq!(home.json(["chain", "verify"])["valid"], true);
    let ledger = home
        .json(["chain", "history", "--limit", "1000"])
        .to_string();
    for (name, id, acknowledged) in ids {
        let path = home.data_dir().join(format!("knowledge/{name}/{name}.md"));
        let made = fs::read_to_string(path).is_ok_and(|text| text == TEA);
        let recorded = ledger.contains(&id);
        assert_eq!(made, recorded, "{name}");
        assert!(made || !acknowledged, "{name}");
        let proposals = listed["proposals"].as_array().unwrap();
        let state = proposals.iter().find(|p| p["id"] == id.as_str()).unwrap();
        assert_eq!(
            state["state"],
            if made { "approved" } else { "open" },
            "{name}"
        );
    }
}
