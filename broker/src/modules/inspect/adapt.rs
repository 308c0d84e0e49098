//! Makes components of core modules that were built for WASI preview 1, by putting wasmtime's adapter under them.

use wasi_preview1_component_adapter_provider as provider;
use wit_component::ComponentEncoder;

use super::{Error, Layer, Outline, layer, outline};

/// The name under which modules import WASI preview 1.
const PREVIEW1: &str = provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
/// How the custom sections begin in which binding generators write the world that a module was bound to.
pub(super) const WORLD: &str = "component-type";
/// What a program exports to be started.
const START: &str = "_start";

/// What a core module says on its outside.
#[derive(Default)]
pub(super) struct Core<'a> {
    /// What it imports: the name of the other module, and of the item there.
    pub(super) imports: Vec<(&'a str, &'a str)>,
    /// What it exports.
    pub(super) exports: Vec<&'a str>,
    /// Whether a binding generator wrote a world into it.
    pub(super) has_world: bool,
}

/// The component that is made of a program for preview 1, whose outside is `core`. The same bytes make the same component.
///
/// Only programs: what they mean is known beforehand, while a world of their own would have to be read by a parser that
/// recurses on what it reads, which nobody who sent it should have run here.
pub(super) fn program(bytes: &[u8], core: &Core<'_>) -> Result<Vec<u8>, Error> {
    if core.has_world {
        return Err(Error::World);
    }
    let foreign: Vec<_> = core
        .imports
        .iter()
        .filter(|(module, _)| *module != PREVIEW1)
        .collect();
    if !foreign.is_empty() {
        let names = foreign
            .iter()
            .map(|(module, item)| format!("{module}.{item}"));
        return Err(Error::CoreImports(names.collect()));
    }
    if !core.exports.contains(&START) {
        let exports = core.exports.iter().map(|&name| name.to_owned());
        return Err(Error::NoStart(exports.collect()));
    }
    encode(bytes, core)
}

/// The component that is made of a core module with a world of its own, as `wit-bindgen` writes it; none if the bytes are
/// anything else, which is for [`inspect`](super::inspect) to judge. For the machine of the module's author: it reads the
/// world by recursion.
///
/// # Errors
/// [`Error`], if the module is not what its world says, or not valid.
pub fn adapt_world(bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    if layer(bytes) != Ok(Layer::Module) {
        return Ok(None);
    }
    let Outline { core, .. } = outline(bytes)?;
    if !core.has_world {
        return Ok(None);
    }
    encode(bytes, &core).map(Some)
}

fn encode(bytes: &[u8], core: &Core<'_>) -> Result<Vec<u8>, Error> {
    let adapter = if core.exports.contains(&START) {
        provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER
    } else {
        provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER
    };
    // Whoever inspects the component validates it.
    let encoder = ComponentEncoder::default().validate(false).module(bytes);
    let component = encoder
        .and_then(|encoder| encoder.adapter(PREVIEW1, adapter))
        .and_then(|mut encoder| encoder.encode());
    component.map_err(|error| Error::adapt(&format!("{error:#}")))
}
