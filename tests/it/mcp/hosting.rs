//! The Meeting Place of this agent, opened and shown through the MCP door.

use std::fs;

use kairos_tests::{Home, Request, TestNode};
use serde_json::{Value, json};

use super::{data, refused};

#[test]
fn a_place_is_opened_at_the_running_server_and_shown_as_it_is() {
    let home = Home::initialized();
    let node = TestNode::builder().home(&home).start();
    let look = |agents: bool| {
        data(
            &home,
            "meeting_place_status",
            &json!({"include_agents": agents}),
        )
    };
    let before = look(true);
    assert_eq!(
        (&before["hosted"], &before["server"], &before["place"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    assert!(before.get("agents").is_none(), "{before}");
    Request::get("/place/v1/info")
        .send(&node)
        .refused(503, "place_not_started");

    let said = refused(&home, "meeting_place_start", &json!({"name": "Another"}));
    assert!(said.contains("place.name"), "{said}");
    Request::get("/place/v1/info")
        .send(&node)
        .refused(503, "place_not_started");

    for status in ["started", "already_started"] {
        let told = data(&home, "meeting_place_start", &json!({}));
        assert_eq!(told["status"], status, "{told}");
        assert_eq!(told["name"], "KairosChain Meeting Place");
    }
    let info = Request::get("/place/v1/info").send(&node).ok();
    let after = look(true);
    assert_eq!(after["hosted"], json!(true));
    assert_eq!(after["meeting_place"]["name"], info["name"]);
    assert_eq!(after["meeting_place"]["session_timeout"], 3600);
    assert_eq!(after["agents"].as_array().unwrap().len(), 1, "{after}");
    assert_eq!(after["more_agents"], json!(false));
    assert!(look(false).get("agents").is_none());
    // The token of the errand was taken back.
    assert_eq!(
        data(&home, "token_manage", &json!({"command": "list"}))["tokens"],
        json!([])
    );
}

#[test]
fn without_a_server_the_place_opens_with_the_next_one() {
    let home = Home::initialized();
    let file = home.data_dir().join("config/kairos.yml");
    fs::write(&file, "anchors:\n  enabled: false\n").unwrap();
    let told = data(&home, "meeting_place_start", &json!({}));
    assert_eq!(told["status"], "enabled", "{told}");
    let settings = fs::read_to_string(&file).unwrap();
    assert!(settings.contains("place:\n  enabled: true"), "{settings}");
    let shown = data(&home, "meeting_place_status", &json!({}));
    assert_eq!(shown["chain"]["enabled"], json!(false), "{shown}");
    let node = TestNode::builder().home(&home).start();
    Request::get("/place/v1/info").send(&node).ok();
}
