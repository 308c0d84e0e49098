//! Reading dead letters by their index rows: `(signature, time of death, task)` and `(time of death, task)`.

use tq_core::{Signature, TaskId, Timestamp};

use super::key::{self, Namespace};
use crate::store::{Direction, Error, Read, Space};

/// When a task died, and which one: what orders dead letters.
pub type Death = (Timestamp, TaskId);

/// Keys of one page of a count.
const PAGE: usize = 1_000;

/// The dead letters of a namespace that died last, the newest first: at most `limit`, of one signature or of all, that
/// died before `before` and not before `since`.
///
/// # Errors
/// The store's.
pub fn newest(
    store: &(impl Read + ?Sized),
    namespace: Namespace,
    signature: Option<Signature>,
    since: Timestamp,
    before: Death,
    limit: usize,
) -> Result<Vec<Death>, Error> {
    let (prefix, from) = match signature {
        Some(signature) => (
            key::dead_of(namespace, signature),
            key::dead(namespace, signature, before.0, before.1),
        ),
        None => (
            key::dead_at_in(namespace),
            key::dead_at(namespace, before.0, before.1),
        ),
    };
    // One more, since the first may be `before` itself.
    let pairs = store.scan(
        Space::Index,
        &prefix,
        &from.bytes,
        Direction::Descending,
        limit.saturating_add(1),
    )?;
    let deaths = pairs.iter().filter_map(|pair| key::death_of(&pair.key));
    Ok(deaths
        .filter(|death| *death < before)
        .take_while(|(at, _)| *at >= since)
        .take(limit)
        .collect())
}

/// A kind of death, and its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its signature.
    pub signature: Signature,
    /// How many tasks died so, as far as they were counted.
    pub count: usize,
    /// There may be more.
    pub at_least: bool,
    /// The one that died first.
    pub first: Death,
    /// The one that died last.
    pub last: Death,
}

/// The first kind of death from a signature on, counted up to `max`, at least 1. None if there is none.
///
/// # Errors
/// The store's.
pub fn first_kind(
    store: &(impl Read + ?Sized),
    namespace: Namespace,
    from: Signature,
    max: usize,
) -> Result<Option<Kind>, Error> {
    let scan = |prefix: &[u8], from: &[u8], direction, limit| {
        store.scan(Space::Index, prefix, from, direction, limit)
    };
    let in_namespace = key::dead_in(namespace);
    let from = key::dead_of(namespace, from);
    let found = scan(&in_namespace, &from, Direction::Ascending, 1)?;
    let Some((signature, first)) = found.first().and_then(|pair| {
        Some((
            key::dead_signature_of(&pair.key)?,
            key::death_of(&pair.key)?,
        ))
    }) else {
        return Ok(None);
    };
    let of_kind = key::dead_of(namespace, signature);
    let found = scan(&of_kind, &[], Direction::Descending, 1)?;
    let last = found.first().and_then(|pair| key::death_of(&pair.key));
    let (count, at_least) = count(store, namespace, signature, max)?;
    Ok(Some(Kind {
        signature,
        count,
        at_least,
        first,
        last: last.unwrap_or(first),
    }))
}

/// How many tasks died with a signature, counted up to `max`, and whether there may be more.
///
/// # Errors
/// The store's.
pub fn count(
    store: &(impl Read + ?Sized),
    namespace: Namespace,
    signature: Signature,
    max: usize,
) -> Result<(usize, bool), Error> {
    let prefix = key::dead_of(namespace, signature);
    let (mut count, mut from) = (0, Vec::new());
    loop {
        let page = (max + 1 - count).min(PAGE);
        let pairs = store.scan(Space::Index, &prefix, &from, Direction::Ascending, page)?;
        count += pairs.len();
        if count > max {
            return Ok((max, true));
        }
        match pairs.last() {
            Some(last) if pairs.len() == page => from = [&last.key[..], &[0]].concat(),
            Some(_) | None => return Ok((count, false)),
        }
    }
}

/// The signature after one, if there is any.
pub fn next(signature: Signature) -> Option<Signature> {
    let next = u128::from_be_bytes(signature.0).checked_add(1)?;
    Some(Signature(next.to_be_bytes()))
}
