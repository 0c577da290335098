//! What the system says of this process, under the names that all programs use.

use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process, Stat};

use super::table::Table;

/// Adds what can be found out. Reads a few files of the system, which takes some microseconds.
pub(super) fn add(table: &mut Table) {
    // Where the system does not tell, nothing is told.
    let Ok(process) = Process::myself() else {
        return;
    };
    if let Ok(stat) = process.stat() {
        add_stat(table, &stat);
    }
    if let Ok(open) = process.fd_count() {
        table.gauge("process_open_fds", "Files and sockets open", open);
    }
    if let Ok(limits) = process.limits()
        && let LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        table.gauge(
            "process_max_fds",
            "Files and sockets that may be open",
            most,
        );
    }
}

fn add_stat(table: &mut Table, stat: &Stat) {
    let ticks = procfs::ticks_per_second();
    let used = seconds(stat.utime.saturating_add(stat.stime), ticks);
    table.counter("process_cpu_seconds", "Processor time used", used);
    if let Ok(boot) = procfs::boot_time_secs()
        && let Some(since) = stat.starttime.checked_div(ticks)
    {
        let began = boot.saturating_add(since);
        table.gauge(
            "process_start_time_seconds",
            "When the process began, in Unix time",
            began,
        );
    }
    let resident = stat.rss_bytes().get();
    table.gauge("process_resident_memory_bytes", "Memory in use", resident);
    table.gauge(
        "process_virtual_memory_bytes",
        "Address space in use",
        stat.vsize,
    );
    let threads = u64::try_from(stat.num_threads).unwrap_or(0);
    table.gauge("process_threads", "Threads", threads);
}

/// Exact for thousands of years of ticks.
fn seconds(ticks: u64, per_second: u64) -> f64 {
    ticks as f64 / per_second.max(1) as f64
}
