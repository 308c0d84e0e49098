//! Functions that use `/scratch`, as honest programs do and as others do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};

use tq_sdk::{Error, Result};

fn failed(error: io::Error) -> Error {
    Error::fatal(format!("{:?}: {error}", error.kind()))
}

/// Works with files in all the usual ways. Fails if something was there before.
#[tq_sdk::task]
fn use_files() -> Result<String> {
    let work = || -> io::Result<String> {
        if fs::read_dir("/scratch")?.next().is_some() {
            return Err(io::Error::other("something was left here"));
        }
        fs::create_dir_all("/scratch/a/b")?;
        fs::write("/scratch/a/b/one.txt", "one\n")?;
        let mut file = OpenOptions::new()
            .append(true)
            .open("/scratch/a/b/one.txt")?;
        file.write_all(b"two\n")?;
        drop(file);
        fs::rename("/scratch/a/b/one.txt", "/scratch/a/two.txt")?;
        fs::copy("/scratch/a/two.txt", "/scratch/a/three.txt")?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .open("/scratch/a/three.txt")?;
        file.seek(SeekFrom::Start(4))?;
        file.write_all(b"2wo")?;
        file.set_len(7)?;
        file.rewind()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let mut names = fs::read_dir("/scratch/a")?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        let len = fs::metadata("/scratch/a/two.txt")?.len();
        fs::remove_dir_all("/scratch/a/b")?;
        let gone = fs::metadata("/scratch/a/b").map_err(|error| error.kind());
        Ok(format!(
            "{} {len} {text:?} {:?}",
            names.join(","),
            gone.err()
        ))
    };
    work().map_err(failed)
}

/// Writes to one file until it cannot.
#[tq_sdk::task]
fn fill_files() -> Result<String> {
    let mut file = File::create("/scratch/large").map_err(failed)?;
    let mut written = 0;
    loop {
        match file.write(&[0x5a; 10_000]) {
            Ok(len) => written += len,
            Err(error) => {
                let kind = error.kind();
                return Err(Error::fatal(format!("{written} bytes, then {kind:?}")));
            }
        }
    }
}

/// Makes empty files until it cannot, and goes on.
#[tq_sdk::task]
fn many_files() -> Result<String> {
    for made in 0..10_000_000_u64 {
        if let Err(error) = File::create(format!("/scratch/{made}")) {
            return Ok(format!("{made} files, then {:?}", error.kind()));
        }
    }
    Ok("as many as wanted".to_owned())
}

/// Makes directories in each other as far as it can.
#[tq_sdk::task]
fn deep_files() -> Result<String> {
    let mut path = "/scratch".to_owned();
    let mut depth = 0;
    loop {
        path.push_str("/d");
        match fs::create_dir(&path) {
            Ok(()) => depth += 1,
            Err(error) => return Ok(format!("{depth} levels, then {:?}", error.kind())),
        }
    }
}

/// Makes a file with a size that no memory has.
#[tq_sdk::task]
fn sparse_file() -> Result<String> {
    let work = || -> io::Result<String> {
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(true)
            .open("/scratch/sparse")?;
        file.set_len(1 << 60)?;
        file.seek(SeekFrom::Start((1 << 60) - 3))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok(format!("{} {end:?}", file.metadata()?.len()))
    };
    work().map_err(failed)
}

/// Tries to leave its directory, and returns the ways by which it could.
#[tq_sdk::task]
fn escape_files() -> String {
    const PATHS: &[&str] = &[
        "/",
        "/etc/passwd",
        "/proc/self/environ",
        "/scratch/..",
        "/scratch/../etc/passwd",
        "/scratch/a/../../etc/passwd",
        "../etc/passwd",
        "/scratch/./../../etc/passwd",
        "/scratch//..//etc/passwd",
    ];
    fs::create_dir("/scratch/a").ok();
    let opened = PATHS.iter().filter(|path| {
        File::open(path).is_ok() || fs::read_dir(path).is_ok() || fs::metadata(path).is_ok()
    });
    let mut ways: Vec<String> = opened.map(|path| (*path).to_owned()).collect();
    for path in ["/scratch/../new", "/new", "/scratch/a/../../new"] {
        if fs::write(path, "x").is_ok() || fs::create_dir(path).is_ok() {
            ways.push(format!("new {path}"));
        }
    }
    if fs::rename("/scratch/a", "/scratch/../a").is_ok() {
        ways.push("rename".to_owned());
    }
    if fs::hard_link("/etc/passwd", "/scratch/link").is_ok() {
        ways.push("link".to_owned());
    }
    ways.join(" ")
}

/// Whether there is a directory at all.
#[tq_sdk::task]
fn has_files() -> String {
    match fs::read_dir("/scratch") {
        Ok(_) => "yes".to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => "no".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}
