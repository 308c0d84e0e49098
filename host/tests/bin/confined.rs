//! Confines itself, and then does one thing: `PROFILE DEED [FILE]`. Exits with 0 if it succeeded, otherwise with the number
//! of the error; what is forbidden altogether ends it by a signal. For tests.

#![expect(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "system calls that no library makes for one; what a test relies on ends it; its output is read by a test"
)]

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use libc::c_long;
use seccompiler::{SeccompAction, SeccompFilter};
use tq_host::confine;

type Deed = Box<dyn FnOnce() -> io::Result<()>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [profile, deed, rest @ ..] = &arguments[..] else {
        return ExitCode::from(2);
    };
    // What has to be there before is made here.
    let Some(deed) = forbidden(deed).or_else(|| permitted(deed, rest.first())) else {
        return ExitCode::from(2);
    };
    let confined = match profile.as_str() {
        "none" => None,
        "compiler" => Some(confine::compiler()),
        "runner" => Some(confine::runner()),
        "compiler-without-landlock" => {
            pretend(libc::SYS_landlock_create_ruleset, libc::ENOSYS);
            Some(confine::compiler())
        }
        "compiler-without-seccomp" => {
            pretend(libc::SYS_seccomp, libc::EINVAL);
            Some(confine::compiler())
        }
        _ => return ExitCode::from(2),
    };
    if let Some(confined) = confined {
        let confined = confined.unwrap();
        println!("layers: {:?}", confined.layers());
        println!("missing: {:?}", confined.missing());
    }
    match deed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(error.raw_os_error().map_or(1, |errno| errno as u8)),
    }
}

