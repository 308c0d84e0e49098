//! Reads what an uploaded component is, offers and asks for, without running or compiling it.

mod adapt;
mod code;
mod error;
mod exports;
mod functions;
mod imports;
mod lifts;
mod typed;
mod types;

use tq_core::limits::{MODULE_BYTES_MAX, MODULE_IMPORTS_MAX, MODULE_PARTS_MAX};
use wasmparser::types::Types;
use wasmparser::{
    ComponentImport, FuncValidatorAllocations, Parser, Payload, ValidPayload, Validator,
    WasmFeatures,
};

use super::{Schemas, Typed, Uncallable};
use adapt::Core;
use code::CodeCosts;
use lifts::LiftCosts;
use types::{TypeCosts, at_most};

pub use adapt::adapt_world;
pub use error::Error;
pub use imports::{Reason, Refused};

/// The parts of WebAssembly that hosts run: what `base` in host/src/sandbox/engine.rs leaves on. The two are kept equal,
/// so that nothing is accepted here that no host can compile.
pub const FEATURES: WasmFeatures = WasmFeatures::WASM2
    // A reference to an object of the host needs the collector of wasmtime, which is off.
    .difference(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::COMPONENT_MODEL);

/// The custom section in which a module describes its functions.
const DESCRIPTIONS: &str = "tq:functions";

/// What there is to know about a component before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// How it is called.
    pub entry: Entry,
    /// Its functions, by name; at least one.
    pub functions: Vec<Function>,
    /// What it exports beside them where its exports are its functions, and no task can call.
    pub uncallable: Vec<Uncallable>,
    /// Interfaces that it may use only with a grant, such as `wasi:sockets/tcp`; by name, without versions. No grants exist
    /// yet, so this is every such interface that it imports.
    pub not_granted: Vec<String>,
    /// The component that was made of a program for WASI preview 1, in whose place it is kept; none if the bytes are a
    /// component themselves.
    pub adapted: Option<Vec<u8>>,
}

/// How hosts call a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It exports `tq:task/handler`: called with the name of the function and the payload.
    Handler,
    /// It exports `wasi:cli/run`: the payload on standard input, the result on standard output.
    Program,
    /// It exports functions of its own: called by name, with JSON in place of their arguments.
    Typed,
}

/// A function of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, unique in the module.
    pub name: String,
    /// What its author says about it; empty if nothing.
    pub doc: String,
    /// What its payload is.
    pub input: Kind,
    /// What its result is.
    pub output: Kind,
    /// What it says of its payload and result.
    pub schemas: Schemas,
    /// Its types, if it is called with JSON in place of its arguments.
    pub typed: Option<Typed>,
}

impl Function {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            doc: String::new(),
            input: Kind::Unknown,
            output: Kind::Unknown,
            schemas: Schemas::default(),
            typed: None,
        }
    }
}

/// What a payload or a result is: a hint for people and tools, which nothing enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A JSON value.
    Json,
    /// Text in UTF-8.
    Text,
    /// Any bytes.
    Bytes,
    /// Nothing.
    None,
    /// The module does not say.
    Unknown,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Json,
        Self::Text,
        Self::Bytes,
        Self::None,
        Self::Unknown,
    ];

    /// The kind in a description and on the wire; empty if unknown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::None => "none",
            Self::Unknown => "",
        }
    }
}

/// Validates a component, and reads what it is, offers and asks for. It is neither run nor compiled. A core module that is
/// a program for WASI preview 1 is made a component first.
///
/// `declared` names the functions that the module's manifest has a section for: what there is to go by in a handler that
/// carries no descriptions of its functions, and checked against these otherwise.
///
/// Takes 0.1 s for Python's 18 MB, and 2.5 s for the worst found of the largest size, so it belongs on a thread that may block.
///
/// # Errors
/// [`Error`] says what its author has to change; the text is bounded and safe to print.
pub fn inspect(bytes: &[u8], declared: &[String]) -> Result<Inspected, Error> {
    match layer(bytes)? {
        Layer::Component => inspect_component(bytes, declared),
        Layer::Module => {
            let component = adapt::program(bytes, &outline(bytes)?.core)?;
            let inspected = inspect_component(&component, declared)?;
            Ok(Inspected {
                adapted: Some(component),
                ..inspected
            })
        }
    }
}

