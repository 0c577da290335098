//! The HTTP door: extract, check the caller, ask a handle, map the answer.

use std::any::Any;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer, web};
use kairos_actors::approvals::ApprovalHandle;
use kairos_actors::auth::AuthHandle;
use kairos_actors::chain::tlog::TlogHandle;
use kairos_actors::discovery::DiscoveryHandle;
use kairos_actors::knowledge::KnowledgeHandle;
use kairos_actors::meeting::MeetingHandle;
use kairos_actors::peer_manager::PeerManagerHandle;
use kairos_actors::skill_set::SkillSetHandle;
use kairos_actors::trace::Tracer;
use kairos_actors::witness::WitnessHandle;
use kairos_place::allowance::AddressAllowance;
use kairos_place::session::Strength;
use kairos_protocol::crypto::Keypair;
use kairos_protocol::time::Clock;
use kairos_protocol::wire::introduction::SignedIdentity;
use parking_lot::Mutex;

use crate::hosting::Hosting;
use crate::mcp::server::Door as ModelDoor;
use crate::metrics::{Counting, Metrics};
use crate::room::Room;
use crate::serving::Listener;
use crate::status::Status;
use crate::watchdog::Readiness;
pub use address::Proxies;
pub use body::BodyLimits;
pub use carried::door as carried_door;
pub use keys::Keys;
pub use listing::{Listing, Listings};
pub use mcp::{Mcp, McpLimits};
pub use place::quota::Quotas;
pub use place::transfers::{
    LISTENERS_PER_AGENT_MAX, TRANSFERS_MAX, TRANSFERS_PER_AGENT_MAX, Transfers,
};
pub use provenances::Provenances;
pub use routes::{Door, place_doors};

mod address;
mod api;
mod body;
mod carried;
mod error;
mod guard;
mod health;
mod keys;
mod listing;
mod mcp;
mod meeting;
mod meter;
pub(crate) mod metrics;
mod place;
mod provenances;
mod query;
mod reply;
mod room;
mod routes;
mod trace;
mod unread;

/// What requests are answered with; one for all workers.
pub struct Doors {
    /// Reaches the peer manager.
    pub peers: PeerManagerHandle,
    /// Reaches knowledge.
    pub knowledge: KnowledgeHandle,
    /// Reaches SkillSets.
    pub skill_sets: SkillSetHandle,
    /// Reaches the meeting actor.
    pub meeting: MeetingHandle,
    /// Reaches the log of the ledger.
    pub tlog: TlogHandle,
    /// Reaches what the ledgers of others showed.
    pub witness: WitnessHandle,
    /// Reaches the tokens.
    pub auth: AuthHandle,
    /// Reaches what waits for a person.
    pub approvals: ApprovalHandle,
    /// Keys of peers that came lately.
    pub keys: Keys,
    /// Introductions and lists.
    pub listings: Listings,
    /// Who authored the skills that go out.
    pub provenances: Provenances,
    /// Requests per address; held for the time of a count, never across an await.
    pub allowance: Mutex<AddressAllowance>,
    /// Tokens of no use per address, held as briefly.
    pub failed_tokens: Mutex<AddressAllowance>,
    /// How often agents may do what at the Place.
    pub quotas: Quotas,
    /// Whom to believe from which address a request comes.
    pub proxies: Proxies,
    /// Names by which owners' routes are reached.
    pub names: Vec<String>,
    /// Whether owners' routes answer to other machines.
    pub api_to_others: bool,
    /// Who we are.
    pub signed: Arc<SignedIdentity>,
    /// Our key.
    pub keypair: Arc<Keypair>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Follows requests.
    pub tracer: Tracer,
    /// Whether the meeting endpoints answer.
    pub meeting_enabled: bool,
    /// The Meeting Place, if one is hosted at this moment.
    pub hosting: Hosting,
    /// What an agent must have shown to change something at the Place.
    pub place_write_strength: Strength,
    /// Requests a session may make per minute.
    pub requests_per_minute: u32,
    /// Whether SkillSets are offered.
    pub skill_set_exchange: bool,
    /// What a peer must have shown to read.
    pub read_strength: Strength,
    /// What a peer must have shown to leave a message.
    pub message_strength: Strength,
    /// How long a challenge is good for.
    pub proof_window: Duration,
    /// Bounds of request bodies.
    pub body_limits: BodyLimits,
    /// Bounds of bodies that hold a sealed message, which may be as long as the relay takes.
    pub relay_body_limits: BodyLimits,
    /// Bounds of bodies that hold the archive of a SkillSet.
    pub archive_body_limits: BodyLimits,
    /// Archives on their way to and from agents of the Place.
    pub transfers: Arc<Transfers>,
    /// Agents that listen for changes of the board.
    pub listeners: Arc<Transfers>,
    /// Which parts of the node work.
    pub readiness: Readiness,
    /// Figures.
    pub metrics: Metrics,
    /// Whether anything more may be written.
    pub room: Room,
    /// How the node is.
    pub status: Status,
    /// Reaches the libp2p node, once there is one.
    pub discovery: OnceLock<DiscoveryHandle>,
}

