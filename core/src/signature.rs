//! What tells one kind of death from another.
//!
//! Tasks that died the same way have the same signature, whatever their payload, host, attempt and module version were:
//! it is made of the module, the function, the outcome, what the failure says and where it happened, without what differs
//! from one run to the next. It is part of keys in the store, so that another way to make it is another format of the
//! data directory; the test below holds it still.

use std::fmt;
use std::str::FromStr;

use crate::Outcome;
use crate::task::{Attempt, Spec, State, Task};

/// Frames that count: further out stands what called, which is alike for many deaths or differs for one.
const FRAMES: usize = 3;
/// Bytes of a message that count, once it is normalised.
const MESSAGE_BYTES: usize = 512;
/// How a host's message goes over into the end of the guest's log.
const LOG_MARK: &str = "; its log ends with:\n";

/// 16 bytes that stand for a kind of death.
///
/// No secret is behind it: a guest that wants to can make two deaths look alike, in its own namespace only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 16]);

impl Signature {
    /// The fewest hexadecimal digits that people see and may give: of 10,000 kinds of death, two share them once in
    /// 5 million cases.
    pub const DIGITS_MIN: usize = 12;

    /// The signature of a task that is dead; none for any other.
    #[must_use]
    pub fn of(task: &Task) -> Option<Self> {
        match task.state {
            State::Dead { .. } => Some(Self::of_attempt(&task.spec, task.attempts.last())),
            State::Blocked { .. }
            | State::Scheduled { .. }
            | State::Ready { .. }
            | State::Running { .. }
            | State::Succeeded { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => None,
        }
    }

    /// The signature of a death after `last`.
    fn of_attempt(spec: &Spec, last: Option<&Attempt>) -> Self {
        let mut hash = Fnv::new();
        hash.field(&spec.module);
        hash.field(&spec.function);
        hash.field(last.map_or("", |attempt| attempt.outcome.name()));
        let failure = last.and_then(|attempt| attempt.failure.as_ref());
        if let Some(failure) = failure {
            hash.field(&normalised(&failure.message));
        }
        if let (Some(attempt), Some(failure)) = (last, failure)
            && is_where_it_failed(attempt.outcome)
        {
            frames(&failure.backtrace).for_each(|frame| hash.field(frame));
        }
        Self(hash.finish())
    }

    /// All signatures that begin with these hexadecimal digits, as the first and the last of them.
    ///
    /// # Errors
    /// [`ParseError`] unless there are 12 to 32 of them.
    pub fn range(digits: &str) -> Result<(Self, Self), ParseError> {
        let error = || ParseError(digits.chars().take(40).collect());
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hex || !(Self::DIGITS_MIN..=32).contains(&digits.len()) {
            return Err(error());
        }
        let value = u128::from_str_radix(digits, 16).map_err(|_| error())?;
        let rest = 4 * (32 - digits.len() as u32);
        let first = value << rest;
        let last = first | ((1_u128 << rest) - 1);
        Ok((Self(first.to_be_bytes()), Self(last.to_be_bytes())))
    }
}

impl fmt::Display for Signature {
    /// All 32 digits; with a precision, as in `{:.12}`, the first ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", u128::from_be_bytes(self.0));
        f.pad(&digits)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Signature {
    type Err = ParseError;

    /// Reads all 32 digits.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        match Self::range(text) {
            Ok((first, last)) if first == last => Ok(first),
            Ok(_) | Err(_) => Err(ParseError(text.chars().take(40).collect())),
        }
    }
}

/// A text that is no signature, nor the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a signature; expected 12 to 32 hexadecimal digits, as `tq dead signatures` prints them"
)]
pub struct ParseError(String);

