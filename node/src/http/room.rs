//! Refuses what would be written where the disk has no room, before anything of it is done.
//!
//! What takes little, frees room or is needed to get out of trouble passes: introductions, signs of life, taking things
//! back, acknowledging mail, and the owner's orders.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{Error, web};

use super::Doors;
use super::error::ApiError;

/// What begins like this has something written.
const WRITING: [(Method, &str); 14] = [
    (Method::POST, "/meeting/v1/request_skill"),
    (Method::POST, "/meeting/v1/reflect"),
    (Method::POST, "/meeting/v1/message"),
    (Method::POST, "/place/v1/register"),
    (Method::POST, "/place/v1/board/needs"),
    (Method::POST, "/place/v1/board/attest"),
    (Method::POST, "/place/v1/deposit"),
    (Method::PUT, "/place/v1/deposit"),
    (Method::POST, "/place/v1/skillset_deposit"),
    (Method::POST, "/place/v1/keys/register"),
    (Method::POST, "/place/v1/prekeys"),
    (Method::POST, "/place/v1/relay/send"),
    (Method::POST, "/place/v1/federation/proposal"),
    (Method::POST, "/api/v1/approvals"),
];
/// What begins so and passes all the same.
const PASSING: &str = "/reject";

/// The middleware. Costs one look at a flag while there is room.
pub(super) async fn needed(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let full = request
        .app_data::<web::Data<Doors>>()
        .is_some_and(|doors| doors.room.is_full());
    if full && writes(request.method(), request.path()) {
        return Err(ApiError::storage_full().into());
    }
    next.call(request).await
}

fn writes(method: &Method, path: &str) -> bool {
    let listed = |(known, begin): &(Method, &str)| method == known && path.starts_with(begin);
    WRITING.iter().any(listed) && !path.ends_with(PASSING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_and_what_frees_room_passes() {
        for (method, path, written) in [
            (Method::GET, "/meeting/v1/skills", false),
            (Method::POST, "/meeting/v1/introduce", false),
            (Method::POST, "/meeting/v1/skill_content", false),
            (Method::POST, "/meeting/v1/message", true),
            (Method::POST, "/place/v1/deposit", true),
            (Method::PUT, "/place/v1/deposit/note", true),
            (Method::DELETE, "/place/v1/deposit/note", false),
            (Method::POST, "/place/v1/relay/send", true),
            (Method::POST, "/place/v1/relay/ack", false),
            (Method::POST, "/place/v1/heartbeat", false),
            (Method::POST, "/api/v1/approvals", true),
            (Method::POST, "/api/v1/approvals/x/approve", true),
            (Method::POST, "/api/v1/approvals/x/reject", false),
            (Method::POST, "/api/v1/place/bans", false),
        ] {
            assert_eq!(writes(&method, path), written, "{method} {path}");
        }
    }
}
