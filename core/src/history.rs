//! The last few of what has happened.

use std::collections::VecDeque;

/// The last `MAX` items that were added, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<T, const MAX: usize>(VecDeque<T>);

impl<T, const MAX: usize> History<T, MAX> {
    /// Adds an item, in place of the oldest if there are `MAX`.
    pub fn push(&mut self, item: T) {
        if self.0.len() >= MAX {
            self.0.pop_front();
        }
        self.0.push_back(item);
    }

    /// The newest.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.0.back()
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.0.iter()
    }
}

impl<T, const MAX: usize> Default for History<T, MAX> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_few_are_kept_in_their_order() {
        let mut history = History::<_, 3>::default();
        assert_eq!(history.last(), None);
        for number in 1..=5 {
            history.push(number);
        }
        assert_eq!(history.iter().copied().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(history.last(), Some(&5));
    }
}
