//! Which functions guests can call, whatever is granted.

use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async;
use wasmtime_wasi::p2::bindings::{cli, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};

use super::{Guest, scratch, sockets};
use crate::imports::bindings::tq::task::{runtime, secrets};
use crate::imports::keyvalue;

/// Everything that a component may import. The engine's WASI is linked one interface after the other, since its files and sockets are
/// not: ours are in their place.
///
/// # Errors
/// If something is there twice.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    // `wasi:io`, the clocks, `random` and the three streams of `cli`.
    add_to_linker_proxy_interfaces_async(linker)?;
    random::insecure::add_to_linker::<_, WasiRandom>(linker, Guest::random)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, Guest::random)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, Guest::cli)?;
    cli::environment::add_to_linker::<_, WasiCli>(linker, Guest::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, Guest::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, Guest::cli)?;
    scratch::add_to_linker(linker)?;
    sockets::add_to_linker(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    runtime::add_to_linker::<_, HasSelf<Guest>>(linker, counted)?;
    secrets::add_to_linker::<_, HasSelf<Guest>>(linker, counted)?;
    keyvalue::bindings::Imports::add_to_linker::<_, HasSelf<Guest>>(linker, counted)
}

/// Counts a call of the guest.
fn counted(guest: &mut Guest) -> &mut Guest {
    guest.budget.count_call();
    guest
}
