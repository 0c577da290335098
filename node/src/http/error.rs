//! The one shape of errors over HTTP: `{"error": code, "message": sentence}`.
//!
//! Codes and sentences that peers know are the reference's. What went wrong inside is logged here, once, and never
//! sent: no path, no backtrace, no library's words.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use kairos_actors::approvals::ApprovalError;
use kairos_actors::auth::AuthError;
use kairos_actors::bounded_addr::AskError;
use kairos_actors::chain::tlog::TlogError;
use kairos_actors::durable::is_out_of_space;
use kairos_actors::extensions::ExtensionFault;
use kairos_actors::knowledge::KnowledgeError;
use kairos_actors::meeting::MeetingError;
use kairos_actors::meeting::inbox::InboxError;
use kairos_actors::peer_manager::PeerError;
use kairos_actors::peer_manager::table::PeerTableError;
use kairos_actors::skill_set::SkillSetError;
use kairos_actors::skills::SkillsError;
use kairos_place::role::Forbidden;
use kairos_place::session::Refusal;
use kairos_protocol::package::PackageError;
use kairos_protocol::provenance::ProvenanceError;
use serde_json::json;

/// An answer that is not a success.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    /// Names this answer, in its header and in the log.
    request_id: RequestId,
}

/// The header that names an answer which is an error.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// See [`REQUEST_ID`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestId(u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// When to come again where nothing better is known.
const RETRY_LATER: Duration = Duration::from_secs(60);
/// Longest part of a request that is quoted back.
const QUOTE_MAX: usize = 200;

impl ApiError {
    /// An error with a status, a stable code and a sentence.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
            request_id: RequestId(rand::random()),
        }
    }

    /// What the log is to call the request, as `request.id`.
    pub(super) fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// The stable word for what went wrong.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// 404 `not_found`.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 400 `missing_param`: a member or parameter that must be there is not.
    pub fn missing(name: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "missing_param",
            format!("{name} is required"),
        )
    }

    /// 400 `invalid_param`: a member or parameter that cannot be what it is.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_param", message)
    }

    /// 429 `rate_limited`.
    pub fn rate_limited(wait: Duration) -> Self {
        let message = "Too many requests. Please wait before retrying.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message).after(wait)
    }

    /// 401 `authentication_required`.
    pub fn unauthenticated() -> Self {
        let message =
            "Bearer token required. Use POST /meeting/v1/introduce to obtain a session token.";
        Self::new(StatusCode::UNAUTHORIZED, "authentication_required", message)
    }

    /// 401 `invalid_or_expired_token`.
    pub fn bad_token() -> Self {
        let message =
            "Session token is invalid or has expired. Re-introduce to obtain a new token.";
        Self::new(
            StatusCode::UNAUTHORIZED,
            "invalid_or_expired_token",
            message,
        )
    }

    /// 401 `missing_token`, in the words of the reference.
    pub fn missing_token() -> Self {
        let message = "Authorization header with Bearer token is required";
        Self::new(StatusCode::UNAUTHORIZED, "missing_token", message)
    }

    /// 401 `invalid_token`, in the words of the reference.
    pub fn invalid_token() -> Self {
        let message = "Invalid, expired, or revoked token";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", message)
    }

    /// 409 with a code of its own.
    fn conflict(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 403 `proof_required`: the session is only introduced.
    pub fn unproven() -> Self {
        let message = "This action needs a proven session. Answer the challenge in the reply of POST \
                       /meeting/v1/introduce.";
        Self::new(StatusCode::FORBIDDEN, "proof_required", message)
    }

    /// 403 `two_histories`: evidence against the agent is kept here.
    pub fn two_histories() -> Self {
        let message = "This instance_id showed two histories of its ledger. The owner of this agent has to forget it \
                       before it is dealt with.";
        Self::new(StatusCode::FORBIDDEN, "two_histories", message)
    }

    /// 503 `mmp_unavailable`.
    pub fn unavailable() -> Self {
        let message = "MMP SkillSet is not installed or not enabled";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "mmp_unavailable", message)
    }

    /// 507 `storage_full`: nothing can be written at the moment.
    pub fn storage_full() -> Self {
        let message = "This agent has no room to store anything at the moment. Please retry later.";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", message).after(RETRY_LATER)
    }

    /// What went wrong inside: 507 if the disk is full, else 500. `error` is logged and not sent.
    pub fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        let internal = Self::internal(&error);
        match is_out_of_space(error) {
            true => Self {
                request_id: internal.request_id,
                ..Self::storage_full()
            },
            false => internal,
        }
    }

    /// 500 `internal_error`; `cause` is logged and not sent.
    pub fn internal(cause: &dyn fmt::Display) -> Self {
        let message = "An internal error occurred while processing the request";
        let internal = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message);
        tracing::error!(request.id = %internal.request_id, error = %cause, "a request failed inside");
        internal
    }
}

