//! `config`: show, check and explain the settings.

use serde_json::json;

use super::exit::Exit;
use super::out::{Cell, Out, Tone};
use crate::config::{self, ConfigError, Layer, Loaded};
use crate::data_dir::{DataDir, DataDirError};

/// Shows, checks and explains the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum ConfigCommand {
    /// Prints every setting with its value and where the value comes from
    Show,
    /// Says whether the settings can be used; exits with 2 if not
    Check,
    /// Prints a config/kairos.yml with every setting explained and commented out
    Example,
}

/// Runs `config`. `env` and `overrides` are as [`config::load`] takes them.
///
/// # Errors
///
/// The path is not a directory, or the streams cannot be written. Settings that cannot be used are an answer.
pub fn run(
    args: &ConfigArgs,
    data_dir: &DataDir,
    env: impl Iterator<Item = (String, String)>,
    overrides: &[(String, String)],
    out: &mut Out,
) -> anyhow::Result<Exit> {
    if args.command == ConfigCommand::Example {
        out.line(config::example().trim_end())?;
        return Ok(Exit::Done);
    }
    match data_dir.clone().existing() {
        Err(DataDirError::Absent(path)) => out.note(format_args!(
            "no data directory at {}; these are the settings without one",
            path.display()
        ))?,
        found => drop(found?),
    }
    match (config::load(data_dir.path(), env, overrides), args.command) {
        (Err(error), _) => refuse(&error, out)?,
        (Ok(loaded), ConfigCommand::Show) => return show(&loaded, data_dir, out),
        (Ok(_), _) if out.wants_json() => {
            out.json(&json!({"ok": true, "problems": []}))?;
            return Ok(Exit::Done);
        }
        (Ok(_), _) => {
            out.line("Configuration OK")?;
            return Ok(Exit::Done);
        }
    }
    Ok(Exit::Invalid)
}

fn show(loaded: &Loaded, data_dir: &DataDir, out: &mut Out) -> anyhow::Result<Exit> {
    let rows = loaded.rows();
    if out.wants_json() {
        out.json(&rows)?;
        return Ok(Exit::Done);
    }
    let root = format!("{}/", data_dir.path().display());
    let cells = rows.iter().map(|row| {
        let tone = match row.source.layer {
            Layer::BuiltIn => Tone::Quiet,
            _ => Tone::Strong,
        };
        let source = row.source.to_string();
        let source = source.strip_prefix(&root).unwrap_or(&source);
        [
            row.key.into(),
            row.value_text().into(),
            Cell::toned(tone, source),
        ]
    });
    out.table(["key", "value", "source"], cells)?;
    Ok(Exit::Done)
}

fn refuse(error: &ConfigError, out: &mut Out) -> std::io::Result<()> {
    if out.wants_json() {
        let problems: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
        return out.json(&json!({"ok": false, "problems": problems}));
    }
    error.problems().iter().try_for_each(|problem| {
        let word = out.paint_note(Tone::Bad, "error");
        out.note(format_args!("{word}: {problem}"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use kairos_protocol::time::Timestamp;
    use serde_json::Value;

    use super::super::out::tests::kept;
    use super::*;
    use crate::data_dir::Surroundings;

    /// Runs one command in a directory, which `init` made if it exists; returns exit, result and notes.
    fn told(
        command: ConfigCommand,
        root: &Path,
        overrides: &[(&str, &str)],
        json: bool,
    ) -> (Exit, String, String) {
        let (mut out, stdout, stderr) = kept(json);
        let data_dir = DataDir::resolve(Some(root), &Surroundings::default());
        if root.is_dir() {
            data_dir.init(Timestamp::EPOCH).unwrap();
        }
        let overrides: Vec<_> = overrides
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let args = ConfigArgs { command };
        let exit = run(&args, &data_dir, std::iter::empty(), &overrides, &mut out).unwrap();
        (exit, stdout.text(), stderr.text())
    }

    #[test]
    fn shows_each_setting_with_value_and_source() {
        let temp = tempfile::tempdir().unwrap();
        let overrides = [("log.level", "debug")];
        let (exit, table, notes) = told(ConfigCommand::Show, temp.path(), &overrides, false);
        assert_eq!((exit, notes.as_str()), (Exit::Done, ""));
        let find = |key: &str| {
            let line = table.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(find("key"), "key value source");
        assert_eq!(find("limits.body "), "limits.body 1MiB built-in");
        assert_eq!(find("log.level"), "log.level debug argument");
        let port = find("http.port");
        assert!(
            port.starts_with("http.port 8080 skills/config.yml:"),
            "{port}"
        );

        let (_, json, _) = told(ConfigCommand::Show, temp.path(), &overrides, true);
        let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(rows.len(), table.lines().count() - 1);
        let row = rows.iter().find(|row| row["key"] == "log.level").unwrap();
        assert_eq!(row["value"], "debug");
        assert_eq!(row["source"], json!({"layer": "argument", "origin": null}));
    }

    #[test]
    fn checks_and_says_every_error() {
        let temp = tempfile::tempdir().unwrap();
        let (exit, result, _) = told(ConfigCommand::Check, temp.path(), &[], false);
        assert_eq!((exit, result.as_str()), (Exit::Done, "Configuration OK\n"));
        let (exit, result, _) = told(ConfigCommand::Check, temp.path(), &[], true);
        assert_eq!((exit, result.contains("\"ok\": true")), (Exit::Done, true));

        fs::write(
            temp.path().join("config/kairos.yml"),
            "http:\n  prot: 1\n  port: x\n",
        )
        .unwrap();
        for command in [ConfigCommand::Check, ConfigCommand::Show] {
            let (exit, result, notes) = told(command, temp.path(), &[], false);
            assert_eq!((exit, result.as_str()), (Exit::Invalid, ""));
            assert_eq!(
                notes
                    .lines()
                    .filter(|line| line.starts_with("error: "))
                    .count(),
                2
            );
        }
        let (exit, result, _) = told(ConfigCommand::Check, temp.path(), &[], true);
        let told: Value = serde_json::from_str(&result).unwrap();
        assert_eq!((exit, &told["ok"]), (Exit::Invalid, &Value::from(false)));
        assert_eq!(told["problems"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn without_a_directory_it_says_so_and_goes_on() {
        let temp = tempfile::tempdir().unwrap();
        let absent = temp.path().join("absent");
        let (exit, _, notes) = told(ConfigCommand::Check, &absent, &[], false);
        assert_eq!(exit, Exit::Done);
        assert!(notes.starts_with("no data directory at "));
        assert!(!absent.exists());

        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        let data_dir = DataDir::resolve(Some(&file), &Surroundings::default());
        let args = ConfigArgs {
            command: ConfigCommand::Show,
        };
        let (mut out, ..) = kept(false);
        let error = run(&args, &data_dir, std::iter::empty(), &[], &mut out).unwrap_err();
        assert!(error.to_string().ends_with("file is not a directory"));
    }

    #[test]
    fn prints_the_example_as_it_is_deployed() {
        let (exit, result, _) = told(ConfigCommand::Example, Path::new("/nowhere"), &[], false);
        assert_eq!((exit, result), (Exit::Done, config::example()));
    }

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::{Args, Command};
        ConfigArgs::augment_args(Command::new("config")).debug_assert();
        super::super::init::InitArgs::augment_args(Command::new("init")).debug_assert();
    }
}
