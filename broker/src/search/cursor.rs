//! Where a page begins.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tq_core::{TaskId, Timestamp};

use super::{By, Error, Search};

/// Behind which task a page begins, and of which search it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the first page was asked for.
    pub(super) now: Timestamp,
    print: u64,
    pub(super) place: Place,
}

/// A place in the order of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In that of submits.
    Submitted(TaskId),
    /// In that of ends: when, in which commit, and which task of it.
    Ended(Timestamp, u64, TaskId),
    /// In one by a number.
    Ranked(u64, TaskId),
}

const SUBMITTED: u8 = 1;
const ENDED: u8 = 2;
const RANKED: u8 = 3;

impl Cursor {
    pub(super) fn new(search: &Search, place: Place) -> Self {
        Self {
            now: search.now,
            print: search.print,
            place,
        }
    }

    /// Whether a search could have given it.
    pub(super) fn fits(&self, search: &Search) -> bool {
        let is_of_order = match (self.place, search.has_ended(), search.sort.by) {
            (Place::Submitted(_), false, By::Submitted) | (Place::Ended(..), true, By::Ended) => {
                true
            }
            (Place::Ranked(..), true, by) => by != By::Ended,
            _ => false,
        };
        is_of_order && self.print == search.print
    }

    /// As text, of letters, digits, `-` and `_`.
    pub fn encode(&self) -> String {
        let (kind, numbers, id) = match self.place {
            Place::Submitted(id) => (SUBMITTED, [0, 0], id),
            Place::Ended(at, seq, id) => (ENDED, [at.0, seq], id),
            Place::Ranked(number, id) => (RANKED, [number, 0], id),
        };
        let mut bytes = vec![kind];
        for number in [self.now.0, self.print].iter().chain(&numbers) {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&id.0);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Error::Cursor`] if the text is none.
    pub fn decode(text: &str) -> Result<Self, Error> {
        Self::read(text).ok_or(Error::Cursor)
    }

    fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&[kind], rest) = bytes.split_first_chunk()?;
        let (numbers, id) = rest.split_first_chunk::<32>()?;
        let id = TaskId(id.try_into().ok()?);
        let (numbers, _) = numbers.as_chunks();
        let &[now, print, first, second] = numbers else {
            return None;
        };
        let [now, print, first, second] = [now, print, first, second].map(u64::from_be_bytes);
        Some(Self {
            now: Timestamp(now),
            print,
            place: match kind {
                SUBMITTED => Place::Submitted(id),
                ENDED => Place::Ended(Timestamp(first), second, id),
                RANKED => Place::Ranked(first, id),
                _ => return None,
            },
        })
    }
}
