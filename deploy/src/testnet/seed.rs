//! What a fresh network is given, so that something happens: skills of each agent, and Places that it joined.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::network::{Network, each, url};
use crate::image::USER;

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

/// An archive of the SkillSet `name` as it lies in `folder` of a volume, with files that have these paths, modes and texts.
pub(crate) fn skill_set(
    folder: &str,
    name: &str,
    description: &str,
    files: &[(&str, u32, &str)],
) -> anyhow::Result<Vec<u8>> {
    let about = json!({
        "name": name, "version": "1.0.0", "layer": "L1", "description": description, "author": "agent",
    })
    .to_string();
    let mut files = files.to_vec();
    files.push(("skillset.json", 0o644, &about));
    let below = Path::new(name);
    let paths = files.iter().map(|(path, ..)| below.join(path));
    let paths: Vec<PathBuf> = paths.collect();
    // Each directory once, and before what is in it.
    let folders: BTreeSet<&Path> = paths
        .iter()
        .flat_map(|path| path.ancestors().skip(1))
        .collect();
    let mut tar = Builder::new(Vec::new());
    let mut add = |path: &Path, kind, mode, content: &[u8]| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(USER);
        header.set_gid(USER);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, Path::new(folder).join(path), content)
    };
    for path in folders {
        add(path, EntryType::Directory, 0o755, &[])?;
    }
    for (path, (_, mode, text)) in paths.iter().zip(&files) {
        add(path, EntryType::Regular, *mode, text.as_bytes())?;
    }
    Ok(tar.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skill_set_is_packed_with_every_directory_before_what_is_in_it() {
        let files = [("knowledge/tea/tea.md", 0o644, "# Tea\n")];
        let packed = skill_set("sets", "house", "A house", &files).unwrap();
        let mut archive = tar::Archive::new(packed.as_slice());
        let names = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.header().uid().unwrap(), USER);
            entry.path().unwrap().to_string_lossy().into_owned()
        });
        assert_eq!(
            names.collect::<Vec<_>>(),
            [
                "sets/",
                "sets/house",
                "sets/house/knowledge",
                "sets/house/knowledge/tea",
                "sets/house/knowledge/tea/tea.md",
                "sets/house/skillset.json",
            ]
        );
    }
}
