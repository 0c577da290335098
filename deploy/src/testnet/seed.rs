//! What a fresh network is given, so that something happens: skills of each agent, and Places that it joined.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::network::{Network, each, url};

/// Skills that agents have from the start, one Markdown file each.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testnet/seed");

/// Gives every agent its skill, and has it join every Place; each Place records that it is open.
///
/// # Errors
///
/// Tells which agent could not.
pub(crate) fn everybody(network: &Network) -> anyhow::Result<()> {
    let skills = skills()?;
    for place in network.places() {
        // Its ledger begins with the first record.
        network.json(&place, &["chain", "record", "This Place is open."])?;
    }
    let agents = network.agents();
    let numbered: Vec<_> = agents.iter().enumerate().collect();
    let outcomes = each(&numbered, |(index, agent)| {
        // There may be more agents than skills; then the rest has none of its own.
        if let Some(file) = skills.get(*index) {
            let text = std::fs::read_to_string(file)?;
            let name = name(file);
            let create = [
                "knowledge",
                "create",
                &name,
                "-",
                "--reason",
                "what I know from the start",
            ];
            network
                .run(agent, &create, &text)?
                .done()
                .with_context(|| format!("at {agent}"))?;
        }
        self::agent(network, agent)
    });
    outcomes.into_iter().collect()
}

/// Has one agent join every Place.
pub(crate) fn agent(network: &Network, agent: &str) -> anyhow::Result<()> {
    for place in network.places() {
        network.json(agent, &["place", "join", &url(&place)])?;
    }
    network.id(agent)?;
    Ok(())
}

fn skills() -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(FOLDER).with_context(|| format!("cannot read {FOLDER}"))?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// `tea` for `01-tea.md`: the number says which agent has it.
fn name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.split_once('-')
        .map_or(&*stem, |(_, name)| name)
        .to_owned()
}

/// The hash of a seeded skill, as nodes tell it.
pub(crate) fn hash(skill: &str) -> anyhow::Result<String> {
    let files = skills()?;
    let file = files
        .iter()
        .find(|file| name(file) == skill)
        .with_context(|| format!("no agent has `{skill}` from the start"))?;
    Ok(hex::encode(Sha256::digest(std::fs::read(file)?)))
}
