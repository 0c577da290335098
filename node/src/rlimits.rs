//! What the system lets this process use: descriptors, and memory.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for what is no connection: files, databases, and calls to others.
const DESCRIPTORS_RESERVED: u64 = 256;
/// Connections that are accepted however few descriptors there are.
const CONNECTIONS_MIN: usize = 16;
/// Memory below which a node with a few thousand peers may be ended by the system.
pub const MEMORY_LOW: u64 = 64 * 1024 * 1024;
/// Longest chain of groups that is followed.
const GROUPS_MAX: usize = 32;

/// Raises the number of descriptors to what the system lets this process have; returns how many it may have then,
/// nothing if there is no bound.
pub fn raise_descriptors() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => maximum,
        // Some systems give a hard limit that they then refuse.
        Err(_) => current,
    }
}

/// How many of `wanted` connections fit into so many `descriptors`, files and calls to others beside them.
pub fn connections(wanted: usize, descriptors: Option<u64>) -> usize {
    let room = descriptors.map_or(u64::MAX, |all| {
        all.saturating_sub(DESCRIPTORS_RESERVED.min(all / 2))
    });
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    wanted.min(room.max(CONNECTIONS_MIN))
}

/// The memory that the control group of this process may use, if it is bounded.
pub fn memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    memory_of(&groups, Path::new("/sys/fs/cgroup"))
}

/// The least bound of the group that `groups` names and of those it is in, below `root`.
fn memory_of(groups: &str, root: &Path) -> Option<u64> {
    // In the unified hierarchy there is one line; in the older one the line of the controller.
    let found = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        match controllers {
            "" => Some((root.to_owned(), "memory.max", group)),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Some((root.join("memory"), "memory.limit_in_bytes", group))
            }
            _ => None,
        }
    });
    let (root, file, group) = found?;
    let group: PathBuf = root.join(group.trim_start_matches('/'));
    let groups = group
        .ancestors()
        .take(GROUPS_MAX)
        .take_while(|group| group.starts_with(&root));
    // A container may not see its own group by the name that it is told.
    let bounds = groups.filter_map(|group| {
        let text = fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    });
    // The older hierarchy writes no bound as a number near the largest one.
    bounds.min().filter(|bound| *bound < u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_files() {
        for (wanted, descriptors, given) in [
            (1024, None, 1024),
            (1024, Some(1_048_576), 1024),
            (1024, Some(1024), 768),
            (1024, Some(256), 128),
            (1024, Some(10), 16),
            (8, Some(10), 8),
        ] {
            assert_eq!(
                connections(wanted, descriptors),
                given,
                "{wanted} of {descriptors:?}"
            );
        }
    }

    #[test]
    fn descriptors_are_raised_as_far_as_may_be() {
        let raised = raise_descriptors();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(raised, current);
        assert!(maximum.is_none() || current <= maximum);
    }

    #[test]
    fn the_least_bound_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(memory_of("0::/a/b\n", root.path()), None);
        write("a/b/memory.max", "max\n");
        assert_eq!(memory_of("0::/a/b\n", root.path()), None);
        write("a/memory.max", "1000\n");
        write("memory.max", "5000\n");
        assert_eq!(memory_of("0::/a/b\n", root.path()), Some(1000));
        assert_eq!(memory_of("0::/seen/elsewhere\n", root.path()), Some(5000));
        write("memory/x/memory.limit_in_bytes", "700\n");
        assert_eq!(memory_of("5:cpu,memory:/x\n0::/\n", root.path()), Some(700));
        write("memory/y/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(memory_of("5:memory:/y\n", root.path()), None);
        assert_eq!(memory_of("nonsense\n", root.path()), None);
    }
}
