//! `tq dead redrive`

use tq_client::{Client, RedriveDeadLettersResponse, RedriveOptions};

use crate::args::DeadRedriveArgs;
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};
use crate::payload::Payload;
use crate::units::Count;

pub(crate) async fn run(config: &Config, args: DeadRedriveArgs) -> anyhow::Result<Exit> {
    let DeadRedriveArgs {
        id,
        all,
        dry_run,
        same_version,
        payload,
        content_type,
        filter,
    } = args;
    if let (Some(id), Some(payload)) = (&id, payload) {
        let payload = Payload::read(Some(&payload), content_type)?;
        let client = connect(config).await?;
        return with_payload(config, &client, id, payload, same_version).await;
    }
    let which = super::which(id, all, filter)?;
    let options = RedriveOptions {
        dry_run,
        same_version,
    };
    let client = connect(config).await?;
    let mut redriven = json::Redriven {
        dry_run,
        ids: Vec::new(),
        skipped: 0,
    };
    let mut cursor = String::new();
    loop {
        let RedriveDeadLettersResponse { ids, skipped, next } = client
            .redrive_dead_letters(which.clone(), options, &cursor)
            .await?;
        if config.output.value == Format::Table {
            // As they come: what was done stays done if a later request fails.
            for id in &ids {
                output::line(id)?;
            }
        }
        redriven.ids.extend(ids);
        redriven.skipped += u64::from(skipped);
        cursor = next;
        if cursor.is_empty() {
            break;
        }
    }
    match config.output.value {
        Format::Table => output::note(summary(&redriven)),
        Format::Json => json::print(&redriven)?,
    }
    Ok(Exit::Succeeded)
}

async fn with_payload(
    config: &Config,
    client: &Client,
    id: &str,
    payload: Payload,
    same_version: bool,
) -> anyhow::Result<Exit> {
    let Payload {
        bytes,
        content_type,
    } = payload;
    let task = client
        .redrive_with_payload(id, bytes, &content_type, same_version)
        .await?;
    match config.output.value {
        Format::Table => {
            output::line(&task.id)?;
            output::note(format!("a new task; {id} stays a dead letter"));
        }
        Format::Json => json::print(&json::Task::from(&task))?,
    }
    Ok(Exit::Succeeded)
}

fn summary(redriven: &json::Redriven) -> String {
    let letters = super::letters(redriven.ids.len() as u64);
    let verb = if redriven.dry_run {
        "would redrive"
    } else {
        "redrove"
    };
    let skipped = match redriven.skipped {
        0 => String::new(),
        skipped => format!("; {} were not dead any more", Count(skipped)),
    };
    format!("{verb} {letters}{skipped}")
}
