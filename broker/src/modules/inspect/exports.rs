//! What can be called in a component.

use wasmparser::component_types::{
    ComponentDefinedType, ComponentEntityType, ComponentFuncType, ComponentValType,
};
use wasmparser::{PrimitiveValType, types::Types};

use super::imports::is_version_of;
use super::{Entry, Error};

const HANDLER: &str = "tq:task/handler";
const PROGRAM: &str = "wasi:cli/run";

/// Finds what hosts call in a component with these top-level exports. The handler comes first: a binary that uses the
/// SDK has both. Where there is neither, what it exports is called by name.
///
/// # Errors
/// If the one to be called has another type than hosts call.
pub(super) fn entry(types: &Types, exports: &[&str]) -> Result<Entry, Error> {
    let find = |interface| {
        exports
            .iter()
            .copied()
            .find(|name| is_version_of(name, interface))
    };
    let (entry, export, is_right, expected): (_, _, fn(&Types, &ComponentFuncType) -> bool, _) =
        if let Some(export) = find(HANDLER) {
            (
                Entry::Handler,
                export,
                is_handler,
                "run: func(function: string, payload: list<u8>) -> result<list<u8>, task-error>",
            )
        } else if let Some(export) = find(PROGRAM) {
            (Entry::Program, export, is_program, "run: func() -> result")
        } else {
            return Ok(Entry::Typed);
        };
    if run(types, export).is_some_and(|run| is_right(types, run)) {
        Ok(entry)
    } else {
        Err(Error::EntryType {
            export: export.to_owned(),
            expected,
        })
    }
}

/// The function `run` of an exported instance.
fn run<'a>(types: &'a Types, export: &str) -> Option<&'a ComponentFuncType> {
    let ComponentEntityType::Instance(instance) = types.component_item_for_export(export)?.ty
    else {
        return None;
    };
    let ComponentEntityType::Func(run) = types[instance].exports.get("run")?.ty else {
        return None;
    };
    Some(&types[run])
}

fn is_program(types: &Types, run: &ComponentFuncType) -> bool {
    run.params.is_empty() && matches!(result(types, run), Some((None, None)))
}

fn is_handler(types: &Types, run: &ComponentFuncType) -> bool {
    let params: Vec<ComponentValType> = run.params.iter().map(|(_, ty)| *ty).collect();
    let [function, payload] = params[..] else {
        return false;
    };
    let Some((Some(ok), Some(ComponentValType::Type(error)))) = result(types, run) else {
        return false;
    };
    let ComponentDefinedType::Variant(error) = &types[error] else {
        return false;
    };
    is_primitive(types, function, PrimitiveValType::String)
        && is_bytes(types, payload)
        && is_bytes(types, ok)
        && error
            .cases
            .keys()
            .map(|case| case.as_str())
            .eq(["invalid-input", "retryable", "fatal"])
}

/// The two sides of the `result` that a function returns.
fn result(
    types: &Types,
    run: &ComponentFuncType,
) -> Option<(Option<ComponentValType>, Option<ComponentValType>)> {
    let ComponentValType::Type(id) = run.result? else {
        return None;
    };
    let ComponentDefinedType::Result { ok, err, .. } = &types[id] else {
        return None;
    };
    Some((*ok, *err))
}

fn is_primitive(types: &Types, ty: ComponentValType, expected: PrimitiveValType) -> bool {
    match ty {
        ComponentValType::Primitive(found) => found == expected,
        ComponentValType::Type(id) => {
            matches!(types[id], ComponentDefinedType::Primitive(found) if found == expected)
        }
    }
}

fn is_bytes(types: &Types, ty: ComponentValType) -> bool {
    let ComponentValType::Type(id) = ty else {
        return false;
    };
    matches!(types[id], ComponentDefinedType::List { element, .. } if is_primitive(types, element, PrimitiveValType::U8))
}
