//! Components on this host: compiled once, kept on its disk, linked once.

mod cache;
mod compile;
mod failures;
mod typed;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tq_core::Digest;
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre};

use crate::sandbox::{Engine, Guest, Layout, engine_key};

pub use cache::{Cache, Config, OpenError, PrepareError};
pub(crate) use typed::TypedFunction;

pub use compile::{Compiler, Limits as CompileLimits, compile_child, compile_unbounded};

/// What a host makes of a compiled form, so that it can be run.
pub trait Load: Clone + Send + Sync + 'static {
    /// What it makes.
    type Loaded: Send + Sync + 'static;

    /// How memories lie where it will run.
    fn layout(&self) -> Layout;

    /// What compiled forms for it depend on.
    fn engine_key(&self) -> [u8; 8];

    /// Loads a file that our compiler has written, unmodified. Blocks.
    ///
    /// # Errors
    /// [`PrepareError`] if it cannot be.
    fn load(&self, digest: Digest, path: &Path) -> Result<Self::Loaded, PrepareError>;

    /// Says whether a component that is new to this host can be run at all, where [`Load::load`] does not tell.
    ///
    /// # Errors
    /// [`PrepareError`] if it cannot.
    fn check(
        &self,
        _loaded: &Arc<Self::Loaded>,
    ) -> impl Future<Output = Result<(), PrepareError>> + Send {
        std::future::ready(Ok(()))
    }
}

/// In this process.
impl Load for Engine {
    type Loaded = Ready;

    fn layout(&self) -> Layout {
        Engine::layout(self)
    }

    fn engine_key(&self) -> [u8; 8] {
        engine_key(self.raw())
    }

    fn load(&self, digest: Digest, path: &Path) -> Result<Ready, PrepareError> {
        #[expect(
            unsafe_code,
            reason = "the engine cannot check native code; the callers have"
        )]
        // SAFETY: the file is the engine's own output, unmodified: either it was written by our compiler's process a moment
        // ago, or the keyed hash in its name was found to hold. Its directory is open to this user alone, who could change
        // this process in easier ways.
        let component = unsafe { Component::deserialize_file(self.raw(), path) };
        Ready::new(self, digest, component)
    }
}

/// A component that can be run: compiled, loaded and linked.
pub struct Ready {
    digest: Digest,
    entry: Entry,
    pre: InstancePre<Guest>,
}

/// What of a component is called.
pub(crate) enum Entry {
    /// `run` of `tq:task/handler`.
    Handler(ComponentExportIndex),
    /// `run` of `wasi:cli/run`.
    Program(ComponentExportIndex),
    /// Whatever it exports, by name; at least one function.
    Typed(HashMap<String, TypedFunction>),
}

/// The component cannot be run, whatever is tried.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It imports something that tq does not offer; the text names it.
    #[error("{0}")]
    Import(String),
    /// It exports nothing to call.
    #[error(
        "it exports neither `tq:task/handler@0.1.0` nor `wasi:cli/run@0.2`, and no function that can be called with JSON"
    )]
    NoEntry,
}

impl Ready {
    pub(crate) fn new(
        engine: &Engine,
        digest: Digest,
        component: wasmtime::Result<Component>,
    ) -> Result<Self, PrepareError> {
        let failed = |error: wasmtime::Error| PrepareError::Load(format!("{error:#}"));
        let component = component.map_err(failed)?;
        // Otherwise the first attempt would pay for it.
        component.initialize_copy_on_write_image().map_err(failed)?;
        Ok(Self::link(engine, digest, &component)?)
    }

    /// Loads a compiled form from memory, of which it takes a copy.
    ///
    /// # Safety
    /// It has to be the engine's own output, unmodified.
    #[expect(unsafe_code, reason = "the engine cannot check native code")]
    pub(crate) unsafe fn from_bytes(
        engine: &Engine,
        digest: Digest,
        compiled: &[u8],
    ) -> Result<Self, PrepareError> {
        // SAFETY: as the caller promises.
        let component = unsafe { Component::deserialize(engine.raw(), compiled) };
        Self::new(engine, digest, component)
    }

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
                .or_else(|| {
                    let functions = typed::functions(component);
                    (!functions.is_empty()).then_some(Entry::Typed(functions))
                })
                .ok_or(LinkError::NoEntry)?,
            pre,
        })
    }

    /// The digest of the component's bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it exports the handler; it is a plain program or has functions of its own otherwise.
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
