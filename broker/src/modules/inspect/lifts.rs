//! What the functions that an upload lifts and lowers cost to validate, found before they are.

use std::collections::HashMap;

use tq_core::limits::MODULE_LIFTED_VALUES_MAX;
use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentFuncTypeId,
    ComponentValType,
};
use wasmparser::types::TypesRef;
use wasmparser::{CanonicalFunction, ComponentCanonicalSectionReader};

use super::Error;
use super::types::at_most;

/// Counts the values in the types of functions, each wherever it stands.
///
/// The validator walks over all of them for each function that is lifted or lowered, and a variant of three cases of variants
/// of three cases has a hundred thousand of them after eleven levels: 5 kB with 200 such functions took 1.5 s.
#[derive(Default)]
pub(super) struct LiftCosts {
    values: usize,
    known: HashMap<ComponentDefinedTypeId, usize>,
}

impl LiftCosts {
    /// Counts a section of functions, which are about to be validated under the types that there are. What is wrong
    /// otherwise is left to the validator.
    pub(super) fn section(
        &mut self,
        section: &ComponentCanonicalSectionReader<'_>,
        types: TypesRef<'_>,
    ) -> Result<(), Error> {
        let before = types.component_function_count();
        let mut lifted = Vec::new();
        for function in section.clone() {
            let function = match function? {
                CanonicalFunction::Lift { type_index, .. } => {
                    let is_there = type_index < types.component_type_count();
                    let ty = is_there.then(|| types.component_any_type_at(type_index));
                    let Some(ComponentAnyTypeId::Func(function)) = ty else {
                        return Ok(());
                    };
                    lifted.push(function);
                    function
                }
                CanonicalFunction::Lower { func_index, .. } => {
                    match func_index.checked_sub(before) {
                        None => types.component_function_at(func_index),
                        Some(new) => match lifted.get(new as usize) {
                            Some(function) => *function,
                            None => return Ok(()),
                        },
                    }
                }
                // The others are about resources and proposals, and have no types of values.
                _ => continue,
            };
            self.function(function, types)?;
        }
        Ok(())
    }

    fn function(
        &mut self,
        function: ComponentFuncTypeId,
        types: TypesRef<'_>,
    ) -> Result<(), Error> {
        let function = &types[function];
        let params = function.params.iter().map(|(_, ty)| *ty);
        for ty in params.chain(function.result) {
            let values = self.values_of(ty, types);
            self.values = self.values.saturating_add(values);
            at_most(
                "values in the types of functions that are lifted or lowered, each counted wherever it stands",
                self.values,
                MODULE_LIFTED_VALUES_MAX,
            )?;
        }
        Ok(())
    }

    /// By recursion: the validator took no type that is nested deeper than a hundred levels.
    fn values_of(&mut self, ty: ComponentValType, types: TypesRef<'_>) -> usize {
        let ComponentValType::Type(id) = ty else {
            return 1;
        };
        if let Some(values) = self.known.get(&id) {
            return *values;
        }
        let mut values = 1_usize;
        for member in members(&types[id]) {
            values = values.saturating_add(self.values_of(member, types));
        }
        self.known.insert(id, values);
        values
    }
}

/// The types that the validator walks on to: what is in a list is behind an address.
fn members(ty: &ComponentDefinedType) -> Vec<ComponentValType> {
    match ty {
        ComponentDefinedType::Record(record) => record.fields.values().copied().collect(),
        ComponentDefinedType::Variant(variant) => {
            let cases = variant.cases.values();
            cases.filter_map(|case| case.ty).collect()
        }
        ComponentDefinedType::Tuple(tuple) => tuple.types.to_vec(),
        ComponentDefinedType::Option { ty, .. } => vec![*ty],
        ComponentDefinedType::Result { ok, err, .. } => [*ok, *err].into_iter().flatten().collect(),
        // Leaves, and what is switched off.
        _ => Vec::new(),
    }
}
