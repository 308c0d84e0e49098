//! What a process and a folder take of the machine.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::Process;

/// What a process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident in memory.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub files: u64,
    /// Threads.
    pub threads: u64,
    /// On processors since its start, in steps of 10 ms; what its children took is not in it.
    pub cpu: Duration,
}

impl Usage {
    /// What it takes now.
    ///
    /// # Errors
    /// It has ended.
    pub fn of(process: &Process) -> anyhow::Result<Self> {
        let folder = format!("/proc/{}", process.pid());
        let count = |name: &str| -> anyhow::Result<u64> {
            let path = format!("{folder}/{name}");
            let entries = fs::read_dir(&path).with_context(|| format!("reading {path}"))?;
            Ok(entries.count() as u64)
        };
        let path = format!("{folder}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        Ok(Self {
            resident_bytes: process.resident_bytes(),
            files: count("fd")?,
            threads: count("task")?,
            cpu: cpu(&stat).with_context(|| format!("{path} is `{stat}`"))?,
        })
    }
}

/// What `/proc` counts processor time in: `USER_HZ`, which is 100 wherever this runs.
const TICK: Duration = Duration::from_millis(10);

/// User and system time in `/proc/PID/stat` (proc(5)): the fields 14 and 15, where the second may have spaces in it.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(TICK * u32::try_from(ticks).ok()?)
}

/// What the files in a folder take on disk, in bytes. Files that vanish meanwhile count as nothing.
///
/// # Errors
/// It cannot be read.
pub fn folder_bytes(folder: &Path) -> io::Result<u64> {
    const BLOCK: u64 = 512; // stat(2): whatever the file system's own are.
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry
            .metadata()
            .and_then(|metadata| match metadata.is_dir() {
                true => folder_bytes(&entry.path()),
                false => Ok(metadata.blocks() * BLOCK),
            });
        match found {
            Ok(found) => bytes += found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_with_spaces() {
        let stat = "4242 (tq (a) b) S 1 4242 4242 0 -1 4194560 9 0 0 0 150 50 7 8 20 0 12 0 99";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu("4242 (tq) S 1"), None);
    }

    #[test]
    fn folders_inside_are_counted() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("inside"))?;
        fs::write(folder.path().join("inside/file"), vec![1; 100_000])?;
        assert!(folder_bytes(folder.path())? >= 100_000);
        Ok(())
    }
}