fn inspect_component(bytes: &[u8], declared: &[String]) -> Result<Inspected, Error> {
    check_size(bytes)?;
    let outline = outline(bytes)?;
    let not_granted = imports::check(&outline.imports, &outline.types).map_err(Error::Imports)?;
    let entry = exports::entry(&outline.types, &outline.exports)?;
    let found = match entry {
        Entry::Handler | Entry::Program => typed::Found::default(),
        Entry::Typed => outline.typed()?,
    };
    let functions = functions::of(entry, &outline.descriptions, found.functions, declared)?;
    Ok(Inspected {
        entry,
        functions,
        uncallable: found.uncallable,
        not_granted,
        adapted: None,
    })
}

/// The two kinds of WebAssembly binaries.
#[derive(Debug, PartialEq, Eq)]
enum Layer {
    /// A core module.
    Module,
    /// A component.
    Component,
}

fn check_size(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > MODULE_BYTES_MAX {
        return Err(Error::TooLarge { len: bytes.len() });
    }
    Ok(())
}

/// Tells a component and a core module from everything else that people upload.
fn layer(bytes: &[u8]) -> Result<Layer, Error> {
    const MAGIC: &[u8] = b"\0asm";
    // Version 13 in layer 1, which is the component model's; core modules are version 1 in layer 0.
    const COMPONENT: u32 = 0x0001_000d;
    const CORE: u32 = 1;

    check_size(bytes)?;
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    match bytes.strip_prefix(MAGIC).map(<[u8]>::first_chunk) {
        Some(Some(version)) => match u32::from_le_bytes(*version) {
            COMPONENT => Ok(Layer::Component),
            CORE => Ok(Layer::Module),
            version => Err(Error::Version { version }),
        },
        Some(None) => Err(Error::CutOff { offset: 0 }),
        None => Err(not_wasm(bytes)),
    }
}

fn not_wasm(bytes: &[u8]) -> Error {
    const ELF: &[u8] = b"\x7fELF";
    // The byte that names the operating system of an ELF file; wasmtime has one for its own compiled forms.
    const OS_ABI: usize = 7;
    const WASMTIME: u8 = 200;

    let found = if bytes.starts_with(ELF) {
        if bytes.get(OS_ABI) == Some(&WASMTIME) {
            return Error::Compiled;
        }
        "it is a native program or library (ELF); build it for wasm32-wasip2".to_owned()
    } else if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"PK\x03\x04") {
        "it is a compressed archive; upload the .wasm file inside it".to_owned()
    } else {
        let start = &bytes[..bytes.len().min(64)];
        match start.utf8_chunks().next() {
            // A character may be cut in two at the end of what is looked at.
            Some(chunk) if chunk.valid().len() + 4 > start.len() => {
                format!(
                    "it is text, beginning with {}; upload the component in its binary form",
                    error::Quoted(chunk.valid())
                )
            }
            _ => {
                let bytes: Vec<String> = start
                    .iter()
                    .take(8)
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                format!("it begins with the bytes {}", bytes.join(" "))
            }
        }
    };
    Error::NotWasm { found }
}

/// What a valid component says on its outside, and its descriptions of functions from wherever they are; or what a core
/// module does.
struct Outline<'a> {
    imports: Vec<ComponentImport<'a>>,
    exports: Vec<&'a str>,
    /// Nothing in a component.
    core: Core<'a>,
    /// The sections of descriptions, in the order of the file.
    descriptions: Vec<&'a [u8]>,
    types: Types,
}

