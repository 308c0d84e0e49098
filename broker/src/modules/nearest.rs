//! Which names somebody may have meant.

use tq_core::limits::NAME_BYTES_MAX;

/// More are no help.
const NAMES_MAX: usize = 3;

/// The candidates that `name` may be a slip of, nearest first, and in their own order where equally near; at most 3.
///
/// Near is a name that differs in at most every third character (a pair of swapped ones counts as one), or that begins
/// or ends with the other.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    // Nobody typed that, and the cost is the product of the lengths.
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Vec::new();
    }
    let mut near: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter(|candidate| !candidate.is_empty() && candidate.len() <= NAME_BYTES_MAX)
        .filter_map(|candidate| Some((rank(name, candidate)?, candidate)))
        .collect();
    near.sort_by_key(|(rank, _)| *rank);
    near.into_iter()
        .map(|(_, candidate)| candidate)
        .take(NAMES_MAX)
        .collect()
}

/// How far apart two names are, if they are near: less is nearer.
fn rank(name: &str, candidate: &str) -> Option<usize> {
    let typed: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
    let meant: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
    let edits = edits(&typed, &meant);
    let (shorter, longer) = if typed.len() < meant.len() {
        (&typed, &meant)
    } else {
        (&meant, &typed)
    };
    // One or two letters begin half of all names.
    let is_part = shorter.len() >= 3 && (longer.starts_with(shorter) || longer.ends_with(shorter));
    (edits <= (longer.len() / 3).max(1) || is_part).then_some(edits)
}

/// The number of insertions, deletions, replacements and swaps of neighbours that make one of the other (optimal
/// string alignment).
fn edits(from: &[char], to: &[char]) -> usize {
    let mut two_ago: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(to.len() + 1);
        row.push(i + 1);
        for (j, b) in to.iter().enumerate() {
            let mut least = (last[j] + usize::from(a != b))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(two_ago[j - 1] + 1);
            }
            row.push(least);
        }
        two_ago = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(name: &str, candidates: &[&str], expected: &[&str]) {
        assert_eq!(nearest(name, candidates.iter().copied()), expected);
    }

    #[test]
    fn slips_find_the_name_that_was_meant() {
        let functions = ["resize", "crop", "rotate", "word-count"];
        check("resise", &functions, &["resize"]);
        check("rezise", &functions, &["resize"]);
        check("Crop", &functions, &["crop"]);
        check("corp", &functions, &["crop"]);
        check("count", &functions, &["word-count"]);
        check("word_count", &functions, &["word-count"]);
        check("delete-everything", &functions, &[]);
        check("", &functions, &[]);
        check("c", &functions, &[]);
    }

    #[test]
    fn nearest_stands_first_and_three_are_enough() {
        check(
            "run",
            &["runs4", "run-2", "runs", "run"],
            &["run", "runs", "runs4"],
        );
    }

    #[test]
    fn names_that_no_one_types_cost_nothing() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        check(&long, &[&long], &[]);
        check("a", &[&long], &[]);
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_zero_only_to_itself(a in "[abä]{0,8}", b in "[abä]{0,8}") {
            let [x, y] = [&a, &b].map(|text| text.chars().collect::<Vec<_>>());
            prop_assert_eq!(edits(&x, &y), edits(&y, &x));
            prop_assert_eq!(edits(&x, &y) == 0, a == b);
        }
    }
}
