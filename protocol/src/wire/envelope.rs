//! The message envelope, its actions, and the answer each one gets.
//!
//! Outcomes of an action, good or bad, travel with HTTP 200; what happened is in the member `status`.

use serde_json::{Map, Value, json};
use thiserror::Error;
use uuid::Uuid;

use super::PROTOCOL_VERSION;
use crate::hash::ContentHash;
use crate::id::AgentId;
use crate::json;
use crate::time::Timestamp;

/// The actions of the SkillSet exchange extension: known, answered over their own endpoints.
pub const SKILLSET_ACTIONS: [&str; 4] = [
    "offer_skillset",
    "request_skillset",
    "skillset_content",
    "list_skillsets",
];

/// Everything this agent understands, as advertised.
pub const SUPPORTED_ACTIONS: [&str; 13] = [
    "introduce",
    "goodbye",
    "error",
    "offer_skill",
    "request_skill",
    "accept",
    "decline",
    "reflect",
    "skill_content",
    "offer_skillset",
    "request_skillset",
    "skillset_content",
    "list_skillsets",
];

/// Longest text of an `action` echoed in an answer.
const ACTION_ECHO_MAX: usize = 100;

/// What a message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Says who the sender is; does not open a session.
    Introduce,
    /// Ends the conversation, not the session.
    Goodbye,
    /// Reports a failure.
    Error,
    /// Offers a skill.
    OfferSkill,
    /// Asks for a skill.
    RequestSkill,
    /// Takes up an offer.
    Accept,
    /// Turns an offer down.
    Decline,
    /// Says what came of it.
    Reflect,
    /// Carries a skill.
    SkillContent,
    /// Known from an extension, without a handler here.
    WithoutHandler(String),
    /// Anything else, as text.
    Unknown(String),
}

impl Action {
    /// Its name on the wire, if it has a handler here.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Introduce => Some("introduce"),
            Self::Goodbye => Some("goodbye"),
            Self::Error => Some("error"),
            Self::OfferSkill => Some("offer_skill"),
            Self::RequestSkill => Some("request_skill"),
            Self::Accept => Some("accept"),
            Self::Decline => Some("decline"),
            Self::Reflect => Some("reflect"),
            Self::SkillContent => Some("skill_content"),
            Self::WithoutHandler(_) | Self::Unknown(_) => None,
        }
    }

    /// The action a value names.
    pub fn of(value: Option<&Value>) -> Self {
        let name = match value {
            Some(Value::String(name)) => name.as_str(),
            None | Some(Value::Null) => return Self::Unknown(String::new()),
            Some(other) => return Self::Unknown(other.to_string()),
        };
        match name {
            "introduce" => Self::Introduce,
            "goodbye" => Self::Goodbye,
            "error" => Self::Error,
            "offer_skill" => Self::OfferSkill,
            "request_skill" => Self::RequestSkill,
            "accept" => Self::Accept,
            "decline" => Self::Decline,
            "reflect" => Self::Reflect,
            "skill_content" => Self::SkillContent,
            other if SKILLSET_ACTIONS.contains(&other) => Self::WithoutHandler(other.to_owned()),
            other => Self::Unknown(other.to_owned()),
        }
    }
}

/// Why a body is not a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// `payload` is there and not an object.
    #[error("payload must be an object, it is {found}")]
    Payload {
        /// What it is.
        found: &'static str,
    },
}

/// A message as it arrived. `from` is only what the sender claims; who it is, the session says.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// What it asks for.
    pub action: Action,
    /// The sender's claim, echoed in answers.
    pub from: Value,
    /// The content; empty if there was none.
    pub payload: Map<String, Value>,
    /// Whether there was a payload at all.
    pub has_payload: bool,
    /// The message this one answers.
    pub in_reply_to: Option<String>,
    /// The sender's id for this message: `id`, or `message_id` as older documents call it.
    pub id: Option<String>,
}

