//! Modules that are valid and make no sense, run as a host runs guests. A compiler or an engine that is wrong about one shows it by
//! its end: a crash, a limit that did not hold, an error of the host's own.

use std::sync::LazyLock;

use arbitrary::Unstructured;
use bytes::Bytes;
use tq_core::{Limits, Outcome};
use tq_host::floor;
use tq_host::sandbox::Engine;
use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, ComponentExportKind,
    ComponentExportSection, ComponentInstanceSection, ComponentSectionId, ComponentTypeSection,
    ComponentValType, ExportKind, InstanceSection, ModuleArg, RawSection,
};
use wasm_smith::{Config, Module};

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(1).expect("this machine runs guests"));

const LIMITS: Limits = Limits {
    fuel: 1_000_000,
    memory_bytes: 16 << 20,
    timeout_ms: 2_000,
    ..Limits::DEFAULT
};

pub(crate) fn run(bytes: &[u8]) {
    let config = Config {
        // What hosts switch off.
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        shared_everything_threads_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        reference_types_enabled: true,
        relaxed_simd_enabled: true,
        simd_enabled: true,
        bulk_memory_enabled: true,
        multi_value_enabled: true,
        max_memories: 3,
        // Components hand nothing in here.
        max_imports: 0,
        min_imports: 0,
        max_memory32_bytes: 1 << 24,
        max_tables: 3,
        exports: Some(SHAPE.to_vec()),
        ..Config::default()
    };
    let Ok(module) = Module::new(config, &mut Unstructured::new(bytes)) else {
        return; // Too few bytes to choose by.
    };
    let component = program(&module.to_bytes());
    let finished = match floor::once(&ENGINE, &component, &Bytes::new(), LIMITS) {
        Ok(finished) => finished,
        // More than hosts take of something: memories, tables, instances. It must not be invalid.
        Err(error) => return assert!(!error.to_string().contains("invalid"), "{error}"),
    };
    assert_ne!(
        finished.outcome,
        Outcome::HostError,
        "{:?}",
        finished.failure
    );
    assert!(finished.usage.fuel <= LIMITS.fuel, "{:?}", finished.usage);
    assert!(
        finished.usage.memory_bytes_peak <= LIMITS.memory_bytes,
        "{:?}",
        finished.usage
    );
}

/// `(module (func (export "run") (result i32) i32.const 0))`: what every module that is made exports.
const SHAPE: &[u8] = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x07\x07\x01\x03run\0\0\x0a\x06\x01\x04\0\x41\0\x0b";

/// A program around a core module of that shape.
fn program(core: &[u8]) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&RawSection {
        id: ComponentSectionId::CoreModule.into(),
        data: core,
    });
    let mut instances = InstanceSection::new();
    instances.instantiate(0, [] as [(&str, ModuleArg); 0]);
    component.section(&instances);
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::CoreInstanceExport {
        instance: 0,
        kind: ExportKind::Func,
        name: "run",
    });
    component.section(&aliases);
    let mut types = ComponentTypeSection::new();
    types.defined_type().result(None, None);
    types
        .function()
        .params([] as [(&str, ComponentValType); 0])
        .result(Some(ComponentValType::Type(0)));
    component.section(&types);
    let mut lifted = CanonicalFunctionSection::new();
    lifted.lift(0, 1, []);
    component.section(&lifted);
    let mut offered = ComponentInstanceSection::new();
    offered.export_items([("run", ComponentExportKind::Func, 0)]);
    component.section(&offered);
    let mut exports = ComponentExportSection::new();
    exports.export("wasi:cli/run@0.2.0", ComponentExportKind::Instance, 0, None);
    component.section(&exports);
    component.finish()
}
