//! The protocol at `/mcp` where tools have to take part: a node with the tools of the conformance suite.
//!
//! What the suite itself checks is found by `tests/clients/conformance.py`, where there is the suite.

use kairos_tests::{Reply, Request, TestNode};
use serde_json::{Value, json};

use super::events::Events;
use super::http::{House, message};
use super::{call, request};

fn house() -> House {
    House::running(
        TestNode::builder().program(env!("CARGO_BIN_EXE_mcp-fixture")),
        &[],
    )
}

/// A request of the stateless era with these headers beside those of the SDK's own client, in place of its own.
fn odd(house: &House, body: &Value, headers: &[(&str, &str)]) -> Reply {
    let mut post = house.post(&house.owner, body);
    for (name, value) in headers {
        post = post.header(name, value);
    }
    post.send(&house.node)
}

const VERSION: (&str, &str) = ("MCP-Protocol-Version", "2026-07-28");

fn stateless(method: &str, name: Option<&str>) -> Value {
    let mut body = request(7, method, &json!({"_meta": super::meta(&json!({}))}));
    if let Some(name) = name {
        body["params"]["name"] = json!(name);
        body["params"]["arguments"] = json!({});
    }
    body
}

#[test]
fn headers_that_say_something_else_than_the_body_are_refused() {
    let house = house();
    let list = stateless("tools/list", None);
    let text = stateless("tools/call", Some("test_simple_text"));
    let method = |value| ("Mcp-Method", value);
    let name = |value| ("Mcp-Name", value);
    for (body, headers) in [
        (&list, vec![VERSION]),
        (&list, vec![VERSION, method("prompts/list")]),
        (&list, vec![VERSION, method("TOOLS/LIST")]),
        (&text, vec![VERSION, method("tools/call")]),
        (
            &text,
            vec![VERSION, method("tools/call"), name("test_image_content")],
        ),
        (
            &list,
            vec![("MCP-Protocol-Version", "2025-11-25"), method("tools/list")],
        ),
    ] {
        let reply = odd(&house, body, &headers);
        assert_eq!(reply.status, 400, "{headers:?}: {}", reply.text());
        let answer = message(&reply);
        assert_eq!(answer["error"]["code"], -32020, "{headers:?}: {answer}");
        assert_eq!(answer["id"], 7, "{headers:?}: {answer}");
    }
    // White space around a value and the case of a name say nothing.
    for headers in [
        [VERSION, method("tools/call"), name("  test_simple_text  ")],
        [
            VERSION,
            ("MCP-METHOD", "tools/call"),
            ("mcp-name", "test_simple_text"),
        ],
    ] {
        let reply = odd(&house, &text, &headers);
        assert_eq!(reply.status, 200, "{headers:?}: {}", reply.text());
    }
}

#[test]
fn a_parameter_that_has_a_header_must_agree_with_it() {
    let house = house();
    let mut body = stateless("tools/call", Some("test_header_parameter"));
    let base = [
        VERSION,
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "test_header_parameter"),
    ];
    for (value, header, good) in [
        ("Hello", Some("Hello"), true),
        ("Hello", Some("=?base64?SGVsbG8=?="), true),
        ("SGVsbG8=", Some("SGVsbG8="), true),
        ("Hello", Some("=?base64?SGVsbG8?="), false),
        ("Hello", Some("=?base64?SGVs!!!bG8=?="), false),
        ("Hello", Some("Good day"), false),
        ("Hello", None, false),
    ] {
        body["params"]["arguments"] = json!({"region": value});
        let mut headers = base.to_vec();
        headers.extend(header.map(|header| ("Mcp-Param-Region", header)));
        let reply = odd(&house, &body, &headers);
        let told = format!("{value} {header:?}: {}", reply.text());
        let code = message(&reply)["error"]["code"].clone();
        match good {
            true => assert_eq!((reply.status, &code), (200, &Value::Null), "{told}"),
            false => assert_eq!((reply.status, &code), (400, &json!(-32020)), "{told}"),
        }
    }
}

#[test]
fn errors_of_the_stateless_era_have_their_status() {
    let house = house();
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "no/such/method",
    ] {
        let reply = house.stateless(&house.owner, request(3, method, &json!({})));
        let answer = message(&reply);
        assert_eq!(
            (reply.status, &answer["error"]["code"], &answer["id"]),
            (404, &json!(-32601), &json!(3)),
            "{method}: {answer}"
        );
    }
    // A request that does not say what it must.
    let without = |member: &str| {
        let mut body = stateless("server/discover", None);
        let meta = body["params"]["_meta"].as_object_mut().unwrap();
        meta.remove(&format!("io.modelcontextprotocol/{member}"));
        odd(&house, &body, &[VERSION, ("Mcp-Method", "server/discover")])
    };
    for (member, status) in [
        ("protocolVersion", 400),
        ("clientCapabilities", 400),
        ("clientInfo", 200),
    ] {
        let reply = without(member);
        assert_eq!(reply.status, status, "{member}: {}", reply.text());
        if status == 400 {
            assert_eq!(message(&reply)["error"]["code"], -32602, "{member}");
        }
    }
    // A revision that nobody knows.
    let mut body = stateless("server/discover", None);
    body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("v999.0.0");
    let unknown = [
        ("MCP-Protocol-Version", "v999.0.0"),
        ("Mcp-Method", "server/discover"),
    ];
    let reply = odd(&house, &body, &unknown);
    let error = message(&reply)["error"].clone();
    assert_eq!(reply.status, 400, "{error}");
    assert_eq!(error["data"]["requested"], "v999.0.0", "{error}");
    let supported = error["data"]["supported"].as_array().unwrap();
    assert!(supported.contains(&json!("2026-07-28")), "{error}");
    // A client that cannot do what a tool needs.
    let reply = house.stateless(&house.owner, call(4, "test_missing_capability", &json!({})));
    let error = message(&reply)["error"].clone();
    assert_eq!((reply.status, &error["code"]), (400, &json!(-32021)));
    assert!(
        error["data"]["requiredCapabilities"]["sampling"].is_object(),
        "{error}"
    );
}

