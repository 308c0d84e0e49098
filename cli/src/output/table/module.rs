//! Modules.

use tq_client::{Grants, Module};

use super::attempt::retry;
use super::{dash, print, print_fields, time};
use crate::limits;
use crate::output::{self, escaped, json};
use crate::units::Size;

/// Prints modules, one a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_modules(modules: &[Module]) -> anyhow::Result<()> {
    print(
        [
            "module",
            "functions",
            "size",
            "digest",
            "uploaded",
            "ready on",
        ],
        modules.iter().map(|module| {
            [
                format!("{}@{}", module.name, module.version),
                module
                    .functions
                    .iter()
                    .map(|function| function.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
                Size(module.size_bytes).to_string(),
                module.digest.chars().take("sha256:".len() + 12).collect(),
                time(module.uploaded_ms),
                if module.compile_error.is_empty() {
                    dash(&module.ready_on.join(", "))
                } else {
                    "(does not compile)".to_owned()
                },
            ]
        }),
    )
}

/// Prints all there is to know about a module.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_module(module: &Module) -> anyhow::Result<()> {
    let versions: Vec<String> = module.versions.iter().map(u32::to_string).collect();
    print_fields([
        (
            "module",
            format!(
                "{}@{}{}",
                module.name,
                module.version,
                if module.current { "" } else { " (not current)" }
            ),
        ),
        ("namespace", module.namespace.clone()),
        ("versions", versions.join(", ")),
        ("digest", module.digest.clone()),
        ("size", Size(module.size_bytes).to_string()),
        ("entry", json::entry(module.entry()).to_owned()),
        ("uploaded", time(module.uploaded_ms)),
        ("ready on", module.ready_on.join(", ")),
        ("does not compile", escaped(&module.compile_error)),
    ])?;
    output::line("")?;
    print_functions(module)
}

/// What a function may do beside computing.
fn capabilities(grants: &Grants) -> String {
    let Grants {
        env,
        deterministic,
        http,
        scratch,
        keyvalue,
        tcp,
        secrets,
    } = grants;
    let env = env.iter().flat_map(|env| env.variables.keys());
    let mut names: Vec<String> = env.map(|name| format!("env {name}")).collect();
    if deterministic.unwrap_or_default() {
        names.push("deterministic".to_owned());
    }
    if scratch.unwrap_or_default() {
        names.push("scratch".to_owned());
    }
    let lists = [
        ("http", http),
        ("keyvalue", keyvalue),
        ("tcp", tcp),
        ("secret", secrets),
    ];
    for (capability, list) in lists {
        let grants = list.iter().flat_map(|list| &list.grants);
        names.extend(grants.map(|grant| format!("{capability} {grant}")));
    }
    names.join(", ")
}

/// Prints a module's functions.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_functions(module: &Module) -> anyhow::Result<()> {
    print(
        [
            "function",
            "takes",
            "gives",
            "limits",
            "retry",
            "capabilities",
            "does",
        ],
        module.functions.iter().map(|function| {
            [
                escaped(&function.name),
                dash(&function.input),
                dash(&function.output),
                function
                    .limits
                    .as_ref()
                    .map(limits::shown)
                    .unwrap_or_default(),
                function.retry.as_ref().map(retry).unwrap_or_default(),
                dash(
                    &function
                        .grants
                        .as_ref()
                        .map(capabilities)
                        .unwrap_or_default(),
                ),
                escaped(function.doc.lines().next().unwrap_or_default()),
            ]
        }),
    )
}
