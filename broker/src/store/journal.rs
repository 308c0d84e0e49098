//! Reads the engine's journals before the engine does.
//!
//! On recovery fjall 3.1 takes any entry that it cannot decode for the end of a journal, cuts the file there and goes
//! on, so that one flipped bit would lose every later commit in silence. It also does not cover the header of a batch
//! (its item count and sequence number) by the batch's checksum. So the journals are read here first, without changing
//! them: each batch must be whole, the engine's sequence numbers must rise, and each commit must name the one before it.
//!
//! The format is that of fjall 3.1 without compression, little endian: `1, item count: u32, seqno: u64`, then for each
//! item `2, value type: u8, compression: u8, keyspace: u64, key length: u16, value length: u32, length on disk: u32,
//! key, value`, then `3, xxh3 of all items: u64, "FJL\x03"`. A journal is created 64 MiB long and filled with zeros.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use super::{
    Error,
    row::{NotARow, ROW_KEY, Row},
};

const START_BYTES: usize = 1 + 4 + 8;
const ITEM_HEADER_BYTES: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;
const TRAILER: &[u8] = b"FJL\x03";
/// How far the engine's sequence number may rise from one batch to the next: it also counts its own flushes and
/// compactions. A header whose number was damaged upwards does not pass for a batch.
const SEQNO_STEP_MAX: u64 = 1 << 32;

/// What the journals hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The last commit before the first damage, or at the end.
    pub(super) last: Option<Row>,
    /// How many commits were read before the first damage.
    pub(super) commits: u64,
    /// The format of a commit that a newer tq wrote. Nothing after it was read.
    pub(super) newer: Option<u32>,
    /// The first place that cannot be read.
    pub(super) damage: Option<Damage>,
}

/// A place in a journal from which on it cannot be read.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    /// The end of what is not zero after `offset`.
    pub(super) end: u64,
    pub(super) what: &'static str,
    /// The journals after this one.
    pub(super) later: Vec<PathBuf>,
    /// The highest commit that whole batches behind the damage show to have been synced, 0 if there are none.
    pub(super) durable: u64,
}

/// Reads all journals in `tables`, from the oldest to the newest. Holds one of them in memory at a time.
pub(super) fn scan(tables: &Path) -> Result<Scan, Error> {
    let journals = list(tables)?;
    let mut scan = Scan::default();
    let mut seqno_last = None;
    for (index, path) in journals.iter().enumerate() {
        let data = read(path)?;
        let mut offset = 0;
        let what = loop {
            match parse(&data[offset..]) {
                Parsed::End => break None,
                Parsed::OtherFormat(format) => {
                    scan.newer = Some(format);
                    return Ok(scan);
                }
                Parsed::Bad(what) => break Some(what),
                Parsed::Batch { len, seqno, row } => {
                    if seqno_last.is_some_and(|last| seqno <= last || seqno - last > SEQNO_STEP_MAX)
                    {
                        break Some("a batch is out of order");
                    }
                    if scan.last.is_some_and(|last| last.seq != row.previous) {
                        break Some("a commit is missing");
                    }
                    seqno_last = Some(seqno);
                    scan.last = Some(row);
                    scan.commits += 1;
                    offset += len;
                }
            }
        };
        if let Some(what) = what {
            let later = journals[index + 1..].to_vec();
            let mut durable = evidence(&data[offset..]);
            for path in &later {
                durable = durable.max(evidence_of_later(&read(path)?));
            }
            let end = data
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(offset, |last| last + 1)
                .max(offset);
            scan.damage = Some(Damage {
                path: path.clone(),
                offset: offset as u64,
                end: end as u64,
                what,
                later,
                durable,
            });
            return Ok(scan);
        }
    }
    Ok(scan)
}

/// The journals in `tables`, from the oldest to the newest.
fn list(tables: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Io {
        doing: "list the journals in",
        path: tables.to_path_buf(),
        source,
    };
    let mut journals = Vec::new();
    for entry in fs::read_dir(tables).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = number(&path).ok_or_else(|| Error::Corrupt {
                path: tables.to_path_buf(),
                what: format!("`{}` is no journal's name", path.display()),
            })?;
            journals.push((number, path));
        }
    }
    journals.sort_unstable();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// The journal that the engine writes to, or did until just now.
pub(super) fn newest(tables: &Path) -> Result<PathBuf, Error> {
    list(tables)?.pop().ok_or_else(|| Error::Corrupt {
        path: tables.to_path_buf(),
        what: "there is no journal".to_owned(),
    })
}

/// Whether what was committed before this call is in this journal or an earlier one: it is there, and the one after it is
/// not. The engine removes the oldest first, so that where the next one has come and gone, this one has too.
pub(super) fn is_newest(journal: &Path) -> Result<bool, Error> {
    let next = number(journal).map_or(0, |number| number + 1);
    let next = journal.with_file_name(format!("{next}.jnl"));
    let is_there = |path: &Path| {
        path.try_exists().map_err(|source| Error::Io {
            doing: "look for",
            path: path.to_path_buf(),
            source,
        })
    };
    // In this order: what comes and goes between the two looks is seen by the second one.
    Ok(!is_there(&next)? && is_there(journal)?)
}

/// The number in a journal's name.
fn number(journal: &Path) -> Option<u64> {
    journal.file_stem()?.to_str()?.parse().ok()
}

