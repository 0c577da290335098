//! Texts and files of all layers by their names, see [`kairos_protocol::resource`].

use std::io::{self, ErrorKind, Read as _};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use kairos_protocol::id::SkillName;
use kairos_protocol::resource::{Law, ResourceUri, SubPath, Subdirectory, media_type};
use kairos_protocol::time::Timestamp;
use serde::Serialize;
use walkdir::WalkDir;

use super::entry::{folders, main_text};
use super::{KnowledgeError, KnowledgeStore};
use crate::beneath;

/// Longest file read, in bytes.
pub const RESOURCE_MAX: u64 = 16 * 1024 * 1024;

/// What is known of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceInfo {
    /// Its name.
    pub uri: String,
    /// The name of the file.
    pub name: String,
    /// `L0`, `L1` or `L2`.
    pub layer: &'static str,
    /// `md`, `dsl`, `script`, `asset` or `reference`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its media type.
    pub mime_type: &'static str,
    /// Bytes.
    pub size: u64,
    /// When it was changed.
    pub modified_at: Option<Timestamp>,
    /// The session it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// A resource and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What is known of it.
    pub info: ResourceInfo,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Where a resource is: a root, a path below it, and the name in full.
struct Place {
    root: PathBuf,
    path: String,
    uri: ResourceUri,
}

impl KnowledgeStore {
    /// Reads a resource.
    ///
    /// Fails with [`KnowledgeError::NoResource`] for what is not there, with [`KnowledgeError::NotPlain`] where a link
    /// is in the way, and with [`KnowledgeError::TooMuch`] beyond [`RESOURCE_MAX`].
    pub fn resource(&self, uri: &ResourceUri) -> Result<Resource, KnowledgeError> {
        let place = self.place(uri)?;
        let failed = |error: io::Error| match error.kind() {
            _ if beneath::is_link(&error) => KnowledgeError::NotPlain {
                path: place.path.clone(),
            },
            ErrorKind::NotFound => no_resource(uri),
            _ => error.into(),
        };
        let file = beneath::file(&place.root, &place.path).map_err(failed)?;
        let info = info(&place, &file.metadata()?);
        let mut bytes = Vec::new();
        file.take(RESOURCE_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > RESOURCE_MAX {
            let (what, max) = ("bytes", RESOURCE_MAX);
            return Err(KnowledgeError::TooMuch { what, max });
        }
        Ok(Resource { info, bytes })
    }

    /// Every resource of all layers: L0, then L1, then L2, each in byte order; at most as many as texts are looked at.
    pub fn resources(&self) -> Result<Vec<ResourceInfo>, KnowledgeError> {
        let mut found = Vec::new();
        for law in [Law::Markdown, Law::Ruby] {
            self.note(&ResourceUri::L0(law), &mut found);
        }
        for name in names(&self.root(), self.policy.files)? {
            let root = self.root().join(name.as_str());
            let uri = |file| ResourceUri::Knowledge {
                name: name.clone(),
                file,
            };
            self.note(&uri(None), &mut found);
            files(&root, self.policy.files, |file| {
                self.note(&uri(Some(file)), &mut found)
            });
        }
        let contexts = self.contexts_root();
        for session in names(&contexts, self.policy.files)? {
            for name in names(&contexts.join(session.as_str()), self.policy.files)? {
                let root = contexts.join(session.as_str()).join(name.as_str());
                let uri = |file| ResourceUri::Context {
                    session: Some(session.clone()),
                    name: name.clone(),
                    file,
                };
                self.note(&uri(None), &mut found);
                files(&root, self.policy.files, |file| {
                    self.note(&uri(Some(file)), &mut found)
                });
            }
        }
        Ok(found)
    }

    /// Adds what is there and can be read; the rest is no resource.
    fn note(&self, uri: &ResourceUri, found: &mut Vec<ResourceInfo>) {
        if found.len() < self.policy.files
            && let Ok(place) = self.place(uri)
            && let Ok(file) = beneath::file(&place.root, &place.path)
            && let Ok(metadata) = file.metadata()
        {
            found.push(info(&place, &metadata));
        }
    }

    fn place(&self, uri: &ResourceUri) -> Result<Place, KnowledgeError> {
        let (root, entry, name, file, uri) = match uri {
            ResourceUri::L0(law) => {
                return Ok(Place {
                    root: self.data.join("skills"),
                    path: law.file().to_owned(),
                    uri: uri.clone(),
                });
            }
            ResourceUri::Knowledge { name, file } => {
                (self.root(), name.to_string(), name, file, uri.clone())
            }
            ResourceUri::Context {
                session,
                name,
                file,
            } => {
                let session = match session {
                    Some(session) => session.clone(),
                    None => self.newest_session_with(name)?,
                };
                let entry = format!("{session}/{name}");
                let uri = ResourceUri::Context {
                    session: Some(session),
                    name: name.clone(),
                    file: file.clone(),
                };
                (self.contexts_root(), entry, name, file, uri)
            }
        };
        let below = match file {
            Some(file) => file.below_entry(),
            None => {
                main_text(&root.join(&entry), name.as_str())?.ok_or_else(|| no_resource(&uri))?
            }
        };
        let path = format!("{entry}/{below}");
        Ok(Place { root, path, uri })
    }
}

fn no_resource(uri: &ResourceUri) -> KnowledgeError {
    KnowledgeError::NoResource {
        uri: uri.to_string(),
    }
}

fn info(place: &Place, metadata: &std::fs::Metadata) -> ResourceInfo {
    let (layer, kind, session) = match &place.uri {
        ResourceUri::L0(Law::Markdown) => ("L0", "md", None),
        ResourceUri::L0(Law::Ruby) => ("L0", "dsl", None),
        ResourceUri::Knowledge { file, .. } => ("L1", kind(file.as_ref()), None),
        ResourceUri::Context { file, session, .. } => ("L2", kind(file.as_ref()), session.as_ref()),
    };
    let modified = metadata.modified().ok();
    let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    ResourceInfo {
        uri: place.uri.to_string(),
        name: place.path.rsplit('/').next().unwrap_or_default().to_owned(),
        layer,
        kind,
        mime_type: media_type(&place.path),
        size: metadata.len(),
        modified_at: since.map(|since| Timestamp::EPOCH.plus(since)),
        session: session.map(SkillName::to_string),
    }
}

fn kind(file: Option<&SubPath>) -> &'static str {
    file.map_or("md", |file| file.directory.kind())
}

fn names(root: &std::path::Path, max: usize) -> io::Result<Vec<SkillName>> {
    Ok(folders(root, max)?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect())
}

/// Hands each file beside a main text to `seen`, in byte order. Links and hidden files are passed over.
fn files(entry: &std::path::Path, max: usize, mut seen: impl FnMut(SubPath)) {
    for directory in Subdirectory::ALL {
        let root = entry.join(directory.as_str());
        let depth = kairos_protocol::resource::DEPTH_MAX;
        let found = WalkDir::new(&root).max_depth(depth).sort_by_file_name();
        let files = found
            .into_iter()
            .flatten()
            .filter(|found| found.file_type().is_file());
        for file in files.take(max) {
            let below = file
                .path()
                .strip_prefix(&root)
                .ok()
                .and_then(|path| path.to_str());
            if let Some(Ok(path)) = below.map(|path| SubPath::new(directory, path)) {
                seen(path);
            }
        }
    }
}
