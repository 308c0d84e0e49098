//! `tq describe`

use tq_client::{Entry, Function, Module};

use crate::commands::connect;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config, reference: &str) -> anyhow::Result<Exit> {
    let (name, function) = match reference.split_once('/') {
        Some((name, function)) => (name, Some(function)),
        None => (reference, None),
    };
    let mut module = connect(config).await?.module(name).await?;
    if let Some(function) = function {
        keep(&mut module, function)?;
    }
    match config.output.value {
        Format::Table => table::print_description(&module, |function| run_line(&module, function))?,
        Format::Json => json::print(&json::ModuleInfo::from(&module))?,
    }
    Ok(Exit::Succeeded)
}

/// Leaves out all functions but one.
fn keep(module: &mut Module, name: &str) -> Result<(), Failure> {
    let is_it = |function: &Function| {
        let typed = function.typed.as_ref();
        function.name == name || typed.is_some_and(|typed| typed.full_name == name)
    };
    if !module.functions.iter().any(is_it) {
        let why = module
            .uncallable
            .iter()
            .find(|function| function.name == name);
        let Module { name: module, .. } = module;
        return Err(match why {
            Some(function) => Failure::not_found(format!(
                "function `{name}` of module `{module}` cannot be called: {}",
                function.why
            )),
            None => Failure::not_found(format!("module `{module}` has no function `{name}`"))
                .hint(format!("`tq describe {module}` shows those that it has")),
        });
    }
    module.functions.retain(is_it);
    module.uncallable.clear();
    Ok(())
}

/// A command that calls a function.
pub(super) fn run_line(module: &Module, function: &Function) -> String {
    let name = match module.current {
        true => module.name.clone(),
        false => format!("{}@{}", module.name, module.version),
    };
    let name = match module.functions.len() {
        1 if function.typed.is_none() => name,
        _ => format!("{name}/{}", function.name),
    };
    if function.typed.is_some() && matches!(function.example.as_str(), "" | "{}") {
        // Nothing is the same as no arguments.
        return format!("tq run {name}");
    }
    if !function.example.is_empty() {
        let quoted = function.example.replace('\'', "'\\''");
        return format!("tq run {name} '{quoted}'");
    }
    match (module.entry(), function.input.as_str()) {
        (Entry::Program, _) => format!("tq run {name} @FILE -- ARGUMENT..."),
        (Entry::Handler | Entry::Typed | Entry::Unspecified, "json") => {
            format!("tq run {name} '{{…}}'")
        }
        (Entry::Handler | Entry::Typed | Entry::Unspecified, "text") => {
            format!("tq run {name} 'some text'")
        }
        (Entry::Handler | Entry::Typed | Entry::Unspecified, "none") => format!("tq run {name}"),
        (Entry::Handler | Entry::Typed | Entry::Unspecified, _) => format!("tq run {name} @FILE"),
    }
}

#[cfg(test)]
mod tests {
    use tq_client::TypedFunction;

    use super::*;

    fn module(entry: Entry, functions: Vec<Function>) -> Module {
        Module {
            name: "m".into(),
            version: 2,
            current: true,
            entry: entry.into(),
            functions,
            ..Module::default()
        }
    }

    fn function(name: &str, input: &str, example: Option<&str>) -> Function {
        Function {
            name: name.into(),
            input: input.into(),
            typed: example.map(|_| TypedFunction {
                full_name: format!("a:b/c#{name}"),
                ..TypedFunction::default()
            }),
            example: example.unwrap_or_default().into(),
            ..Function::default()
        }
    }

    #[track_caller]
    fn check(module: &Module, expected: &str) {
        assert_eq!(run_line(module, &module.functions[0]), expected);
    }

    #[test]
    fn run_line_fits_the_function() {
        let untyped = |name, input| function(name, input, None);
        check(
            &module(Entry::Handler, vec![untyped("f", "json")]),
            "tq run m '{…}'",
        );
        let two = vec![untyped("f", "text"), untyped("g", "")];
        check(&module(Entry::Handler, two), "tq run m/f 'some text'");
        check(
            &module(Entry::Program, vec![untyped("main", "")]),
            "tq run m @FILE -- ARGUMENT...",
        );
        let typed = |example| module(Entry::Typed, vec![function("f", "json", Some(example))]);
        check(&typed("{\"a\":1}"), "tq run m/f '{\"a\":1}'");
        check(&typed("{}"), "tq run m/f");
        let quoted = Function {
            example: "{\"it's\":1}".into(),
            ..untyped("f", "json")
        };
        check(
            &module(Entry::Handler, vec![quoted]),
            "tq run m '{\"it'\\''s\":1}'",
        );
        let earlier = Module {
            current: false,
            ..typed("{}")
        };
        check(&earlier, "tq run m@2/f");
    }

    #[test]
    fn one_function_is_found_by_both_of_its_names() {
        let mut all = module(
            Entry::Typed,
            vec![
                function("f", "json", Some("{}")),
                function("g", "json", Some("{}")),
            ],
        );
        keep(&mut all.clone(), "a:b/c#g").expect("it is there");
        let missing = keep(&mut all, "h").expect_err("it is not there");
        assert_eq!(crate::exit::code(&missing.into()), Exit::NotFound);
        keep(&mut all, "f").expect("it is there");
        assert_eq!(all.functions.len(), 1);
    }
}