/// Reads a journal without the zeros at its end, which a new one has 64 MiB of. It is read once to find its end and once
/// more to that, so that no more memory is taken than there is data.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Io {
        doing: "read journal",
        path: path.to_path_buf(),
        source,
    };
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut chunk = vec![0; 256 * 1024];
    let (mut at, mut end) = (0, 0);
    loop {
        let len = file.read(&mut chunk).map_err(failed)?;
        if len == 0 {
            break;
        }
        if let Some(last) = chunk[..len].iter().rposition(|byte| *byte != 0) {
            end = at + last + 1;
        }
        at += len;
    }
    let mut data = vec![0; end];
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    file.read_exact(&mut data).map_err(failed)?;
    Ok(data)
}

enum Parsed {
    Batch {
        len: usize,
        seqno: u64,
        row: Row,
    },
    /// Nothing but the zeros that a journal is created with.
    End,
    OtherFormat(u32),
    Bad(&'static str),
}

/// Takes bytes off the front of a slice.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }
}

/// Reads the batch at the front of `data`.
fn parse(data: &[u8]) -> Parsed {
    match data.first() {
        None => return Parsed::End,
        Some(0) if data.iter().all(|byte| *byte == 0) => return Parsed::End,
        Some(1) => {}
        Some(_) => return Parsed::Bad("no batch begins where one should"),
    }
    parse_batch(data).unwrap_or(Parsed::Bad("a batch is cut off"))
}

/// `None` if `data` ends within the batch.
fn parse_batch(data: &[u8]) -> Option<Parsed> {
    let mut cursor = Cursor(data);
    let _tag = cursor.array::<1>()?;
    let items = u32::from_le_bytes(cursor.array()?);
    let seqno = u64::from_le_bytes(cursor.array()?);
    let mut row = None;
    for item in 0..items {
        let [2, _value_type, 0] = cursor.array()? else {
            return Some(Parsed::Bad("a batch is torn"));
        };
        let _keyspace: [u8; 8] = cursor.array()?;
        let key_len = usize::from(u16::from_le_bytes(cursor.array()?));
        let value_len: [u8; 4] = cursor.array()?;
        let disk_len: [u8; 4] = cursor.array()?;
        if value_len != disk_len {
            return Some(Parsed::Bad("a batch is torn"));
        }
        let key = cursor.bytes(key_len)?;
        let value = cursor.bytes(u32::from_le_bytes(value_len) as usize)?;
        if item == 0 {
            if key != ROW_KEY {
                return Some(Parsed::Bad("a batch does not begin with its commit"));
            }
            row = Some(Row::decode(value));
        }
    }
    let hashed = &data[START_BYTES..data.len() - cursor.0.len()];
    let [3] = cursor.array()? else {
        return Some(Parsed::Bad("a batch is torn"));
    };
    let checksum = u64::from_le_bytes(cursor.array()?);
    if cursor.bytes(TRAILER.len())? != TRAILER {
        return Some(Parsed::Bad("a batch has no end"));
    }
    if xxhash_rust::xxh3::xxh3_64(hashed) != checksum {
        return Some(Parsed::Bad("a batch does not have its checksum"));
    }
    let len = data.len() - cursor.0.len();
    Some(match row {
        Some(Ok(row)) => Parsed::Batch { len, seqno, row },
        Some(Err(NotARow::OtherFormat(format))) => Parsed::OtherFormat(format),
        Some(Err(NotARow::Malformed)) | None => Parsed::Bad("a commit cannot be read"),
    })
}

/// Where the last commit up to `seq` ends in `data`.
#[cfg(test)]
pub(super) fn end_of(data: &[u8], seq: u64) -> usize {
    let mut end = 0;
    while let Parsed::Batch { len, row, .. } = parse(&data[end..])
        && row.seq <= seq
    {
        end += len;
    }
    end
}

/// Every whole batch in `data`, wherever it begins: it is found by its commit's key.
fn batches_anywhere(data: &[u8]) -> impl Iterator<Item = Row> {
    const KEY_OFFSET: usize = START_BYTES + ITEM_HEADER_BYTES;
    data.windows(ROW_KEY.len())
        .enumerate()
        .filter(|(_, window)| *window == ROW_KEY)
        .filter_map(
            move |(at, _)| match parse(data.get(at.checked_sub(KEY_OFFSET)?..)?) {
                Parsed::Batch { row, .. } => Some(row),
                Parsed::End | Parsed::OtherFormat(_) | Parsed::Bad(_) => None,
            },
        )
}

/// The highest commit that whole batches behind a damage know to have been synced.
fn evidence(data: &[u8]) -> u64 {
    batches_anywhere(data)
        .map(|row| row.durable)
        .max()
        .unwrap_or(0)
}

/// The same in a journal after the damaged one. Its mere existence shows that all before its first commit was synced,
/// since the engine syncs a journal before it begins another.
fn evidence_of_later(data: &[u8]) -> u64 {
    batches_anywhere(data)
        .map(|row| row.durable.max(row.previous))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: &[u8], expected: &[u8]) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("0.jnl");
        fs::write(&path, written).expect("a write");
        assert_eq!(read(&path).expect("it can be read"), expected);
    }

    #[test]
    fn journal_is_read_without_the_zeros_at_its_end() {
        let far = [&[1][..], &[0; 700_000], &[2]].concat();
        check(&[], &[]);
        check(&[0; 700_000], &[]);
        check(&far, &far);
        check(&[&far[..], &[0; 300_000]].concat(), &far);
        check(&[&[0, 0, 3][..], &[0; 10]].concat(), &[0, 0, 3]);
    }
}
