//! Where the measurement was taken: figures without it say nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::output::table;
use crate::units::{Count, Size};

/// The machine, and how tq was set up on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) version: String,
    /// `release` or `debug`.
    pub(crate) build: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// The file system under the data directory.
    pub(crate) file_system: String,
    /// Processes that ran or wanted to, over the minute before: what else the machine did.
    pub(crate) load_before: f64,
    /// `own`, or the address of the broker that was measured.
    pub(crate) nodes: String,
    /// Of the host that was started; absent if the broker is another's.
    pub(crate) slots: Option<u32>,
    /// Where that host ran guests; absent too in results of versions that had no choice, and ran them in the host.
    #[serde(default)]
    pub(crate) isolation: Option<String>,
    /// What was measured, beside the floors.
    #[serde(default)]
    pub(crate) scenarios: Vec<String>,
    /// A tenth of everything whose size no flag named.
    #[serde(default)]
    pub(crate) is_quick: bool,
    /// How much each scenario did, by name.
    pub(crate) sizes: BTreeMap<String, u64>,
    /// Processors that other programs used meanwhile, and that the machine under this one did not give. Absent if the
    /// nodes are another's.
    #[serde(default)]
    pub(crate) others_processors: Option<f64>,
}

impl Setting {
    /// `others` is the broker's address, if it is another's.
    pub(crate) fn of_this_machine(folder: &Path, others: Option<&str>, plan: &Plan) -> Self {
        let uname = rustix::system::uname();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            }
            .to_owned(),
            processor: processor(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(&memory).unwrap_or(0),
            kernel: format!(
                "{} {}",
                uname.sysname().to_string_lossy(),
                uname.release().to_string_lossy()
            ),
            file_system: fs::read_to_string("/proc/self/mountinfo")
                .ok()
                .and_then(|mounts| file_system(&mounts, &folder.canonicalize().ok()?))
                .unwrap_or_else(|| "unknown".to_owned()),
            load_before: load
                .split(' ')
                .next()
                .and_then(|first| first.parse().ok())
                .unwrap_or(0.0),
            nodes: others.unwrap_or("own").to_owned(),
            slots: others.is_none().then_some(plan.slots),
            isolation: others.is_none().then(|| plan.isolation.to_string()),
            scenarios: plan.names(),
            is_quick: plan.is_quick,
            sizes: plan.sizes(),
            others_processors: None,
        }
    }

    pub(crate) fn print(&self, seed: u64) -> anyhow::Result<()> {
        let Self {
            version,
            build,
            processor,
            processors,
            memory_bytes,
            kernel,
            file_system,
            load_before,
            nodes,
            slots,
            isolation,
            scenarios: _,
            is_quick,
            sizes,
            others_processors,
        } = self;
        let nodes = match slots {
            Some(slots) => {
                let isolation = isolation.as_deref().unwrap_or("none");
                format!(
                    "a broker and a host with {slots} slots (isolation {isolation}), processes of their own for each scenario"
                )
            }
            None => format!("the broker at {nodes}"),
        };
        let sizes: Vec<String> = sizes
            .iter()
            .map(|(name, size)| format!("{name} {}", Count(*size)))
            .collect();
        table::print_fields([
            ("tq", format!("{version}, {build} build")),
            (
                "machine",
                format!(
                    "{processors} × {processor}, {} memory, {kernel}",
                    Size(*memory_bytes)
                ),
            ),
            ("disk", file_system.clone()),
            (
                "other work",
                match others_processors {
                    Some(others) => format!(
                        "{others:.2} processors meanwhile, and a load of {load_before:.2} in the minute before"
                    ),
                    None => format!("a load of {load_before:.2} in the minute before"),
                },
            ),
            ("nodes", nodes),
            ("sizes", sizes.join(", ")),
            (
                "quick",
                if *is_quick {
                    "a tenth of everything else: for a look, and not for a comparison".to_owned()
                } else {
                    String::new()
                },
            ),
            ("seed", seed.to_string()),
        ])
    }
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.to_owned(),
    )
}

/// See proc_meminfo(5).
fn memory_bytes(meminfo: &str) -> Option<u64> {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))?;
    Some(total.parse::<u64>().ok()? * 1_024)
}

/// The type of the file system that `path` is on: that of the longest mount point above it (proc_pid_mountinfo(5)).
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| -> Option<(usize, String)> {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        let kind = right.split(' ').next()?;
        path.starts_with(point)
            .then(|| (point.len(), kind.to_owned()))
    };
    // Of several mounts on one point, the last one is seen.
    mounts
        .lines()
        .filter_map(mount)
        .max_by_key(|(len, _)| *len)
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_system_is_that_of_the_nearest_mount() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      30 22 0:25 / /tmp rw - tmpfs tmpfs rw\n\
                      31 22 0:26 / /tmp/disk rw - xfs /dev/b rw";
        let on = |path: &str| file_system(mounts, Path::new(path));
        assert_eq!(on("/home/a").as_deref(), Some("ext4"));
        assert_eq!(on("/tmp/a").as_deref(), Some("tmpfs"));
        assert_eq!(on("/tmp/disk/a").as_deref(), Some("xfs"));
        assert_eq!(on("/tmpfile").as_deref(), Some("ext4"));
    }

    #[test]
    fn memory_is_what_the_kernel_has() {
        let text = "MemTotal:       24617788 kB\nMemFree:        1 kB\n";
        assert_eq!(memory_bytes(text), Some(24_617_788 * 1_024));
    }
}
