//! Compiled once, kept, never loaded when it is not what was written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tq_core::Digest;
use tq_host::component::{Cache, CompileLimits, Compiler, Config, PrepareError};

use crate::guests::{cat, echo, sleeps, spins};
use crate::{ENGINE, RUNTIME, compiler, digest, open};

fn prepare(cache: &Cache, wasm: &[u8]) -> Result<(), PrepareError> {
    let wasm = Bytes::copy_from_slice(wasm);
    RUNTIME
        .block_on(cache.prepare(digest(&wasm), wasm))
        .map(drop)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory.join("components"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

fn size(directory: &Path) -> u64 {
    files(directory)
        .iter()
        .map(|file| fs::metadata(file).unwrap().len())
        .sum()
}

#[test]
fn compiled_form_is_used_again_and_is_nobody_elses_business() {
    let directory = TempDir::new().unwrap();
    let wasm = echo();
    let cache = open(directory.path().to_owned(), u64::MAX);
    prepare(&cache, &wasm).unwrap();
    prepare(&cache, &wasm).unwrap();
    assert_eq!(cache.compiled(), 1);
    drop(cache);
    let cache = open(directory.path().to_owned(), u64::MAX);
    assert_eq!(cache.digests(), [digest(&wasm)]);
    let loaded = RUNTIME.block_on(cache.load(digest(&wasm))).unwrap();
    assert!(loaded.has_handler());
    assert_eq!(cache.compiled(), 0);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.path().join("components")), 0o700);
    assert_eq!(mode(&directory.path().join("components.key")), 0o600);
    assert_eq!(mode(&files(directory.path())[0]), 0o600);
}

#[test]
fn many_who_ask_at_once_compile_once() {
    let directory = TempDir::new().unwrap();
    let cache = open(directory.path().to_owned(), u64::MAX);
    let wasm = Bytes::from(echo());
    let digest = digest(&wasm);
    RUNTIME.block_on(async {
        let ask = || cache.prepare(digest, wasm.clone());
        let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), cache.load(digest));
        assert!(a.is_ok() && b.is_ok() && c.is_ok() && d.is_some());
    });
    assert_eq!(cache.compiled(), 1);
}

/// Damages the file of a module by `damage`; it must not be loaded, and be compiled anew.
#[track_caller]
fn check_damage(damage: impl Fn(&Path)) {
    let directory = TempDir::new().unwrap();
    let wasm = echo();
    prepare(&open(directory.path().to_owned(), u64::MAX), &wasm).unwrap();
    damage(&files(directory.path())[0]);
    let cache = open(directory.path().to_owned(), u64::MAX);
    assert!(RUNTIME.block_on(cache.load(digest(&wasm))).is_none());
    assert!(!cache.digests().contains(&digest(&wasm)));
    prepare(&cache, &wasm).unwrap();
    assert_eq!(cache.compiled(), 1);
    assert_eq!(files(directory.path()).len(), 1);
}

#[test]
fn damaged_form_is_never_loaded() {
    check_damage(|file| {
        let mut content = fs::read(file).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(file, content).unwrap();
    });
    check_damage(|file| {
        let content = fs::read(file).unwrap();
        fs::write(file, &content[..content.len() - 1]).unwrap();
    });
    check_damage(|file| fs::write(file, b"").unwrap());
    check_damage(|file| fs::remove_file(file).unwrap());
}

