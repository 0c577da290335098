//! The texts of a fresh data directory, embedded in the program.

/// A text and its path below the data directory.
pub(crate) struct Template {
    pub(crate) path: &'static str,
    pub(crate) text: &'static str,
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
pub(crate) const TRACKED: &[Template] = templates![
    "skills/kairos.rb",
    "skills/kairos.md",
    "skills/kairos_quickguide.md",
    "skills/config.yml",
    "config/safety.yml",
    "config/tool_metadata.yml",
];

/// A piece of knowledge by its name; its one file bears the name too.
pub(crate) struct Guide {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

/// The knowledge that every agent starts with.
pub(crate) const KNOWLEDGE: &[Guide] = &[
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
