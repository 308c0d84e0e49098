//! The compiler's process by itself, for tests, which have no `tq` to start.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    tq_host::component::compile_child(&arguments)
}
