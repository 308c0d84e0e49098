//! `tq dead …`

pub(crate) mod discard;
pub(crate) mod list;
pub(crate) mod redrive;
pub(crate) mod show;
pub(crate) mod signatures;

use tq_client::DeadLetterFilter;

use crate::args::DeadFilterArgs;
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
