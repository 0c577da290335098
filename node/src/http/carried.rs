//! Meetings that come without HTTP: the same routes, guards and handlers as `/meeting/`, behind another door.
//!
//! What the libp2p node hands over is made into a request of the routes below `/meeting/`, and nothing else can be asked
//! for. So a peer passes the same allowance, sessions, pins and limits, whichever way it comes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use actix_service::IntoServiceFactory as _;
use actix_web::body::{BoxBody, MessageBody as _, to_bytes};
use actix_web::dev::{AppConfig, Service as _, ServiceFactory as _, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::from_fn;
// The one public way to make a request by hand.
use actix_web::test::TestRequest;
use actix_web::{App, Error, web};
use futures::future::LocalBoxFuture;
use kairos_actors::discovery::{MeetingDoor, Visit};
use kairos_protocol::wire::carried::{AskHead, CarriedError, ToldHead, Verb, message};
use tokio::sync::OnceCell;
use url::form_urlencoded;

use super::error::ApiError;
use super::{Doors, guard, meter, room, routes};
use crate::metrics::Counting;

type Answered = LocalBoxFuture<'static, Result<ServiceResponse<BoxBody>, Error>>;
type Routes = Box<dyn Fn(TestRequest) -> Answered>;

/// The door that `doors` give. It belongs to the thread on which it is made.
pub fn door(doors: Arc<Doors>) -> MeetingDoor {
    let routes: Rc<OnceCell<Routes>> = Rc::default();
    Rc::new(move |visit| {
        let (doors, routes) = (Arc::clone(&doors), Rc::clone(&routes));
        Box::pin(async move {
            let made = routes.get_or_try_init(|| build(doors)).await;
            match made {
                Ok(routes) => answer(routes, visit).await,
                Err(()) => told(StatusCode::INTERNAL_SERVER_ERROR, None, b"{}"),
            }
        })
    })
}

async fn build(doors: Arc<Doors>) -> Result<Routes, ()> {
    let counting = Rc::new(Counting::new(doors.metrics.requests().clone()));
    let app = App::new()
        .app_data(web::Data::from(doors))
        .app_data(counting)
        .wrap(from_fn(room::needed))
        .wrap(from_fn(guard::never_panic))
        .wrap(from_fn(meter::count))
        .configure(routes::meetings);
    let service = app.into_factory().new_service(AppConfig::default()).await?;
    Ok(Box::new(move |request: TestRequest| {
        let answered = service.call(request.to_request());
        Box::pin(async move { Ok(answered.await?.map_into_boxed_body()) })
    }))
}

async fn answer(routes: &Routes, visit: Visit) -> Vec<u8> {
    let request = match request(&visit) {
        Ok(request) => request,
        Err(error) => return refused(&ApiError::invalid(error.to_string()).into()),
    };
    let response = match routes(request).await {
        Ok(response) => response,
        Err(error) => return refused(&error),
    };
    let status = response.status();
    let wait = response.headers().get(RETRY_AFTER);
    let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
    match to_bytes(response.into_body()).await {
        Ok(body) => told(status, wait, &body),
        Err(error) => {
            tracing::error!(%error, "an answer for a peer broke off");
            told(StatusCode::INTERNAL_SERVER_ERROR, None, b"{}")
        }
    }
}

fn request(visit: &Visit) -> Result<TestRequest, CarriedError> {
    let (head, body) = AskHead::read(&visit.message)?;
    let mut uri = format!("/meeting/v1/{}", head.path);
    if !head.query.is_empty() {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let query = query.extend_pairs(&head.query).finish();
        uri = format!("{uri}?{query}");
    }
    let method = match head.verb {
        Verb::Get => Method::GET,
        Verb::Post => Method::POST,
    };
    // Whoever comes from nowhere in particular counts as one address.
    let address = visit.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut request = TestRequest::with_uri(&uri)
        .method(method)
        .peer_addr(SocketAddr::new(address, 0))
        .insert_header((CONTENT_TYPE, "application/json"))
        .set_payload(body.to_vec());
    let is_text = |session: &&String| session.bytes().all(|b| b.is_ascii_graphic());
    if let Some(session) = head.session.as_ref().filter(is_text) {
        request = request.insert_header((AUTHORIZATION, format!("Bearer {session}")));
    }
    Ok(request)
}

fn refused(error: &Error) -> Vec<u8> {
    let response = error.error_response();
    let (status, wait) = (
        response.status(),
        response.headers().get(RETRY_AFTER).cloned(),
    );
    let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
    let body = response.into_body().try_into_bytes();
    told(status, wait, &body.unwrap_or_default())
}

fn told(status: StatusCode, retry_after: Option<u64>, body: &[u8]) -> Vec<u8> {
    let status = status.as_u16();
    let head = ToldHead {
        status,
        retry_after,
    };
    // Such a head has a few dozen bytes and can always be written.
    message(&head, body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(head: &AskHead) -> actix_web::HttpRequest {
        let visit = Visit {
            peer: kairos_actors::discovery::PeerName::of_ed25519(&[0; 32]).unwrap(),
            address: None,
            message: message(head, b"{}").unwrap(),
        };
        request(&visit).unwrap().to_http_request()
    }

    #[test]
    fn a_message_becomes_a_request_of_the_meeting_routes() {
        let head = AskHead {
            verb: Verb::Get,
            path: "skill_details".to_owned(),
            query: vec![("skill_id".to_owned(), "a b&c=/../x".to_owned())],
            session: Some("token".to_owned()),
        };
        let request = made(&head);
        assert_eq!(
            request.uri().to_string(),
            "/meeting/v1/skill_details?skill_id=a+b%26c%3D%2F..%2Fx"
        );
        assert_eq!(guard::bearer(&request), Some("token"));
        let session = Some("a\r\nHost: x".to_owned());
        assert_eq!(guard::bearer(&made(&AskHead { session, ..head })), None);
    }
}
