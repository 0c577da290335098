//! The record of joined Places on disk: one document, replaced as a whole under a lock that processes share.
//!
//! Blocking code: call it from a blocking thread.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::record::Membership;
use crate::meeting::client::PeerUrl;
use crate::passing::LOCK;
use crate::{durable, file_lock};

/// The record, in the folder of this actor.
const PLACES: &str = "places.json";
/// Version of the record.
const VERSION: u32 = 1;
/// Longest record in bytes that is read: several times what the bounds of its parts allow.
const RECORD_MAX: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    v: u32,
    places: Vec<Membership>,
}

/// Which file the record was, to notice that another one took its place.
pub(super) type Stamp = Option<(u64, i64, i64)>;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Records {
    folder: PathBuf,
}

impl Records {
    /// The record in `folder`; touches no file.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Every Place, in the order in which they were joined.
    pub(super) fn read(&self) -> io::Result<Vec<Membership>> {
        let path = self.folder.join(PLACES);
        match fs::metadata(&path) {
            Ok(found) if found.len() > RECORD_MAX => {
                return Err(io::Error::other(format!("{} is too long", path.display())));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let document: Document = serde_json::from_slice(&fs::read(&path)?)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        match document.v {
            VERSION => Ok(document.places),
            other => Err(io::Error::other(format!(
                "{} has version {other}, {VERSION} is known",
                path.display()
            ))),
        }
    }

    /// Changes the record, durably; what `change` refuses changes nothing.
    pub(super) fn change<T, E: From<io::Error>>(
        &self,
        change: impl FnOnce(&mut Vec<Membership>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = file_lock::hold(&self.folder.join(LOCK))?;
        let mut places = self.read()?;
        let before = places.clone();
        let done = change(&mut places)?;
        if places != before {
            let document = Document { v: VERSION, places };
            let text = serde_json::to_vec_pretty(&document).map_err(io::Error::from)?;
            durable::replace(&self.folder.join(PLACES), &text)?;
        }
        Ok(done)
    }

    /// Changes the record of one Place, if it is joined; whether it is.
    pub(super) fn change_one(
        &self,
        url: &PeerUrl,
        change: impl FnOnce(&mut Membership),
    ) -> io::Result<bool> {
        self.change(|places| {
            let found = places.iter_mut().find(|place| &place.url == url);
            Ok(found.map(change).is_some())
        })
    }

    /// Changes with every change of the record.
    pub(super) fn stamp(&self) -> Stamp {
        let found = fs::metadata(self.folder.join(PLACES)).ok()?;
        Some((found.ino(), found.mtime(), found.mtime_nsec()))
    }
}
