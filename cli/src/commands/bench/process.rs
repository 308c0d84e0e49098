//! What a process has used, as Linux counts it.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// What a process has used since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// On all processors, in the program and in the kernel, to 10 ms.
    pub(crate) cpu: Duration,
    /// What it made the kernel write to a disk. In memory file systems this stays 0.
    pub(crate) written_bytes: u64,
    /// What it holds in memory now.
    pub(crate) resident_bytes: u64,
    /// The most that it held at once.
    pub(crate) resident_peak_bytes: u64,
}

impl Usage {
    /// Of the process with this id.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let ticks = rustix::param::clock_ticks_per_second();
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| format!("failed to read `{path}`"))
        };
        parse(&read("stat")?, &read("io")?, &read("status")?, ticks)
            .with_context(|| format!("process {pid} says nothing of what it uses"))
    }

    /// Of the process with this id and its children, those that have ended too. What children write is not in it: the kernel
    /// does not tell that of each.
    pub(crate) fn of_family(pid: u32) -> anyhow::Result<Self> {
        let mut sum = Self::of(pid)?;
        let per_second = rustix::param::clock_ticks_per_second();
        let read = |pid: u32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let ticks = |pid, skip| {
            let stat = read(pid, "stat").unwrap_or_default();
            span(ticks(&stat, skip).unwrap_or(0), per_second)
        };
        // Those that have ended are counted with their parent.
        sum.cpu += ticks(pid, 13);
        for child in children(pid) {
            // It may have ended meanwhile.
            let status = read(child, "status").unwrap_or_default();
            sum.cpu += ticks(child, 11);
            sum.resident_bytes += kib(&status, "VmRSS").unwrap_or(0);
            sum.resident_peak_bytes += kib(&status, "VmHWM").unwrap_or(0);
        }
        Ok(sum)
    }

    /// Of this process.
    pub(crate) fn own() -> anyhow::Result<Self> {
        Self::of(std::process::id())
    }

    /// The processor time of all threads that are alive, of it and of its children, in nanoseconds and not in ticks.
    pub(crate) fn fine_cpu(pid: u32) -> anyhow::Result<Duration> {
        let mut sum = 0;
        for process in children(pid).into_iter().chain([pid]) {
            let path = format!("/proc/{process}/task");
            for thread in fs::read_dir(&path).with_context(|| format!("failed to read `{path}`"))? {
                // A thread may end between the two.
                let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
                let first = text.split(' ').next().unwrap_or_default();
                sum += first.parse::<u64>().unwrap_or(0);
            }
        }
        Ok(Duration::from_nanos(sum))
    }
}

/// What all programs of this machine have done, and what this one and its children have, to tell the two apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Machine {
    /// Processor time that was not idle, or not to be had, in ticks.
    busy_ticks: u64,
    /// All there is, in ticks.
    all_ticks: u64,
    /// Of this process and of its children that have ended.
    own_ticks: u64,
}

impl Machine {
    /// As of now; `None` where Linux does not say.
    pub(crate) fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let own = fs::read_to_string("/proc/self/stat").ok()?;
        Self::parse(&stat, &own)
    }

    /// Processors that others used from then until now.
    pub(crate) fn others_since(self, then: Self, processors: usize) -> f64 {
        let busy = self.busy_ticks.saturating_sub(then.busy_ticks);
        let own = self.own_ticks.saturating_sub(then.own_ticks);
        let all = self.all_ticks.saturating_sub(then.all_ticks).max(1);
        busy.saturating_sub(own) as f64 / all as f64 * processors as f64
    }

    /// See proc_stat(5) and proc_pid_stat(5).
    fn parse(stat: &str, own: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        // Guests are in the first two already.
        let ticks: Vec<u64> = line
            .split_whitespace()
            .take(8)
            .map_while(|ticks| ticks.parse().ok())
            .collect();
        let [_, _, _, idle, iowait, ..] = ticks[..] else {
            return None;
        };
        let all_ticks = ticks.iter().sum::<u64>();
        let (_, fields) = own.rsplit_once(')')?;
        let own = fields.split_whitespace().skip(11).take(4);
        Some(Self {
            busy_ticks: all_ticks - idle - iowait,
            all_ticks,
            own_ticks: own.map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum(),
        })
    }
}

/// See proc_pid_stat(5), proc_pid_io(5) and proc_pid_status(5).
fn parse(stat: &str, io: &str, status: &str, ticks_per_second: u64) -> Option<Usage> {
    let cpu_ticks = ticks(stat, 11)?;
    let written = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))?;
    Some(Usage {
        cpu: span(cpu_ticks, ticks_per_second),
        written_bytes: written.parse().ok()?,
        resident_bytes: kib(status, "VmRSS")?,
        resident_peak_bytes: kib(status, "VmHWM")?,
    })
}

/// Two fields of `/proc/PID/stat` together, which are times; so many after the program's name are skipped.
fn ticks(stat: &str, skip: usize) -> Option<u64> {
    // The name is in brackets and may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(skip);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn span(ticks: u64, per_second: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / per_second.max(1) as f64)
}

/// A line of `/proc/PID/status`, in bytes.
fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.strip_prefix(':')?.trim().strip_suffix(" kB")?;
    Some(number.parse::<u64>().ok()? * 1_024)
}

/// The children of a process, in no order.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let of_thread = |thread: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(thread.ok()?.path().join("children")).ok()
    };
    threads
        .filter_map(of_thread)
        .flat_map(|line| {
            let pids = line.split_whitespace();
            pids.filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_whatever_the_program_is_called() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 9 9 20 0 3 0 1 2 3";
        let io = "rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n";
        let status = "Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let expected = Usage {
            cpu: Duration::from_secs(2),
            written_bytes: 4_096,
            resident_bytes: 1 << 20,
            resident_peak_bytes: 2 << 20,
        };
        assert_eq!(parse(stat, io, status, 100), Some(expected));
        assert_eq!(parse("7 (a) S", io, status, 100), None);
    }

    #[test]
    fn others_are_what_is_neither_idle_nor_own() {
        let stat = |user, idle| format!("cpu  {user} 0 0 {idle} 100 0 0 0 7 0\ncpu0 1 2 3\n");
        let own = |user| format!("7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 {user} 0 50 0 20 0");
        let then = Machine::parse(&stat(100, 100), &own(10)).expect("it is valid");
        let now = Machine::parse(&stat(400, 200), &own(160)).expect("it is valid");
        let others = now.others_since(then, 2);
        assert!((others - 0.75).abs() < 1e-9, "{others}");
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::own().expect("Linux counts");
        assert!(usage.resident_bytes > 0, "{usage:?}");
        assert!(
            usage.resident_peak_bytes >= usage.resident_bytes,
            "{usage:?}"
        );
    }
}