#[test]
fn a_state_that_was_changed_on_its_way_is_no_state() {
    let house = house();
    let ask = |state: Option<String>| {
        let mut body = call(5, "test_input_required_result_tampered_state", &json!({}));
        if let Some(state) = state {
            body["params"]["requestState"] = json!(state);
            body["params"]["inputResponses"] =
                json!({"confirm": {"action": "accept", "content": {"ok": true}}});
        }
        message(&house.stateless(&house.owner, body))
    };
    let first = ask(None);
    assert_eq!(first["result"]["resultType"], "input_required", "{first}");
    let state = first["result"]["requestState"].as_str().unwrap().to_owned();
    let done = ask(Some(state.clone()));
    assert_eq!(done["result"]["resultType"], "complete", "{done}");
    for at in 0..state.len() {
        let mut changed = state.clone().into_bytes();
        changed[at] ^= 1;
        let Ok(changed) = String::from_utf8(changed) else {
            continue;
        };
        let refused = ask(Some(changed));
        assert_eq!(refused["error"]["code"], -32602, "{at}: {refused}");
    }
}

#[test]
fn a_user_is_asked_over_http_and_the_answer_comes_back() {
    let house = house();
    let can = json!({"elicitation": {}, "sampling": {}});
    let session = house.session_of(&house.owner, &can);
    for (tool, arguments, asked, answer, told) in [
        (
            "test_elicitation",
            json!({"message": "Who are you?"}),
            "elicitation/create",
            json!({"action": "accept", "content": {"username": "ada", "email": "a@example.com"}}),
            "ada",
        ),
        (
            "test_sampling",
            json!({"prompt": "Say hello"}),
            "sampling/createMessage",
            json!({"role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m"}),
            "hello",
        ),
    ] {
        let stream = house.begin_in_session(&session, &call(9, tool, &arguments));
        let mut events = Events::of(stream);
        let question = events.message();
        assert_eq!(question["method"], asked, "{question}");
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": answer});
        // Somebody else has no say in it.
        house
            .in_session(&house.guest, &session, &answer)
            .refused(404, "unknown_session");
        let taken = house.in_session(&house.owner, &session, &answer);
        assert_eq!(taken.status, 202, "{}", taken.text());
        let done = events.message();
        assert_eq!(done["id"], 9, "{done}");
        assert!(super::text(&done["result"]).contains(told), "{done}");
    }
}

#[test]
fn a_stream_that_broke_is_taken_up_where_it_ended() {
    let house = house();
    let session = house.session(&house.owner);
    let mut body = call(11, "test_tool_with_progress", &json!({}));
    body["params"]["_meta"] = json!({"progressToken": "p"});
    let mut events = Events::of(house.begin_in_session(&session, &body));
    // The first event has no message, and says when to come back.
    let first = events.next().unwrap();
    assert_eq!(first.message, None);
    assert!(first.retry.is_some_and(|retry| retry > 0), "{first:?}");
    let begun = events.next().unwrap();
    assert_eq!(begun.message.unwrap()["params"]["progress"], 0.0);
    drop(events);
    let again = |after: &str| {
        let get = Request::get("/mcp")
            .token(&house.owner)
            .header("Accept", "text/event-stream")
            .header("Mcp-Session-Id", &session)
            .header("MCP-Protocol-Version", "2025-11-25")
            .header("Last-Event-ID", after);
        Events::of(get.begin(&house.node))
    };
    // What was not seen comes, and nothing twice.
    let mut rest = again(&begun.id.unwrap());
    let mut seen = Vec::new();
    let done = loop {
        let told = rest.message();
        if told["id"] == 11 {
            break told;
        }
        seen.push(told["params"]["progress"].as_f64().unwrap());
    };
    assert_eq!(seen, [50.0, 100.0], "{done}");
    assert_eq!(done["result"]["content"][0]["text"], "Done.");
}

#[test]
fn what_a_client_may_keep_says_for_how_long() {
    let house = house();
    for method in [
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "skills/list",
    ] {
        let answer = message(&house.stateless(&house.owner, request(1, method, &json!({}))));
        let result = &answer["result"];
        assert!(result["ttlMs"].is_u64(), "{method}: {answer}");
        assert!(
            result["cacheScope"] == "private" || result["cacheScope"] == "public",
            "{method}: {answer}"
        );
        assert_eq!(result["resultType"], "complete", "{method}: {answer}");
    }
}