impl Outline<'_> {
    /// What can be called by name, in a component that has neither entry.
    fn typed(&self) -> Result<typed::Found, Error> {
        let imports: Vec<&str> = self.imports.iter().map(|import| import.name.name).collect();
        let found = typed::functions(&self.types, &imports, &self.exports)?;
        if found.functions.is_empty() {
            return Err(Error::NoEntry {
                exports: self.exports.iter().map(|&name| name.to_owned()).collect(),
                uncallable: found.uncallable,
            });
        }
        Ok(found)
    }
}

/// What is counted while reading, before the validator sees it: a file can ask for a lot of work with few bytes.
#[derive(Default)]
struct Counted {
    parts: usize,
    imports: usize,
    types: TypeCosts,
    code: CodeCosts,
    lifts: LiftCosts,
}

impl Counted {
    fn check(
        &mut self,
        bytes: &[u8],
        payload: &Payload<'_>,
        is_outside: bool,
    ) -> Result<(), Error> {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.parts += 1;
                at_most(
                    "parts (core modules and nested components)",
                    self.parts,
                    MODULE_PARTS_MAX,
                )
            }
            Payload::TypeSection(section) => self.code.types(section),
            Payload::ImportSection(section) => self.code.imports(section),
            Payload::ExportSection(section) => self.code.exports(section),
            Payload::FunctionSection(section) => self.code.functions(section.count()),
            Payload::CodeSectionEntry(body) => self.code.body(body),
            Payload::ComponentImportSection(section) => {
                if is_outside {
                    self.imports += section.count() as usize;
                    at_most("imports", self.imports, MODULE_IMPORTS_MAX)?;
                }
                self.types.imports(section)
            }
            Payload::ComponentExportSection(section) => self.types.exports(section),
            Payload::ComponentInstanceSection(section) => self.types.instances(section),
            Payload::ComponentTypeSection(section) => self.types.types(bytes, section.range()),
            _ => Ok(()),
        }
    }
}

fn outline(bytes: &[u8]) -> Result<Outline<'_>, Error> {
    let mut parser = Parser::new(0);
    parser.set_features(FEATURES);
    let mut validator = Validator::new_with_features(FEATURES);
    let mut counted = Counted::default();
    let mut bodies = Vec::new();
    let (mut imports, mut exports, mut descriptions) = (Vec::new(), Vec::new(), Vec::new());
    let mut core = Core::default();
    // How many components the reader is inside of, below the outermost.
    let mut depth = 0_usize;
    let mut types = None;
    for payload in parser.parse_all(bytes) {
        let payload = payload?;
        counted.check(bytes, &payload, depth == 0)?;
        match &payload {
            Payload::CustomSection(section) if section.name() == DESCRIPTIONS => {
                descriptions.push(section.data());
            }
            Payload::CustomSection(section) if depth == 0 => {
                core.has_world |= section.name().starts_with(adapt::WORLD);
            }
            Payload::ImportSection(section) if depth == 0 => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    core.imports.push((import.module, import.name));
                }
            }
            Payload::ExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    core.exports.push(export?.name);
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    imports.push(import?);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    exports.push(export?.name.name);
                }
            }
            _ => {}
        }
        if let Payload::ComponentCanonicalSection(section) = &payload
            && let Some(types) = validator.types(0)
        {
            counted.lifts.section(section, types)?;
        }
        match validator.payload(&payload)? {
            ValidPayload::Ok => {}
            ValidPayload::Func(validator, body) => bodies.push((validator, body)),
            ValidPayload::Parser(_) => depth += 1,
            ValidPayload::End(outermost) if depth == 0 => types = Some(outermost),
            ValidPayload::End(_) => depth -= 1,
        }
    }
    let mut allocations = FuncValidatorAllocations::default();
    for (validator, body) in bodies {
        let mut validator = validator.into_validator(allocations);
        counted.code.validate(bytes, &body, &mut validator)?;
        allocations = validator.into_allocations();
    }
    Ok(Outline {
        imports,
        exports,
        core,
        descriptions,
        types: types.ok_or(Error::CutOff {
            offset: bytes.len(),
        })?,
    })
}

#[cfg(test)]
mod tests;
