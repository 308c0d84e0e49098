//! Why a module is refused, in the words that its author reads.

use std::fmt;

use tq_core::limits::{
    MODULE_BYTES_MAX, MODULE_DESCRIPTIONS_BYTES_MAX, MODULE_FUNCTIONS_MAX, NAME_BYTES_MAX,
};

use super::imports::Refused;
use crate::modules::Uncallable;

/// Names that one error lists; the others are counted. An error travels in a header of a few KiB.
const LISTED_MAX: usize = 20;
/// Characters that one error quotes of a name that somebody else wrote.
pub(super) const QUOTED_CHARS_MAX: usize = 80;
/// Characters of the validator's reason, which quotes names of any length.
const REASON_CHARS_MAX: usize = 400;

/// A module that cannot be deployed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is larger than modules may be.
    #[error("module has {len} bytes, over the limit of {MODULE_BYTES_MAX} bytes")]
    TooLarge {
        /// Its size in bytes.
        len: usize,
    },
    /// There are no bytes.
    #[error("module is empty")]
    Empty,
    /// The bytes are something else.
    #[error("module is not WebAssembly: {found}")]
    NotWasm {
        /// What they look like, and what to do about it.
        found: String,
    },
    /// It was compiled to machine code already, which no one but the host that compiled it can trust.
    #[error(
        "module is a compiled form (`.cwasm`), which hosts make for themselves; upload the component itself"
    )]
    Compiled,
    /// A core module that imports something else than WASI preview 1.
    #[error(
        "core module imports what WASI preview 1 does not have: {}; build it for wasm32-wasip2, or without what imports that",
        listed(.0.iter().map(|name| Quoted(name)))
    )]
    CoreImports(
        /// All of them as `MODULE.ITEM`, in the order of the module.
        Vec<String>,
    ),
    /// A core module that is no program.
    #[error(
        "core module exports no `_start`, so it is no program of WASI preview 1; it exports {}; give it a main function, or build it for wasm32-wasip2",
        if .0.is_empty() { "nothing".to_owned() } else { listed(.0.iter().map(|name| Quoted(name))) }
    )]
    NoStart(
        /// What it does export.
        Vec<String>,
    ),
    /// A core module that is bound to a world of its own.
    #[error(
        "core module has a world of its own (section `component-type`), with which the broker makes no component; deploy it with `tq deploy`, or make one with `wasm-tools component new`"
    )]
    World,
    /// A core module of which no component can be made.
    #[error("no component can be made of the core module: {reason}")]
    Adapt {
        /// Why, in the words of the encoder.
        reason: String,
    },
    /// A binary format that this version does not read.
    #[error("module has the WebAssembly version {version:#010x}; a component has 0x0001000d")]
    Version {
        /// The four bytes of the header.
        version: u32,
    },
    /// It ends too early.
    #[error(
        "module is cut off or damaged: it ends in the middle of what begins at byte {offset:#x}"
    )]
    CutOff {
        /// Where the unfinished part begins, or where its bytes ran out.
        offset: usize,
    },
    /// It breaks a rule of WebAssembly.
    #[error("module is not a valid component: {reason} (at byte {offset:#x})")]
    Invalid {
        /// The rule, in the validator's words.
        reason: String,
        /// Where.
        offset: usize,
    },
    /// It uses a part of WebAssembly that hosts do not run.
    #[error(
        "module uses `{proposal}`, a part of WebAssembly that is switched off here (at byte {offset:#x}: {reason}); build it without"
    )]
    Proposal {
        /// The name of the proposal.
        proposal: String,
        /// What uses it, in the validator's words.
        reason: String,
        /// Where.
        offset: usize,
    },
    /// It has more of something than a host would compile in time.
    #[error("module has {found} {what}, over the limit of {max}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much was found before the reader stopped.
        found: usize,
        /// How much there may be.
        max: usize,
    },
    /// It imports what hosts do not offer.
    #[error("module imports what tq does not offer: {}", listed(.0.iter()))]
    Imports(
        /// All of them, in the order of the module.
        Vec<Refused>,
    ),
    /// It exports nothing that can be called.
    #[error(
        "module exports neither `tq:task/handler@0.1.0` nor `wasi:cli/run@0.2.0`, and no function that can be called with JSON; it exports {}{}",
        if .exports.is_empty() { "nothing".to_owned() } else { listed(.exports.iter().map(|name| Quoted(name))) },
        reasons(.uncallable)
    )]
    NoEntry {
        /// What it does export.
        exports: Vec<String>,
        /// The functions in that, with what is against each.
        uncallable: Vec<Uncallable>,
    },
    /// Its entry does not have the type that hosts call.
    #[error("module exports `{export}`, but not as tq calls it: it has no `{expected}`")]
    EntryType {
        /// The export.
        export: String,
        /// The function that should be in it.
        expected: &'static str,
    },
    /// The descriptions of its functions are too large.
    #[error(
        "descriptions of functions (section `tq:functions`) have {len} bytes, over the limit of {MODULE_DESCRIPTIONS_BYTES_MAX} bytes"
    )]
    DescriptionsTooLarge {
        /// Their size in bytes.
        len: usize,
    },
    /// A description of a function cannot be read.
    #[error(
        "line {line} of the section `tq:functions` does not describe a function: {reason}: `{start}`"
    )]
    Description {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
        /// The beginning of the line.
        start: String,
    },
    /// A function has a name that functions cannot have.
    #[error(
        "function name {} cannot be used; names have 1 to {NAME_BYTES_MAX} printable ASCII characters and no spaces",
        Quoted(.0)
    )]
    FunctionName(
        /// The name.
        String,
    ),
    /// Two functions have one name.
    #[error("module has two functions named `{0}`")]
    DuplicateFunction(
        /// The name.
        String,
    ),
    /// It has more functions than modules may have.
    #[error("module has {found} functions, over the limit of {MODULE_FUNCTIONS_MAX}")]
    TooManyFunctions {
        /// How many it has.
        found: usize,
    },
    /// The manifest sets something for a function that is not in the module.
    #[error(
        "tq.toml has a section for the function {}, which is not in the module{}",
        Quoted(.name), meant(.nearest)
    )]
    UnknownFunction {
        /// The name in the manifest.
        name: String,
        /// Functions that may have been meant.
        nearest: Vec<String>,
    },
}

