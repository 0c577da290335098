//! Hanging up on a request body that nobody reads to its end.
//!
//! The server reads what is left of a body sent in pieces, to use the connection again, and sets no time for that: a
//! sender who never ends would keep the connection for ever. While somebody still holds the body it closes instead,
//! as it does for one of announced length. So the answer holds it.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{Error, HttpMessage as _, HttpResponse, ResponseError};
use futures::Stream;

/// The middleware; belongs outermost, so that every answer passes it.
pub(super) async fn hang_up(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if !request.headers().contains_key(TRANSFER_ENCODING) {
        let answer = next.call(request).await?;
        return Ok(answer.map_into_boxed_body());
    }
    let body = Shared(Rc::new(RefCell::new(request.take_payload())));
    request.set_payload(Payload::Stream {
        payload: Box::pin(body.clone()),
    });
    match next.call(request).await {
        Ok(answer) => Ok(answer.map_body(|_, answer| body.held_by(answer.boxed()))),
        Err(error) => Err(Refused { error, body }.into()),
    }
}

/// The body of a request, held by whoever reads it and by the answer.
#[derive(Clone)]
struct Shared(Rc<RefCell<Payload>>);

impl Shared {
    fn held_by(self, answer: BoxBody) -> BoxBody {
        BoxBody::new(Holding {
            answer,
            _body: self,
        })
    }
}

impl Stream for Shared {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Borrowed by this one reader, and only here.
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}

/// An answer that holds the body of its request until it is sent.
struct Holding {
    answer: BoxBody,
    _body: Shared,
}

impl MessageBody for Holding {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.answer.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().answer).poll_next(cx)
    }
}

/// An error of a service further in, which becomes an answer only later.
struct Refused {
    error: Error,
    body: Shared,
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        self.error.as_response_error().status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let answer = self.error.error_response();
        answer.map_body(|_, answer| self.body.clone().held_by(answer))
    }
}