impl Envelope {
    /// Reads a message. Unknown members are ignored.
    pub fn from_members(members: &Map<String, Value>) -> Result<Self, EnvelopeError> {
        let (payload, has_payload) = match members.get("payload") {
            None | Some(Value::Null) => (Map::new(), false),
            Some(Value::Object(payload)) => (payload.clone(), true),
            Some(other) => {
                return Err(EnvelopeError::Payload {
                    found: json::kind(other),
                });
            }
        };
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            action: Action::of(members.get("action")),
            from: members.get("from").cloned().unwrap_or_default(),
            payload,
            has_payload,
            in_reply_to: text("in_reply_to"),
            id: text("id").or_else(|| text("message_id")),
        })
    }

    /// The same message for whoever knows more actions, those of extensions that were adopted. None of them has a handler.
    pub fn knowing(mut self, knows: impl FnOnce(&str) -> bool) -> Self {
        if let Action::Unknown(name) = &self.action
            && knows(name)
        {
            self.action = Action::WithoutHandler(name.clone());
        }
        self
    }

    /// The answer to this message. `accepts` tells whether a skill format may be offered here.
    ///
    /// No offers are kept waiting here, so the answer to an acceptance never quotes one.
    pub fn answer(&self, accepts: impl Fn(&str) -> bool) -> Value {
        let from = &self.from;
        let payload = &self.payload;
        let member = |name: &str| payload.get(name).cloned().unwrap_or_default();
        let whole = || {
            if self.has_payload {
                Value::Object(payload.clone())
            } else {
                Value::Null
            }
        };
        match &self.action {
            Action::Introduce => {
                json!({"status": "received", "action": "introduce", "from": from, "peer_identity": whole()})
            }
            Action::Goodbye => json!({"status": "goodbye", "from": from}),
            Action::Error => {
                json!({"status": "error", "from": from, "error_code": member("error_code")})
            }
            Action::OfferSkill => {
                let format = payload
                    .get("skill_format")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if accepts(format) {
                    json!({"status": "received", "action": "offer_skill", "from": from,
                           "skill_info": whole(), "can_accept": true})
                } else {
                    json!({"status": "rejected", "action": "offer_skill",
                           "reason": format!("Format '{format}' not accepted")})
                }
            }
            Action::RequestSkill => {
                json!({"status": "received", "action": "request_skill", "from": from, "request": whole()})
            }
            Action::Accept => json!({
                "status": "accepted", "action": "accept", "from": from,
                "original_offer": null, "next_step": "send_skill_content",
            }),
            Action::Decline => {
                json!({"status": "declined", "action": "decline", "from": from, "reason": member("reason")})
            }
            Action::Reflect => reflected(from, &member("reflection")),
            Action::SkillContent => {
                let hash = ContentHash::of(
                    payload
                        .get("content")
                        .and_then(Value::as_str)
                        .unwrap_or_default(),
                );
                let told = payload.get("content_hash").filter(|h| !h.is_null());
                if told.is_some_and(|told| told.as_str() != Some(hash.to_hex().as_str())) {
                    return json!({"status": "error", "action": "skill_content", "error": "Content hash mismatch"});
                }
                json!({
                    "status": "received", "action": "skill_content", "from": from,
                    "skill_name": member("skill_name"), "format": member("format"),
                    "content": member("content"), "content_hash": hash,
                })
            }
            Action::WithoutHandler(name) => json!({
                "status": "action_not_supported", "action": name,
                "message": format!("Action '{name}' is recognized but has no handler."),
                "available_actions": SUPPORTED_ACTIONS,
            }),
            Action::Unknown(name) => {
                let shown: String = name.chars().take(ACTION_ECHO_MAX).collect();
                json!({"status": "error", "message": format!("Unknown action: {shown}")})
            }
        }
    }
}

/// The answer to a reflection, by message or over its own endpoint.
pub fn reflected(from: &Value, reflection: &Value) -> Value {
    json!({"status": "received", "action": "reflect", "from": from,
           "reflection": reflection, "interaction_complete": true})
}

/// The answer to a request for a skill over its own endpoint.
pub fn skill_requested(from: &Value, description: &Value, skill_id: &Value) -> Value {
    json!({"status": "received", "action": "request_skill", "from": from,
           "request": {"description": description, "skill_id": skill_id}})
}

