//! The way into the loop, and what comes out of it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use libp2p::{Swarm, TransportError};
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use crate::address::Address;
use crate::behaviour::Behaviour;
use crate::event_loop::EventLoop;
use crate::figures::Figures;
use crate::key::{NodeKey, PeerName};
use crate::limits::Limits;
use crate::transport;

/// Commands that wait for the loop.
const COMMANDS: usize = 64;
/// Events that wait for their reader.
const EVENTS: usize = 128;

/// What a record is worth, if it may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Of two records under one key the one with the higher sequence is kept.
    pub sequence: u64,
    /// For how long it holds.
    pub lifetime: Duration,
}

/// Decides by key and value whether a record may be stored, or why not. Must not block.
pub type Judge = Arc<dyn Fn(&[u8], &[u8]) -> Result<Kept, String> + Send + Sync>;

/// What a node is started with.
#[derive(Clone)]
pub struct Settings {
    /// Its key.
    pub key: NodeKey,
    /// Where it listens.
    pub listen: Vec<Address>,
    /// Where others reach it, if that is known; without it others find out.
    pub external: Vec<Address>,
    /// Whether it looks for neighbours on the local network, and shows itself to them.
    pub mdns: bool,
    /// Whether it passes on the traffic of others.
    pub relay: bool,
    /// Whether it keeps a register, in which others are found under topics.
    pub register: bool,
    /// Whether it has others reach it through relays, where they cannot otherwise.
    pub relayed: bool,
    /// Whether it asks others whether it can be reached.
    pub autonat: bool,
    /// Whether addresses are those of this process, for tests: `/memory/1`.
    pub in_memory: bool,
    /// The name and version of the program.
    pub software: String,
    /// Its bounds.
    pub limits: Limits,
    /// Who decides about records.
    pub judge: Judge,
}

/// What two nodes exchange messages for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Agents meet.
    Meeting,
    /// Nodes ask each other for records.
    Records,
}

impl Protocol {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meeting => "/kairos/mmp/1",
            Self::Records => "/kairos/records/1",
        }
    }
}

/// What others found when they dialled a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nobody has tried.
    Unknown,
    /// It can be reached.
    Public,
    /// It cannot.
    Private,
}

impl Reach {
    /// `unknown`, `public` or `private`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From node to node.
    Direct,
    /// Through another node, which sees who talks with whom and how much, and nothing else.
    Relayed,
}

impl Way {
    /// `direct` or `relayed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How it came.
    pub way: Way,
}

/// What a peer asks. Dropping it ends the peer's stream without an answer.
#[derive(Debug)]
pub struct Request {
    /// Who asks; its key was proven when the connection was opened.
    pub peer: PeerName,
    /// From which machine, or through which relay's.
    pub address: Option<IpAddr>,
    /// How it came.
    pub way: Way,
    /// For what.
    pub protocol: Protocol,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Takes the answer.
    pub answer: oneshot::Sender<Vec<u8>>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A peer asks something.
    Request(Request),
    /// There is another peer that speaks our protocols; see [`Network::peers`].
    PeerJoined(PeerName),
    /// Our addresses are others; see [`Network::status`].
    AddressesChanged,
}

/// A peer that is connected.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Who.
    pub peer: PeerName,
    /// Where, as seen from here.
    pub address: Address,
    /// Whether it came to us.
    pub inbound: bool,
    /// How.
    pub way: Way,
    /// The program it says it runs.
    pub software: Option<String>,
    /// How long a ping took, the last time.
    pub round_trip: Option<Duration>,
}

/// A node that is in a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Who. Its key signed the entry.
    pub peer: PeerName,
    /// Where it says it is.
    pub addresses: Vec<Address>,
}

