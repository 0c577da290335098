//! Building the static programs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// Where the repository was when this program was built; all that is built here is built from it.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The program and the verifier.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) node: PathBuf,
    pub(crate) verify: PathBuf,
}

/// Which programs to take.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ProgramArgs {
    /// Take the programs from this directory instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// Build with this profile of Cargo
    #[arg(
        long,
        value_name = "NAME",
        default_value = "release",
        conflicts_with = "programs"
    )]
    profile: String,
}

impl ProgramArgs {
    /// Finds the programs, or builds them, which may take minutes the first time.
    ///
    /// # Errors
    ///
    /// Where they do not build, or are not there.
    pub(crate) fn get(&self) -> anyhow::Result<Programs> {
        let folder = match &self.programs {
            Some(folder) => folder.clone(),
            None => build(&self.profile)?,
        };
        let at = |name: &str| {
            let path = folder.join(name);
            ensure!(path.is_file(), "there is no {}", path.display());
            Ok(path)
        };
        Ok(Programs {
            node: at("kairos-chain")?,
            verify: at("kairos-verify")?,
        })
    }
}

fn build(profile: &str) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let repository = Path::new(REPOSITORY);
    let status = Command::new(&cargo)
        .current_dir(repository)
        .args([
            "build",
            "--locked",
            "--config",
            "deploy/static.toml",
            "--profile",
            profile,
        ])
        .args(["--bin", "kairos-chain", "--bin", "kairos-verify"])
        // It would win over what the file says.
        .env_remove("RUSTFLAGS")
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", cargo.display()))?;
    ensure!(status.success(), "kairos-chain does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target"));
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(repository.join(target).join(host()?).join(folder))
}

/// The kind of machine that this is, in the words of the compiler.
fn host() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc)
        .arg("-vV")
        .output()
        .context("cannot start rustc")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}
