//! The container image: the program, a directory for the agent, and nothing else. `kairos-verify` is not in it: it is for
//! those who do not trust the node, and who would not take it from where the node came from.
//!
//! It is written as the archive that `docker load` and `podman load` read, without a build engine: names in order, one
//! time for all, so that the same programs give the same image, bit for bit.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::build::{ProgramArgs, Programs};
use crate::elf::{self, Processor};
use crate::process;

/// The user that the program runs as, and its group; nobody else's on most systems.
pub(crate) const USER: u64 = 65532;
/// Where a volume belongs. The image declares none: an unnamed one would be made silently, and be lost.
pub(crate) const DATA: &str = "/data";
/// Where the agent is kept: not the volume itself, so that a restore can put another directory in its place.
const AGENT: &str = "/data/agent";
/// The name that the image gets where no other is given.
pub(crate) const TAG: &str = "kairos-chain:latest";
/// Says when the image was made, in seconds since 1970.
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Longer than an engine takes to read an image.
const LOAD: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {
    #[command(flatten)]
    programs: ProgramArgs,

    /// The name of the image
    #[arg(long, value_name = "NAME:TAG", default_value = TAG)]
    tag: String,

    /// From which revision it is built, for the label
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,

    /// Write the archive to this file instead of giving it to the engine
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs `image`.
pub(crate) fn run(args: &ImageArgs) -> anyhow::Result<ExitCode> {
    let image = Image::of(
        &args.programs.get()?,
        &args.tag,
        args.revision.as_deref(),
        epoch()?,
    )?;
    match &args.output {
        Some(file) => {
            fs::write(file, &image.archive)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        None => image.load()?,
    }
    process::print(format_args!(
        "{}  {}  {:.1} MB\n",
        args.tag,
        image.id,
        image.size as f64 / 1e6
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The time that everything in the image has.
pub(crate) fn epoch() -> anyhow::Result<u64> {
    match std::env::var(EPOCH) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{EPOCH} is not a number of seconds: {text}")),
        Err(_) => Ok(0),
    }
}

/// An image, ready to be loaded.
pub(crate) struct Image {
    /// `sha256:` and the hash by which engines know it.
    pub(crate) id: String,
    /// What it takes on disk, in bytes.
    pub(crate) size: usize,
    archive: Vec<u8>,
}

impl Image {
    /// Makes the image; `revision` and `epoch` are part of it.
    ///
    /// # Errors
    ///
    /// Where the program cannot be read, or is not static.
    pub(crate) fn of(
        programs: &Programs,
        tag: &str,
        revision: Option<&str>,
        epoch: u64,
    ) -> anyhow::Result<Self> {
        let (node, processor) = program(&programs.node)?;
        let layer = layer(&node, epoch)?;
        let size = layer.len();
        let config = config(processor, &digest(&layer), revision, epoch)?.to_string();
        let id = digest(config.as_bytes());
        let archive = archive(&id, config.as_bytes(), &layer, tag)?;
        Ok(Self {
            id: format!("sha256:{id}"),
            size,
            archive,
        })
    }

    /// Gives it to the engine.
    pub(crate) fn load(&self) -> anyhow::Result<()> {
        let mut docker = Command::new("docker");
        process::run(docker.args(["load", "--quiet"]), &self.archive, LOAD)?.done()?;
        Ok(())
    }
}

fn program(path: &Path) -> anyhow::Result<(Vec<u8>, Processor)> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let processor = elf::check_static(&bytes)
        .with_context(|| format!("{} is of no use in an empty image", path.display()))?;
    Ok((bytes, processor))
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// One file or directory of a layer.
struct Entry<'a> {
    path: &'a str,
    mode: u32,
    owner: u64,
    content: Option<&'a [u8]>,
}

/// The file system. The directory for the agent is its user's, which a new volume that is mounted there takes over.
fn layer(node: &[u8], epoch: u64) -> anyhow::Result<Vec<u8>> {
    let passwd = format!("kairos:x:{USER}:{USER}::{DATA}:/sbin/nologin\n");
    let group = format!("kairos:x:{USER}:\n");
    let folder = |path, mode, owner| Entry {
        path,
        mode,
        owner,
        content: None,
    };
    let file = |path, mode, content| Entry {
        path,
        mode,
        owner: 0,
        content: Some(content),
    };
    pack(
        &[
            folder("bin/", 0o755, 0),
            file("bin/kairos-chain", 0o755, node),
            folder("data/", 0o700, USER),
            // There also for whoever mounts a file into it: the engine would make it, and not for this user.
            folder("data/agent/", 0o700, USER),
            folder("data/agent/config/", 0o755, USER),
            folder("etc/", 0o755, 0),
            file("etc/group", 0o644, group.as_bytes()),
            file("etc/passwd", 0o644, passwd.as_bytes()),
        ],
        epoch,
    )
}

fn pack(entries: &[Entry<'_>], epoch: u64) -> anyhow::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for entry in entries {
        let content = entry.content.unwrap_or_default();
        let mut header = Header::new_ustar();
        header.set_entry_type(match entry.content {
            Some(_) => EntryType::Regular,
            None => EntryType::Directory,
        });
        header.set_mode(entry.mode);
        header.set_uid(entry.owner);
        header.set_gid(entry.owner);
        header.set_mtime(epoch);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, entry.path, content)?;
    }
    Ok(tar.into_inner()?)
}

/// How the image is run, and what it says about itself.
fn config(
    processor: Processor,
    layer: &str,
    revision: Option<&str>,
    epoch: u64,
) -> anyhow::Result<Value> {
    let created = humantime::format_rfc3339_seconds(
        std::time::UNIX_EPOCH
            .checked_add(Duration::from_secs(epoch))
            .context("the time of the image is out of bounds")?,
    )
    .to_string();
    let mut labels = json!({
        "org.opencontainers.image.title": "kairos-chain",
        "org.opencontainers.image.description":
            "The node that an AI agent runs: an honest history of what it knows, and safe exchange with other agents",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
        "org.opencontainers.image.created": created,
    });
    if let (Some(revision), Some(labels)) = (revision, labels.as_object_mut()) {
        labels.insert(
            "org.opencontainers.image.revision".to_owned(),
            revision.into(),
        );
    }
    let seconds = |n: u64| n * 1_000_000_000;
    Ok(json!({
        "architecture": processor.0,
        "os": "linux",
        "created": created,
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": [
                "PATH=/bin",
                format!("HOME={DATA}"),
                format!("KAIROS_DATA_DIR={AGENT}"),
                "KAIROS_HTTP__HOST=0.0.0.0",
                "KAIROS_STORAGE__MUST_PERSIST=true",
            ],
            "Entrypoint": ["/bin/kairos-chain"],
            "Cmd": ["serve"],
            "WorkingDir": DATA,
            "ExposedPorts": {"8080/tcp": {}},
            "StopSignal": "SIGTERM",
            "Healthcheck": {
                "Test": ["CMD", "/bin/kairos-chain", "health"],
                "Interval": seconds(15),
                "Timeout": seconds(5),
                "StartPeriod": seconds(20),
                "Retries": 3,
            },
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        "history": [{"created": created, "created_by": "kairos-deploy image"}],
    }))
}

fn archive(id: &str, config: &[u8], layer: &[u8], tag: &str) -> anyhow::Result<Vec<u8>> {
    if tag
        .rsplit_once('/')
        .map_or(tag, |(_, name)| name)
        .split_once(':')
        .is_none()
    {
        bail!("`{tag}` has no tag; write it like {TAG}");
    }
    let (config_name, layer_name) = (format!("{id}.json"), format!("{}/layer.tar", digest(layer)));
    let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": [layer_name]}]);
    let manifest = manifest.to_string();
    let file = |path, content| Entry {
        path,
        mode: 0o644,
        owner: 0,
        content: Some(content),
    };
    let mut archive = pack(
        &[
            file(config_name.as_str(), config),
            file(layer_name.as_str(), layer),
            file("manifest.json", manifest.as_bytes()),
        ],
        0,
    )?;
    archive.flush()?;
    Ok(archive)
}

#[cfg(test)]
mod tests;
