//! The programs that can be told of this agent, where each keeps its settings, and in which form.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use toml_edit::{Array, DocumentMut, Item, Table, value};

/// A program whose models can use this agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Client {
    /// Claude Code, for all projects of this user
    ClaudeCode,
    /// Claude Desktop
    ClaudeDesktop,
    /// Cursor, for all projects of this user
    Cursor,
    /// Visual Studio Code, for all workspaces of this user
    Vscode,
    /// Codex
    Codex,
}

/// How a server is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    /// The program, an absolute path.
    pub(super) command: String,
    /// Its arguments.
    pub(super) args: Vec<String>,
}

impl Client {
    /// Where its settings are, for a user whose home is `home`.
    pub(super) fn file(self, home: &Path) -> PathBuf {
        let settings = |name: &str| match cfg!(target_os = "macos") {
            true => home.join("Library/Application Support").join(name),
            false => home.join(".config").join(name),
        };
        match self {
            Self::ClaudeCode => home.join(".claude.json"),
            Self::ClaudeDesktop => settings("Claude").join("claude_desktop_config.json"),
            Self::Cursor => home.join(".cursor/mcp.json"),
            Self::Vscode => settings("Code").join("User/mcp.json"),
            Self::Codex => home.join(".codex/config.toml"),
        }
    }

    /// The group that holds servers.
    fn group(self) -> &'static str {
        match self {
            Self::ClaudeCode | Self::ClaudeDesktop | Self::Cursor => "mcpServers",
            Self::Vscode => "servers",
            Self::Codex => "mcp_servers",
        }
    }

    /// What the user does next.
    pub(super) fn next(self) -> &'static str {
        match self {
            Self::ClaudeCode => "Start claude anew; /mcp shows the server.",
            Self::ClaudeDesktop => "Quit Claude Desktop and start it again.",
            Self::Cursor => {
                "Cursor asks whether to use the server; its settings list it under MCP."
            }
            Self::Vscode => "Run `MCP: List Servers` in Visual Studio Code, and start it there.",
            Self::Codex => "Start codex anew; /mcp shows the server.",
        }
    }

    /// The settings with the server `name` among them, everything else kept.
    pub(super) fn with(self, settings: &str, name: &str, start: &Start) -> anyhow::Result<String> {
        if self == Self::Codex {
            return with_toml(self.group(), settings, name, start);
        }
        let mut all = json_object(settings)?;
        let servers = all.entry(self.group()).or_insert_with(|| json!({}));
        let Value::Object(servers) = servers else {
            bail!("`{}` in it is no JSON object", self.group());
        };
        let entry = servers.entry(name).or_insert_with(|| json!({}));
        let Value::Object(entry) = entry else {
            bail!("`{name}` in it is no JSON object");
        };
        // What the user added to the entry, such as `env`, stays.
        if matches!(self, Self::ClaudeCode | Self::Vscode) {
            entry.insert("type".to_owned(), json!("stdio"));
        }
        entry.insert("command".to_owned(), json!(start.command));
        entry.insert("args".to_owned(), json!(start.args));
        json_text(&all)
    }

    /// The settings without the server `name`; nothing if it is not there.
    pub(super) fn without(self, settings: &str, name: &str) -> anyhow::Result<Option<String>> {
        if self == Self::Codex {
            let mut all: DocumentMut = settings.parse()?;
            let servers = all.get_mut(self.group()).and_then(Item::as_table_like_mut);
            let Some(servers) = servers.filter(|servers| servers.contains_key(name)) else {
                return Ok(None);
            };
            servers.remove(name);
            if servers.is_empty() {
                all.remove(self.group());
            }
            return Ok(Some(all.to_string()));
        }
        let mut all = json_object(settings)?;
        let servers = all.get_mut(self.group()).and_then(Value::as_object_mut);
        let Some(servers) = servers.filter(|servers| servers.contains_key(name)) else {
            return Ok(None);
        };
        servers.shift_remove(name);
        if servers.is_empty() {
            all.shift_remove(self.group());
        }
        json_text(&all).map(Some)
    }

    /// How the settings start the server `name`; nothing if they do not.
    pub(super) fn start(self, settings: &str, name: &str) -> anyhow::Result<Option<Start>> {
        let entry = match self {
            Self::Codex => {
                let all: DocumentMut = settings.parse()?;
                let entry = all.get(self.group()).and_then(|servers| servers.get(name));
                entry.map(|entry| {
                    let text = |item: &toml_edit::Value| item.as_str().map(str::to_owned);
                    let args = entry.get("args").and_then(Item::as_array);
                    json!({
                        "command": entry.get("command").and_then(Item::as_str),
                        "args": args.map(|args| args.iter().filter_map(text).collect::<Vec<_>>()),
                    })
                })
            }
            _ => json_object(settings)?
                .get(self.group())
                .and_then(|servers| servers.get(name))
                .cloned(),
        };
        let Some(entry) = entry else {
            return Ok(None);
        };
        let command = entry
            .get("command")
            .and_then(Value::as_str)
            .context("the entry names no `command`")?;
        let args = entry.get("args").and_then(Value::as_array);
        let args = args.into_iter().flatten().filter_map(Value::as_str);
        Ok(Some(Start {
            command: command.to_owned(),
            args: args.map(str::to_owned).collect(),
        }))
    }
}

