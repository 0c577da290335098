//! Follows every request that is answered here as part of a trace: the one that its caller names, or one of its own.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::web;
use kairos_actors::trace::{self, Attribute, Context, HEADER, Kind, Span};

use super::Doors;

/// What stands for a path that no route has. Paths may hold names, so none is told.
const UNMATCHED: &str = "unmatched";
/// What stands for a method that nobody here knows, which may be any text.
const OTHER: &str = "_OTHER";

/// The middleware; belongs outside of everything that answers.
pub(super) async fn follow(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let Some((mut span, context)) = begin(&request) else {
        return next.call(request).await;
    };
    let answer = trace::within(context, next.call(request)).await;
    let status = match &answer {
        Ok(answer) => answer.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    let told = Attribute::Number(status.as_u16().into());
    span.note("http.response.status_code", told);
    // What a caller did wrong is no failure of ours.
    span.end(status.is_server_error());
    answer
}

/// The span of a request; nothing where traces are off.
fn begin(request: &ServiceRequest) -> Option<(Span, Context)> {
    let doors = request.app_data::<web::Data<Doors>>()?;
    let caller = request.headers().get(HEADER);
    let caller = caller.and_then(|header| Context::parse(header.to_str().ok()?));
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => OTHER,
    };
    let route = || {
        let pattern = request.match_pattern();
        pattern.unwrap_or_else(|| UNMATCHED.to_owned())
    };
    let name = || format!("{method} {}", route());
    let mut span = doors.tracer.span(Kind::Server, name, caller)?;
    let context = span.context()?;
    span.note("http.request.method", Attribute::Text(method.to_owned()));
    span.note("http.route", Attribute::Text(route()));
    Some((span, context))
}
