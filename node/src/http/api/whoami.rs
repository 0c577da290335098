//! `GET /api/v1/whoami`: whose token this is, and what it allows.

use actix_web::HttpResponse;
use kairos_place::role::Action;
use serde_json::json;

use super::guard::Caller;
use crate::http::reply;

/// Tells the caller what their token says.
pub(in crate::http) async fn get(caller: Caller) -> HttpResponse {
    let who = &caller.0;
    let may = Action::ALL.into_iter();
    let may: Vec<_> = may
        .filter(|action| who.role.authorize(*action).is_ok())
        .map(Action::as_str)
        .collect();
    reply::value(&json!({
        "user": who.user, "role": who.role, "may": may, "issued_at": who.issued_at.entry(),
        "expires_at": who.expires_at.map(|end| end.entry()),
    }))
}
