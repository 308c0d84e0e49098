//! Which system calls a confined process makes.

use std::collections::BTreeMap;

use libc::c_long;
use rustix::process::Pid;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::Profile;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the lists of system calls are for x86_64 and aarch64");

/// What every process of ours does, with any arguments.
const COMMON: &[c_long] = &[
    // What it has open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_close,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Its own signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and randomness.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
];

/// What running guests takes beside [`COMMON`]: code, the images of memories from which instances are made, and the note of
/// what has begun.
const RUNNER: &[c_long] = &[
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_pwrite64,
];

/// What libraries try in passing: answered with `EACCES`.
const REFUSED: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
];

/// Older forms of calls in [`REFUSED`].
#[cfg(target_arch = "x86_64")]
const REFUSED_OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_lstat,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_OLD: &[c_long] = &[];

// What `libc` does not name for every target.
const AT_EMPTY_PATH: u64 = 0x1000;
const PR_SET_NAME: u64 = 15;
const PR_SET_VMA: u64 = 0x5356_4d41;
const PAGEMAP_SCAN: u64 = 0xc060_6610;
const PIDFD_SELF: u64 = (-10_000_i32).cast_unsigned() as u64;

/// The flags of a thread, and those that would make it something else: a process, or one in namespaces of its own.
const THREAD: u64 = (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;
const NO_THREAD: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_PTRACE) as u64;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filters of a process, in the order in which they are to be applied. The kernel asks all of them, and the strictest
/// answer counts, so that the last one may end the process at whatever no list names.
pub(super) fn filters(profile: Profile, pid: Pid) -> Result<Vec<BpfProgram>, BackendError> {
    let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    // Its flags are behind a pointer, where no filter can look. The C library falls back on `clone`.
    let unknown: Rules = [(libc::SYS_clone3, Vec::new())].into();
    let refused = refused()?;
    let mut allowed = allowed(profile, pid)?;
    let answered = unknown.keys().chain(refused.keys());
    allowed.extend(answered.map(|call| (*call, Vec::new())));
    [
        (unknown, SeccompAction::Allow, errno(libc::ENOSYS)),
        (refused, SeccompAction::Allow, errno(libc::EACCES)),
        (allowed, SeccompAction::KillProcess, SeccompAction::Allow),
    ]
    .into_iter()
    .map(|(rules, otherwise, action)| {
        let target = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(rules, otherwise, action, target)?.try_into()
    })
    .collect()
}

fn refused() -> Result<Rules, BackendError> {
    let mut rules: Rules = [REFUSED, REFUSED_OLD]
        .concat()
        .into_iter()
        .map(|call| (call, Vec::new()))
        .collect();
    // With the flag they are about a descriptor, which is how libraries ask for the size of an open file.
    let by_path = Is::MaskedEq(AT_EMPTY_PATH);
    rules.insert(
        libc::SYS_newfstatat,
        vec![all(&[(3, Width::Dword, by_path.clone(), 0)])?],
    );
    rules.insert(
        libc::SYS_statx,
        vec![all(&[(2, Width::Dword, by_path, 0)])?],
    );
    Ok(rules)
}

fn allowed(profile: Profile, pid: Pid) -> Result<Rules, BackendError> {
    let own_pid = u64::from(pid.as_raw_pid().unsigned_abs());
    let lists: &[&[c_long]] = match profile {
        Profile::Compiler => &[COMMON],
        Profile::Runner => &[COMMON, RUNNER],
    };
    let mut rules: Rules = lists
        .concat()
        .into_iter()
        .map(|call| (call, Vec::new()))
        .collect();
    let thread = (0, Width::Qword, Is::MaskedEq(THREAD | NO_THREAD), THREAD);
    rules.insert(libc::SYS_clone, vec![all(&[thread])?]);
    // A library ends its process so (`abort`).
    rules.insert(
        libc::SYS_tgkill,
        vec![all(&[(0, Width::Dword, Is::Eq, own_pid)])?],
    );
    rules.insert(libc::SYS_prctl, any(0, &[PR_SET_NAME, PR_SET_VMA])?);
    // Its own limits, to be read and not to be set.
    rules.insert(
        libc::SYS_prlimit64,
        vec![all(&[
            (0, Width::Dword, Is::Eq, 0),
            (2, Width::Qword, Is::Eq, 0),
        ])?],
    );
    let mut fcntl = vec![
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_DUPFD_CLOEXEC,
    ];
    let mut ioctl = vec![libc::TCGETS];
    match profile {
        Profile::Compiler => {
            // It writes code down, and runs none.
            let data = all(&[(2, Width::Qword, Is::MaskedEq(libc::PROT_EXEC as u64), 0)])?;
            rules.insert(libc::SYS_mmap, vec![data.clone()]);
            rules.insert(libc::SYS_mprotect, vec![data]);
        }
        Profile::Runner => {
            fcntl.extend([libc::F_ADD_SEALS, libc::F_GET_SEALS]);
            ioctl.push(PAGEMAP_SCAN);
            // The engine gives the memory of many instances back at once; its own, which is what the first argument says.
            rules.insert(
                libc::SYS_process_madvise,
                vec![all(&[
                    (0, Width::Dword, Is::Eq, PIDFD_SELF),
                    (3, Width::Dword, Is::Eq, libc::MADV_DONTNEED as u64),
                ])?],
            );
        }
    }
    rules.insert(libc::SYS_fcntl, any(1, &numbers(&fcntl))?);
    rules.insert(libc::SYS_ioctl, any(1, &ioctl)?);
    Ok(rules)
}

fn numbers(commands: &[i32]) -> Vec<u64> {
    commands
        .iter()
        .map(|command| u64::from(command.unsigned_abs()))
        .collect()
}

/// A rule that holds if an argument is one of these numbers, which have 32 bits.
fn any(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values
        .iter()
        .map(|value| all(&[(argument, Width::Dword, Is::Eq, *value)]))
        .collect()
}

/// A rule that holds if each of these arguments is as said: its index, its width, the comparison and the value.
fn all(conditions: &[(u8, Width, Is, u64)]) -> Result<SeccompRule, BackendError> {
    let conditions = conditions
        .iter()
        .cloned()
        .map(|(argument, width, is, value)| SeccompCondition::new(argument, width, is, value));
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}
