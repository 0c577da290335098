//! Why a request other than a tool call was not answered, as protocol errors.

use std::fmt::Display;

use rmcp::ErrorData;

use super::tool::Refusal;

/// There is no resource of that name.
pub(super) fn no_resource(uri: &str) -> ErrorData {
    let shown = shown(uri);
    ErrorData::resource_not_found(
        format!("Resource not found: {shown}"),
        Some(serde_json::json!({"uri": shown})),
    )
}

/// The role is not enough.
pub(super) fn of_role(refusal: Refusal) -> ErrorData {
    ErrorData::invalid_request(refusal.plain(), None)
}

/// Something failed here. What exactly is for the log: it may name local paths.
pub(super) fn internal(error: impl Display) -> ErrorData {
    tracing::error!(%error, "a request of a model failed");
    ErrorData::internal_error("the node could not do this; its log says why", None)
}

/// As much of a stranger's URI as belongs into an answer.
pub(super) fn shown(uri: &str) -> String {
    uri.chars().take(200).collect()
}
