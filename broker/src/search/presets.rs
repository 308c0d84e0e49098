//! Searches that have a name.

use super::Error;

/// A filter and a sort under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Which tasks.
    pub filter: &'static str,
    /// In which order; empty is the filter's own.
    pub sort: &'static str,
}

/// All of them.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "running",
        filter: "state = running",
        sort: "",
    },
    Preset {
        name: "waiting",
        filter: "state IN (blocked, scheduled, ready)",
        sort: "",
    },
    Preset {
        name: "stuck",
        filter: "state IN (ready, running) AND submitted < -1h",
        sort: "submitted",
    },
    Preset {
        name: "high_priority",
        filter: "state = open AND priority > 127",
        sort: "",
    },
    Preset {
        name: "failed",
        filter: "state = failed",
        sort: "",
    },
    Preset {
        name: "failed_today",
        filter: "state = failed AND ended >= today",
        sort: "",
    },
    Preset {
        name: "retried",
        filter: "state = ended AND attempts > 1 AND ended > -24h",
        sort: "",
    },
    Preset {
        name: "slow",
        filter: "state = ended AND duration > 0s AND ended > -24h",
        sort: "-duration",
    },
    Preset {
        name: "expensive",
        filter: "state = ended AND fuel > 0 AND ended > -24h",
        sort: "-fuel",
    },
];

pub(super) fn find(name: &str) -> Result<&'static Preset, Error> {
    let found = PRESETS.iter().find(|preset| preset.name == name);
    found.ok_or_else(|| Error::Preset(name.chars().take(40).collect()))
}

/// Their names, for messages.
pub(super) fn names() -> String {
    let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
    names.join(", ")
}