/// Writes a message to send, members in the reference's order, absent ones left out.
pub fn message(
    action: &str,
    from: &AgentId,
    to: Option<&str>,
    payload: Value,
    in_reply_to: Option<&str>,
    now: Timestamp,
) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            members.insert(name.to_owned(), value);
        }
    };
    put("id", Uuid::new_v4().to_string().into());
    put("action", action.into());
    put("from", from.as_str().into());
    put("to", to.into());
    put("timestamp", now.wire().into());
    put("payload", payload);
    put("in_reply_to", in_reply_to.into());
    put("protocol_version", PROTOCOL_VERSION.into());
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(message: Value) -> Value {
        let envelope = Envelope::from_members(message.as_object().unwrap()).unwrap();
        envelope.answer(|format| format == "markdown")
    }

    #[test]
    fn answers_each_action_as_the_reference_does() {
        let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        for (message, expected) in [
            (
                json!({"action": "introduce", "from": "f", "payload": {"a": 1}}),
                json!({"status": "received", "action": "introduce", "from": "f", "peer_identity": {"a": 1}}),
            ),
            (
                json!({"action": "goodbye", "from": "f"}),
                json!({"status": "goodbye", "from": "f"}),
            ),
            (
                json!({"action": "error", "payload": {"error_code": "E1"}}),
                json!({"status": "error", "from": null, "error_code": "E1"}),
            ),
            (
                json!({"action": "offer_skill", "payload": {"skill_format": "ruby"}}),
                json!({"status": "rejected", "action": "offer_skill", "reason": "Format 'ruby' not accepted"}),
            ),
            (
                json!({"action": "offer_skill", "from": "f"}),
                json!({"status": "rejected", "action": "offer_skill", "reason": "Format '' not accepted"}),
            ),
            (
                json!({"action": "accept", "from": "f", "in_reply_to": "z"}),
                json!({"status": "accepted", "action": "accept", "from": "f", "original_offer": null,
                    "next_step": "send_skill_content"}),
            ),
            (
                json!({"action": "skill_content", "from": "f", "payload": {"content": "hello"}}),
                json!({"status": "received", "action": "skill_content", "from": "f", "skill_name": null,
                    "format": null, "content": "hello", "content_hash": hello}),
            ),
            (
                json!({"action": "skill_content", "payload": {"content": "hello!", "content_hash": hello}}),
                json!({"status": "error", "action": "skill_content", "error": "Content hash mismatch"}),
            ),
            (
                json!({"action": "reflect", "payload": {"reflection": ["r"]}}),
                json!({"status": "received", "action": "reflect", "from": null, "reflection": ["r"],
                    "interaction_complete": true}),
            ),
            (
                json!({"action": 3}),
                json!({"status": "error", "message": "Unknown action: 3"}),
            ),
            (
                json!({}),
                json!({"status": "error", "message": "Unknown action: "}),
            ),
        ] {
            assert_eq!(
                answer(message.clone()).to_string(),
                expected.to_string(),
                "{message}"
            );
        }
        assert_eq!(
            answer(json!({"action": "list_skillsets"}))["status"],
            "action_not_supported"
        );
    }

    #[test]
    fn refuses_a_payload_that_is_not_an_object() {
        for payload in [json!("x"), json!([1]), json!(7), json!(false)] {
            let message = json!({"action": "reflect", "payload": payload});
            let error = Envelope::from_members(message.as_object().unwrap()).unwrap_err();
            assert!(error.to_string().starts_with("payload must be an object"));
        }
    }

    #[test]
    fn a_sent_message_reads_back() {
        let id: AgentId = "a".parse().unwrap();
        let sent = message(
            "reflect",
            &id,
            None,
            json!({"reflection": "x"}),
            Some("m1"),
            Timestamp::EPOCH,
        );
        let members: Vec<_> = sent
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            members,
            [
                "id",
                "action",
                "from",
                "timestamp",
                "payload",
                "in_reply_to",
                "protocol_version"
            ]
        );
        let read = Envelope::from_members(sent.as_object().unwrap()).unwrap();
        assert_eq!(read.action, Action::Reflect);
        assert_eq!(read.in_reply_to.as_deref(), Some("m1"));
    }

    proptest! {
        #[test]
        fn every_action_gets_an_answer_with_a_status(action in ".{0,40}") {
            let reply = answer(json!({"action": action}));
            prop_assert!(reply["status"].is_string());
        }
    }
}
