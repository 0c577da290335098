//! What SIGHUP does: settings are read again, the few that can change while the node runs are put into force, and the
//! log tells which other ones changed and need a restart. Nothing changes if anything is wrong with them.

use std::path::PathBuf;
use std::sync::Arc;

use kairos_place::allowance::AddressAllowance;

use crate::config::{ConfigError, Settings};
use crate::http::Doors;
use crate::telemetry::{self, Logs};

/// Reads the settings anew, from where they were read at the start.
pub type Load = Arc<dyn Fn() -> Result<Settings, ConfigError> + Send + Sync>;

/// See the module.
pub struct Reload {
    /// How to read them; absent in a node that nobody operates.
    pub(crate) load: Option<Load>,
    /// Those in force.
    pub(crate) running: Settings,
    pub(crate) folder: PathBuf,
    pub(crate) logs: Logs,
    pub(crate) doors: Arc<Doors>,
}

/// What came of the settings that changed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    applied: Vec<&'static str>,
    restart: Vec<&'static str>,
}

impl Reload {
    /// Reads and applies, and tells the log.
    pub async fn run(&mut self) {
        let Some(load) = self.load.clone() else {
            return;
        };
        let settings = match tokio::task::spawn_blocking(move || load()).await {
            Ok(Ok(settings)) => settings,
            Ok(Err(error)) => {
                tracing::error!(%error, "the settings are wrong, and those before stay in force");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the settings could not be read");
                return;
            }
        };
        let Outcome { applied, restart } = self.apply(settings);
        // Last, so that it is told in the new file.
        tracing::info!(
            applied = %list(&applied),
            needs_restart = %list(&restart),
            "the settings were read again"
        );
    }

    fn apply(&mut self, settings: Settings) -> Outcome {
        let mut outcome = Outcome::default();
        // Also where its name did not change: it may have been moved away.
        let file = telemetry::file(&self.folder, &settings.log.file);
        if let Err(error) = self.logs.send_to(file.as_deref()) {
            tracing::error!(%error, "the file of logs cannot be opened, and the one before stays in use");
        }
        for key in self.running.differences(&settings) {
            match self.apply_one(key, &settings) {
                true => outcome.applied.push(key),
                false => outcome.restart.push(key),
            }
        }
        outcome
    }

    /// Puts one setting into force, if that can be done in a running node.
    fn apply_one(&mut self, key: &str, new: &Settings) -> bool {
        let running = &mut self.running;
        match key {
            "log.level" => {
                if let Err(error) = self.logs.set_level(&new.log.level) {
                    tracing::error!(%error, "the level of logs cannot be changed");
                    return false;
                }
                running.log.level.clone_from(&new.log.level);
            }
            "log.file" => running.log.file.clone_from(&new.log.file),
            "limits.requests_per_address" => {
                let most = new.limits.requests_per_address;
                *self.doors.allowance.lock() = AddressAllowance::new(most);
                running.limits.requests_per_address = most;
            }
            "limits.bad_tokens" => {
                let most = new.limits.bad_tokens;
                *self.doors.failed_tokens.lock() = AddressAllowance::new(most);
                running.limits.bad_tokens = most;
            }
            _ => return false,
        }
        true
    }
}

fn list(keys: &[&str]) -> String {
    match keys {
        [] => "nothing".to_owned(),
        keys => keys.join(", "),
    }
}
