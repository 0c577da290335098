//! Switches `storage.backend` in the reference's own file, whose comments stay as they are.

use std::fs;

use anyhow::{Context as _, bail};
use kairos_actors::chain::store::place::Backend;

use crate::config::{Layer, Source, edit};
use crate::data_dir::DataDir;

/// Fails where switching the file would have no effect, or where the file has no place for it.
pub(super) fn check(data_dir: &DataDir, source: &Source, to: Backend) -> anyhow::Result<()> {
    if !matches!(source.layer, Layer::BuiltIn | Layer::Reference) {
        let place = source.origin.as_deref().unwrap_or("an argument");
        bail!(
            "storage.backend is set by {place}; take it away there first, so that {to} counts afterwards"
        );
    }
    switched(data_dir, to).map(|_| ())
}

/// Has the file say `to`.
pub(super) fn choose(data_dir: &DataDir, to: Backend) -> anyhow::Result<()> {
    let path = data_dir.skills_config();
    let text = switched(data_dir, to)?;
    edit::write(&path, &text)?;
    Ok(())
}

fn switched(data_dir: &DataDir, to: Backend) -> anyhow::Result<String> {
    let path = data_dir.skills_config();
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let to_word = to.to_string();
    let Some(switched) = edit::set(&text, "storage", "backend", &to_word) else {
        bail!(
            "{} has a form that is not understood here; set it by hand, with the line \"backend: {to}\" below \
             \"storage:\"",
            path.display()
        );
    };
    Ok(switched)
}
