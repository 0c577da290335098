//! `init`: make a data directory, or complete one.

use std::path::{Path, PathBuf};

use kairos_protocol::time::Timestamp;
use serde::Serialize;

use super::exit::Exit;
use super::out::Out;
use crate::data_dir::{DataDir, InitReport, Outcome, Surroundings};

/// Makes a data directory, or adds what is missing in one; files that exist stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct InitArgs {
    /// The data directory itself [default: --data-dir, $KAIROS_DATA_DIR, or ./.kairos]
    pub dir: Option<PathBuf>,
}

/// The result for programs.
#[derive(Serialize)]
struct Told<'a> {
    data_dir: &'a Path,
    #[serde(flatten)]
    report: &'a InitReport,
}

/// Runs `init`. `flag` is the `--data-dir` of the command line.
///
/// # Errors
///
/// The directory cannot be made, or the streams cannot be written.
pub fn run(
    args: &InitArgs,
    flag: Option<&Path>,
    around: &Surroundings,
    now: Timestamp,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let named = args
        .dir
        .as_deref()
        .map(|dir| DataDir::resolve(Some(dir), around));
    let flagged = flag.map(|dir| DataDir::resolve(Some(dir), around));
    if let (Some(named), Some(flagged)) = (&named, &flagged)
        && named != flagged
    {
        out.note("DIR and --data-dir name two directories; give one")?;
        return Ok(Exit::Invalid);
    }
    let data_dir = named
        .or(flagged)
        .unwrap_or_else(|| DataDir::resolve(None, around));
    if out.wants_json() {
        let report = data_dir.init(now)?;
        out.json(&Told {
            data_dir: data_dir.path(),
            report: &report,
        })?;
        return Ok(Exit::Done);
    }
    out.note("Initializing KairosChain data directory...")?;
    out.note(format_args!("  Target: {}", data_dir.path().display()))?;
    out.note("")?;
    let report = data_dir.init(now)?;
    tell(&report, out)?;
    out.note("")?;
    out.note("KairosChain data directory initialized successfully!")?;
    out.note("")?;
    out.note(format_args!(
        "Data directory: {}",
        data_dir.path().display()
    ))?;
    let found_anyway = DataDir::resolve(None, around) == data_dir;
    let option = if found_anyway {
        String::new()
    } else {
        format!(
            " --data-dir {}",
            quoted(&data_dir.path().display().to_string())
        )
    };
    out.note("")?;
    out.note("What to try next:")?;
    out.note(format_args!(
        "  kairos-chain{option} serve            # let other agents meet this one"
    ))?;
    out.note(format_args!(
        "  kairos-chain{option} meet URL         # meet another agent and see what it offers"
    ))?;
    out.note(format_args!(
        "  kairos-chain{option} config show      # every setting and where it comes from"
    ))?;
    Ok(Exit::Done)
}

fn tell(report: &InitReport, out: &mut Out) -> std::io::Result<()> {
    for item in &report.items {
        let path = &item.path;
        match item.outcome {
            Outcome::Created => out.note(format_args!("  Created: {path}")),
            Outcome::Exists if path.ends_with('/') => out.note(format_args!("  Exists:  {path}")),
            Outcome::Exists => out.note(format_args!("  Exists:  {path} (skipped)")),
            Outcome::Repaired => out.note(format_args!(
                "  Repaired: {path} (other users could open it)"
            )),
            Outcome::Missing => out.note(format_args!(
                "  Missing: {path} (bring the agent's own back with kairos-chain state restore last, or that of this \
                 version with kairos-chain upgrade --apply)"
            )),
        }?;
    }
    out.note(format_args!(
        "  Knowledge: {} installed, {} already exist (skipped)",
        report.knowledge_installed, report.knowledge_existing
    ))?;
    out.note(match report.meta {
        Outcome::Created => "  Created: .kairos_meta.yml (upgrade tracking)",
        Outcome::Exists | Outcome::Repaired | Outcome::Missing => {
            "  Exists:  .kairos_meta.yml (skipped)"
        }
    })
}