impl Error {
    /// No component can be made, for the reason in the words of the encoder.
    pub(super) fn adapt(reason: &str) -> Self {
        Self::Adapt {
            reason: cut(&reason.replace('\n', " "), REASON_CHARS_MAX),
        }
    }
}

impl From<wasmparser::Error> for Error {
    fn from(error: wasmparser::Error) -> Self {
        let offset = error.offset();
        // The validator puts each context on a line of its own.
        let reason = cut(&error.message().replace('\n', ": "), REASON_CHARS_MAX);
        if let Some(missing) = error.missing_wasm_feature() {
            let names: Vec<String> = missing
                .iter_names()
                .map(|(name, _)| proposal(name))
                .collect();
            return Self::Proposal {
                proposal: names.join(", "),
                reason,
                offset,
            };
        }
        if error.message().starts_with("unexpected end") {
            return Self::CutOff { offset };
        }
        Self::Invalid { reason, offset }
    }
}

/// `CM_ASYNC` as people write it: `component model async`.
fn proposal(flag: &str) -> String {
    let words = flag.to_lowercase().replace('_', " ");
    match words.strip_prefix("cm ") {
        Some(rest) => format!("component model {rest}"),
        None => words,
    }
}

/// A name that somebody else wrote: cut, and with its control characters escaped.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", cut(self.0, QUOTED_CHARS_MAX))
    }
}

/// The first characters of a text, safe to print, and dots where it went on.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    let mut shown = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == chars_max {
            shown.push('…');
            break;
        }
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The beginning of bytes that should have been text.
pub(super) fn start_of(bytes: &[u8]) -> String {
    let end = bytes.len().min(4 * QUOTED_CHARS_MAX);
    cut(&String::from_utf8_lossy(&bytes[..end]), QUOTED_CHARS_MAX)
}

fn listed<T: fmt::Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(LISTED_MAX);
    let mut shown: Vec<String> = items
        .take(LISTED_MAX)
        .map(|item| item.to_string())
        .collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

fn reasons(uncallable: &[Uncallable]) -> String {
    if uncallable.is_empty() {
        return String::new();
    }
    let reasons = uncallable.iter();
    let reasons = reasons.map(|Uncallable { name, why }| format!("{}: {why}", Quoted(name)));
    format!("; of the functions in it, {}", listed(reasons))
}

fn meant(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return String::new();
    }
    let names: Vec<String> = nearest.iter().map(|name| format!("`{name}`")).collect();
    format!("; did you mean {}?", names.join(" or "))
}
