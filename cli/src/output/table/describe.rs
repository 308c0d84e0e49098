//! What functions take and give.

use tq_client::{Function, Module};

use super::dash;
use crate::output::{self, escaped, json};

/// Prints each function of a module as one would call it; `run_line` makes the command of one.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_description(
    module: &Module,
    run_line: impl Fn(&Function) -> String,
) -> anyhow::Result<()> {
    output::line(format!(
        "{}@{}  {}",
        module.name,
        module.version,
        json::entry(module.entry())
    ))?;
    for function in &module.functions {
        output::line("")?;
        match &function.typed {
            Some(typed) => {
                output::line(escaped(&typed.signature))?;
                for definition in &typed.definitions {
                    output::line(format!("  {}", escaped(definition)))?;
                }
                // Most have the one name alone.
                if typed.full_name != function.name {
                    output::line(format!("  name     {}", escaped(&function.name)))?;
                    output::line(format!("  or       {}", escaped(&typed.full_name)))?;
                }
            }
            None => {
                output::line(escaped(&function.name))?;
                output::line(format!("  takes    {}", dash(&function.input)))?;
                output::line(format!("  gives    {}", dash(&function.output)))?;
            }
        }
        if !function.example.is_empty() {
            output::line(format!("  payload  {}", escaped(&function.example)))?;
        }
        for line in function.doc.lines() {
            output::line(format!("  does     {}", escaped(line)))?;
        }
        output::line(format!("  run it   {}", escaped(&run_line(function))))?;
    }
    print_uncallable(module)
}

/// Prints what a module exports and no task can call, if there is any.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_uncallable(module: &Module) -> anyhow::Result<()> {
    if module.uncallable.is_empty() {
        return Ok(());
    }
    output::line("\nexported, and cannot be called:")?;
    for function in &module.uncallable {
        let (name, why) = (escaped(&function.name), escaped(&function.why));
        output::line(format!("  {name}: {why}"))?;
    }
    Ok(())
}
