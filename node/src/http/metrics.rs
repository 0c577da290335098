//! Figures for Prometheus, at two doors: on a port of their own without a token, which only the owner opens, and at
//! `GET /api/v1/metrics` for token holders. Never on the port that strangers reach: a proxy in front of it would hand
//! them out.

use std::net::TcpListener;

use actix_web::dev::Server;
use actix_web::http::header::{CACHE_CONTROL, HOST};
use actix_web::http::uri::Authority;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use kairos_place::role::Action;

use super::Doors;
use super::api::guard::{Caller, is_known};
use super::error::ApiError;
use crate::metrics::{CONTENT_TYPE, Metrics};

/// Connections of those who collect figures; a handful of them ask a few times a minute.
const CONNECTIONS_MAX: usize = 16;

/// What the door on the own port knows.
#[derive(Clone)]
struct Own {
    metrics: Metrics,
    names: Vec<String>,
}

/// `GET /api/v1/metrics`.
pub(super) async fn for_callers(
    doors: web::Data<Doors>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    caller.may(Action::ReadFigures)?;
    Ok(answer(&doors.metrics).await)
}

/// Starts to answer `GET /metrics` on `listener`, and nothing else.
pub(crate) fn serve(
    listener: TcpListener,
    metrics: Metrics,
    names: Vec<String>,
) -> std::io::Result<Server> {
    let own = Own { metrics, names };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(own.clone()))
            .route("/metrics", web::get().to(for_machines))
            .default_service(web::to(elsewhere))
    })
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    .shutdown_timeout(1)
    .disable_signals()
    .listen(listener)?
    .run();
    Ok(server)
}

/// `GET /metrics`. On a loopback address it answers to no name that a page in a browser could give itself.
async fn for_machines(own: web::Data<Own>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    if request.app_config().local_addr().ip().is_loopback() {
        let host = request.headers().get(HOST);
        let host = host.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        if !host.is_some_and(|host| is_known(&host, &own.names)) {
            return Err(ApiError::not_found(
                "Figures are given to addresses, to localhost and to the names in the setting http.names.",
            ));
        }
    }
    Ok(answer(&own.metrics).await)
}

async fn elsewhere() -> Result<&'static str, ApiError> {
    Err(ApiError::not_found("Only /metrics is here."))
}

async fn answer(metrics: &Metrics) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-cache"))
        .content_type(CONTENT_TYPE)
        .body(metrics.render().await)
}
