//! A disk of its own, which can fill up, and lose its power.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::ioctl::{Setter, ioctl};

use crate::wait::eventually;

/// `EXT4_IOC_SHUTDOWN` of Linux's `fs/ext4/ext4.h`: `_IOR('X', 125, __u32)`.
const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: what is not on the disk yet is given up.
const NO_LOG_FLUSH: u32 = 2;

/// A file system of ext4 in a file, which is unmounted when this is dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    /// What a test says that is skipped because there is no [`Disk`].
    pub const LACKING: &str =
        "a disk of ext4 cannot be mounted; fix: run as root, outside of an unprivileged container";

    /// Makes an empty one of `bytes` in `folder`. `None` if mounting is not allowed here, or there is no `mkfs.ext4`.
    ///
    /// # Panics
    /// `folder` cannot be written.
    #[must_use]
    pub fn mount(folder: &Path, bytes: u64) -> Option<Self> {
        let disk = Self {
            image: folder.join("disk.img"),
            mounted: folder.join("disk"),
        };
        std::fs::create_dir(&disk.mounted).expect("a folder can be made");
        // Only what is written takes room.
        let image = File::create(&disk.image).expect("a file can be made");
        image.set_len(bytes).expect("a file can have holes");
        // Nothing is kept back for root, as which the tests run.
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(&disk.image)
            .output();
        let is_made = made.is_ok_and(|output| output.status.success());
        (is_made && disk.try_mount()).then_some(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// From now on every write and every sync fails, and what was not synced is gone once the disk is mounted again: what a
    /// process was killed with could still be in the memory of the kernel.
    ///
    /// # Panics
    /// The kernel refuses.
    #[expect(
        unsafe_code,
        reason = "there is no safe call that takes the power from a file system"
    )]
    pub fn lose_power(&self) {
        let root = File::open(&self.mounted).expect("the disk is mounted");
        // SAFETY: `SHUTDOWN` reads a `u32` from where it is pointed to, and keeps nothing of it.
        let done = unsafe { ioctl(&root, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) };
        done.expect("ext4 can be shut down");
    }

    /// Mounts it again with what is on it, once every process that had files on it has ended.
    ///
    /// # Panics
    /// It cannot be, for instance because a process still has a file on it.
    pub async fn restore_power(&self) {
        eventually("the disk is unmounted", async || {
            let unmounted = Command::new("umount").arg(&self.mounted).output();
            unmounted
                .is_ok_and(|output| output.status.success())
                .then_some(())
        })
        .await;
        assert!(self.try_mount(), "the disk cannot be mounted again");
    }

    fn try_mount(&self) -> bool {
        let mounted = Command::new("mount")
            .args(["-o", "loop"])
            .args([&self.image, &self.mounted])
            .output();
        mounted.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still hold a file.
        drop(
            Command::new("umount")
                .arg("--lazy")
                .arg(&self.mounted)
                .output(),
        );
    }
}
