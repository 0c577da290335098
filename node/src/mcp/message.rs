//! Lines into messages: the one parser of what comes over stdio.

use rmcp::ErrorData;
use rmcp::model::{ClientJsonRpcMessage, NumberOrString, RequestId};
use serde_json::Value;

/// What a line is.
#[derive(Debug)]
pub enum Line {
    /// A message.
    Message(Box<ClientJsonRpcMessage>),
    /// Nothing that wants an answer.
    Nothing,
    /// Not a message; this is the answer, and whose it is if that can be told.
    Wrong(ErrorData, Option<RequestId>),
}

/// Reads one line, without its end. Never fails: what is no message has an answer.
pub fn read(line: &[u8]) -> Line {
    let line = line
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(line)
        .trim_ascii();
    if line.is_empty() {
        return Line::Nothing;
    }
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => {
            let told = format!("this line is not JSON: {error}; send one message a line");
            return Line::Wrong(ErrorData::parse_error(told, None), None);
        }
    };
    let Value::Object(members) = &value else {
        let told = match value {
            Value::Array(_) => {
                "batches are not part of the protocol any more; send one message a line"
            }
            _ => "a message is a JSON object",
        };
        return Line::Wrong(ErrorData::invalid_request(told, None), None);
    };
    let id = members.get("id").and_then(id);
    let is_notification = !members.contains_key("id") && members.contains_key("method");
    match serde_json::from_value(value) {
        Ok(message) => Line::Message(Box::new(message)),
        Err(_) if is_notification => Line::Nothing,
        Err(_) => {
            let told = "not a JSON-RPC 2.0 message: it needs `jsonrpc` \"2.0\", and for a request a `method` and an `id` \
                        that is a text or a whole number";
            Line::Wrong(ErrorData::invalid_request(told, None), id)
        }
    }
}

fn id(value: &Value) -> Option<RequestId> {
    match value {
        Value::String(text) => Some(NumberOrString::String(text.as_str().into())),
        Value::Number(number) => number.as_i64().map(NumberOrString::Number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ClientRequest, JsonRpcMessage};

    use super::*;

    fn wrong(line: &str) -> (i32, Option<RequestId>) {
        match read(line.as_bytes()) {
            Line::Wrong(error, id) => (error.code.0, id),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_is_no_message_has_an_answer() {
        for (line, code, id) in [
            ("garbage", -32700, None),
            ("{\"jsonrpc\":\"2.0\",", -32700, None),
            ("\u{1}\u{2}", -32700, None),
            ("[]", -32600, None),
            (
                "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]",
                -32600,
                None,
            ),
            ("1", -32600, None),
            ("{}", -32600, None),
            (
                "{\"jsonrpc\":\"1.0\",\"id\":7,\"method\":\"ping\"}",
                -32600,
                Some(NumberOrString::Number(7)),
            ),
            (
                "{\"id\":\"a\",\"method\":\"ping\"}",
                -32600,
                Some("a".into_id()),
            ),
            (
                "{\"jsonrpc\":\"2.0\",\"id\":1}",
                -32600,
                Some(NumberOrString::Number(1)),
            ),
            (
                "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}",
                -32600,
                None,
            ),
            (
                "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}",
                -32600,
                None,
            ),
        ] {
            assert_eq!(wrong(line), (code, id), "{line}");
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(wrong(&deep), (-32700, None));
        assert!(matches!(read(b"\xff\xfe"), Line::Wrong(error, None) if error.code.0 == -32700));
    }

    trait IntoId {
        fn into_id(self) -> RequestId;
    }
    impl IntoId for &str {
        fn into_id(self) -> RequestId {
            NumberOrString::String(self.into())
        }
    }

    #[test]
    fn nothing_wants_no_answer() {
        for line in [
            "",
            "  \t",
            "\r",
            "{\"jsonrpc\":\"1.0\",\"method\":\"notifications/x\"}",
        ] {
            assert!(matches!(read(line.as_bytes()), Line::Nothing), "{line:?}");
        }
    }

    #[test]
    fn a_request_is_read_whatever_surrounds_it() {
        let request = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}";
        for line in [
            request.to_owned(),
            format!("\u{feff}{request}\r"),
            format!("  {request}  "),
        ] {
            let Line::Message(message) = read(line.as_bytes()) else {
                panic!("{line}")
            };
            assert!(matches!(
                *message,
                JsonRpcMessage::Request(request) if matches!(request.request, ClientRequest::ListToolsRequest(_))
            ));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_too_odd(line in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            read(&line);
        }

        #[test]
        fn a_message_with_a_few_other_bytes_is_read_or_answered(
            at in 0_usize..150, byte in proptest::prelude::any::<u8>(), cut in 0_usize..150,
        ) {
            let mut line = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"chain_verify","arguments":{}}}"#.to_vec();
            if let Some(here) = line.get_mut(at) {
                *here = byte;
            }
            line.truncate(line.len().max(cut) - cut.min(line.len()) / 2);
            // Whatever is not a message has an answer; nothing is dropped but what wants none.
            if let Line::Nothing = read(&line) {
                let value: Value = serde_json::from_slice(line.trim_ascii()).unwrap_or_default();
                assert!(line.trim_ascii().is_empty() || value.get("id").is_none());
            }
        }
    }
}
