//! `tq audit …`

pub(crate) mod export;
pub(crate) mod list;
pub(crate) mod verify;

use tq_client::{AuditRecord, Client, ListAuditRecordsRequest};

/// Records of one page of what is read whole.
const PAGE: u32 = 1_000;

/// Reads all records, the oldest first, a page at a time, and with each page the newest one that there was before it was read.
async fn each_page(
    client: &Client,
    mut page: impl FnMut(Vec<AuditRecord>, Option<AuditRecord>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut request = ListAuditRecordsRequest {
        ascending: true,
        limit: PAGE,
        ..ListAuditRecordsRequest::default()
    };
    loop {
        let answer = client.audit_records(request.clone()).await?;
        page(answer.records, answer.head)?;
        if answer.next.is_empty() {
            return Ok(());
        }
        request.cursor = answer.next;
    }
}