/// A part of a request, cut for quoting.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {}",
            self.status.as_u16(),
            self.code,
            self.message
        )
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status);
        response
            .insert_header((CACHE_CONTROL, "no-cache"))
            .insert_header((REQUEST_ID, self.request_id.to_string()))
            .content_type("application/json");
        // RFC 6750 wants it; the reference leaves it out where peers ask.
        if matches!(self.code, "missing_token" | "invalid_token") {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        let is_for_now = matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        if let Some(wait) = self.retry_after.or(is_for_now.then_some(RETRY_LATER)) {
            response.insert_header((RETRY_AFTER, wait.as_secs().max(1)));
        }
        response.body(json!({"error": self.code, "message": self.message}).to_string())
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "This agent is busy. Please retry shortly.",
            )
            .after(Duration::from_secs(1)),
            AskError::Timeout => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "The request took too long inside this agent; whether it took effect is unknown.",
            ),
            AskError::Stopped => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                "This agent is shutting down.",
            )
            .after(Duration::from_secs(5)),
        }
    }
}

impl From<PeerError> for ApiError {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Refused(Refusal::Unknown) => Self::bad_token(),
            PeerError::Refused(Refusal::RateLimited { wait }) => Self::rate_limited(wait),
            PeerError::TooManyNew { wait } => Self::rate_limited(wait),
            PeerError::AddressShare { .. } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "address_full",
                "This agent remembers no more agents from this address.",
            ),
            PeerError::Table(PeerTableError::Conflict { .. }) => Self::new(
                StatusCode::CONFLICT,
                "identity_conflict",
                "This instance_id is known here by another key. The owner of this agent has to resolve it.",
            ),
            PeerError::Own => Self::new(
                StatusCode::CONFLICT,
                "own_identity",
                "This is the identity of the agent you are talking to.",
            ),
            PeerError::Table(PeerTableError::Full { .. }) | PeerError::Full(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "full",
                "This agent has no room for another session. Please retry later.",
            )
            .after(Duration::from_secs(60)),
            PeerError::Proof(error) => {
                Self::new(StatusCode::UNAUTHORIZED, "invalid_proof", error.to_string())
            }
            PeerError::Ask(error) => error.into(),
            PeerError::Table(
                PeerTableError::Unknown(_)
                | PeerTableError::NoConflict(_)
                | PeerTableError::OtherConflict { .. },
            ) => Self::not_found("No such peer."),
            error @ (PeerError::Store(_) | PeerError::Key(_)) => Self::failed(&error),
        }
    }
}

impl From<Forbidden> for ApiError {
    fn from(error: Forbidden) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", error.to_string())
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Ask(error) => error.into(),
            error @ (AuthError::File(_)
            | AuthError::Token(_)
            | AuthError::Random(_)
            | AuthError::Io(_)) => {
                let refused = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "auth_unavailable",
                    "Tokens cannot be checked at the moment. The owner of this agent has to look at its log.",
                );
                let request = refused.request_id;
                tracing::error!(request.id = %request, %error, "tokens cannot be checked, so nobody is let in");
                refused.after(Duration::from_secs(60))
            }
        }
    }
}

