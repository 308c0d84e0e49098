//! `tq dead …`

pub(crate) mod discard;
pub(crate) mod list;
pub(crate) mod redrive;
pub(crate) mod show;
pub(crate) mod signatures;

use tq_client::{DeadLetterFilter, DeadLetters};

use crate::args::DeadFilterArgs;
use crate::exit::Failure;
use crate::units::{Count, now_ms};

/// What was named, for the wire. Spans are counted back from now, once for all pages of a listing.
fn filter(args: DeadFilterArgs) -> DeadLetterFilter {
    let DeadFilterArgs {
        function,
        outcome,
        signature,
        since,
        until,
    } = args;
    let now = now_ms();
    DeadLetterFilter {
        function: function.unwrap_or_default(),
        outcome: outcome.unwrap_or_default(),
        signature: signature.unwrap_or_default(),
        since_ms: since.map(|since| since.at_ms(now)),
        until_ms: until.map(|until| until.at_ms(now)),
    }
}

/// So many dead letters, in words.
fn letters(count: u64) -> String {
    let letters = if count == 1 {
        "dead letter"
    } else {
        "dead letters"
    };
    format!("{} {letters}", Count(count))
}

/// Which dead letters are meant: one, all, or those of a filter.
fn which(id: Option<String>, all: bool, filter: DeadFilterArgs) -> Result<DeadLetters, Failure> {
    let filter = self::filter(filter);
    match id {
        Some(id) => Ok(DeadLetters::One(id)),
        None if all => Ok(DeadLetters::All),
        None if filter == DeadLetterFilter::default() => {
            Err(Failure::usage("no dead letters are named")
                .hint("name one by its id, some by a filter such as --signature, or --all"))
        }
        None => Ok(DeadLetters::Matching(filter)),
    }
}
