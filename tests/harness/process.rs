//! What the system says of a process, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// Ticks of `/proc` in a second, on every Linux.
const TICKS: f64 = 100.0;

/// A process of this machine, by its id.
#[derive(Debug, Clone, Copy)]
pub struct Process(u32);

impl Process {
    /// The process with that id, which need not be there.
    pub fn of(pid: u32) -> Self {
        Self(pid)
    }

    /// Returns the bytes of its memory that are in RAM.
    pub fn resident(self) -> io::Result<u64> {
        Ok(self.status("VmRSS:")? * 1024)
    }

    /// Returns how many threads it has.
    pub fn threads(self) -> io::Result<u64> {
        self.status("Threads:")
    }

    /// Returns how many files and sockets it has open.
    pub fn descriptors(self) -> io::Result<u64> {
        let open = fs::read_dir(self.path("fd"))?;
        Ok(open.count() as u64)
    }

    /// Returns the CPU time that it has used, in user and kernel.
    pub fn cpu_time(self) -> io::Result<Duration> {
        let stat = fs::read_to_string(self.path("stat"))?;
        // The name, in parentheses, may hold anything.
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest);
        let ticks = rest.and_then(|rest| {
            let mut numbers = rest.split_whitespace().skip(11);
            let mut next = || numbers.next()?.parse::<f64>().ok();
            Some(next()? + next()?)
        });
        let ticks = ticks.ok_or_else(|| unreadable("stat"))?;
        Ok(Duration::from_secs_f64(ticks / TICKS))
    }

    fn path(self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0)
    }

    /// The number behind `name` in the file `status`.
    fn status(self, name: &str) -> io::Result<u64> {
        let status = fs::read_to_string(self.path("status"))?;
        let mut lines = status.lines();
        let number = lines.find_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.split_whitespace().next()?.parse().ok()
        });
        number.ok_or_else(|| unreadable("status"))
    }
}

fn unreadable(name: &str) -> io::Error {
    io::Error::other(format!(
        "/proc shows no {name} of a process that is known here"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let own = Process::of(std::process::id());
        assert!(own.resident().unwrap() > 100_000);
        assert!(own.threads().unwrap() >= 1);
        assert!(own.descriptors().unwrap() >= 3);
        assert!(own.cpu_time().unwrap() < Duration::from_secs(3600));
        assert!(Process::of(u32::MAX).resident().is_err());
    }
}
