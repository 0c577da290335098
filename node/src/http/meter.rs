//! Counts every request by its route, its method, what came of it, and how long that took.
//!
//! An answer counts when its head is ready; a stream that goes on for hours afterwards is not waited for.

use std::rc::Rc;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use super::error::ApiError;
use crate::metrics::Counting;

/// The middleware; belongs outside of everything that answers.
pub(super) async fn count(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let Some(counting) = request.app_data::<Rc<Counting>>().cloned() else {
        return next.call(request).await;
    };
    // Found now: the request goes on its way, and where an error comes back it does not return.
    let method = request.method().as_str();
    let under_way = counting.begin(request.path(), || request.match_pattern(), method);
    let answer = next.call(request).await;
    let (status, error) = match &answer {
        Ok(answer) => (answer.status(), answer.response().error()),
        Err(error) => (error.as_response_error().status_code(), Some(error)),
    };
    if let Some(refusal) = error.and_then(|error| error.as_error::<ApiError>()) {
        counting.refuse(refusal.code());
    }
    counting.end(under_way, status.as_u16());
    answer
}
