//! What a component may import: the contract of tq and the interfaces of WASI 0.2.

use std::collections::BTreeSet;
use std::fmt;

use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::types::Types;
use wasmparser::{ComponentImport, ComponentTypeRef, TypeBounds};

use super::error::Quoted;
use crate::modules::nearest;

/// A package of interfaces that hosts offer to components.
struct Package {
    name: &'static str,
    versions: Versions,
    interfaces: &'static [&'static str],
}

/// Which versions of a package are offered.
enum Versions {
    /// `0.MINOR.0` to `0.MINOR.PATCH_MAX`: within one minor version, interfaces only grow.
    Patches { minor: u32, patch_max: u32 },
    /// This draft, and no other: the next one may be anything.
    Draft(&'static str),
}

impl Package {
    fn offers(&self, version: &str) -> bool {
        match self.versions {
            Versions::Patches { minor, patch_max } => {
                patch(version, minor).is_some_and(|patch| patch <= patch_max)
            }
            Versions::Draft(draft) => version == draft,
        }
    }

    /// The first version that is offered, and the last one.
    fn range(&self) -> (String, String) {
        match self.versions {
            Versions::Patches { minor, patch_max } => {
                (format!("0.{minor}.0"), format!("0.{minor}.{patch_max}"))
            }
            Versions::Draft(draft) => (draft.to_owned(), draft.to_owned()),
        }
    }
}

/// The PATCH of `0.MINOR.PATCH`, if it is this minor version and not a candidate for one.
fn patch(version: &str, minor: u32) -> Option<u32> {
    let patch = version.strip_prefix(&format!("0.{minor}."))?;
    let is_number = patch.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = patch == "0" || !patch.starts_with('0');
    (is_number && is_canonical)
        .then(|| patch.parse().ok())
        .flatten()
}

const WASI: u32 = 2;
/// The newest WASI 0.2 of wasmtime 48.
const WASI_PATCH_MAX: u32 = 12;

/// Everything that hosts link. Of WASI 0.2, `wasi:clocks/timezone` is missing, which is not stable, and so are `wasi:cli/run`
/// and `wasi:http/incoming-handler`, which components export.
const OFFERED: &[Package] = &[
    Package {
        name: "tq:task",
        versions: Versions::Patches {
            minor: 1,
            patch_max: 0,
        },
        interfaces: &["runtime", "secrets", "types"],
    },
    wasi(
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stderr",
            "stdin",
            "stdout",
            "terminal-input",
            "terminal-output",
            "terminal-stderr",
            "terminal-stdin",
            "terminal-stdout",
        ],
    ),
    wasi("wasi:clocks", &["monotonic-clock", "wall-clock"]),
    wasi("wasi:filesystem", &["preopens", "types"]),
    wasi("wasi:http", &["outgoing-handler", "types"]),
    wasi("wasi:io", &["error", "poll", "streams"]),
    Package {
        name: "wasi:keyvalue",
        versions: Versions::Draft("0.2.0-draft2"),
        interfaces: &["atomics", "batch", "store"],
    },
    wasi("wasi:random", &["insecure", "insecure-seed", "random"]),
    wasi(
        "wasi:sockets",
        &[
            "instance-network",
            "ip-name-lookup",
            "network",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
];

const fn wasi(name: &'static str, interfaces: &'static [&'static str]) -> Package {
    Package {
        name,
        versions: Versions::Patches {
            minor: WASI,
            patch_max: WASI_PATCH_MAX,
        },
        interfaces,
    }
}

/// Whether hosts call the export `PACKAGE/INTERFACE@VERSION` as the interface `PACKAGE/INTERFACE`.
pub(super) fn is_version_of(export: &str, interface: &str) -> bool {
    let Some((name, version)) = export.split_once('@') else {
        return false;
    };
    name == interface && package(name).is_some_and(|(package, _)| package.offers(version))
}

fn package(name: &str) -> Option<(&'static Package, &str)> {
    let (package, interface) = name.split_once('/')?;
    let offered = OFFERED.iter().find(|offered| offered.name == package)?;
    Some((offered, interface))
}

/// An import that hosts do not offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The import as the component names it.
    pub name: String,
    /// Why it is refused.
    pub reason: Reason,
}

/// Why an import is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not an interface: a function, a core module or a resource, as named here.
    Kind(&'static str),
    /// The interface is offered in other versions, from the first one named here to the last.
    Version(String, String),
    /// The interface is not known; these, if any, may have been meant.
    Unknown(Vec<String>),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Quoted(&self.name))?;
        match &self.reason {
            Reason::Kind(kind) => write!(f, " ({kind}; only interfaces are offered)"),
            Reason::Version(first, last) if first == last => write!(f, " (offered is {first})"),
            Reason::Version(first, last) => write!(f, " (offered are {first} to {last})"),
            Reason::Unknown(nearest) => match nearest.first() {
                Some(name) => write!(f, " (did you mean `{name}`?)"),
                None => Ok(()),
            },
        }
    }
}