impl From<SkillsError> for ApiError {
    fn from(error: SkillsError) -> Self {
        let text = error.to_string();
        match error {
            SkillsError::Refused(_) => Self::conflict("law_refuses", text),
            SkillsError::Edit(_) | SkillsError::NoLaw(_) | SkillsError::TooLarge(_) => {
                Self::invalid(text)
            }
            SkillsError::NothingThere(_) | SkillsError::NoVersion(_) => Self::not_found(text),
            SkillsError::NotThatVersion(_) => Self::conflict("basis_changed", text),
            SkillsError::NotAFile(_) => Self::conflict("not_a_file", text),
            SkillsError::Full { .. } => Self::conflict("versions_full", text),
            SkillsError::Forbidden(error) => error.into(),
            SkillsError::Ask(error) => error.into(),
            error @ (SkillsError::Ledger(_) | SkillsError::Io(_)) => Self::failed(&error),
        }
    }
}

impl From<ApprovalError> for ApiError {
    fn from(error: ApprovalError) -> Self {
        let text = error.to_string();
        match error {
            ApprovalError::Unknown(_) => Self::not_found(text),
            ApprovalError::Decided { .. } => Self::conflict("already_decided", text),
            ApprovalError::Expired(_) => Self::conflict("expired", text),
            ApprovalError::NotAsShown(_) => Self::conflict("not_as_shown", text),
            ApprovalError::BasisChanged { .. } => Self::conflict("basis_changed", text),
            ApprovalError::Unfinished { .. } => Self::conflict("unfinished", text),
            ApprovalError::Damaged { .. } => Self::conflict("damaged", text),
            ApprovalError::Full { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "approvals_full", text)
                    .after(Duration::from_secs(3600))
            }
            ApprovalError::Forbidden(error) => error.into(),
            ApprovalError::NothingThere(_) => Self::not_found(text),
            ApprovalError::Exists(_) => Self::conflict("exists", text),
            ApprovalError::Unchanged(_) => Self::conflict("unchanged", text),
            ApprovalError::SkillSet(error) => match error {
                SkillSetError::NeedsApproval { .. }
                | SkillSetError::MissingDependency(_)
                | SkillSetError::DependencyDisabled(_)
                | SkillSetError::DependencyVersion { .. }
                | SkillSetError::RequiredBy { .. }
                | SkillSetError::Unchanged(_) => Self::conflict("not_possible", error.to_string()),
                error => error.into(),
            },
            ApprovalError::Law(error) => error.into(),
            ApprovalError::InForce(_) => Self::conflict("in_force", text),
            ApprovalError::Settings(_) => Self::conflict("settings", text),
            ApprovalError::Knowledge(error) => error.into(),
            ApprovalError::NotAFile(_)
            | ApprovalError::TooLarge { .. }
            | ApprovalError::Content(_)
            | ApprovalError::NotUtf8(_)
            | ApprovalError::Mode(_)
            | ApprovalError::Unfit(_)
            | ApprovalError::Proposal(_) => Self::invalid(text),
            ApprovalError::Ask(error) => error.into(),
            ApprovalError::Extension(ref fault) if !matches!(fault, ExtensionFault::Io(_)) => {
                Self::conflict("extension", text)
            }
            error @ (ApprovalError::Extension(_)
            | ApprovalError::Unrecorded(_)
            | ApprovalError::Random(_)
            | ApprovalError::Io(_)) => Self::failed(&error),
        }
    }
}

