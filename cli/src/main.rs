//! `tq`: one binary for the nodes, for whoever deploys to them, and for whoever calls what was deployed.

mod args;
mod cases;
mod commands;
mod commas;
mod config;
mod cors;
mod credential;
mod document;
mod exit;
mod labels;
mod limits;
mod manifest;
mod networks;
mod nodes;
mod output;
mod payload;
mod telemetry;
mod toolchain;
mod traceparent;
mod unfinished;
mod units;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::config::Config;
use crate::exit::Exit;
use crate::telemetry::Role;

/// A broker makes and frees small things at a high rate and across threads, which the system's allocator spent a third of the
/// ledger's time on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A host compiles modules and runs guests in child processes, which are this program again. They have to be small and
    // single threaded when they confine themselves, so nothing may come before this.
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some((first, arguments)) = words.split_first() {
        if first == "__compile" {
            return tq_host::component::compile_child(arguments);
        }
        if first == "__run" {
            return tq_host::processes::run_child(arguments);
        }
    }
    let cli = Cli::parse();
    match start(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = exit::code(&error);
            if exit != Exit::Succeeded {
                output::note(exit::text(&error));
            }
            exit.into()
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<Exit> {
    let config = Config::resolve(&cli)?;
    let role = match &cli.command {
        Command::Dev(_) | Command::Broker(_) => Role::Node,
        Command::Host(host) if host.command.is_none() => Role::Node,
        _ => Role::Client,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // The exporter of traces needs the run time at its start, and sends its last ones before that ends.
    let telemetry = {
        let _guard = runtime.enter();
        telemetry::start(&config, role)?
    };
    let done = runtime.block_on(commands::run(cli.command, &config));
    telemetry.shutdown();
    done
}
