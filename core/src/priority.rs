//! Priorities and their tiers.

use std::fmt;

/// How urgent a task is: 0 to 255, higher first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

impl Priority {
    /// What a task has that names none: the middle of the normal tier.
    pub const DEFAULT: Self = Self(127);

    /// The tier that it falls into.
    #[must_use]
    pub fn tier(self) -> Tier {
        match self.0 {
            0..=84 => Tier::Low,
            85..=169 => Tier::Normal,
            170..=255 => Tier::High,
        }
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A third of the priorities. Tiers share dispatch by [`Tier::weight`], so that none starves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// 0 to 84.
    Low,
    /// 85 to 169.
    Normal,
    /// 170 to 255.
    High,
}

impl Tier {
    /// All tiers, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Its name on the wire and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// Its share of dispatch while all tiers have work: 8 : 4 : 1.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::High => 8,
            Self::Normal => 4,
            Self::Low => 1,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
