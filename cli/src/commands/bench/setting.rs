//! Where the measurement was taken: figures without it say nothing.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::output::table;

/// The machine, and how tq was set up on it.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    version: &'static str,
    processor: String,
    processors: usize,
    kernel: String,
    /// The file system under the data directory.
    file_system: String,
    /// Of the host that was started; absent if the broker is another's.
    slots: Option<u32>,
    broker: String,
}

impl Setting {
    pub(crate) fn of_this_machine(folder: &Path, slots: Option<u32>, broker: &str) -> Self {
        let uname = rustix::system::uname();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            processor: processor(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: format!(
                "{} {}",
                uname.sysname().to_string_lossy(),
                uname.release().to_string_lossy()
            ),
            file_system: fs::read_to_string("/proc/self/mountinfo")
                .ok()
                .and_then(|mounts| file_system(&mounts, &folder.canonicalize().ok()?))
                .unwrap_or_else(|| "unknown".to_owned()),
            slots,
            broker: broker.to_owned(),
        }
    }

    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let Self {
            version,
            processor,
            processors,
            kernel,
            file_system,
            slots,
            broker,
        } = self;
        let nodes = match slots {
            Some(slots) => {
                format!("a broker and a host with {slots} slots, as processes of their own")
            }
            None => format!("the broker at {broker}"),
        };
        table::print_fields([
            ("tq", (*version).to_owned()),
            ("machine", format!("{processors} × {processor}, {kernel}")),
            ("disk", file_system.clone()),
            ("nodes", nodes),
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
}