/// `text` as a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::out::tests::kept;
    use super::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn around(current_dir: &Path) -> Surroundings {
        Surroundings {
            current_dir: current_dir.to_owned(),
            ..Surroundings::default()
        }
    }

    #[test]
    fn tells_what_it_made_in_the_words_of_the_reference() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("my agent");
        let told = |expected_exit| {
            let (mut out, stdout, stderr) = kept(false);
            let args = InitArgs {
                dir: Some("my agent".into()),
            };
            let exit = run(&args, None, &around(temp.path()), NOW, &mut out).unwrap();
            assert_eq!((exit, stdout.text().as_str()), (expected_exit, ""));
            stderr.text().replace(&root.display().to_string(), "<dir>")
        };
        let first = told(Exit::Done);
        assert_eq!(
            first,
            "Initializing KairosChain data directory...
  Target: <dir>

  Created: skills/
  Created: skills/versions/
  Created: knowledge/
  Created: context/
  Created: config/
  Created: storage/
  Created: storage/embeddings/
  Created: storage/embeddings/skills/
  Created: storage/embeddings/knowledge/
  Created: storage/snapshots/
  Created: storage/export/
  Created: keys/
  Created: skills/kairos.rb
  Created: skills/kairos.md
  Created: skills/kairos_quickguide.md
  Created: skills/config.yml
  Created: config/safety.yml
  Created: config/tool_metadata.yml
  Created: config/kairos.yml
  Knowledge: 2 installed, 0 already exist (skipped)
  Created: .kairos_meta.yml (upgrade tracking)

KairosChain data directory initialized successfully!

Data directory: <dir>

What to try next:
  kairos-chain --data-dir '<dir>' serve            # let other agents meet this one
  kairos-chain --data-dir '<dir>' meet URL         # meet another agent and see what it offers
  kairos-chain --data-dir '<dir>' config show      # every setting and where it comes from
"
        );
        let second = told(Exit::Done);
        assert!(!second.contains("Created"));
        for line in [
            "  Exists:  keys/\n",
            "  Exists:  skills/kairos.rb (skipped)\n",
            "0 installed, 2 already",
        ] {
            assert!(second.contains(line), "{line}");
        }
    }

    #[test]
    fn the_default_directory_needs_no_option_in_the_hints() {
        let temp = tempfile::tempdir().unwrap();
        let (mut out, _, stderr) = kept(false);
        run(
            &InitArgs::default(),
            None,
            &around(temp.path()),
            NOW,
            &mut out,
        )
        .unwrap();
        assert!(stderr.text().contains("  kairos-chain serve "));
        assert!(temp.path().join(".kairos/skills/kairos.rb").is_file());
    }

    #[test]
    fn programs_get_the_report_as_json() {
        let temp = tempfile::tempdir().unwrap();
        let (mut out, stdout, stderr) = kept(true);
        run(
            &InitArgs::default(),
            Some(temp.path()),
            &around(temp.path()),
            NOW,
            &mut out,
        )
        .unwrap();
        let told: serde_json::Value = serde_json::from_str(&stdout.text()).unwrap();
        assert_eq!(told["data_dir"], temp.path().to_str().unwrap());
        assert_eq!(
            told["items"][0],
            serde_json::json!({"path": "skills/", "outcome": "created"})
        );
        assert_eq!(
            (&told["was_initialized"], &told["knowledge_installed"]),
            (&false.into(), &2.into())
        );
        assert_eq!(stderr.text(), "");
    }

    #[test]
    fn two_different_directories_are_one_too_many() {
        let temp = tempfile::tempdir().unwrap();
        let args = InitArgs {
            dir: Some("a".into()),
        };
        for (flag, exit) in [("b", Exit::Invalid), ("./a/", Exit::Done)] {
            let (mut out, ..) = kept(false);
            let ended = run(
                &args,
                Some(Path::new(flag)),
                &around(temp.path()),
                NOW,
                &mut out,
            );
            assert_eq!(ended.unwrap(), exit);
        }
        assert!(!temp.path().join("b").exists());
    }

    #[test]
    fn words_are_quoted_for_a_shell_only_where_needed() {
        for (text, word) in [
            ("/a/b-c.d", "/a/b-c.d"),
            ("/a b", "'/a b'"),
            ("/it's", r"'/it'\''s'"),
        ] {
            assert_eq!(quoted(text), word);
        }
    }
}
