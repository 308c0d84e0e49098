//! What the component types of an upload cost to validate, found before they are.

use std::ops::Range;

use tq_core::limits::{
    MODULE_NAME_BYTES_MAX, MODULE_TYPE_COPIES_BYTES_MAX, MODULE_TYPE_DEPTH_MAX, MODULE_TYPES_MAX,
};
use wasmparser::{
    BinaryReader, ComponentAlias, ComponentExportSectionReader, ComponentExternName,
    ComponentExternalKind, ComponentImport, ComponentImportSectionReader,
    ComponentInstanceSectionReader, ComponentType, ComponentTypeRef, CoreType, Result,
};

use super::{Error, FEATURES};

/// Counts what the validator is about to do. What is wrong otherwise is left to it.
///
/// Two things make a small file dear. The parser of `wasmparser` recurses on types within types without a limit, at three
/// bytes a level, so that 300 kB overflow the stack and end the process. And whatever is imported, exported or instantiated
/// gets a copy of its type: a type of 10,000 exports that is instantiated 999 times took 2.5 GB, from 106 kB.
#[derive(Default)]
pub(super) struct TypeCosts {
    /// Types and declarations inside them.
    declarations: usize,
    /// Bytes of the file that make up types: an instance can be as large as all of them together.
    bytes: usize,
    /// Bytes of the largest single type.
    largest: usize,
    /// Bytes of types, each counted as often as it may be copied.
    copies: usize,
}

impl TypeCosts {
    /// Counts a section of types, walking over its bytes with a stack of its own.
    pub(super) fn types(&mut self, bytes: &[u8], section: Range<usize>) -> Result<(), Error> {
        let Some(contents) = bytes.get(section.clone()) else {
            return Err(Error::CutOff {
                offset: section.start,
            });
        };
        let mut reader = BinaryReader::new_features(contents, section.start, FEATURES);
        // The types that the reader is inside of: how many declarations are left, and where it began. The first is the
        // section itself.
        let mut open = vec![(reader.read_var_u32()?, section.start)];
        while let Some((left, began)) = open.last_mut() {
            if *left == 0 {
                self.largest = self.largest.max(reader.original_position() - *began);
                open.pop();
                continue;
            }
            *left -= 1;
            self.declarations += 1;
            at_most(
                "component types and declarations",
                self.declarations,
                MODULE_TYPES_MAX,
            )?;
            let began = reader.original_position();
            let declaration = if open.len() > 1 {
                reader.read_u8()?
            } else {
                TYPE
            };
            match declaration {
                CORE_TYPE => {
                    reader.read::<CoreType<'_>>()?;
                }
                TYPE => match open_type(&mut reader)? {
                    Some(declarations) => {
                        at_most("levels of nested types", open.len(), MODULE_TYPE_DEPTH_MAX)?;
                        open.push((declarations, began));
                    }
                    None => self.largest = self.largest.max(reader.original_position() - began),
                },
                ALIAS => {
                    reader.read::<ComponentAlias<'_>>()?;
                }
                IMPORT => self.copy(is_deep(reader.read::<ComponentImport<'_>>()?.ty))?,
                EXPORT => {
                    reader.read::<ComponentExternName<'_>>()?;
                    self.copy(is_deep(reader.read()?))?;
                }
                // The parser fails at this very byte too, and knows the words.
                _ => break,
            }
            self.bytes += reader.original_position().saturating_sub(began);
        }
        Ok(())
    }

    /// Counts what a component imports.
    pub(super) fn imports(
        &mut self,
        section: &ComponentImportSectionReader<'_>,
    ) -> Result<(), Error> {
        self.bytes += section.range().len();
        section.clone().into_iter().try_for_each(|import| {
            let import = import?;
            at_most_in_name(import.name.name)?;
            self.copy(is_deep(import.ty))
        })
    }

    /// Counts what a component exports.
    pub(super) fn exports(
        &mut self,
        section: &ComponentExportSectionReader<'_>,
    ) -> Result<(), Error> {
        self.bytes += section.range().len();
        section.clone().into_iter().try_for_each(|export| {
            let export = export?;
            at_most_in_name(export.name.name)?;
            self.copy(matches!(
                export.kind,
                ComponentExternalKind::Instance | ComponentExternalKind::Component
            ))
        })
    }

    /// Counts what is instantiated.
    pub(super) fn instances(
        &mut self,
        section: &ComponentInstanceSectionReader<'_>,
    ) -> Result<(), Error> {
        self.bytes += section.range().len();
        section.clone().into_iter().try_for_each(|instance| {
            instance?;
            self.copy(true)
        })
    }

    /// One use of a type: a deep one copies all that an instance or a component consists of.
    fn copy(&mut self, is_deep: bool) -> Result<(), Error> {
        self.copies += if is_deep { self.bytes } else { self.largest };
        at_most(
            "bytes of types, each counted as often as it is used",
            self.copies,
            MODULE_TYPE_COPIES_BYTES_MAX,
        )
    }
}

// The leading bytes of declarations in the binary format of the component model.
const CORE_TYPE: u8 = 0x00;
const TYPE: u8 = 0x01;
const ALIAS: u8 = 0x02;
const IMPORT: u8 = 0x03;
const EXPORT: u8 = 0x04;

/// Enters a component type or an instance type and returns how many declarations it has; reads any other type as a whole.
fn open_type(reader: &mut BinaryReader<'_>) -> Result<Option<u32>> {
    const COMPONENT: u8 = 0x41;
    const INSTANCE: u8 = 0x42;

    let mut ahead = reader.clone();
    if matches!(ahead.read_u8()?, COMPONENT | INSTANCE) {
        let declarations = ahead.read_var_u32()?;
        *reader = ahead;
        return Ok(Some(declarations));
    }
    reader.read::<ComponentType<'_>>()?;
    Ok(None)
}

fn is_deep(ty: ComponentTypeRef) -> bool {
    matches!(
        ty,
        ComponentTypeRef::Instance(_) | ComponentTypeRef::Component(_)
    )
}

/// Refuses more than there may be of something.
pub(super) fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), Error> {
    if found > max {
        return Err(Error::TooMany { what, found, max });
    }
    Ok(())
}

/// Refuses a name of an import or export that is too long.
pub(super) fn at_most_in_name(name: &str) -> Result<(), Error> {
    at_most(
        "bytes in a name of an import or export",
        name.len(),
        MODULE_NAME_BYTES_MAX,
    )
}
