//! Whether the data directory's disk has room: below a reserve nothing that others ask for is written any more, so that
//! what must still be written, such as a journal's end, can be. Reading goes on, and so does writing once there is room.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;

/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Room(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    reserve: u64,
    free: AtomicU64,
    size: AtomicU64,
    full: AtomicBool,
}

/// What a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that are left for this user.
    pub free: u64,
    /// Bytes in all.
    pub size: u64,
}

impl Space {
    /// What the disk that `folder` is on has. Blocks on the system.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn of(folder: &Path) -> std::io::Result<Self> {
        let disk = rustix::fs::statvfs(folder)?;
        Ok(Self {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            size: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}

impl Room {
    /// The room on the disk of `folder`, where `reserve` bytes are to stay free. Looks once, which blocks on the system.
    pub fn new(folder: &Path, reserve: u64) -> Self {
        let room = Self(Arc::new(Shared {
            folder: folder.to_owned(),
            reserve,
            free: AtomicU64::new(u64::MAX),
            size: AtomicU64::new(u64::MAX),
            full: AtomicBool::new(false),
        }));
        room.look();
        room
    }

    /// Whether nothing more is to be written.
    pub fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    /// What the disk had when last looked.
    pub fn space(&self) -> Space {
        Space {
            free: self.0.free.load(Ordering::Relaxed),
            size: self.0.size.load(Ordering::Relaxed),
        }
    }

    /// Why nothing is written, if nothing is.
    pub fn trouble(&self) -> Option<String> {
        self.is_full().then(|| {
            format!(
                "{} are left on the disk, less than limits.disk_reserve ({}); what is there is read, nothing is \
                 written until there is room",
                ByteSize(self.space().free),
                ByteSize(self.0.reserve)
            )
        })
    }

    /// Looks at the disk for as long as it is polled.
    pub async fn watch(self) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let room = self.clone();
            // One at a time, since a network's disk may keep whoever asks waiting.
            if let Err(error) = tokio::task::spawn_blocking(move || room.look()).await {
                tracing::error!(%error, "the disk cannot be looked at");
            }
        }
    }

    fn look(&self) {
        // Where the system does not tell, there is room until a write fails.
        if let Ok(space) = Space::of(&self.0.folder) {
            self.note(space);
        }
    }

    fn note(&self, Space { free, size }: Space) {
        self.0.free.store(free, Ordering::Relaxed);
        self.0.size.store(size, Ordering::Relaxed);
        let was = self.is_full();
        // A little more than the reserve, or it would change with every write.
        let enough = self.0.reserve.saturating_add(self.0.reserve / 4);
        let full = free < if was { enough } else { self.0.reserve };
        self.0.full.store(full, Ordering::Relaxed);
        let free = ByteSize(free);
        match (was, full) {
            (false, true) => {
                tracing::error!(disk.free = %free, "the disk is full; nothing more is written")
            }
            (true, false) => tracing::info!(disk.free = %free, "the disk has room again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_is_gone_comes_back_with_a_little_more_than_the_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(folder.path(), 0);
        assert!(!room.is_full());
        let space = room.space();
        assert!(0 < space.free && space.free <= space.size && space.size < u64::MAX);
        let room = Room::new(folder.path(), 1000);
        let states = [1000, 999, 1000, 1249, 1250, 1000, 0].map(|free| {
            room.note(Space { free, size: 9999 });
            room.is_full()
        });
        assert_eq!(states, [false, true, true, true, false, false, true]);
        assert!(
            room.trouble()
                .unwrap()
                .contains("limits.disk_reserve (1000 B)"),
            "{:?}",
            room.trouble()
        );
        room.note(Space {
            free: 5000,
            size: 9999,
        });
        assert_eq!(room.trouble(), None);
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_full_disk() {
        assert!(!Room::new(Path::new("/nonexistent/folder"), u64::MAX).is_full());
    }
}