/// How the node is.
#[derive(Debug, Clone)]
pub struct Status {
    /// Who it is.
    pub peer: PeerName,
    /// Where it listens.
    pub listen: Vec<Address>,
    /// Where others said it can be reached.
    pub external: Vec<Address>,
    /// Connected peers.
    pub peers: usize,
    /// Peers in the table, connected or not.
    pub table: usize,
    /// Records that are kept, ours too.
    pub records: usize,
    /// Connections that others opened, as long as they last.
    pub inbound: usize,
    /// Connections that we opened, as long as they last.
    pub outbound: usize,
    /// What was counted.
    pub figures: Figures,
    /// What others found when they dialled us.
    pub reach: Reach,
}

/// Why there is no node.
#[derive(Debug, Error)]
pub enum StartError {
    /// The system.
    #[error("libp2p cannot be started: {0}")]
    Io(#[from] io::Error),
    /// An address.
    #[error("libp2p cannot listen on {address}: {reason}")]
    Listen {
        /// Which.
        address: Address,
        /// Why.
        reason: String,
    },
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// The node ended.
    #[error("the libp2p node has stopped")]
    Stopped,
    /// As much as allowed is under way.
    #[error("the libp2p node is busy, try again later")]
    Busy,
    /// The peer cannot be reached.
    #[error("{peer} cannot be reached: {reason}")]
    Unreachable {
        /// Who, as far as known.
        peer: String,
        /// Why.
        reason: String,
    },
    /// The exchange did not end in an answer.
    #[error("{peer} did not answer: {reason}")]
    NoAnswer {
        /// Who.
        peer: PeerName,
        /// Why.
        reason: String,
    },
    /// The address cannot be used.
    #[error("{address} cannot be used: {reason}")]
    Address {
        /// Which.
        address: Address,
        /// Why.
        reason: String,
    },
    /// No other node keeps the record.
    #[error("no other node took the record: {0}")]
    NotStored(String),
}

pub(crate) type Answer<T> = oneshot::Sender<Result<T, NetworkError>>;

/// What the loop is told.
pub(crate) enum Command {
    Status(Answer<Status>),
    Peers(Answer<Vec<Connection>>),
    Dial(Address, Answer<PeerName>),
    Listen(Address, Answer<Address>),
    Bootstrap(Answer<()>),
    Leave(Answer<()>),
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        answer: Answer<()>,
    },
    Get(Vec<u8>, Answer<Option<Vec<u8>>>),
    Register(Vec<String>, Answer<()>),
    LookUp(String, Answer<Vec<Registered>>),
    Ask {
        protocol: Protocol,
        peer: PeerName,
        addresses: Vec<Address>,
        bytes: Vec<u8>,
        answer: Answer<Reply>,
    },
}

/// Reaches the loop. Cheap to clone; the loop ends with the last one.
#[derive(Clone)]
pub struct Network {
    commands: mpsc::Sender<Command>,
    own: PeerName,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({})", self.own)
    }
}

type Told<T> = BoxFuture<'static, Result<T, NetworkError>>;

impl Network {
    /// Who we are.
    pub fn name(&self) -> PeerName {
        self.own
    }

    /// How the node is.
    pub fn status(&self) -> Told<Status> {
        self.tell(Command::Status)
    }

    /// Who is connected.
    pub fn peers(&self) -> Told<Vec<Connection>> {
        self.tell(Command::Peers)
    }

    /// Opens a connection; answers who is there. Where the address names somebody, nobody else will do.
    pub fn dial(&self, address: Address) -> Told<PeerName> {
        self.tell(move |answer| Command::Dial(address, answer))
    }

    /// Listens at one more address; answers the first one it became.
    pub fn listen(&self, address: Address) -> Told<Address> {
        self.tell(move |answer| Command::Listen(address, answer))
    }

    /// Looks around in the table, once.
    pub fn bootstrap(&self) -> Told<()> {
        self.tell(Command::Bootstrap)
    }

    /// Closes every connection, so that peers know at once, and ends the node. Other handles reach nothing any more.
    pub fn leave(&self) -> Told<()> {
        self.tell(Command::Leave)
    }

