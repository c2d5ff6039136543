//! What the system knows of this process, from `/proc`, in the units of Prometheus.

use std::fs;

/// What a process takes. What cannot be read is absent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Process {
    /// Time of processors, in seconds.
    pub(super) cpu_seconds: Option<f64>,
    /// Memory that is really there, in bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Memory that was asked for, in bytes.
    pub(super) virtual_bytes: Option<u64>,
    /// When it was started, in seconds since 1970.
    pub(super) started: Option<f64>,
    /// Threads.
    pub(super) threads: Option<u64>,
    /// File descriptors in use.
    pub(super) open_fds: Option<u64>,
    /// File descriptors that it may have.
    pub(super) max_fds: Option<u64>,
}

impl Process {
    /// This process, now.
    pub(super) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text));
        let mut process = Self::of_stat(&stat, boot);
        process.open_fds = fs::read_dir("/proc/self/fd").ok().map(|fds| {
            // One of them is the directory itself.
            (fds.count() as u64).saturating_sub(1)
        });
        process.max_fds = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        process
    }

    fn of_stat(stat: &str, boot: Option<u64>) -> Self {
        let ticks = rustix::param::clock_ticks_per_second();
        // Behind the name, which is in brackets and may hold anything, brackets too.
        let Some((_, fields)) = stat.rsplit_once(')') else {
            return Self::default();
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // proc(5) counts from 1 and begins with the two that are cut off.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |ticked: u64| ticked as f64 / ticks as f64;
        let cpu = field(14).zip(field(15)).map(|(user, system)| seconds(user + system));
        let started = boot.zip(field(22)).map(|(boot, since)| boot as f64 + seconds(since));
        Self {
            cpu_seconds: cpu,
            resident_bytes: field(24).map(|pages| pages * rustix::param::page_size() as u64),
            virtual_bytes: field(23),
            started,
            threads: field(20),
            open_fds: None,
            max_fds: None,
        }
    }
}

/// When the machine was started, in seconds since 1970.
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_a_hostile_name() {
        let stat =
            "4711 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 300 200 13 14 15 16 9 18 5000 4096000 25 99";
        let read = Process::of_stat(stat, Some(1_000));
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(read.cpu_seconds, Some(500.0 / ticks));
        assert_eq!(read.threads, Some(9));
        assert_eq!(read.started, Some(1_000.0 + 5_000.0 / ticks));
        assert_eq!(read.virtual_bytes, Some(4_096_000));
        assert_eq!(read.resident_bytes, Some(25 * rustix::param::page_size() as u64));
        assert_eq!(Process::of_stat("nonsense", None), Process::default());
        assert_eq!(Process::of_stat("1 (x) S 1", None), Process::default());
    }

    #[test]
    fn this_process_is_found() {
        let read = Process::now();
        assert!(read.resident_bytes.is_some_and(|bytes| bytes > 1_000_000));
        assert!(read.open_fds.is_some_and(|count| count >= 3));
        assert!(read.max_fds.is_none_or(|max| max >= read.open_fds.unwrap_or(0)));
        assert!(read.threads.is_some_and(|count| count >= 1));
        // This program is younger than 2020 and the machine's clock is not.
        assert!(read.started.is_some_and(|time| time > 1_577_836_800.0));
        assert!(read.cpu_seconds.is_some());
    }
}
