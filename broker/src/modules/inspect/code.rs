//! What the core modules of an upload cost to validate and to compile, found before they are.

use tq_core::limits::{
    MODULE_ARITY_MAX, MODULE_BLOCK_DEPTH_MAX, MODULE_BRANCH_TARGETS_ALL_MAX,
    MODULE_BRANCH_TARGETS_MAX, MODULE_CORE_FUNCTIONS_MAX, MODULE_CORE_TYPES_MAX,
    MODULE_FUNCTION_BYTES_MAX, MODULE_LINKS_MAX, MODULE_LOCALS_ALL_MAX, MODULE_LOCALS_MAX,
};
use wasmparser::{
    BinaryReader, CompositeInnerType, ExportSectionReader, FuncValidator, FunctionBody,
    ImportSectionReader, TypeSectionReader, WasmModuleResources,
};

use super::Error;
use super::types::{at_most, at_most_in_name};

/// Counts over all core modules. What is wrong otherwise is left to the validator.
///
/// Few bytes can mean much work: two call a function of 1,000 parameters and as many results, over which the validator goes
/// each time, so that 64 MiB of that took a minute; five declare 50,000 locals; and what a compiler has to think about at
/// once grows with the branches that meet.
#[derive(Default)]
pub(super) struct CodeCosts {
    functions: usize,
    types: usize,
    links: usize,
    locals: usize,
    targets: usize,
}

impl CodeCosts {
    /// Counts a section of types.
    pub(super) fn types(&mut self, section: &TypeSectionReader<'_>) -> Result<(), Error> {
        for group in section.clone() {
            for ty in group?.types() {
                self.types += 1;
                at_most("core types", self.types, MODULE_CORE_TYPES_MAX)?;
                if let CompositeInnerType::Func(ty) = &ty.composite_type.inner {
                    let arity = ty.params().len() + ty.results().len();
                    at_most(
                        "parameters and results of one core function",
                        arity,
                        MODULE_ARITY_MAX,
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Counts what a core module imports.
    pub(super) fn imports(&mut self, section: &ImportSectionReader<'_>) -> Result<(), Error> {
        for import in section.clone().into_imports() {
            let import = import?;
            self.link()?;
            at_most_in_name(import.module)?;
            at_most_in_name(import.name)?;
        }
        Ok(())
    }

    /// Counts what a core module exports.
    pub(super) fn exports(&mut self, section: &ExportSectionReader<'_>) -> Result<(), Error> {
        for export in section.clone() {
            self.link()?;
            at_most_in_name(export?.name)?;
        }
        Ok(())
    }

    fn link(&mut self) -> Result<(), Error> {
        self.links += 1;
        at_most(
            "imports and exports of core modules",
            self.links,
            MODULE_LINKS_MAX,
        )
    }

    /// Counts the functions of a core module.
    pub(super) fn functions(&mut self, count: u32) -> Result<(), Error> {
        self.functions += count as usize;
        at_most("core functions", self.functions, MODULE_CORE_FUNCTIONS_MAX)
    }

    /// Counts the size and the locals of a function.
    pub(super) fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), Error> {
        at_most(
            "bytes in one core function",
            body.range().len(),
            MODULE_FUNCTION_BYTES_MAX,
        )?;
        let mut locals = 0_usize;
        for declared in body.get_locals_reader()? {
            let (count, _) = declared?;
            locals = locals.saturating_add(count as usize);
            at_most("locals in one core function", locals, MODULE_LOCALS_MAX)?;
        }
        self.locals += locals;
        at_most(
            "locals in all core functions",
            self.locals,
            MODULE_LOCALS_ALL_MAX,
        )
    }

    /// Validates a function, and counts its branches ahead of that. `bytes` is the whole file.
    pub(super) fn validate<R: WasmModuleResources>(
        &mut self,
        bytes: &[u8],
        body: &FunctionBody<'_>,
        validator: &mut FuncValidator<R>,
    ) -> Result<(), Error> {
        const BR_TABLE: u8 = 0x0e;

        let mut reader = body.get_binary_reader();
        validator.read_locals(&mut reader)?;
        reader.set_features(*validator.features());
        while !reader.eof() {
            let offset = reader.original_position();
            if bytes.get(offset) == Some(&BR_TABLE) {
                self.branches(reader.clone())?;
            }
            reader.visit_operator(&mut validator.visitor(offset))??;
            at_most(
                "levels of nested blocks",
                validator.control_stack_height() as usize,
                MODULE_BLOCK_DEPTH_MAX,
            )?;
        }
        let end = reader.original_position();
        reader.finish_expression(&validator.visitor(end))?;
        Ok(())
    }

    /// Counts the targets of the `br_table` that comes next.
    fn branches(&mut self, mut reader: BinaryReader<'_>) -> Result<(), Error> {
        reader.read_u8()?;
        let targets = reader.read_var_u32()? as usize;
        at_most(
            "targets of one `br_table`",
            targets,
            MODULE_BRANCH_TARGETS_MAX,
        )?;
        self.targets += targets;
        at_most(
            "targets of all `br_table`",
            self.targets,
            MODULE_BRANCH_TARGETS_ALL_MAX,
        )
    }
}
