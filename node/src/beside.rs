//! Asking the server beside a process of the same owner, with a token that is made for this one errand.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kairos_actors::auth::{AuthHandle, Issue};
use kairos_place::role::Role;
use kairos_place::token::{Lifetime, RawToken, Token, UserName};
use kairos_protocol::hash::ContentHash;
use serde_json::Value;

use crate::data_dir::DataDir;
use crate::local::Ask;
use crate::serving::{self, ServerAt};

/// A token that opens the servers of this data directory for one errand.
pub(crate) struct Key {
    raw: RawToken,
    hash: ContentHash,
    by: UserName,
}

impl Key {
    /// Makes one for `by`, who was found to be an owner. It is good for `life` even if the process is killed;
    /// [`discard`](Self::discard) takes it back.
    pub(crate) async fn make(
        auth: &AuthHandle,
        by: UserName,
        life: Duration,
    ) -> anyhow::Result<Self> {
        let issue = Issue {
            user: by.clone(),
            role: Role::Owner,
            lifetime: Lifetime::For(life),
            by: by.to_string(),
        };
        let (raw, Token { hash, .. }) = auth.issue(issue).await?;
        Ok(Self { raw, hash, by })
    }

    /// Takes it back.
    pub(crate) async fn discard(self, auth: &AuthHandle) -> anyhow::Result<()> {
        let discarded = auth.discard(self.hash, self.by.to_string());
        discarded
            .await
            .context("the token of this command stays valid for some minutes")?;
        Ok(())
    }

    /// Asks a server, whose refusal is an error.
    pub(crate) async fn ask(
        &self,
        at: &ServerAt,
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
        let asked = at.clone();
        let sent = tokio::task::spawn_blocking(move || ask.send(&asked)).await?;
        let (status, answer) =
            sent.with_context(|| format!("the server at {at} does not answer"))?;
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
pub(crate) async fn servers(dir: &DataDir) -> anyhow::Result<Vec<ServerAt>> {
    let dir = dir.clone();
    Ok(tokio::task::spawn_blocking(move || serving::servers(&dir)).await??)
}
