//! Files that these commands read and write.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fs_err as fs;

use crate::cli::out::Out;

/// What stands for standard input.
const STDIN: &str = "-";

/// Reads a text of at most `max` bytes from a file, or from standard input for `-`.
pub(super) fn read(path: &Path, max: usize) -> anyhow::Result<String> {
    let from: Box<dyn std::io::Read> = match path.as_os_str() == STDIN {
        true => Box::new(std::io::stdin()),
        false => Box::new(fs::File::open(path)?),
    };
    let mut bytes = Vec::new();
    from.take(max as u64 + 1).read_to_end(&mut bytes)?;
    let name = path.display();
    anyhow::ensure!(bytes.len() <= max, "{name} is longer than {max} bytes");
    String::from_utf8(bytes).with_context(|| format!("{name} is not a text in UTF-8"))
}

/// Where a text goes that others are to read as it is.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Target {
    /// The file, if one was named.
    pub(super) fn file(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    /// Writes `text`, which ends in a newline; a file appears whole or not at all.
    pub(super) fn write(&self, text: &str, out: &mut Out) -> anyhow::Result<()> {
        let Some(path) = &self.out else {
            out.line(text.strip_suffix('\n').unwrap_or(text))?;
            return Ok(());
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let written = || {
            // For others to read: the process's umask decides, as for any file.
            let mode = std::fs::Permissions::from_mode(0o666);
            let mut file = tempfile::Builder::new()
                .prefix(".kairos-")
                .permissions(mode)
                .tempfile_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|failed| failed.error)?;
            std::io::Result::Ok(())
        };
        written().with_context(|| format!("cannot write {}", path.display()))?;
        out.note(format_args!("Wrote {}", path.display()))?;
        Ok(())
    }
}
