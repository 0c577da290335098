//! The settings, and the port that a server listens or would listen on.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::time::Duration;

use serde_json::Value;

use super::Findings;
use crate::config::{ConfigError, Settings};
use crate::data_dir::DataDir;
use crate::identity;
use crate::local::Ask;
use crate::serving::ServerAt;

/// How long whoever listens at our port may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the settings can be used.
pub(super) fn settings(settings: &Result<Settings, ConfigError>, found: &mut Findings) {
    const CHECK: &str = "config";
    match settings {
        Ok(_) => found.ok(CHECK, "every setting is known and within its bounds"),
        Err(error) => {
            for problem in error.problems() {
                let fix = "correct it where it stands; kairos-chain config example explains every setting";
                found.fail(CHECK, problem.to_string(), fix);
            }
        }
    }
}

/// Whether a server of ours could listen, or already does.
pub(super) fn port(settings: &Settings, dir: &DataDir, found: &mut Findings) {
    const CHECK: &str = "port";
    let (host, port) = (settings.http.host.as_str(), settings.http.port);
    if !settings.http.enabled {
        return found.ok(CHECK, "http.enabled is false: no port is opened");
    }
    if port == 0 {
        return found.ok(CHECK, "http.port is 0: the system chooses a free one");
    }
    let fix = "choose another with http.host and http.port, or with serve --host and --port";
    let address = match (host, port).to_socket_addrs().map(|mut all| all.next()) {
        Ok(Some(address)) => address,
        Ok(None) => return found.fail(CHECK, format!("{host} has no address"), fix),
        Err(error) => {
            return found.fail(
                CHECK,
                format!("{host} is no address of this machine: {error}"),
                fix,
            );
        }
    };
    match TcpListener::bind(address) {
        Ok(_) => return found.ok(CHECK, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {}
        Err(error) => {
            return found.fail(CHECK, format!("cannot listen on {address}: {error}"), fix);
        }
    }
    match ask(address, "/health") {
        Ok(health) if health.get("server").and_then(Value::as_str) == Some("kairos-chain") => {}
        Ok(_) => return found.warn(CHECK, format!("another program answers at {address}"), fix),
        Err(error) => {
            return found.warn(
                CHECK,
                format!(
                    "{address} is taken by a program that does not answer as ours does: {error}"
                ),
                fix,
            );
        }
    }
    let theirs = ask(address, "/meeting/v1/introduce");
    let theirs = theirs
        .as_ref()
        .ok()
        .and_then(|body| body.pointer("/identity/instance_id")?.as_str());
    let ours = identity::inspect(&dir.keys()).ok().flatten();
    match (theirs, ours.map(|ours| ours.loaded.instance_id)) {
        (Some(theirs), Some(ours)) if theirs == ours.as_str() => {
            found.ok(
                CHECK,
                format!("a server of this agent answers at {address}"),
            );
        }
        (Some(theirs), _) => found.warn(
            CHECK,
            format!("a server of agent {theirs} answers at {address}"),
            fix,
        ),
        (None, _) => found.warn(
            CHECK,
            format!("a server answers at {address}, but does not say whose it is"),
            fix,
        ),
    }
}

/// The JSON that a server on this machine answers to `GET path`.
fn ask(address: SocketAddr, path: &str) -> io::Result<Value> {
    let (_, answer) = Ask::get(path, PATIENCE).send(&ServerAt::Port(address))?;
    Ok(answer)
}
