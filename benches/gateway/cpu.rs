//! CPU time of processes, and their memory, from /proc. The scheduler counts each thread's time in nanoseconds
//! (schedstat); where a thread has ended meanwhile, the process's own count in hundredths of a second stands in.

use std::collections::HashMap;
use std::fs;

/// Linux counts CPU time in hundredths of a second (USER_HZ), whatever the kernel's own tick is.
const TICK_US: f64 = 10_000.0;

/// CPU time so far, of each process by thread.
pub struct Mark(Vec<(u32, Counted)>);

#[derive(Default)]
struct Counted {
    thread_ns: HashMap<u32, u64>,
    ticks: u64,
}

impl Mark {
    /// Of these processes and their children.
    pub fn take(processes: &[u32]) -> Self {
        let families = processes.iter().flat_map(|process| family(*process));
        Self(families.map(|process| (process, Counted::of(process))).collect())
    }

    /// Microseconds of user and system time since.
    pub fn passed_us(&self) -> f64 {
        self.0.iter().map(|(process, before)| Counted::of(*process).since_us(before)).sum()
    }
}

impl Counted {
    fn of(process: u32) -> Self {
        let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
        let thread_ns = threads.filter_map(|entry| {
            let entry = entry.ok()?;
            let schedstat = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                schedstat.split_whitespace().next()?.parse().ok()?,
            ))
        });
        Self { thread_ns: thread_ns.collect(), ticks: ticks(process).unwrap_or(0) }
    }

    fn since_us(&self, before: &Self) -> f64 {
        let is_here = |thread: &u32| self.thread_ns.contains_key(thread);
        if self.thread_ns.is_empty() || !before.thread_ns.keys().all(is_here) {
            return self.ticks.saturating_sub(before.ticks) as f64 * TICK_US;
        }
        let passed = |(thread, now): (&u32, &u64)| now - before.thread_ns.get(thread).unwrap_or(&0);
        self.thread_ns.iter().map(passed).sum::<u64>() as f64 / 1e3
    }
}

/// What `/proc/PROCESS/stat` says behind the name in parentheses; the first field there is the state (proc(5)).
fn stat_of(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn ticks(process: u32) -> Option<u64> {
    let stat = stat_of(process)?;
    Some(stat.get(11)?.parse::<u64>().ok()? + stat.get(12)?.parse::<u64>().ok()?)
}

/// A process and its children.
fn family(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten();
    let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| {
        stat_of(*process).is_some_and(|stat| stat.get(1).is_some_and(|of| *of == parent.to_string()))
    };
    std::iter::once(parent).chain(numbers.filter(is_child)).collect()
}

/// Megabytes that a process has in memory now.
pub fn resident_mb(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0 / 1e6)
}
