//! `tq secret set`

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use anyhow::Context as _;
use tq_core::limits::SECRET_BYTES_MAX;

use crate::commands::connect;
use crate::config::Config;
use crate::exit::{Exit, Failure};

pub(crate) async fn run(config: &Config, name: &str, file: Option<&Path>) -> anyhow::Result<Exit> {
    let value = match file {
        Some(path) => read(File::open(path).map_err(|error| {
            let failed = format!(
                "failed to read the secret from `{}`: {error}",
                path.display()
            );
            match error.kind() {
                io::ErrorKind::NotFound => Failure::not_found(failed),
                _ => Failure::usage(failed),
            }
        })?)?,
        None => from_standard_input(name)?,
    };
    let set = connect(config)
        .await?
        .set_secret(name, value.into())
        .await?;
    super::print(config, &[set])?;
    Ok(Exit::Succeeded)
}

/// What is piped in, without the line feed that most programs put behind it.
fn from_standard_input(name: &str) -> anyhow::Result<Vec<u8>> {
    let input = io::stdin();
    if input.is_terminal() {
        // What is typed would be seen.
        let failed = Failure::usage("the secret is read from standard input, which is a terminal");
        return Err(failed
            .hint(format!("printenv VARIABLE | tq secret set {name}"))
            .into());
    }
    let mut value = read(input.lock())?;
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    Ok(value)
}

fn read(from: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut value = Vec::new();
    // Enough to know that it is too long, which the broker says.
    from.take(SECRET_BYTES_MAX as u64 + 2)
        .read_to_end(&mut value)
        .context("failed to read the secret")?;
    Ok(value)
}
