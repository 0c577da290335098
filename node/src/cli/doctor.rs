//! `doctor`: examine the data directory, and say what to do about what is found.

use kairos_protocol::time::Clock as _;
use serde::Serialize;

use super::Session;
use super::exit::Exit;
use super::out::{Out, Tone};
use crate::clock::SystemClock;
use crate::doctor::fix::Deed;
use crate::doctor::{self, Finding, Level, Patient};

/// What to do.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 0 if all is well, with 3 if something should be looked at, and with 1 if something is broken.\n\
    Without --fix nothing is changed. A server may run meanwhile."
)]
pub struct DoctorArgs {
    /// Close keys and tokens to other users, and remove temporary files older than an hour
    #[arg(long)]
    fix: bool,

    /// Show only what needs a look
    #[arg(long)]
    quiet: bool,
}

/// The result for programs.
#[derive(Serialize)]
struct Told<'a> {
    data_dir: &'a std::path::Path,
    version: &'static str,
    level: Level,
    findings: &'a [Finding],
    fixed: &'a [Deed],
}

/// Runs `doctor`.
///
/// # Errors
///
/// The streams cannot be written. Whatever is wrong with the directory is an answer.
pub fn run(args: &DoctorArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let data_dir = session.data_dir();
    let fixed = if args.fix && data_dir.is_initialized() {
        doctor::fix::apply(&data_dir, SystemClock.now())
    } else {
        Vec::new()
    };
    let settings = session.loaded(&[]).map(|loaded| loaded.settings);
    let patient = Patient {
        data_dir: &data_dir,
        settings,
        now: SystemClock.now(),
    };
    let findings = doctor::examine(&patient);
    let level = doctor::worst(&findings);
    let out = &mut session.out;
    if out.wants_json() {
        out.json(&Told {
            data_dir: data_dir.path(),
            version: env!("CARGO_PKG_VERSION"),
            level,
            findings: &findings,
            fixed: &fixed,
        })?;
    } else {
        for deed in &fixed {
            tell_deed(deed, out)?;
        }
        for finding in findings
            .iter()
            .filter(|finding| !args.quiet || finding.level > Level::Ok)
        {
            tell(finding, out)?;
        }
        let count = |level| {
            findings
                .iter()
                .filter(|finding| finding.level == level)
                .count()
        };
        let (warnings, failures) = (count(Level::Warn), count(Level::Fail));
        out.line(format_args!(
            "{} checks, {warnings} to look at, {failures} broken",
            findings.len()
        ))?;
    }
    let failed = fixed.iter().any(|deed| deed.error.is_some());
    Ok(match level {
        Level::Fail => Exit::Failed,
        _ if failed => Exit::Failed,
        Level::Warn => Exit::Warned,
        Level::Ok => Exit::Done,
    })
}

fn tell(finding: &Finding, out: &mut Out) -> std::io::Result<()> {
    let word = match finding.level {
        Level::Ok => out.paint(Tone::Good, "ok  "),
        Level::Warn => out.paint(Tone::Careful, "warn"),
        Level::Fail => out.paint(Tone::Bad, "fail"),
    };
    out.line(format_args!(
        "{word}  {}: {}",
        finding.check, finding.message
    ))?;
    match &finding.fix {
        Some(fix) => out.line(format_args!("      {fix}")),
        None => Ok(()),
    }
}

fn tell_deed(deed: &Deed, out: &mut Out) -> std::io::Result<()> {
    match &deed.error {
        None => out.line(format_args!(
            "{} {}: {}",
            out.paint(Tone::Good, "fixed"),
            deed.path,
            deed.done
        )),
        Some(error) => out.line(format_args!(
            "{} {} cannot be {}: {error}",
            out.paint(Tone::Bad, "fail "),
            deed.path,
            deed.done
        )),
    }
}