/// Bounds of the server.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Worker threads; 0 means one for each core.
    pub workers: usize,
    /// Connections open at once.
    pub max_connections: usize,
    /// Longest time for the head of a request to arrive.
    pub head_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// Time requests under way are given when the server stops.
    pub shutdown_timeout: Duration,
}

/// How long a peer may leave what was sent to it unread; its connection then ends.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What requests through the socket of the owner carry, and no others.
#[derive(Debug, Clone, Copy)]
struct AtOwnersSocket;

/// Starts to answer requests on `listener`, those of language models too if there is a service for them. Who comes through
/// the socket of the owner finds the owner's routes and no others.
pub fn serve<D: ModelDoor>(
    listener: Listener,
    doors: Arc<Doors>,
    mcp: Option<Mcp<D>>,
    limits: ServerLimits,
) -> std::io::Result<Server> {
    let doors = web::Data::from(doors);
    let workers = match limits.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let (is_owners, workers) = match &listener {
        Listener::Port(_) => (false, workers),
        Listener::Owner(_) => (true, 1),
    };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(doors.clone())
            .app_data(Rc::new(Counting::new(doors.metrics.requests().clone())))
            .wrap(from_fn(room::needed))
            .wrap(from_fn(guard::never_panic))
            .wrap(from_fn(meter::count))
            .wrap(from_fn(trace::follow))
            .wrap(from_fn(unread::hang_up))
            .configure(|app| match (is_owners, &mcp) {
                (true, _) => {
                    app.app_data(AtOwnersSocket);
                    routes::owners(app);
                }
                (false, mcp) => {
                    if let Some(mcp) = mcp {
                        mcp.configure(app);
                    }
                    routes::configure(app);
                }
            })
    })
    .workers(workers)
    .max_connections(limits.max_connections.div_ceil(workers))
    .client_request_timeout(limits.head_timeout)
    .keep_alive(limits.keep_alive)
    // Else an answer waits until the one before it is acknowledged, where a client has several requests in flight.
    .tcp_nodelay(true)
    .on_connect(|stream, _| end_if_unread(stream))
    .shutdown_timeout(limits.shutdown_timeout.as_secs())
    .disable_signals();
    let server = match listener {
        Listener::Port(listener) => server.listen(listener)?,
        Listener::Owner(socket) => server.listen_uds(socket.listener)?,
    };
    Ok(server.run())
}

/// Has the system end a connection whose peer does not read: the HTTP library waits for such a peer without end, and
/// holds the answer and one of the connections meanwhile.
fn end_if_unread(stream: &dyn Any) {
    let Some(stream) = stream.downcast_ref::<TcpStream>() else {
        return;
    };
    let timeout = u32::try_from(UNREAD_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, timeout) {
        tracing::debug!(%error, "a connection has no limit on unread answers");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[actix_web::test]
    async fn a_peer_that_does_not_read_loses_its_connection() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        end_if_unread(&stream);
        let set = rustix::net::sockopt::tcp_user_timeout(&stream).unwrap();
        assert_eq!(u128::from(set), UNREAD_TIMEOUT.as_millis());
    }
}