    /// Leaves a record with the nodes that are nearest to `key`.
    pub fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Told<()> {
        self.tell(move |answer| Command::Put { key, value, answer })
    }

    /// Looks for the newest record under `key` that the [`Judge`] finds good, among those that come within half a second of
    /// the first one.
    pub fn get(&self, key: Vec<u8>) -> Told<Option<Vec<u8>>> {
        self.tell(move |answer| Command::Get(key, answer))
    }

    /// Has this node be found under `topics`, and no others, in the registers of peers that keep one, as soon as somebody told
    /// where it can be reached. Entries hold for two hours; whoever says this again renews them.
    pub fn register(&self, topics: Vec<String>) -> Told<()> {
        self.tell(move |answer| Command::Register(topics, answer))
    }

    /// Looks into the registers of peers for who is found under `topic`.
    pub fn look_up(&self, topic: String) -> Told<Vec<Registered>> {
        self.tell(move |answer| Command::LookUp(topic, answer))
    }

    /// Asks a peer, which is dialled at `addresses` and where it is known to be, unless it is connected.
    pub fn ask(
        &self,
        protocol: Protocol,
        peer: PeerName,
        addresses: Vec<Address>,
        bytes: Vec<u8>,
    ) -> Told<Reply> {
        self.tell(move |answer| Command::Ask {
            protocol,
            peer,
            addresses,
            bytes,
            answer,
        })
    }

    fn tell<T: Send + 'static>(
        &self,
        command: impl FnOnce(Answer<T>) -> Command + Send + 'static,
    ) -> Told<T> {
        let (answer, told) = oneshot::channel();
        let sent = self.commands.try_send(command(answer));
        Box::pin(async move {
            sent.map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => NetworkError::Busy,
                mpsc::error::TrySendError::Closed(_) => NetworkError::Stopped,
            })?;
            told.await.unwrap_or(Err(NetworkError::Stopped))
        })
    }
}

/// Starts a node on a thread of its own. The thread ends when the last [`Network`] is dropped.
///
/// # Errors
///
/// [`StartError::Listen`] names the address that cannot be used.
pub fn start(settings: Settings) -> Result<(Network, mpsc::Receiver<Event>), StartError> {
    let (commands, received) = mpsc::channel(COMMANDS);
    let (events, told) = mpsc::channel(EVENTS);
    let own = settings.key.name();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let swarm = match swarm(&runtime, &settings) {
        Ok(swarm) => swarm,
        Err(error) => {
            // Whoever starts a node may run in a runtime of its own, in which another one must not be waited for.
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let work = EventLoop::new(swarm, settings, received, events);
    std::thread::Builder::new()
        .name("libp2p".to_owned())
        .spawn(move || runtime.block_on(work.run()))?;
    Ok((Network { commands, own }, told))
}

/// Why nobody can listen, in words; what libp2p prints itself leaves out what the system said.
pub(crate) fn why(error: &TransportError<io::Error>) -> String {
    match error {
        TransportError::Other(error) => {
            let mut cause: &dyn std::error::Error = error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            cause.to_string()
        }
        TransportError::MultiaddrNotSupported(_) => "such addresses are not listened at".to_owned(),
    }
}

/// The parts of a node, listening.
fn swarm(runtime: &Runtime, settings: &Settings) -> Result<Swarm<Behaviour>, StartError> {
    // What is built here registers with the runtime.
    let _entered = runtime.enter();
    let (transport, relayed) =
        transport::build(&settings.key, &settings.limits, settings.in_memory)?;
    let behaviour = Behaviour::new(settings, relayed)?;
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(settings.limits.idle);
    let mut swarm = Swarm::new(transport, behaviour, settings.key.name().0, config);
    for address in &settings.listen {
        swarm.listen_on(address.0.clone()).map_err(|error| {
            let (address, reason) = (address.clone(), why(&error));
            StartError::Listen { address, reason }
        })?;
    }
    for address in &settings.external {
        swarm.add_external_address(address.0.clone());
    }
    Ok(swarm)
}
