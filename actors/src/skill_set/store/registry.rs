//! `skillsets/config.yml`: which SkillSets are switched on, and on which layer.
//!
//! Shared with the reference, so whatever else stands in it is kept.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kairos_protocol::id::SkillSetName;
use kairos_protocol::skill_set::Layer;
use serde_json::{Map, Value};

use super::{SkillSetError, TEMP_PREFIX};

/// The name of the file in the directory of the SkillSets.
pub const REGISTRY_FILE: &str = "config.yml";
/// Largest file read, in bytes.
pub const REGISTRY_MAX: u64 = 1024 * 1024;

const SETS: &str = "skillsets";
const ENABLED: &str = "enabled";
const LAYER: &str = "layer_override";

/// The parsed file, members in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Registry {
    members: Map<String, Value>,
}

impl Registry {
    /// Reads the file; an absent or empty one is an empty registry.
    pub(super) fn load(root: &Path) -> Result<Self, SkillSetError> {
        const ACTION: &str = "read skillsets/config.yml";
        let path = root.join(REGISTRY_FILE);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > REGISTRY_MAX => {
                let reason = format!("it is larger than {REGISTRY_MAX} bytes");
                return Err(SkillSetError::Registry(reason));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(SkillSetError::io(ACTION)(error)),
        }
        Self::parse(&fs::read(&path).map_err(SkillSetError::io(ACTION))?)
    }

    fn parse(bytes: &[u8]) -> Result<Self, SkillSetError> {
        let reason = |error: serde_saphyr::Error| {
            let text = error.to_string();
            SkillSetError::Registry(text.lines().next().unwrap_or_default().to_owned())
        };
        let members = match serde_saphyr::from_slice(bytes).map_err(reason)? {
            Value::Object(members) => members,
            Value::Null => Map::new(),
            _ => return Err(SkillSetError::Registry("it is not a mapping".to_owned())),
        };
        match members.get(SETS) {
            None | Some(Value::Null | Value::Object(_)) => Ok(Self { members }),
            Some(_) => Err(SkillSetError::Registry(
                "`skillsets` is not a mapping".to_owned(),
            )),
        }
    }

    /// Writes the file so that it is whole at every moment.
    pub(super) fn save(&self, root: &Path) -> Result<(), SkillSetError> {
        let text = serde_saphyr::to_string(&self.members)
            .map_err(|error| SkillSetError::Registry(error.to_string()))?;
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(TEMP_PREFIX)
                .permissions(fs::Permissions::from_mode(0o644))
                .tempfile_in(root)?;
            file.write_all(b"---\n")?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(root.join(REGISTRY_FILE))
                .map_err(|e| e.error)?;
            fs::File::open(root)?.sync_all()
        };
        write().map_err(SkillSetError::io("write skillsets/config.yml"))
    }

    fn entry(&self, name: &SkillSetName) -> Option<&Map<String, Value>> {
        self.members.get(SETS)?.get(name.as_str())?.as_object()
    }

    /// Whether the SkillSet is switched on. As in the reference, one that is not mentioned is.
    pub(super) fn is_enabled(&self, name: &SkillSetName) -> bool {
        let value = self.entry(name).and_then(|entry| entry.get(ENABLED));
        value != Some(&Value::Bool(false))
    }

    /// The layer that stands in for the one in `skillset.json`.
    pub(super) fn layer(&self, name: &SkillSetName) -> Option<Layer> {
        self.entry(name)?.get(LAYER)?.as_str()?.parse().ok()
    }

    pub(super) fn set_enabled(&mut self, name: &SkillSetName, enabled: bool) {
        self.edit(name, |entry| {
            entry.insert(ENABLED.to_owned(), enabled.into());
        });
    }

    /// Sets or, with nothing, removes the layer of a SkillSet.
    pub(super) fn set_layer(&mut self, name: &SkillSetName, layer: Option<Layer>) {
        self.edit(name, |entry| match layer {
            Some(layer) => drop(entry.insert(LAYER.to_owned(), layer.as_str().into())),
            None => drop(entry.shift_remove(LAYER)),
        });
    }

    pub(super) fn remove(&mut self, name: &SkillSetName) {
        if let Some(Value::Object(sets)) = self.members.get_mut(SETS) {
            sets.shift_remove(name.as_str());
        }
    }

    /// Changes one entry in its place; whatever is no mapping becomes one.
    fn edit(&mut self, name: &SkillSetName, change: impl FnOnce(&mut Map<String, Value>)) {
        let mapping = |value: Option<&mut Value>| match value.map(Value::take) {
            Some(Value::Object(members)) => members,
            _ => Map::new(),
        };
        let mut sets = mapping(self.members.get_mut(SETS));
        let mut entry = mapping(sets.get_mut(name.as_str()));
        change(&mut entry);
        sets.insert(name.to_string(), entry.into());
        self.members.insert(SETS.to_owned(), sets.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SkillSetName {
        text.parse().unwrap()
    }

    #[test]
    fn keeps_what_it_does_not_know() {
        let text = "---\nskillsets:\n  kp:\n    enabled: true\n    note: kept\n  other:\n    enabled: no\nfuture:\n- 1\n";
        let mut registry = Registry::parse(text.as_bytes()).unwrap();
        assert!(registry.is_enabled(&name("kp")) && !registry.is_enabled(&name("other")));
        assert!(registry.is_enabled(&name("absent")));
        registry.set_enabled(&name("kp"), false);
        registry.set_layer(&name("kp"), Some(Layer::L1));
        registry.set_enabled(&name("123"), true);
        let root = tempfile::tempdir().unwrap();
        registry.save(root.path()).unwrap();
        let written = fs::read_to_string(root.path().join(REGISTRY_FILE)).unwrap();
        assert_eq!(
            written,
            "---\nskillsets:\n  kp:\n    enabled: false\n    note: kept\n    layer_override: L1\n  other:\n    enabled: false\n  \"123\":\n    enabled: true\nfuture:\n- 1\n"
        );
        let mut read = Registry::load(root.path()).unwrap();
        assert_eq!(read, registry);
        assert_eq!(read.layer(&name("kp")), Some(Layer::L1));
        read.set_layer(&name("kp"), None);
        read.remove(&name("other"));
        assert_eq!(
            (read.layer(&name("kp")), read.entry(&name("other"))),
            (None, None)
        );
    }

    #[test]
    fn absent_and_empty_are_empty_and_damage_is_told() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Registry::load(root.path()).unwrap(), Registry::default());
        for empty in ["", "---\n", "skillsets:\n", "skillsets:\n  kp:\n"] {
            assert!(
                Registry::parse(empty.as_bytes())
                    .unwrap()
                    .is_enabled(&name("kp"))
            );
        }
        for bad in ["[]", "skillsets: []", "a: 1\na: 2", "{", "\u{0}"] {
            assert!(
                matches!(
                    Registry::parse(bad.as_bytes()),
                    Err(SkillSetError::Registry(_))
                ),
                "{bad}"
            );
        }
        fs::write(
            root.path().join(REGISTRY_FILE),
            vec![b' '; REGISTRY_MAX as usize + 1],
        )
        .unwrap();
        assert!(matches!(
            Registry::load(root.path()),
            Err(SkillSetError::Registry(_))
        ));
    }
}