/// Whether the innermost frames are where the guest went wrong. At a limit they are wherever it happened to be.
fn is_where_it_failed(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Trap | Outcome::Exit | Outcome::NoResult | Outcome::HostLimit => true,
        Outcome::Succeeded
        | Outcome::FuelExhausted
        | Outcome::Timeout
        | Outcome::MemoryLimit
        | Outcome::StackOverflow
        | Outcome::OutputLimit
        | Outcome::HandleLimit
        | Outcome::HostCallLimit
        | Outcome::RandomLimit
        | Outcome::HttpRequestLimit
        | Outcome::HttpByteLimit
        | Outcome::HttpTimeLimit
        | Outcome::ScratchLimit
        | Outcome::CheckpointLimit
        | Outcome::InvalidInput
        | Outcome::RetryableError
        | Outcome::FatalError
        | Outcome::MissingExport
        | Outcome::CompileFailed
        | Outcome::Cancelled
        | Outcome::DeadlineExceeded
        | Outcome::HostLost
        | Outcome::HostError
        | Outcome::HostDrained
        | Outcome::RunnerCrashed => false,
    }
}

/// The innermost frames of a backtrace by name, without file, line and offset, and without a panic's own machinery, which
/// is the same for every panic. If there is nothing else, that.
fn frames(backtrace: &str) -> impl Iterator<Item = &str> {
    // Lines that are indented say where a frame is, and dots how often.
    let names = || {
        let lines = backtrace.lines();
        lines.filter(|line| !line.is_empty() && !line.starts_with([' ', '\t', '.']))
    };
    let is_machinery = |name: &str| {
        const MACHINERY: [&str; 8] = [
            "std::", "core::", "alloc::", "__rust", "_rust", "rust_", "abort", "__abort",
        ];
        MACHINERY.iter().any(|prefix| name.starts_with(prefix))
    };
    let all_are = names().all(is_machinery);
    names()
        .filter(move |name| all_are || !is_machinery(name))
        // A frame without a name is numbered, and the number changes with every build.
        .map(|name| match name.starts_with("function ") {
            true => "function",
            false => name,
        })
        .take(FRAMES)
}

/// A message without what differs from one run to the next: numbers, runs of hexadecimal digits, UUIDs, what stands in
/// quotes, and the way white space is laid out. Of a log behind the message, its last line.
fn normalised(message: &str) -> String {
    let message = match message.split_once(LOG_MARK) {
        Some((head, log)) => {
            // Rust's remark on backtraces comes last, whatever went wrong.
            let tells = |line: &&str| {
                !line.trim().is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE")
            };
            let last = log.lines().rfind(tells);
            format!("{head}; {}", last.unwrap_or_default())
        }
        None => message.to_owned(),
    };
    let mut out = String::with_capacity(message.len().min(2 * MESSAGE_BYTES));
    let mut rest = message.trim();
    while let Some(c) = rest.chars().next() {
        if out.len() >= MESSAGE_BYTES {
            break;
        }
        let is_in_word = out.ends_with(|c: char| c.is_alphanumeric());
        rest = if c.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
            rest.trim_start()
        } else if let Some(after) = quoted(rest, is_in_word) {
            out.push('"');
            out.push('"');
            after
        } else if c.is_ascii_alphanumeric() {
            let (word, after) = word(rest);
            out.push_str(&word);
            after
        } else {
            out.push(c);
            &rest[c.len_utf8()..]
        };
    }
    out.truncate(out.floor_char_boundary(MESSAGE_BYTES));
    out
}

/// What follows a text in quotes, if there is one at the beginning: it ends on the same line. An apostrophe within a word
/// opens none.
fn quoted(text: &str, is_in_word: bool) -> Option<&str> {
    let quote = text.chars().next()?;
    let close = match quote {
        '"' | '`' => quote,
        '\'' if !is_in_word => quote,
        '“' => '”',
        '‘' => '’',
        _ => return None,
    };
    let inside = &text[quote.len_utf8()..];
    let mut ends = inside.char_indices().filter(|(_, c)| *c == close);
    let after = ends.find_map(|(at, c)| {
        let after = &inside[at + c.len_utf8()..];
        // `'it can't be'` ends with its last quote, not in the middle of a word.
        let goes_on = c == '\'' && after.starts_with(|c: char| c.is_alphanumeric());
        (!goes_on).then_some((at, after))
    });
    after
        .filter(|(at, _)| !inside[..*at].contains('\n'))
        .map(|(_, after)| after)
}

