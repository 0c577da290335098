//! `If-Match` and `If-None-Match`: what a deposit is to replace, as RFC 9110 says it. The tag of a deposit is the hash of
//! its content in double quotes, as `ETag` tells it wherever the content is handed out.

use actix_web::http::header::{ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse};
use kairos_place::meeting_place::Condition;
use kairos_protocol::hash::ContentHash;

use crate::http::error::ApiError;

/// The condition of a request; `unsaid` if it has none.
pub(super) fn condition(request: &HttpRequest, unsaid: Condition) -> Result<Condition, ApiError> {
    match (
        header(request, &IF_MATCH)?,
        header(request, &IF_NONE_MATCH)?,
    ) {
        (None, None) => Ok(unsaid),
        (Some("*"), None) => Ok(Condition::Something),
        (Some(tag), None) => hash(tag).map(Condition::Is),
        (None, Some("*")) => Ok(Condition::Nothing),
        (None, Some(_)) => Err(ApiError::invalid("If-None-Match must be *")),
        (Some(_), Some(_)) => {
            let message = "If-Match and If-None-Match exclude each other";
            Err(ApiError::invalid(message))
        }
    }
}

fn header<'r>(request: &'r HttpRequest, name: &HeaderName) -> Result<Option<&'r str>, ApiError> {
    let mut told = request.headers().get_all(name);
    let Some(first) = told.next() else {
        return Ok(None);
    };
    let text = first.to_str().ok().filter(|_| told.next().is_none());
    text.map(|text| Some(text.trim()))
        .ok_or_else(|| ApiError::invalid(format!("{name} must be one header of visible ASCII")))
}

fn hash(tag: &str) -> Result<ContentHash, ApiError> {
    let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    bare.and_then(|hash| hash.parse().ok()).ok_or_else(|| {
        let message = "If-Match must be * or one content hash in double quotes";
        ApiError::invalid(message)
    })
}

/// `answer`, which hands out or tells of this content, with its tag.
pub(super) fn tagged(mut answer: HttpResponse, content: ContentHash) -> HttpResponse {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{content}\"")) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}
