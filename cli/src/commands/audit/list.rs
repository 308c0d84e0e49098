//! `tq audit list`

use tq_client::ListAuditRecordsRequest;

use crate::args::AuditListArgs;
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json, table};
use crate::units::now_ms;

use super::PAGE;

pub(crate) async fn run(config: &Config, args: AuditListArgs) -> anyhow::Result<Exit> {
    let AuditListArgs {
        since,
        until,
        who,
        call,
        limit,
        cursor,
    } = args;
    let client = connect(config).await?;
    let mut request = ListAuditRecordsRequest {
        namespace: config.namespace.value.clone(),
        from_ms: since.map_or(0, |since| since.at_ms(now_ms())),
        until_ms: until.map_or(0, |until| until.at_ms(now_ms())),
        principal: who.unwrap_or_default(),
        call: call.unwrap_or_default(),
        cursor: cursor.unwrap_or_default(),
        ..ListAuditRecordsRequest::default()
    };
    let mut wanted = limit;
    let mut records = Vec::new();
    // Pages may be short or empty, and yet have a next one.
    loop {
        request.limit = wanted.min(PAGE);
        let answer = client.audit_records(request.clone()).await?;
        wanted = wanted.saturating_sub(u32::try_from(answer.records.len()).unwrap_or(u32::MAX));
        records.extend(answer.records);
        request.cursor = answer.next;
        if wanted == 0 || request.cursor.is_empty() {
            break;
        }
    }
    let next = request.cursor;
    match config.output.value {
        Format::Table => {
            table::print_audit(&records)?;
            if !next.is_empty() {
                output::note(format!("there are more; go on with --cursor {next}"));
            }
        }
        Format::Json => json::print(&json::AuditList::new(&records, &next))?,
    }
    Ok(Exit::Succeeded)
}