/// The word at the beginning, which begins with a letter or digit, and what follows it.
fn word(text: &str) -> (String, &str) {
    const UUID: usize = 36;
    const HEX_RUN: usize = 8;
    let bytes = text.as_bytes();
    let is_uuid = bytes.len() >= UUID
        && bytes[..UUID].iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
        && !bytes.get(UUID).is_some_and(u8::is_ascii_alphanumeric);
    if is_uuid {
        return ("#".to_owned(), &text[UUID..]);
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    let (run, mut after) = text.split_at(end);
    let digits = run
        .strip_prefix("0x")
        .or_else(|| run.strip_prefix("0X"))
        .unwrap_or(run);
    let has_digit = digits.bytes().any(|byte| byte.is_ascii_digit());
    let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && (digits.len() < run.len() || (has_digit && run.len() >= HEX_RUN)) {
        return ("#".to_owned(), after);
    }
    if !has_digit {
        return (run.to_owned(), after);
    }
    let mut word = String::with_capacity(run.len());
    for c in run.chars() {
        match c.is_ascii_digit() {
            true if word.ends_with('#') => {}
            true => word.push('#'),
            false => word.push(c),
        }
    }
    // `1,000` and `999`, `1.5` and `2` are numbers alike.
    while word.ends_with('#') {
        let digits = after.strip_prefix([',', '.', '_']).unwrap_or_default();
        let number = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        if number == 0 {
            break;
        }
        after = &digits[number..];
    }
    (word, after)
}

/// FNV-1a with 128 bits (Fowler, Noll, Vo), and the finalizer of splitmix64 (Steele, Lea, Flood 2014) over both
/// halves, since the first digits are what people see and FNV alone mixes the last bytes into them badly.
struct Fnv(u128);

impl Fnv {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

    fn new() -> Self {
        Self(Self::BASIS)
    }

    /// Adds a text with its length, so that no two lists of texts are one.
    fn field(&mut self, text: &str) {
        let len = (text.len() as u64).to_be_bytes();
        for byte in len.iter().chain(text.as_bytes()) {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(Self::PRIME);
        }
    }

    fn finish(self) -> [u8; 16] {
        let mix = |mut x: u64| {
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        };
        let (high, low) = ((self.0 >> 64) as u64, self.0 as u64);
        let low = mix(low);
        let high = mix(high ^ low);
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Placement;

    #[track_caller]
    fn check(message: &str, expected: &str) {
        assert_eq!(normalised(message), expected);
    }

    #[test]
    fn what_differs_from_run_to_run_is_left_out_of_a_message() {
        check("attempt 3 of 12 failed", "attempt # of # failed");
        check("waited 1,204.5 ms", "waited # ms");
        check(
            "panicked at src/lib.rs:12:5:\nboom",
            "panicked at src/lib.rs:#:#: boom",
        );
        check("no row 0198c9a4-7f1e-7c3a-b1de-5a0e6f2d9c41.", "no row #.");
        check("at 0xdeadBEEF and 7f3a99c0de", "at # and #");
        check("utf8 and sha256", "utf# and sha#");
        // Words of such letters stay words.
        check("a facade of beads", "a facade of beads");
        check(
            "no file 'a b.txt' in \"/tmp/x\" or `y`",
            "no file \"\" in \"\" or \"\"",
        );
        check("can't read it, won't try", "can't read it, won't try");
        check("'it can't be' again", "\"\" again");
        check("it is 5' long", "it is #' long");
        check("“Zoë” is unknown", "\"\" is unknown");
        check(
            "an open \" quote\nand \" another",
            "an open \" quote and \" another",
        );
        check("  spread   over\t\nlines ", "spread over lines");
        check("ärger № 7", "ärger № #");
        check("", "");
    }

    #[test]
    fn of_a_log_its_last_line_counts() {
        let first =
            "it exited with code 1; its log ends with:\nstep 1\nError: no such colour: 'Mauve'\n\n";
        let second = "it exited with code 2; its log ends with:\nError: no such colour: 'Teal'\n";
        assert_eq!(normalised(first), normalised(second));
        check(first, "it exited with code #; Error: no such colour: \"\"");
        let note =
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        assert_eq!(normalised(&format!("{second}{note}")), normalised(first));
    }

    #[test]
    fn frames_are_names_without_places_and_machinery() {
        let backtrace = "__rustc::rust_panic\nstd::panicking::rust_panic_with_hook\n    at /rustc/library/std/src/panicking.rs:823\n\
            core::panicking::panic_fmt\nshop::mail::send\n    at shop/src/mail.rs:12\n    ... 3 times\nfunction 41\nshop::main\nshop::more\n... and what called that\n";
        let named: Vec<_> = frames(backtrace).collect();
        assert_eq!(named, ["shop::mail::send", "function", "shop::main"]);
        let only: Vec<_> = frames("abort\n__rust_start_panic\n").collect();
        assert_eq!(only, ["abort", "__rust_start_panic"]);
    }

    fn signature(outcome: Outcome, message: &str, backtrace: &str) -> Signature {
        use crate::task::{DataRef, Failure};
        use crate::{Digest, Epoch, Limits, Priority, RetryPolicy, Timestamp};
        let spec = Spec {
            namespace: "default".into(),
            module: "mail".into(),
            version: 1,
            digest: Digest([7; 32]),
            function: "send".into(),
            payload: DataRef::Row { len: 3 },
            content_type: String::new(),
            arguments: Vec::new(),
            limits: Limits::DEFAULT,
            retry: RetryPolicy::DEFAULT,
            priority: Priority::DEFAULT,
            placement: Placement::default(),
            result_ttl: None,
            run_at: None,
            deadline: None,
            idempotency_key: String::new(),
            unique_key: String::new(),
            traceparent: String::new(),
            submitted_at: Timestamp(1),
            labels: crate::label::Labels::new(),
            redriven_from: None,
        };
        let attempt = Attempt {
            number: 1,
            round: 1,
            host: "a".into(),
            epoch: Epoch(1),
            outcome,
            failure: Some(Failure {
                message: message.to_owned(),
                backtrace: backtrace.to_owned(),
            }),
            usage: crate::outcome::Usage::default(),
            started_at: Timestamp(1),
            ended_at: Timestamp(2),
        };
        Signature::of_attempt(&spec, Some(&attempt))
    }

    #[test]
    fn same_death_has_the_same_signature_and_another_one_has_not() {
        let trap = |message, backtrace| signature(Outcome::Trap, message, backtrace);
        let one = trap("no order 17", "shop::pay\n    at pay.rs:3\n");
        assert_eq!(one, trap("no order 4711", "shop::pay\n    at pay.rs:9\n"));
        assert_ne!(one, trap("no order 17", "shop::ship\n"));
        assert_ne!(one, trap("no invoice 17", "shop::pay\n"));
        assert_ne!(one, signature(Outcome::FatalError, "no order 17", ""));
        // A limit is hit wherever the guest happens to be.
        let timeout = |backtrace| signature(Outcome::Timeout, "over 30 s", backtrace);
        assert_eq!(timeout("shop::pay\n"), timeout("shop::ship\n"));
    }

    #[test]
    fn signature_stays_what_it_is() {
        // Keys in data directories have it. If this changes, the format of the store has to.
        let text = signature(Outcome::Trap, "no order 17", "shop::pay\n").to_string();
        assert_eq!(text, "b2ca8c25865d98eaf18028586b897141");
    }

    #[test]
    fn first_digits_name_a_range() {
        let signature = Signature([0xab; 16]);
        assert_eq!(format!("{signature:.12}"), "abababababab");
        assert_eq!(signature.to_string().parse(), Ok(signature));
        let (first, last) = Signature::range("abababababab").expect("12 digits are enough");
        assert!((first..=last).contains(&signature));
        assert_eq!(
            Signature::range(&signature.to_string()),
            Ok((signature, signature))
        );
        for text in [
            "",
            "abababababa",
            "abababababax",
            "+babababababab",
            &"a".repeat(33),
        ] {
            assert!(Signature::range(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_message_panics_and_all_are_bounded(message: String, backtrace: String) {
            prop_assert!(normalised(&message).len() <= MESSAGE_BYTES);
            prop_assert!(frames(&backtrace).count() <= FRAMES);
        }

        #[test]
        fn numbers_do_not_count(a: u64, b: u64) {
            prop_assert_eq!(normalised(&format!("no user {a}: {a:#x}")), normalised(&format!("no user {b}: {b:#x}")));
        }
    }
}
