//! Components on this host: compiled once, kept on its disk, linked once.

mod cache;
mod compile;
mod failures;

use tq_core::Digest;
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre};

use crate::sandbox::{Engine, Guest};

pub use cache::{Cache, Config, OpenError, PrepareError};
pub use compile::{Compiler, Limits as CompileLimits, compile_child, compile_unbounded};

/// A component that can be run: compiled, loaded and linked.
pub struct Ready {
    digest: Digest,
    entry: Entry,
    pre: InstancePre<Guest>,
}

/// What of a component is called.
#[derive(Clone, Copy)]
pub(crate) enum Entry {
    /// `run` of `tq:task/handler`.
    Handler(ComponentExportIndex),
    /// `run` of `wasi:cli/run`.
    Program(ComponentExportIndex),
}

impl Entry {
    pub(crate) fn index(&self) -> &ComponentExportIndex {
        match self {
            Self::Handler(index) | Self::Program(index) => index,
        }
    }
}

/// The component cannot be run, whatever is tried.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It imports something that tq does not offer; the text names it.
    #[error("{0}")]
    Import(String),
    /// It exports nothing to call.
    #[error("it exports neither `tq:task/handler@0.1.0` nor `wasi:cli/run@0.2`")]
    NoEntry,
}

impl Ready {
    fn link(engine: &Engine, digest: Digest, component: &Component) -> Result<Self, LinkError> {
        let pre = engine
            .linker()
            .instantiate_pre(component)
            .map_err(|error| LinkError::Import(format!("{error:#}")))?;
        Ok(Self {
            digest,
            // A binary built with the SDK has both, and its handler is meant.
            entry: entry(component, "tq:task/handler@0.1.", Entry::Handler)
                .or_else(|| entry(component, "wasi:cli/run@0.2.", Entry::Program))
                .ok_or(LinkError::NoEntry)?,
            pre,
        })
    }

    /// The digest of the component's bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it exports the handler; it is a plain program otherwise.
    #[must_use]
    pub fn has_handler(&self) -> bool {
        matches!(self.entry, Entry::Handler(_))
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Instance> {
        self.pre.instantiate_async(store).await
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Finds `run` in the exported interface whose name and version begin so: guests of any patch version are called.
fn entry(
    component: &Component,
    interface: &str,
    make: impl Fn(ComponentExportIndex) -> Entry,
) -> Option<Entry> {
    let exports = component.component_type();
    let (name, _) = exports.exports(component.engine()).find(|(name, item)| {
        name.starts_with(interface) && matches!(item.ty, ComponentItem::ComponentInstance(_))
    })?;
    let instance = component.get_export_index(None, name)?;
    component.get_export_index(Some(&instance), "run").map(make)
}