/// Checks what a component imports, and returns the interfaces among it that stand for a capability, without their
/// versions and sorted. Most languages import such interfaces whether or not the program uses them, so they are
/// offered, and refuse at run time.
///
/// # Errors
/// Everything that is not offered, in the order of the component.
pub(super) fn check(
    imports: &[ComponentImport<'_>],
    types: &Types,
) -> Result<Vec<String>, Vec<Refused>> {
    let mut capabilities = BTreeSet::new();
    let mut refused = Vec::new();
    for import in imports {
        let name = import.name.name;
        match interface(name, import.ty) {
            Ok(interface) if is_capability(interface) => {
                capabilities.insert(interface.to_owned());
            }
            Ok(_) => {}
            Err(_) if is_types_alone(types, import) => {}
            Err(reason) => refused.push(Refused {
                name: name.to_owned(),
                reason,
            }),
        }
    }
    if refused.is_empty() {
        Ok(capabilities.into_iter().collect())
    } else {
        Err(refused)
    }
}

/// Whether an import is a type that a world has by itself, or an interface of nothing but such types, which others `use`. The
/// component says all of them, so that there is nothing to be offered. A resource is another matter: somebody has to make it.
fn is_types_alone(types: &Types, import: &ComponentImport<'_>) -> bool {
    if let ComponentTypeRef::Type(TypeBounds::Eq(_)) = import.ty {
        return true;
    }
    let item = types.component_item_for_import(import.name.name);
    let Some(ComponentEntityType::Instance(instance)) = item.map(|item| item.ty) else {
        return false;
    };
    let is_type = |ty: &ComponentEntityType| matches!(ty, ComponentEntityType::Type { referenced, .. } if !matches!(referenced, ComponentAnyTypeId::Resource(_)));
    let exports = &types[instance].exports;
    !exports.is_empty() && exports.values().all(|item| is_type(&item.ty))
}

/// The offered interface that an import names, without its version.
fn interface(import: &str, ty: ComponentTypeRef) -> Result<&str, Reason> {
    let kind = match ty {
        ComponentTypeRef::Instance(_) => None,
        ComponentTypeRef::Module(_) => Some("a core module"),
        ComponentTypeRef::Func(_) => Some("a function"),
        ComponentTypeRef::Value(_) => Some("a value"),
        ComponentTypeRef::Type(_) => Some("a resource"),
        ComponentTypeRef::Component(_) => Some("a component"),
    };
    if let Some(kind) = kind {
        return Err(Reason::Kind(kind));
    }
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let known = package(name).filter(|(package, interface)| package.interfaces.contains(interface));
    match known {
        Some((package, _)) if package.offers(version) => Ok(name),
        Some((package, _)) => {
            let (first, last) = package.range();
            Err(Reason::Version(first, last))
        }
        None => {
            let offered: Vec<String> = OFFERED
                .iter()
                .flat_map(|package| {
                    package
                        .interfaces
                        .iter()
                        .map(|interface| format!("{}/{interface}", package.name))
                })
                .collect();
            let meant = nearest(name, offered.iter().map(String::as_str));
            Err(Reason::Unknown(
                meant.into_iter().map(str::to_owned).collect(),
            ))
        }
    }
}

fn is_capability(interface: &str) -> bool {
    interface == "wasi:filesystem/preopens"
        || interface.starts_with("wasi:sockets/")
        || interface.starts_with("wasi:http/")
        || interface.starts_with("wasi:keyvalue/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_interface(import: &str, expected: Result<&str, &str>) {
        let got = interface(import, ComponentTypeRef::Instance(0)).map_err(|reason| {
            Refused {
                name: import.to_owned(),
                reason,
            }
            .to_string()
        });
        assert_eq!(
            got.as_ref().map(|name| *name).map_err(String::as_str),
            expected
        );
    }

    #[test]
    fn interfaces_are_offered_by_name_and_version() {
        check_interface("wasi:cli/environment@0.2.0", Ok("wasi:cli/environment"));
        check_interface("wasi:io/streams@0.2.12", Ok("wasi:io/streams"));
        check_interface("tq:task/runtime@0.1.0", Ok("tq:task/runtime"));
        check_interface(
            "wasi:io/streams@0.2.13",
            Err("`wasi:io/streams@0.2.13` (offered are 0.2.0 to 0.2.12)"),
        );
        check_interface(
            "wasi:io/streams@0.2.01",
            Err("`wasi:io/streams@0.2.01` (offered are 0.2.0 to 0.2.12)"),
        );
        check_interface(
            "wasi:io/streams@0.2.0-rc-2023-11-10",
            Err("`wasi:io/streams@0.2.0-rc-2023-11-10` (offered are 0.2.0 to 0.2.12)"),
        );
        check_interface(
            "wasi:io/streams",
            Err("`wasi:io/streams` (offered are 0.2.0 to 0.2.12)"),
        );
        check_interface(
            "tq:task/runtime@0.2.0",
            Err("`tq:task/runtime@0.2.0` (offered is 0.1.0)"),
        );
        check_interface(
            "wasi:clock/wall-clock@0.2.0",
            Err("`wasi:clock/wall-clock@0.2.0` (did you mean `wasi:clocks/wall-clock`?)"),
        );
        check_interface(
            "wasi:keyvalue/store@0.2.0-draft2",
            Ok("wasi:keyvalue/store"),
        );
        check_interface(
            "wasi:keyvalue/store@0.2.0-draft",
            Err("`wasi:keyvalue/store@0.2.0-draft` (offered is 0.2.0-draft2)"),
        );
        check_interface(
            "wasi:keyvalue/watcher@0.2.0-draft2",
            Err("`wasi:keyvalue/watcher@0.2.0-draft2` (did you mean `wasi:keyvalue/batch`?)"),
        );
        check_interface("acme:db/query@1.0.0", Err("`acme:db/query@1.0.0`"));
    }

    #[track_caller]
    fn check_wit(wit: &str, interface: &str) {
        let (package, _) = package(interface).unwrap();
        let (_, version) = package.range();
        let name = package.name;
        assert!(wit.contains(&format!("\npackage {name}@{version};")));
        for interface in package.interfaces {
            assert!(wit.contains(&format!("\ninterface {interface} {{")));
        }
    }

    #[test]
    fn offered_contracts_are_those_in_the_wit_files() {
        check_wit(include_str!("../../../../wit/task.wit"), "tq:task/runtime");
        check_wit(
            include_str!("../../../../wit/deps/wasi-keyvalue@0.2.0-draft2/package.wit"),
            "wasi:keyvalue/store",
        );
    }
}