impl From<KnowledgeError> for ApiError {
    fn from(error: KnowledgeError) -> Self {
        match error {
            KnowledgeError::NotFound { name } => {
                Self::not_found(format!("Skill not found: {}", quoted(&name)))
            }
            KnowledgeError::Unavailable | KnowledgeError::Unfit(_) => Self::new(
                StatusCode::NOT_FOUND,
                "content_unavailable",
                "Skill content unavailable",
            ),
            KnowledgeError::Ask(error) => error.into(),
            error @ (KnowledgeError::Exists { .. }
            | KnowledgeError::CarriesScripts { .. }
            | KnowledgeError::NotAnEntry { .. }
            | KnowledgeError::Sidecar { .. }
            | KnowledgeError::AgentSkill(_)
            | KnowledgeError::NotAFile { .. }
            | KnowledgeError::TooMuch { .. }
            | KnowledgeError::TargetExists { .. }
            | KnowledgeError::Name { .. }
            | KnowledgeError::NoChanges
            | KnowledgeError::AlreadyArchived { .. }
            | KnowledgeError::NotArchived { .. }
            | KnowledgeError::Active { .. }
            | KnowledgeError::Moved { .. }
            | KnowledgeError::NoSession { .. }
            | KnowledgeError::NoContext { .. }
            | KnowledgeError::NoResource { .. }
            | KnowledgeError::Frontmatter
            | KnowledgeError::NotPlain { .. }
            | KnowledgeError::Ledger(_)
            | KnowledgeError::Unreadable(_)
            | KnowledgeError::Unsettled { .. }
            | KnowledgeError::Overtaken { .. }
            | KnowledgeError::Intent { .. }
            | KnowledgeError::Io(_)) => Self::failed(&error),
        }
    }
}

impl From<SkillSetError> for ApiError {
    fn from(error: SkillSetError) -> Self {
        match error {
            SkillSetError::NotFound(name) => {
                Self::not_found(format!("SkillSet '{}' not found", quoted(&name)))
            }
            SkillSetError::NotExchangeable(_) => Self::new(
                StatusCode::FORBIDDEN,
                "not_exchangeable",
                "Only knowledge-only SkillSets can be packaged for exchange",
            ),
            SkillSetError::Provenance(ProvenanceError::TooManyHops(_)) => Self::not_found(
                "This SkillSet has been handed on as often as it may be; ask its author.",
            ),
            SkillSetError::Package(PackageError::Limit(_)) => Self::new(
                StatusCode::NOT_FOUND,
                "content_unavailable",
                "This SkillSet is larger than a package may be.",
            ),
            SkillSetError::Ask(error) => error.into(),
            // None of the others can come of reading; their texts may name local files.
            error => Self::failed(&error),
        }
    }
}

impl From<TlogError> for ApiError {
    fn from(error: TlogError) -> Self {
        match error {
            TlogError::NoLedger => Self::not_found("This agent has no ledger yet."),
            TlogError::NoBlock { .. } => {
                Self::not_found("The ledger of this agent does not have so many blocks.")
            }
            TlogError::Ask(error) => error.into(),
            TlogError::Rewritten { .. } => {
                tracing::error!(%error, "a peer asked for a checkpoint that cannot be given");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "checkpoint_unavailable",
                    "This agent cannot show how its ledger continues.",
                )
            }
            error @ (TlogError::Store(_)
            | TlogError::Damaged { .. }
            | TlogError::NotCosigned
            | TlogError::Checkpoint(_)
            | TlogError::UnknownWitness
            | TlogError::Inclusion(_)
            | TlogError::Tiles(_)
            | TlogError::Io(_)
            | TlogError::Crashed) => Self::failed(&error),
        }
    }
}

impl From<MeetingError> for ApiError {
    fn from(error: MeetingError) -> Self {
        match error {
            MeetingError::Inbox(InboxError::Full | InboxError::PeerFull { .. }) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "inbox_full",
                "This agent's inbox has no room for your message. Please retry later.",
            )
            .after(Duration::from_secs(3600)),
            MeetingError::Ask(error) => error.into(),
            MeetingError::Peer(error) => error.into(),
            MeetingError::Knowledge(error) => error.into(),
            MeetingError::SkillSet(error) => error.into(),
            error @ (MeetingError::Client(_)
            | MeetingError::Refused { .. }
            | MeetingError::Quarantine(_)
            | MeetingError::Witness(_)
            | MeetingError::Inbox(InboxError::Io(_))
            | MeetingError::Key(_)
            | MeetingError::Panicked) => Self::failed(&error),
        }
    }
}