/// Makes the kernel answer a call as one does that lacks it.
fn pretend(call: c_long, errno: i32) {
    let filter = SeccompFilter::new(
        [(call, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

fn raw(call: c_long, arguments: [usize; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the callers pass numbers, null, or addresses of what they hold on to; the kernel checks them.
    let returned = unsafe { libc::syscall(call, a, b, c, d, e, f) };
    if returned == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A system call with up to six numbers as its arguments.
fn call(call: c_long, arguments: &[usize]) -> Option<Deed> {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    Some(Box::new(move || raw(call, six)))
}

fn deed(deed: impl FnOnce() -> io::Result<()> + 'static) -> Option<Deed> {
    Some(Box::new(deed))
}

fn fork(flags: i32) -> io::Result<()> {
    // SAFETY: the child ends at once, and makes no other call before.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    match child {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: ends the child without running anything of its parent's.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    }
}

/// What a program without confinement may well do, and a confined one must not.
fn forbidden(name: &str) -> Option<Deed> {
    let own = std::process::id() as usize;
    let parent = std::os::unix::process::parent_id() as usize;
    let protection = (libc::PROT_READ | libc::PROT_EXEC) as usize;
    match name {
        "socket-tcp" => deed(|| TcpListener::bind("127.0.0.1:0").map(drop)),
        "socket-udp" => deed(|| UdpSocket::bind("127.0.0.1:0").map(drop)),
        "socket-unix" => deed(|| UnixDatagram::unbound().map(drop)),
        "socket-netlink" => call(
            libc::SYS_socket,
            &[libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, 0],
        ),
        "socketpair-datagram" => deed(|| UnixDatagram::pair().map(drop)),
        "connect" => {
            let path = std::env::temp_dir().join(format!("tq-confined-{own}"));
            let listener = UnixListener::bind(&path).unwrap();
            let socket = UnixDatagram::unbound().unwrap();
            deed(move || {
                let connected = socket.connect(&path);
                drop(listener);
                // Of another type, which is found out only by trying.
                match connected.map_err(|error| error.raw_os_error()) {
                    Err(Some(libc::EPROTOTYPE)) | Ok(()) => std::fs::remove_file(&path),
                    Err(errno) => Err(io::Error::from_raw_os_error(errno.unwrap_or(1))),
                }
            })
        }
        "accept" => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            deed(move || match listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                other => other.map(drop),
            })
        }
        "send-to-address" => {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            deed(move || socket.send_to(b"x", socket.local_addr()?).map(drop))
        }
        "open" => deed(|| File::open("/etc/passwd").map(drop)),
        "open-new" => {
            let path = std::env::temp_dir().join(format!("tq-confined-{own}"));
            deed(move || {
                File::create(&path)?;
                std::fs::remove_file(&path)
            })
        }
        "open-proc" => deed(|| File::open("/proc/self/mem").map(drop)),
        "list" => deed(|| std::fs::read_dir("/").map(drop)),
        "metadata" => deed(|| std::fs::metadata("/etc/passwd").map(drop)),
        "remove" => {
            let path = std::env::temp_dir().join(format!("tq-confined-{own}"));
            File::create(&path).unwrap();
            deed(move || std::fs::remove_file(&path))
        }
        "openat2" => deed(|| {
            let how = [libc::O_RDONLY as u64, 0, 0];
            let size = size_of_val(&how);
            let arguments = [
                libc::AT_FDCWD as usize,
                c"/etc/passwd".as_ptr() as usize,
                how.as_ptr() as usize,
                size,
                0,
                0,
            ];
            raw(libc::SYS_openat2, arguments)
        }),
        "exec" => deed(|| {
            use std::os::unix::process::CommandExt as _;
            Err(Command::new("/bin/true").exec())
        }),
        "fork" => deed(|| fork(0)),
        "vfork" => deed(|| fork(libc::CLONE_VM | libc::CLONE_VFORK)),
        "clone3" => call(libc::SYS_clone3, &[0, 64]),
        "kill-parent" => call(libc::SYS_kill, &[parent, 0]),
        "signal-thread-of-parent" => call(libc::SYS_tgkill, &[parent, parent, 0]),
        "queue-signal" => deed(move || {
            let info = [0_u64; 16];
            raw(
                libc::SYS_rt_sigqueueinfo,
                [own, 0, info.as_ptr() as usize, 0, 0, 0],
            )
        }),
        "own-socket-signals" => {
            let (a, b) = UnixStream::pair().unwrap();
            deed(move || {
                let fd = a.as_raw_fd() as usize;
                let set = raw(
                    libc::SYS_fcntl,
                    [fd, libc::F_SETOWN as usize, parent, 0, 0, 0],
                );
                drop(b);
                set
            })
        }
        "ptrace" => call(libc::SYS_ptrace, &[libc::PTRACE_TRACEME as usize]),
        "read-memory-of-parent" => call(libc::SYS_process_vm_readv, &[parent]),
        "pidfd" => call(libc::SYS_pidfd_open, &[parent]),
        "io_uring" => deed(|| {
            let parameters = [0_u8; 120];
            raw(
                libc::SYS_io_uring_setup,
                [1, parameters.as_ptr() as usize, 0, 0, 0, 0],
            )
        }),
        "userfaultfd" => call(libc::SYS_userfaultfd, &[1]),
        "bpf" => call(libc::SYS_bpf, &[0]),
        "keyctl" => call(libc::SYS_keyctl, &[0]),
        "perf" => call(libc::SYS_perf_event_open, &[0]),
        "namespace" => call(libc::SYS_unshare, &[libc::CLONE_NEWUSER as usize]),
        "mount" => call(libc::SYS_mount, &[]),
        "chroot" => call(libc::SYS_chroot, &[]),
        "setuid" => call(libc::SYS_setuid, &[own]),
        "shared-memory" => call(libc::SYS_shmget, &[0, 1, 0o600]),
        "filter" => call(libc::SYS_seccomp, &[2, 0, 0]),
        "dumpable" => call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as usize, 1]),
        "set-limit" => {
            let limit = [64_u64, 64];
            deed(move || {
                let arguments = [
                    0,
                    libc::RLIMIT_NOFILE as usize,
                    limit.as_ptr() as usize,
                    0,
                    0,
                    0,
                ];
                raw(libc::SYS_prlimit64, arguments)
            })
        }
        "type-into-terminal" => call(libc::SYS_ioctl, &[0, libc::TIOCSTI as usize]),
        "personality" => call(libc::SYS_personality, &[0xffff_ffff]),
        // The same number for another set of calls.
        "x32" => call(0x4000_0000 | libc::SYS_getpid, &[]),
        "memory-file" => deed(|| {
            let arguments = [
                c"x".as_ptr() as usize,
                libc::MFD_CLOEXEC as usize,
                0,
                0,
                0,
                0,
            ];
            raw(libc::SYS_memfd_create, arguments)
        }),
        "map-code" => call(
            libc::SYS_mmap,
            &[
                0,
                4096,
                protection,
                (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize,
                usize::MAX,
                0,
            ],
        ),
        "make-code" => {
            let layout = std::alloc::Layout::from_size_align(4096, 4096).unwrap();
            // SAFETY: the size is not zero. The page is never given back.
            let page = unsafe { std::alloc::alloc(layout) } as usize;
            deed(move || raw(libc::SYS_mprotect, [page, 4096, protection, 0, 0, 0]))
        }
        "socketpair" => deed(|| UnixStream::pair().map(drop)),
        "pass-descriptor" => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let file = File::open("/etc/passwd").unwrap();
            deed(move || {
                send(&theirs, &file)?;
                receive(&ours).map(drop)
            })
        }
        "give-memory-back" => deed(|| match give_back(PIDFD_SELF) {
            // An older kernel does not know this process by that number (6.14).
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(()),
            done => done,
        }),
        "give-memory-of-others-back" => deed(|| give_back(0)),
        "wait-for-many" => call(libc::SYS_epoll_create1, &[0]),
        _ => None,
    }
}

/// What a confined program goes on doing.
fn permitted(name: &str, file: Option<&String>) -> Option<Deed> {
    match name {
        "nothing" => deed(|| Ok(())),
        "runtime" => deed(runtime),
        "threads" => deed(|| {
            let shared = Arc::new((Mutex::new(0), Condvar::new()));
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let shared = Arc::clone(&shared);
                    let thread = std::thread::Builder::new().name(format!("thread-{n}"));
                    thread.spawn(move || {
                        *shared.0.lock().unwrap() += 1;
                        shared.1.notify_all();
                    })
                })
                .collect::<io::Result<_>>()?;
            let guard = shared.0.lock().unwrap();
            drop(shared.1.wait_while(guard, |count| *count < 8).unwrap());
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            Ok(())
        }),
        "memory" => deed(|| {
            let mut blocks: Vec<Vec<u8>> = (0..64).map(|n| vec![n; 1 << 20]).collect();
            blocks.iter_mut().for_each(|block| block.resize(3 << 20, 1));
            blocks.truncate(1);
            assert_eq!(blocks[0].len(), 3 << 20);
            Ok(())
        }),
        "time" => deed(|| {
            let (never, condition) = (Mutex::new(false), Condvar::new());
            let wait = Duration::from_millis(1);
            drop(condition.wait_timeout(never.lock().unwrap(), wait).unwrap());
            std::thread::sleep(wait);
            Ok(())
        }),
        "processors" => deed(|| std::thread::available_parallelism().map(drop)),
        "random" => deed(|| {
            let mut bytes = [0; 16];
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
            Ok(())
        }),
        "streams" => deed(|| {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            io::stdout().write_all(text.as_bytes())?;
            io::stderr().write_all(text.as_bytes())
        }),
        // The backtrace wants to read this very program.
        "panic" => deed(|| {
            let panicked = std::thread::spawn(|| panic!("as planned")).join();
            assert!(panicked.is_err());
            Ok(())
        }),
        "abort" => deed(|| std::process::abort()),
        "size-of-file" => {
            let file = File::open("/etc/passwd").unwrap();
            deed(move || file.metadata().map(drop))
        }
        // Compiles in several threads, and runs what came out.
        "compile" => {
            let (wasm, engine) = (std::fs::read(file?).unwrap(), engine());
            deed(move || {
                engine.precompile_module(&wasm).unwrap();
                Ok(())
            })
        }
        "guest" => {
            let (wasm, engine) = (std::fs::read(file?).unwrap(), engine());
            let compiled = std::env::temp_dir().join(format!("tq-confined-{}", std::process::id()));
            std::fs::write(&compiled, engine.precompile_module(&wasm).unwrap()).unwrap();
            let open = File::open(&compiled).unwrap();
            std::fs::remove_file(&compiled).unwrap();
            deed(move || {
                guest(&wasmtime::Module::new(&engine, &wasm).unwrap());
                // SAFETY: it is what this engine wrote a moment ago.
                let module = unsafe { wasmtime::Module::deserialize_open_file(&engine, open) };
                guest(&module.unwrap());
                Ok(())
            })
        }
        _ => None,
    }
}