fn json_object(settings: &str) -> anyhow::Result<Map<String, Value>> {
    if settings.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(settings) {
        Ok(Value::Object(all)) => Ok(all),
        Ok(_) => bail!("it is no JSON object"),
        Err(error) => {
            bail!("it is no plain JSON ({error}); with comments in it, it has to be edited by hand")
        }
    }
}

fn json_text(all: &Map<String, Value>) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(all)?))
}

fn with_toml(group: &str, settings: &str, name: &str, start: &Start) -> anyhow::Result<String> {
    let mut all: DocumentMut = settings.parse()?;
    let servers = all.entry(group).or_insert_with(|| {
        let mut servers = Table::new();
        servers.set_implicit(true);
        Item::Table(servers)
    });
    let servers = servers
        .as_table_like_mut()
        .with_context(|| format!("`{group}` in it is no table"))?;
    let entry = servers
        .entry(name)
        .or_insert_with(|| Item::Table(Table::new()));
    let entry = entry
        .as_table_like_mut()
        .with_context(|| format!("`{name}` in it is no table"))?;
    entry.insert("command", value(&start.command));
    entry.insert("args", value(start.args.iter().collect::<Array>()));
    Ok(all.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Client; 5] = [
        Client::ClaudeCode,
        Client::ClaudeDesktop,
        Client::Cursor,
        Client::Vscode,
        Client::Codex,
    ];

    fn start() -> Start {
        Start {
            command: "/opt/kairos chain/bin".to_owned(),
            args: ["--data-dir", "/home/ada/\"kairos\"", "mcp", "serve"]
                .map(str::to_owned)
                .to_vec(),
        }
    }

    fn written(client: Client) -> &'static str {
        match client {
            Client::Codex => {
                "# mine\nmodel = \"x\" # why\n\n[mcp_servers.other]\ncommand = \"y\"\n"
            }
            Client::Vscode => {
                "{\n  \"inputs\": [],\n  \"servers\": {\n    \"other\": {\n      \"command\": \"y\"\n    }\n  }\n}\n"
            }
            _ => {
                "{\n  \"theme\": \"dark\",\n  \"mcpServers\": {\n    \"other\": {\n      \"command\": \"y\"\n    }\n  },\n  \"z\": 1\n}\n"
            }
        }
    }

    #[test]
    fn everything_else_is_kept_and_taking_it_out_reverts() {
        for client in ALL {
            for before in [written(client), ""] {
                let after = client.with(before, "kairos", &start()).unwrap();
                assert_eq!(
                    client.start(&after, "kairos").unwrap(),
                    Some(start()),
                    "{client:?}: {after}"
                );
                assert_eq!(
                    client.with(&after, "kairos", &start()).unwrap(),
                    after,
                    "{client:?}"
                );
                if !before.is_empty() {
                    assert!(
                        client.start(&after, "other").unwrap().is_some(),
                        "{client:?}: {after}"
                    );
                    let reverted = client.without(&after, "kairos").unwrap().unwrap();
                    assert_eq!(reverted, before, "{client:?}");
                    assert_eq!(
                        client.without(&reverted, "kairos").unwrap(),
                        None,
                        "{client:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_the_user_added_to_the_entry_stays() {
        let before = r#"{"mcpServers": {"kairos": {"command": "old", "env": {"A": "b"}}}}"#;
        let after = Client::Cursor.with(before, "kairos", &start()).unwrap();
        let after: Value = serde_json::from_str(&after).unwrap();
        assert_eq!(after["mcpServers"]["kairos"]["env"]["A"], "b");
        assert_eq!(after["mcpServers"]["kairos"]["command"], start().command);
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for (client, settings) in [
            (Client::Vscode, "// mine\n{}"),
            (Client::Cursor, "[]"),
            (Client::Cursor, "{\"mcpServers\": 1}"),
            (Client::Codex, "= 1"),
            (Client::Codex, "mcp_servers = 1"),
        ] {
            assert!(
                client.with(settings, "kairos", &start()).is_err(),
                "{settings}"
            );
        }
    }
}
