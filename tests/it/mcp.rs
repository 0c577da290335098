//! The MCP door as programs meet it: over standard input and output, and at `/mcp` of a running node.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout};

use kairos_tests::{Call, Ended, Home};
use serde_json::{Value, json};

mod audit;
mod consent;
mod consent_elsewhere;
mod events;
mod evolve;
mod hosting;
mod http;
mod law_tools;
mod mutated;
mod orientation;
mod promote;
mod reading;
mod replay;
mod setup;
mod stdio;
mod tools;
mod transfer;
mod wire;

/// Sends lines to a server of `home`, ends its input, and returns how it ended.
fn pipe(home: &Home, lines: &str) -> Ended {
    Call::new([""; 0]).home(home).stdin(lines).run()
}

/// The answers of a server to `lines`, one JSON value for each line that it wrote.
#[track_caller]
fn answers(home: &Home, lines: &str) -> Vec<Value> {
    let out = pipe(home, lines).done();
    let parse = |line: &str| serde_json::from_str(line).expect("each line is JSON");
    out.lines().map(parse).collect()
}

/// A request without a handshake.
fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn call(id: u64, tool: &str, arguments: &Value) -> Value {
    request(
        id,
        "tools/call",
        &json!({"name": tool, "arguments": arguments}),
    )
}

/// What one tool answers to one call.
#[track_caller]
fn tool(home: &Home, name: &str, arguments: &Value) -> Value {
    let mut answers = answers(home, &format!("{}\n", call(1, name, arguments)));
    assert_eq!(answers.len(), 1, "{answers:?}");
    let answer = answers.remove(0);
    assert!(answer["error"].is_null(), "{answer}");
    answer["result"].clone()
}

/// The text of a result.
fn text(result: &Value) -> &str {
    result["content"][0]["text"]
        .as_str()
        .expect("a result has a text")
}

/// The structured content of a call that must succeed.
#[track_caller]
fn data(home: &Home, name: &str, arguments: &Value) -> Value {
    let result = tool(home, name, arguments);
    assert_ne!(result["isError"], json!(true), "{result}");
    result["structuredContent"].clone()
}

/// The sentence of a call that must be refused.
#[track_caller]
fn refused(home: &Home, name: &str, arguments: &Value) -> String {
    let result = tool(home, name, arguments);
    assert_eq!(result["isError"], json!(true), "{result}");
    text(&result).to_owned()
}

/// A server that a program keeps open.
struct Open {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u64,
}

impl Open {
    fn on(home: &Home) -> Self {
        Self::with(Call::new(["mcp", "serve"]).home(home))
    }

    fn with(call: Call) -> Self {
        let mut child = call.converse();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("the output is piped"));
        Self {
            child,
            input,
            output,
            next: 1,
        }
    }

    fn send(&mut self, message: &Value) {
        let input = self.input.as_mut().expect("the input is open");
        writeln!(input, "{message}").expect("the server reads");
    }

    /// Sends a line, whatever it is.
    fn send_bytes(&mut self, line: &[u8]) {
        let input = self.input.as_mut().expect("the input is open");
        let sent = input.write_all(line).and_then(|()| input.write_all(b"\n"));
        sent.expect("the server reads");
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the server writes");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// The answer to one request; notifications before it are skipped.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        let id = self.next;
        self.next += 1;
        self.send(&request(id, method, params));
        loop {
            let answer = self.receive();
            if answer["id"] == id {
                return answer;
            }
        }
    }

    /// Shakes hands as a client that says it can do `capabilities`.
    fn shake_hands(&mut self, version: &str, capabilities: &Value) -> Value {
        let params = json!({
            "protocolVersion": version, "capabilities": capabilities,
            "clientInfo": {"name": "test", "version": "1"},
        });
        let answer = self.ask("initialize", &params);
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        answer["result"].clone()
    }

    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let answer = self.ask("tools/call", &json!({"name": tool, "arguments": arguments}));
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }

    /// Ends the input, and returns whether the server ended well.
    fn end(mut self) -> bool {
        drop(self.input.take());
        self.child.wait().expect("the server ends").success()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // One that ended already is past killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The metadata of a request of the stateless era.
fn meta(capabilities: &Value) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    })
}
