//! `token`: bearer tokens for people and programs that act for the owner of this agent.

use clap::Subcommand;
use kairos_actors::auth::{Issue, Revoke, Rotate};
use kairos_place::role::Role;
use kairos_place::token::{HashPrefix, Lifetime, RawToken, Standing, Token, UserName, Which};
use kairos_protocol::time::Timestamp;
use serde_json::{Value, json};

use super::exit::Exit;
use super::out::{Cell, Out, Tone};
use super::{Session, Usage};

/// Who this command acts as: whoever can write to the data directory is its owner.
pub const LOCAL: &str = "local";

/// What to do.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token; it is printed once and never again
    Create {
        /// Whose it is
        #[arg(long, value_name = "NAME")]
        user: UserName,
        /// What its holder may do: owner, member or guest
        #[arg(long, default_value = "member")]
        role: Role,
        /// How long it is good for: 90d, 24h, 30m or never
        #[arg(long, value_name = "TIME", default_value = "90d")]
        expires: Lifetime,
    },
    /// List tokens that are active
    List {
        /// Also those that are expired or revoked
        #[arg(long)]
        all: bool,
    },
    /// Take tokens back and make one in their place, with the same role and the same lifetime
    Rotate(WhichArgs),
    /// Take tokens back; a running server refuses them at once
    Revoke(WhichArgs),
    /// Forget tokens that are expired or revoked
    Prune,
}

/// Which tokens are meant.
#[derive(Debug, clap::Args)]
struct WhichArgs {
    /// All active tokens of this user
    #[arg(required_unless_present = "token", conflicts_with = "token")]
    user: Option<UserName>,
    /// Only the token whose hash starts so, as `token list` shows it
    #[arg(long, value_name = "HASH")]
    token: Option<HashPrefix>,
}

impl WhichArgs {
    fn which(self) -> Result<Which, Usage> {
        match (self.user, self.token) {
            (Some(user), None) => Ok(Which::Of(user)),
            (None, Some(prefix)) => Ok(Which::Hash(prefix)),
            _ => Err(Usage("name a user, or one token with --token HASH".into())),
        }
    }
}

/// Runs `token`.
pub fn run(args: TokenArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_tokens(|auth, now, mut out| async move {
        let by = || LOCAL.to_owned();
        match args.command {
            TokenCommand::Create {
                user,
                role,
                expires,
            } => {
                let (raw, token) = auth
                    .issue(Issue {
                        user,
                        role,
                        lifetime: expires,
                        by: by(),
                    })
                    .await?;
                show_once(&raw, &token, &[], &mut out)?;
            }
            TokenCommand::Rotate(which) => {
                let which = which.which()?;
                let rotated = auth.rotate(Rotate { which, by: by() }).await?;
                show_once(&rotated.raw, &rotated.token, &rotated.revoked, &mut out)?;
            }
            TokenCommand::Revoke(which) => {
                let which = which.which()?;
                let revoked = auth.revoke(Revoke { which, by: by() }).await?;
                if out.wants_json() {
                    let hashes: Vec<_> = revoked.iter().map(Token::shown).collect();
                    out.json(&json!({"revoked": hashes}))?;
                    return Ok(Exit::Done);
                }
                for token in &revoked {
                    out.line(format_args!(
                        "Revoked token {} of user '{}'",
                        token.shown(),
                        token.user
                    ))?;
                }
            }
            TokenCommand::Prune => {
                let count = auth.prune().await?;
                match out.wants_json() {
                    true => out.json(&json!({"forgotten": count}))?,
                    false => out.line(format_args!("Forgot {count} tokens"))?,
                }
            }
            TokenCommand::List { all } => {
                let book = auth.book().await?;
                let wanted = |token: &&Token| all || token.standing(now) == Standing::Active;
                let tokens: Vec<_> = book.tokens().filter(wanted).collect();
                if out.wants_json() {
                    let unreadable: Vec<_> = book
                        .unreadable()
                        .map(|entry| json!({"place": entry.place, "reason": entry.reason}))
                        .collect();
                    let tokens: Vec<_> = tokens.iter().map(|t| token_json(t, now)).collect();
                    out.json(&json!({"tokens": tokens, "unreadable": unreadable}))?;
                    return Ok(Exit::Done);
                }
                list(&tokens, now, &mut out)?;
                for entry in book.unreadable() {
                    out.note(format_args!(
                        "Entry {} of storage/tokens.json opens nothing: {}",
                        entry.place, entry.reason
                    ))?;
                }
            }
        }
        Ok(Exit::Done)
    })
}

/// The one time that a token is shown: on standard output, so that a program can take it from there.
fn show_once(
    raw: &RawToken,
    token: &Token,
    revoked: &[Token],
    out: &mut Out,
) -> std::io::Result<()> {
    if out.wants_json() {
        let revoked: Vec<_> = revoked.iter().map(Token::shown).collect();
        out.json(&json!({
            "token": raw.reveal(), "token_hash": token.shown(), "user": token.user, "role": token.role,
            "expires_at": token.expires_at.map(|end| end.entry()), "revoked": revoked,
        }))?;
    } else {
        out.line(raw.reveal())?;
    }
    let until = until(token);
    out.note(format_args!(
        "Token {} of user '{}' with the role {}, good {until}.",
        token.shown(),
        token.user,
        token.role
    ))?;
    out.note("Store it securely: whoever has it has the role, and it will not be shown again.")
}

fn until(token: &Token) -> String {
    let end = token.expires_at.map(|end| format!("until {end}"));
    end.unwrap_or_else(|| "until it is revoked".to_owned())
}

fn list(tokens: &[&Token], now: Timestamp, out: &mut Out) -> std::io::Result<()> {
    if tokens.is_empty() {
        out.line("No active tokens.")?;
        return out.note("Make one with:  kairos-chain token create --user NAME --role owner");
    }
    let rows = tokens.iter().map(|token| {
        let standing = token.standing(now);
        let tone = match standing {
            Standing::Active => Tone::Good,
            Standing::Expired | Standing::Revoked => Tone::Quiet,
        };
        let expires = token
            .expires_at
            .map_or("never".to_owned(), |end| end.wire());
        [
            Cell::from(token.shown()),
            Cell::from(&token.user),
            Cell::from(token.role),
            Cell::toned(tone, standing.as_str()),
            Cell::from(token.issued_at),
            Cell::from(&token.issued_by),
            Cell::from(expires),
        ]
    });
    out.table(
        ["HASH", "USER", "ROLE", "STATUS", "ISSUED", "BY", "EXPIRES"],
        rows,
    )
}

fn token_json(token: &Token, now: Timestamp) -> Value {
    json!({
        "token_hash": token.shown(), "user": token.user, "role": token.role,
        "status": token.standing(now).as_str(), "issued_at": token.issued_at.entry(),
        "issued_by": token.issued_by, "expires_at": token.expires_at.map(|end| end.entry()),
    })
}
