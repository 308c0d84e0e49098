//! `tq audit list`

use tq_client::ListAuditRecordsRequest;

use crate::args::AuditListArgs;
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json, table};
use crate::units::now_ms;

pub(crate) async fn run(config: &Config, args: AuditListArgs) -> anyhow::Result<Exit> {
    let AuditListArgs {
        since,
        until,
        who,
        call,
        limit,
    } = args;
    let client = connect(config).await?;
    let request = ListAuditRecordsRequest {
        namespace: config.namespace.value.clone(),
        from_ms: since.map_or(0, |since| since.at_ms(now_ms())),
        until_ms: until.map_or(0, |until| until.at_ms(now_ms())),
        principal: who.unwrap_or_default(),
        call: call.unwrap_or_default(),
        limit,
        ..ListAuditRecordsRequest::default()
    };
    let answer = client.audit_records(request).await?;
    match config.output.value {
        Format::Table => {
            table::print_audit(&answer.records)?;
            if !answer.next.is_empty() {
                output::note("there are more; --limit shows them, and `tq audit export` all");
            }
        }
        Format::Json => json::print(&json::AuditList::new(&answer.records))?,
    }
    Ok(Exit::Succeeded)
}