/// As hosts have it: with the pool, and the calls that it makes.
fn engine() -> wasmtime::Engine {
    let mut config = wasmtime::Config::new();
    config.gc_support(false).wasm_gc(false);
    let mut pool = wasmtime::PoolingAllocationConfig::new();
    pool.total_core_instances(4)
        .total_memories(4)
        .total_tables(4)
        .total_stacks(4)
        .pagemap_scan(wasmtime::Enabled::Auto)
        .linear_memory_keep_resident(1 << 20);
    config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
    wasmtime::Engine::new(&config).unwrap()
}

/// Runs a guest to its end, to a trap, and over the edge of its memory, which arrives as a signal; several times, so that
/// what one left behind is cleared for the next.
fn guest(module: &wasmtime::Module) {
    for _ in 0..3 {
        let mut store = wasmtime::Store::new(module.engine(), ());
        let instance = wasmtime::Instance::new(&mut store, module, &[]).unwrap();
        let mut run = |name| {
            let function = instance
                .get_typed_func::<(), i32>(&mut store, name)
                .unwrap();
            function.call(&mut store, ())
        };
        assert_eq!(run("fill").unwrap(), 7);
        assert!(run("trap").is_err());
        assert!(run("outside").is_err());
    }
}

/// Names the process that asks, in place of a descriptor of a process.
const PIDFD_SELF: i32 = -10_000;

/// As that of a slot: it waits for time and for other threads, and for no descriptors.
fn runtime() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().spawn(move || sender.send(()))?;
    runtime.block_on(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        receiver.await.map_err(io::Error::other)
    })
}

/// Gives memory of a process back, of which there is none.
fn give_back(process: i32) -> io::Result<()> {
    let advice = libc::MADV_DONTNEED as usize;
    raw(
        libc::SYS_process_madvise,
        [process as usize, 0, 0, advice, 0, 0],
    )
}

fn send(socket: &UnixStream, file: &File) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let descriptors: [BorrowedFd<'_>; 1] = [std::os::fd::AsFd::as_fd(file)];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(
        socket,
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

fn receive(socket: &UnixStream) -> io::Result<File> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let passed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let mut file = File::from(passed.unwrap());
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    assert!(!text.is_empty());
    Ok(file)
}
