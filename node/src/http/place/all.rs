//! The whole board without asking for it again and again: `GET /place/v1/deposits`, page by page, and
//! `GET /place/v1/events`, a stream of what changes.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures::{StreamExt as _, stream};
use kairos_actors::bounded_addr::AskError;
use kairos_actors::place::{Heard, Listener};
use kairos_place::meeting_place::Cursor;
use serde_json::{Value, json};

use super::stay::Stay;
use super::transfers::Transfer;
use super::{caller, hosted};
use crate::http::error::{ApiError, quoted};
use crate::http::query::{count, param};
use crate::http::{Doors, reply};

/// Entries of a page if nothing is said.
const LIMIT: usize = 100;
/// How often a listener hears something, so that nobody in between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// How long a stream lasts; whoever listens begins another one.
const LISTEN_MAX: Duration = Duration::from_secs(3600);

/// A page of all deposits, or with `type=skillset` of all SkillSets, in an order that is another one for each walk. `next`
/// is there if there are more; it goes into `after`.
pub(in crate::http) async fn deposits(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let query = request.query_string();
    let some = |name| param(query, name).filter(|text: &String| !text.is_empty());
    let of_sets = match some("type").as_deref() {
        None | Some("deposited_skill") => false,
        Some("skillset") => true,
        Some(other) => {
            let other = quoted(other);
            let message = format!("type must be deposited_skill or skillset, not {other}");
            return Err(ApiError::invalid(message));
        }
    };
    let cursor = match some("after") {
        Some(after) => after
            .parse()
            .map_err(|error: kairos_place::meeting_place::NoCursor| {
                ApiError::invalid(error.to_string())
            })?,
        None => Cursor::begin(rand::random()),
    };
    let limit = some("limit").map_or(LIMIT, |limit| count(&limit));
    let hosted = hosted(&doors)?;
    let page = match of_sets {
        true => hosted.place.skill_sets(cursor, limit).await?,
        false => hosted.place.deposits(cursor, limit).await?,
    };
    let next = page.next.map(|next| json!(next.to_string()));
    let body = format!(
        "{{\"entries\":[{}],\"total_available\":{},\"returned\":{},\"next\":{}}}",
        page.entries.join(","),
        page.total,
        page.entries.len(),
        next.unwrap_or(Value::Null),
    );
    Ok(reply::bytes(body.into()))
}

/// Tells of changes of the board as they happen, as server-sent events: `change` with kind and id, `missed` with how many
/// were lost on the way to a listener that is slow.
pub(in crate::http) async fn events(
    doors: web::Data<Doors>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let agent = caller(&request)?.agent_id;
    let open = doors.listeners.begin(&agent)?;
    let hosted = hosted(&doors)?;
    let listener = hosted.place.listen();
    let listener = listener.ok_or(ApiError::from(AskError::Stopped))?;
    let first = stream::iter([Ok(Bytes::from_static(b": listening\n\n"))]);
    let stay = Stay::new(&doors, &hosted, &request);
    let later = stream::unfold((listener, open, stay), heard);
    let ends = tokio::time::sleep(LISTEN_MAX);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_ENCODING, "identity"))
        .streaming(first.chain(later).take_until(ends)))
}

async fn heard(
    (mut listener, open, mut stay): (Listener, Transfer, Stay),
) -> Option<(Result<Bytes, Infallible>, (Listener, Transfer, Stay))> {
    let next = async {
        tokio::select! {
            biased;
            () = stay.over() => None,
            heard = listener.next() => heard,
        }
    };
    let told = match tokio::time::timeout(KEEP_ALIVE, next).await {
        Ok(Some(Heard::Event(event))) => format!("event: change\ndata: {}\n\n", event.shown()),
        Ok(Some(Heard::Missed(count))) => {
            format!("event: missed\ndata: {}\n\n", json!({"count": count}))
        }
        Ok(None) => return None,
        Err(_) => ": still here\n\n".to_owned(),
    };
    Some((Ok(told.into()), (listener, open, stay)))
}
