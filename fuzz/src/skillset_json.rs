//! `skillset.json`, with the versions and requirements in it.

use kairos_protocol::skill_set::{METADATA_MAX, SkillSetMetadata};
use kairos_protocol::version::{Requirement, Version};

/// Reads `data` as a `skillset.json`; what is not one, as a version and as a requirement.
pub fn run(data: &[u8]) -> String {
    match SkillSetMetadata::parse(data) {
        Ok(metadata) => {
            assert!(data.len() <= METADATA_MAX && !metadata.version.trim().is_empty());
            let again = SkillSetMetadata::parse(data).expect("it was good before");
            assert_eq!(again, metadata);
            let requirements = metadata
                .depends_on
                .iter()
                .map(|needed| needed.requirement());
            let good = requirements.filter(Result::is_ok).count();
            let version = version(&metadata.version);
            format!(
                "{:?} {good} {:?} {version}",
                metadata.layer,
                metadata.executes()
            )
        }
        Err(error) => {
            let text = String::from_utf8_lossy(data);
            format!("{error} {} {}", version(&text), requirement(&text))
        }
    }
}

fn version(text: &str) -> String {
    let Ok(version) = text.parse::<Version>() else {
        return "no version".to_owned();
    };
    let again: Version = version.to_string().parse().expect("it was one before");
    assert_eq!(again, version);
    for other in ["0", "1.0.0", "1.0.0.pre", "2.0.a.1"] {
        let other: Version = other.parse().expect("a version");
        assert_eq!(version.cmp(&other), other.cmp(&version).reverse());
    }
    let exact: Requirement = format!("= {version}").parse().expect("a requirement");
    assert!(exact.allows(&version), "{version} is not {exact}");
    format!("prerelease {}", version.is_prerelease())
}

fn requirement(text: &str) -> bool {
    let Ok(requirement) = text.parse::<Requirement>() else {
        return false;
    };
    let again: Requirement = requirement.to_string().parse().expect("it was one before");
    for version in ["0", "0.9.9", "1.0.0.pre", "1.0.0", "1.2", "10.0"] {
        let version: Version = version.parse().expect("a version");
        assert_eq!(again.allows(&version), requirement.allows(&version));
    }
    true
}
