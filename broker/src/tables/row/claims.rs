//! Rows of claims: which host got which tasks in one commit. A claim is not in its task's state row, which would be
//! written only to be overwritten soon. It counts until the state row says more, or its claims row is gone.

use bytes::Bytes;
use prost::Message;
use tq_core::TaskId;
use tq_core::task::Lease;

use super::Error;
use super::task::{LeaseRow, encode_lease, lease};
use super::write::{nested, number, slice};
use crate::tables::Namespace;

/// What most claims take in a row.
const CLAIM_BYTES: usize = 64;

#[derive(Clone, PartialEq, Eq, Message)]
struct ClaimRow {
    #[prost(uint32, tag = "1")]
    namespace: u32,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    lease: Option<LeaseRow>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ClaimsRow {
    #[prost(message, repeated, tag = "1")]
    claims: Vec<ClaimRow>,
}

/// A task that was handed to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is.
    pub namespace: Namespace,
    /// The task.
    pub id: TaskId,
    /// Who got it, and as which attempt.
    pub lease: Lease,
}

/// Encodes the claims of one commit.
pub fn encode_claims(claims: &[Claim]) -> Vec<u8> {
    let mut row = Vec::with_capacity(claims.len() * CLAIM_BYTES);
    for Claim {
        namespace,
        id,
        lease,
    } in claims
    {
        nested(1, &mut row, |row| {
            number(1, namespace.0.into(), row);
            slice(2, &id.0, row);
            nested(3, row, |row| encode_lease(lease, row));
        });
    }
    row
}

/// Decodes them.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_claims(row: Bytes) -> Result<Vec<Claim>, Error> {
    let kind = "claims";
    let row = ClaimsRow::decode(row).map_err(|source| Error::Decode { kind, source })?;
    let claims = row.claims.into_iter().map(|claim| {
        let unknown = |field| Error::Field { kind, field };
        Ok(Claim {
            namespace: Namespace(claim.namespace),
            id: TaskId(claim.id.try_into().map_err(|_| unknown("id"))?),
            lease: claim.lease.map(lease).ok_or_else(|| unknown("lease"))?,
        })
    });
    claims.collect()
}

#[cfg(test)]
mod tests {
    use tq_core::{Epoch, Timestamp};

    use super::*;

    #[test]
    fn claims_survive_their_row() {
        let claim = |number: u8| Claim {
            namespace: Namespace(number.into()),
            id: TaskId([number; 16]),
            lease: Lease {
                epoch: Epoch::new(1, number.into()),
                host: "h".repeat(number.into()).into(),
                started_at: Timestamp(number.into()),
            },
        };
        for count in [0, 1, 200] {
            let claims: Vec<_> = (0..count).map(claim).collect();
            let row = encode_claims(&claims);
            let len = ClaimsRow::decode(&row[..]).map(|row| row.encoded_len());
            // It is what protobuf makes of it.
            assert_eq!(len, Ok(row.len()));
            let decoded = decode_claims(row.into()).expect("what was encoded can be decoded");
            assert_eq!(decoded, claims);
        }
        decode_claims(b"\x0a\x00"[..].into()).expect_err("it has no task");
    }
}
