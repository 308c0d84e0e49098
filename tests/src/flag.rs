//! Flags of the programs that collect evidence.

use anyhow::{Context as _, bail};

/// The number behind `flag`, such as `--runs`, which is the only one that this program has; `default` if it is not given.
///
/// # Errors
/// Another flag is given, or no number.
pub fn only_number(flag: &str, default: u64) -> anyhow::Result<u64> {
    let mut number = default;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word == flag, words.next()) {
            (true, Some(value)) => {
                number = value
                    .parse()
                    .with_context(|| format!("{flag} `{value}` is not a number"))?;
            }
            (true, None) => bail!("{flag} needs a number"),
            (false, _) => bail!("`{word}` is not a flag; there is {flag}"),
        }
    }
    Ok(number)
}