#[test]
fn form_of_another_module_or_host_is_never_loaded() {
    let (ours, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (wanted, other) = (echo(), cat());
    let cache = open(ours.path().to_owned(), u64::MAX);
    prepare(&cache, &wanted).unwrap();
    prepare(&cache, &other).unwrap();
    prepare(&open(theirs.path().to_owned(), u64::MAX), &wanted).unwrap();
    let find = |wasm: &[u8]| {
        let prefix = hex::encode(digest(wasm).0);
        files(ours.path())
            .into_iter()
            .find(|file| {
                file.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with(&prefix)
            })
            .unwrap()
    };
    let (wanted_file, other_file) = (find(&wanted), find(&other));
    // The file of the other module under the wanted one's name.
    fs::copy(&other_file, &wanted_file).unwrap();
    let cache = open(ours.path().to_owned(), u64::MAX);
    assert!(RUNTIME.block_on(cache.load(digest(&wanted))).is_none());
    assert_eq!(cache.take_dropped(), [digest(&wanted)]);
    // A good file, made with a key that is not this host's.
    let foreign = files(theirs.path()).remove(0);
    let name = ours
        .path()
        .join("components")
        .join(foreign.file_name().unwrap());
    fs::copy(&foreign, name).unwrap();
    let cache = open(ours.path().to_owned(), u64::MAX);
    assert!(RUNTIME.block_on(cache.load(digest(&wanted))).is_none());
    assert!(RUNTIME.block_on(cache.load(digest(&other))).is_some());
}

#[test]
fn what_was_not_used_for_longest_makes_room() {
    let directory = TempDir::new().unwrap();
    let modules = [echo(), cat(), spins()];
    {
        let cache = open(directory.path().to_owned(), u64::MAX);
        for wasm in &modules {
            prepare(&cache, wasm).unwrap();
        }
    }
    // All but a byte of what the three take.
    let room = size(directory.path()) - 1;
    fs::remove_dir_all(directory.path().join("components")).unwrap();
    let cache = open(directory.path().to_owned(), room);
    prepare(&cache, &modules[0]).unwrap();
    prepare(&cache, &modules[1]).unwrap();
    let in_use = RUNTIME.block_on(cache.load(digest(&modules[0]))).unwrap();
    prepare(&cache, &modules[1]).unwrap();
    prepare(&cache, &modules[2]).unwrap();
    assert_eq!(cache.take_dropped(), [digest(&modules[1])]);
    assert!(size(directory.path()) <= room);
    assert!(cache.digests().contains(&in_use.digest()));
    assert!(RUNTIME.block_on(cache.load(digest(&modules[1]))).is_none());
}

#[test]
fn what_is_no_component_is_refused_with_its_reason() {
    let directory = TempDir::new().unwrap();
    let cache = open(directory.path().to_owned(), u64::MAX);
    prepare(&cache, &sleeps()).unwrap();
    let compiled = fs::read(&files(directory.path())[0]).unwrap();
    let truncated = &echo()[..200];
    let module = wat::parse_str("(module)").unwrap();
    let foreign = wat::parse_str(
        "(component (import \"acme:gpu/render@1.0.0\" (instance (export \"draw\" (func)))))",
    )
    .unwrap();
    let nothing = wat::parse_str("(component)").unwrap();
    let cases: [(&[u8], &str); 6] = [
        (b"", ""),
        (truncated, "unexpected end"),
        (&module, "wasm module"),
        (&compiled, "compiled form"),
        (&foreign, "acme:gpu/render@1.0.0"),
        (&nothing, "neither"),
    ];
    for (wasm, reason) in cases {
        let error = prepare(&cache, wasm).unwrap_err();
        assert!(error.is_permanent(), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let wrong = RUNTIME
        .block_on(cache.prepare(Digest([1; 32]), Bytes::from(echo())))
        .unwrap_err();
    assert!(matches!(wrong, PrepareError::Digest { .. }), "{wrong}");
    assert!(!wrong.is_permanent());
    assert_eq!(
        files(directory.path()).len(),
        1,
        "something was left behind"
    );
}

/// A component that keeps the compiler busy: many functions, each of a long straight line.
fn slow_to_compile() -> Vec<u8> {
    let line = "(local.set 0 (i64.xor (i64.rotl (local.get 0) (local.get 1)) (i64.mul (local.get 1) (local.get 0))))";
    let body = line.repeat(2_000);
    let functions: String = (0..300)
        .map(|_| format!("(func (param i64 i64) (result i64) {body} (local.get 0))"))
        .collect();
    wat::parse_str(format!(
        "(component (core module $m {functions}) (core instance (instantiate $m)))"
    ))
    .unwrap()
}

#[test]
fn compiler_is_bounded() {
    let wasm = slow_to_compile();
    let limits = CompileLimits::default();
    let cases = [
        (
            CompileLimits {
                cpu: Duration::from_secs(1),
                ..limits
            },
            "1 s of processor time",
        ),
        (
            CompileLimits {
                wall: Duration::from_millis(200),
                ..limits
            },
            "more than 0 s",
        ),
        (
            CompileLimits {
                memory_bytes: 64 << 20,
                ..limits
            },
            "67108864 bytes",
        ),
    ];
    for (limits, message) in cases {
        let directory = TempDir::new().unwrap();
        let mut config = Config {
            directory: directory.path().to_owned(),
            compiler: compiler(),
            bytes_max: u64::MAX,
        };
        config.compiler.limits = limits;
        let cache = Cache::open(config, ENGINE.clone()).unwrap();
        let started = Instant::now();
        let error = prepare(&cache, &wasm).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(!error.is_permanent());
        assert!(started.elapsed() < Duration::from_secs(20));
        assert!(
            files(directory.path()).is_empty(),
            "something was left behind"
        );
    }
}

/// Opens a cache whose compiler's starts are counted by the lines of a file.
fn open_counting(directory: &Path, limits: CompileLimits) -> (Cache, impl Fn() -> usize) {
    let starts = directory.join("starts");
    let count = "echo start >> \"$0\"; exec \"$@\"";
    let config = Config {
        directory: directory.to_owned(),
        compiler: Compiler {
            program: PathBuf::from("/bin/sh"),
            arguments: vec![
                "-c".into(),
                count.into(),
                starts.clone().into(),
                compiler().program.into(),
            ],
            limits,
        },
        bytes_max: u64::MAX,
    };
    let lines = move || fs::read_to_string(&starts).map_or(0, |text| text.lines().count());
    (Cache::open(config, ENGINE.clone()).unwrap(), lines)
}

/// A host that is out of descriptors, say, must not throw away what it cannot open.
#[test]
fn form_that_cannot_be_read_now_is_kept_for_later() {
    let directory = TempDir::new().unwrap();
    let (cache, starts) = open_counting(directory.path(), CompileLimits::default());
    let wasm = echo();
    let digest = digest(&wasm);
    prepare(&cache, &wasm).unwrap();
    // Nothing of it is in memory any more.
    drop(cache);
    let (cache, _) = open_counting(directory.path(), CompileLimits::default());
    let form = files(directory.path()).pop().unwrap();
    let away = directory.path().join("away");
    fs::rename(&form, &away).unwrap();
    fs::create_dir(&form).unwrap();
    assert!(RUNTIME.block_on(cache.load(digest)).is_none());
    assert!(cache.take_dropped().is_empty());
    fs::remove_dir(&form).unwrap();
    fs::rename(&away, &form).unwrap();
    assert!(RUNTIME.block_on(cache.load(digest)).is_some());
    assert_eq!(starts(), 1);
}

#[test]
fn module_that_failed_by_its_own_fault_is_not_compiled_again() {
    let directory = TempDir::new().unwrap();
    let (cache, starts) = open_counting(directory.path(), CompileLimits::default());
    let invalid = Bytes::copy_from_slice(&echo()[..200]);
    let digest = digest(&invalid);
    assert!(cache.failure(digest).is_none());
    let errors: [PrepareError; 3] = RUNTIME.block_on(async {
        let ask = || cache.prepare(digest, invalid.clone());
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        [a, b, c].map(Result::unwrap_err)
    });
    let text = errors[0].to_string();
    for error in errors.into_iter().chain(cache.failure(digest)) {
        assert_eq!(error.to_string(), text);
        assert!(error.is_permanent());
    }
    assert_eq!(starts(), 1);
    // Who has nothing to do with it is compiled.
    prepare(&cache, &cat()).unwrap();
    assert_eq!(starts(), 2);
}

#[test]
fn module_that_was_too_much_to_compile_is_left_for_a_while() {
    let directory = TempDir::new().unwrap();
    let limits = CompileLimits {
        memory_bytes: 64 << 20,
        ..CompileLimits::default()
    };
    let (cache, starts) = open_counting(directory.path(), limits);
    let wasm = slow_to_compile();
    for expected in [
        "compiling it took more than 67108864 bytes of memory",
        "compiling it took more than 67108864 bytes of memory; this host tries again in 60 min",
    ] {
        let error = prepare(&cache, &wasm).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(!error.is_permanent());
    }
    assert_eq!(starts(), 1);
}

#[test]
fn failures_that_are_not_the_modules_own_are_tried_again() {
    let directory = TempDir::new().unwrap();
    let (cache, starts) = open_counting(directory.path(), CompileLimits::default());
    let wasm = cat();
    // In the way of the file into which the compiler is to write.
    let components = directory.path().join("components");
    let blocker = components.join(format!("{}.new", hex::encode(digest(&wasm).0)));
    fs::create_dir(&blocker).unwrap();
    let error = prepare(&cache, &wasm).unwrap_err();
    assert!(matches!(error, PrepareError::Store(_)), "{error}");
    fs::remove_dir(&blocker).unwrap();
    prepare(&cache, &wasm).unwrap();
    assert_eq!(starts(), 1);
}

#[test]
fn compiler_that_does_what_none_does_is_ended_and_said() {
    let directory = TempDir::new().unwrap();
    let config = Config {
        directory: directory.path().to_owned(),
        // It confines itself, and then opens a socket.
        compiler: Compiler {
            program: PathBuf::from(env!("CARGO_BIN_EXE_tq-host-confined")),
            arguments: vec!["compiler".into(), "socket-tcp".into()],
            limits: CompileLimits::default(),
        },
        bytes_max: u64::MAX,
    };
    let cache = Cache::open(config, ENGINE.clone()).unwrap();
    let error = prepare(&cache, &echo()).unwrap_err();
    assert!(error.to_string().contains("forbidden"), "{error}");
    assert!(cache.failure(digest(&echo())).is_some());
    assert!(files(directory.path()).is_empty());
}

#[test]
fn compiler_says_what_its_confinement_lacks() {
    let missing = |compiler: Compiler| RUNTIME.block_on(compiler.missing_confinement());
    let confined = missing(compiler()).unwrap();
    let whole = Command::new(env!("CARGO_BIN_EXE_tq-host-confined"))
        .args(["compiler", "nothing"])
        .output()
        .unwrap();
    let whole = String::from_utf8(whole.stdout).unwrap();
    assert!(
        whole.contains(&format!("missing: {confined:?}\n")),
        "{whole}"
    );
    let nothing = Compiler {
        program: PathBuf::from("/nothing"),
        ..compiler()
    };
    assert!(missing(nothing).is_err());
}

#[test]
fn compiler_that_cannot_be_started_says_so() {
    let directory = TempDir::new().unwrap();
    let mut config = Config {
        directory: directory.path().to_owned(),
        compiler: compiler(),
        bytes_max: u64::MAX,
    };
    config.compiler.program = directory.path().join("nothing");
    let cache = Cache::open(config, ENGINE.clone()).unwrap();
    let error = prepare(&cache, &echo()).unwrap_err();
    assert!(
        error.to_string().contains("failed to run the compiler"),
        "{error}"
    );
    assert!(!error.is_permanent());
}
