//! Extensions of the meeting protocol, from a proposal to what other agents are told.

use std::fs;

use kairos_tests::{Call, Home, Request, TestNode, TestPeer, eventually};
use serde_json::{Value, json};

const WEATHER: &str = "---\nname: weather\ntype: protocol_extension\nversion: 1.2.0\nactions: [ask_weather]\n---\n\nHow.\n";

fn propose(home: &Home, text: &str) -> String {
    let call = Call::new(["--json", "extensions", "propose", "-", "--reason", "a test"]);
    let told = call.home(home).stdin(text).run().json();
    told["id"].as_str().unwrap().to_owned()
}

fn approve(home: &Home, id: &str) {
    home.run(["approve", "--yes", id]).done();
}

fn standing(home: &Home, name: &str) -> Value {
    let listed = home.json(["extensions", "list"]);
    let mut listed = listed["extensions"].as_array().unwrap().clone().into_iter();
    listed.find(|one| one["name"] == name).unwrap_or_default()["standing"].clone()
}

/// What the node says it can do, once it says that it knows the action, or does not.
fn advertised(node: &TestNode, wanted: bool) -> Value {
    eventually("the extension is advertised as it should", || {
        let told = Request::get("/meeting/v1/introduce").send(node).ok()["capabilities"].clone();
        let knows = told["supported_actions"]
            .to_string()
            .contains("ask_weather");
        (knows == wanted).then_some(told)
    })
}

#[test]
fn what_a_person_approved_is_advertised_and_known_and_has_no_handler() {
    let home = Home::initialized();
    let node = TestNode::builder().home(&home).unlimited().start();
    let peer = TestPeer::new("asker");
    let token = peer.session(&node);
    let ask = |action: &str| {
        let body = json!({"action": action, "from": peer.id(), "payload": {"where": "here"}});
        Request::post("/meeting/v1/message")
            .token(&token)
            .json(&body)
            .send(&node)
            .ok()
    };
    assert_eq!(ask("ask_weather")["message"], "Unknown action: ask_weather");
    let id = propose(&home, WEATHER);
    let before = advertised(&node, false);
    assert_eq!(before["extensions"].as_array().unwrap().len(), 1);
    approve(&home, &id);
    let told = advertised(&node, true);
    assert_eq!(
        told["extensions"][1],
        json!({"name": "weather", "version": "1.2.0", "actions": ["ask_weather"]})
    );
    let answer = ask("ask_weather");
    assert_eq!(answer["status"], "action_not_supported", "{answer}");
    assert_eq!(answer["action"], "ask_weather");
    let supported = answer["available_actions"].to_string();
    assert!(!supported.contains("ask_weather"), "{supported}");
    assert_eq!(ask("ask_tides")["message"], "Unknown action: ask_tides");
    // The ledger tells who decided, and about which bytes.
    let told = home.json(["chain", "history", "--limit", "1"]).to_string();
    assert!(
        told.contains("extension_adopt") && told.contains("skills/extensions/weather.md"),
        "{told}"
    );
    // An edit by hand is not what was approved.
    let file = home.data_dir().join("skills/extensions/weather.md");
    fs::write(
        &file,
        WEATHER.replace("ask_weather", "ask_weather, ask_more"),
    )
    .unwrap();
    advertised(&node, false);
    assert_eq!(standing(&home, "weather"), "not_in_effect");
    fs::write(&file, WEATHER).unwrap();
    advertised(&node, true);
    let id = home.json(["extensions", "disable", "weather"])["id"].clone();
    approve(&home, id.as_str().unwrap());
    advertised(&node, false);
    assert_eq!(standing(&home, "weather"), "disabled");
    let id = home.json(["extensions", "enable", "weather"])["id"].clone();
    approve(&home, id.as_str().unwrap());
    advertised(&node, true);
    assert_eq!(standing(&home, "weather"), "in_effect");
    assert!(
        !home
            .data_dir()
            .join("skills/extensions/disabled/weather.md")
            .exists()
    );
}

#[test]
fn what_the_guard_refuses_is_shown_to_nobody_and_what_changed_meanwhile_is_refused_again() {
    let home = Home::initialized();
    let refused = |text: &str, code: i32| {
        let call = Call::new(["extensions", "propose", "-"])
            .home(&home)
            .stdin(text)
            .run();
        call.failed(code)
    };
    for (from, to, code, told) in [
        ("ask_weather", "introduce", 1, "the protocol's own"),
        ("ask_weather", "shell_exec", 1, "no agent may have"),
        (
            "ask_weather",
            "run_command",
            1,
            "look as if they would execute",
        ),
        (
            "version",
            "immutable: true\nversion",
            1,
            "may not claim `immutable`",
        ),
        ("version", "requires: [rain]\nversion", 1, "it needs `rain`"),
        (
            "version",
            "handler: a.rb\nversion",
            2,
            "names something to be run",
        ),
        ("weather\n", "../up\n", 2, "is no name"),
        ("---\n\nHow", "", 2, "no frontmatter"),
    ] {
        let text = WEATHER.replacen(from, to, 1);
        let said = refused(&text, code);
        assert!(said.contains(told), "{told}: {said}");
    }
    let long = format!("{WEATHER}{}", "x".repeat(100_000));
    assert!(refused(&long, 2).contains("100000 bytes at most"));
    let waiting = home.json(["extensions", "list"])["waiting"].clone();
    assert_eq!(waiting, json!([]));
    // Two that want one action: the second is refused when it is decided about.
    let first = propose(&home, WEATHER);
    let second = propose(&home, &WEATHER.replace("name: weather", "name: storm"));
    approve(&home, &first);
    let said = home.run(["approve", "--yes", &second]).failed(1);
    assert!(
        said.contains("an action of the extension `weather`"),
        "{said}"
    );
    // One that another needs stays.
    let sky = WEATHER
        .replace("name: weather", "name: sky")
        .replace("ask_weather", "ask_sky");
    let id = propose(
        &home,
        &sky.replace("version", "requires: [weather]\nversion"),
    );
    approve(&home, &id);
    let said = home.run(["extensions", "disable", "weather"]).failed(1);
    assert!(said.contains("is needed by `sky`"), "{said}");
    let said = home.run(["extensions", "show", "rain"]).failed(2);
    assert!(
        said.contains("those here are sky, weather") || said.contains("weather, sky"),
        "{said}"
    );
}
