//! `tq module schema`

use crate::exit::Exit;
use crate::manifest;
use crate::output::json;

pub(crate) fn run() -> anyhow::Result<Exit> {
    json::print(&manifest::schema())?;
    Ok(Exit::Succeeded)
}
