//! The texts of a fresh data directory, embedded in the program.

/// A text and its path below the data directory.
pub(super) struct Template {
    pub(super) path: &'static str,
    pub(super) text: &'static str,
}

macro_rules! templates {
    ($($path:literal),+ $(,)?) => {
        &[$(Template {
            path: $path,
            text: include_str!(concat!("../../templates/", $path)),
        }),+]
    };
}

/// The files that the reference keeps track of by these names, in its order.
pub(super) const TRACKED: &[Template] = templates![
    "skills/kairos.rb",
    "skills/kairos.md",
    "skills/kairos_quickguide.md",
    "skills/config.yml",
    "config/safety.yml",
    "config/tool_metadata.yml",
];

/// A piece of knowledge by its name; its one file bears the name too.
pub(super) struct Guide {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

/// The knowledge that every agent starts with.
pub(super) const KNOWLEDGE: &[Guide] = &[
    Guide {
        name: "kairos_getting_started",
        text: include_str!(
            "../../templates/knowledge/kairos_getting_started/kairos_getting_started.md"
        ),
    },
    Guide {
        name: "meeting_safely",
        text: include_str!("../../templates/knowledge/meeting_safely/meeting_safely.md"),
    },
];
