//! `tq audit export`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, json};

use super::each_page;

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    each_page(&client, |records, _| {
        let mut lines = Vec::new();
        for record in &records {
            serde_json::to_writer(&mut lines, &json::AuditInfo::from(record))?;
            lines.push(b'\n');
        }
        Ok(output::data(&lines)?)
    })
    .await?;
    Ok(Exit::Succeeded)
}
