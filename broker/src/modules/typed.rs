//! What the broker knows of a typed function.

use tq_typed::Function;

/// A function that is called with JSON in place of its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// The interface of the component that exports it, such as `demo:images/ops@1.0.0`; empty if it is exported by itself.
    pub interface: String,
    /// Its name there.
    pub export: String,
    /// What it takes and gives.
    pub function: Function,
}

impl Typed {
    /// Its name with the interface before it, which tells it from every other one: `demo:images/ops@1.0.0#resize`.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.interface.as_str() {
            "" => self.export.clone(),
            interface => format!("{interface}#{}", self.export),
        }
    }

    /// Its signature as WIT has it.
    #[must_use]
    pub fn signature(&self) -> String {
        self.function.signature(&self.export)
    }
}

/// A function that a component exports and no task can call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncallable {
    /// Its name.
    pub name: String,
    /// Why not, as it ends a sentence.
    pub why: String,
}
