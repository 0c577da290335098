//! Asking the server beside a command, with a token that is made for this one command.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kairos_actors::auth::{AuthHandle, Issue};
use kairos_place::role::Role;
use kairos_place::token::{Lifetime, RawToken, Token};
use kairos_protocol::hash::ContentHash;
use serde_json::Value;

use super::token::LOCAL;
use crate::data_dir::DataDir;
use crate::local::Ask;
use crate::serving;

/// A token that opens the servers of this data directory for this command.
pub(super) struct Key {
    raw: RawToken,
    hash: ContentHash,
}

impl Key {
    /// Makes one that is good for `life` even if the command is killed; [`discard`](Self::discard) takes it back.
    pub(super) async fn make(auth: &AuthHandle, life: Duration) -> anyhow::Result<Self> {
        let issue = Issue {
            user: LOCAL.parse()?,
            role: Role::Owner,
            lifetime: Lifetime::For(life),
            by: LOCAL.to_owned(),
        };
        let (raw, Token { hash, .. }) = auth.issue(issue).await?;
        Ok(Self { raw, hash })
    }

    /// Takes it back.
    pub(super) async fn discard(self, auth: &AuthHandle) -> anyhow::Result<()> {
        let discarded = auth.discard(self.hash, LOCAL.to_owned());
        discarded
            .await
            .context("the token of this command stays valid for some minutes")?;
        Ok(())
    }

    /// Asks a server, whose refusal is an error.
    pub(super) async fn ask(
        &self,
        address: SocketAddr,
        patience: Duration,
        method: &'static str,
        path: String,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let ask = Ask {
            method,
            path,
            token: Some(self.raw.reveal().to_owned()),
            body,
            patience,
        };
        let sent = tokio::task::spawn_blocking(move || ask.send(address)).await?;
        let (status, answer) =
            sent.with_context(|| format!("the server at {address} does not answer"))?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let told = answer.get("message").and_then(Value::as_str);
        bail!(
            "{}",
            told.unwrap_or("the server refused and did not say why")
        );
    }
}

/// Servers of `dir` that run.
pub(super) async fn servers(dir: &DataDir) -> anyhow::Result<Vec<SocketAddr>> {
    let dir = dir.clone();
    Ok(tokio::task::spawn_blocking(move || serving::servers(&dir)).await??)
}
