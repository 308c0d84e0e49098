//! Which modules there are, and which version of each is current.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tq_core::retry::RetryOverrides;
use tq_core::task::Spec;
use tq_core::{Digest, Grants, Limits, Timestamp, each_limit};

use super::placement::FunctionPlacement;
use super::{Entry, Schemas, Typed, Uncallable, nearest};

/// One version of a module: what its component offers and under which settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name in its namespace.
    pub name: String,
    /// From 1, rising.
    pub version: u32,
    /// SHA-256 of the component.
    pub digest: Digest,
    /// The component's size in bytes.
    pub size_bytes: u64,
    /// How it is called.
    pub entry: Entry,
    /// What can be called, in the order in which the component or its manifest names it.
    pub functions: Vec<Function>,
    /// When it was deployed.
    pub uploaded_at: Timestamp,
    /// When it ceased to be the current version last; 0 if it never did.
    pub retired_at: Timestamp,
    /// What it may ask for and is not granted.
    pub not_granted: Vec<String>,
    /// What it exports beside its functions, and no task can call.
    pub uncallable: Vec<Uncallable>,
}

/// A function of a module, with its settings. The default has no name, and says nothing of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The author's description; may be empty.
    pub doc: String,
    /// `json`, `text`, `bytes`, `none`, or empty if unknown.
    pub input: String,
    /// Likewise.
    pub output: String,
    /// What one attempt may use.
    pub limits: Limits,
    /// How often and how soon it is tried again, as far as it or its module says so.
    pub retry: RetryOverrides,
    /// Where its tasks may run, and beside what.
    pub placement: FunctionPlacement,
    /// What it may do beside computing.
    pub grants: Arc<Grants>,
    /// Results go so long after their tasks' ends; none leaves it to the namespace.
    pub result_ttl: Option<Duration>,
    /// What it says of its payload and result, if it was written with an SDK.
    pub schemas: Arc<Schemas>,
    /// Its types, if it is called with JSON in place of its arguments.
    pub typed: Option<Arc<Typed>>,
}

impl Function {
    /// Whether it is meant by this name: its own, or the one with its interface, which it keeps when another function of its
    /// name comes to the module.
    fn is_named(&self, name: &str) -> bool {
        let full_name = || self.typed.as_ref().map(|typed| typed.full_name());
        self.name == name || name.contains('#') && full_name().as_deref() == Some(name)
    }

    /// Whether the same payloads are right for both, and their results are alike, as far as the modules say so.
    fn is_called_like(&self, other: &Self) -> bool {
        match (&self.typed, &other.typed) {
            (Some(typed), Some(other)) => typed.function.is_like(&other.function),
            (None, None) => {
                (&self.input, &self.output) == (&other.input, &other.output)
                    && self.schemas.is_like(&other.schemas)
            }
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// What it takes and gives, in one line.
    fn signature(&self) -> String {
        let kind = |kind: &str| match kind {
            "" => "anything".to_owned(),
            kind => kind.to_owned(),
        };
        match &self.typed {
            Some(typed) => typed.signature(),
            None => format!("{} -> {}", kind(&self.input), kind(&self.output)),
        }
    }
}

/// All versions of one module.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// The one that the name points at.
    pub current: u32,
    /// The highest that there ever was: no number is given twice while there is any version.
    pub last: u32,
    /// All there are.
    pub all: BTreeMap<u32, Arc<Module>>,
}

impl Module {
    /// Why there is no function of this name.
    fn lacks(&self, name: &str) -> Unknown {
        let uncallable = self
            .uncallable
            .iter()
            .find(|function| function.name == name);
        match uncallable {
            Some(Uncallable { name, why }) => Unknown::Uncallable {
                module: self.name.clone(),
                function: name.clone(),
                why: why.clone(),
            },
            None => Unknown::Function {
                module: self.name.clone(),
                function: name.to_owned(),
                nearest: Nearest::new(
                    name,
                    self.functions.iter().map(|function| function.name.as_str()),
                ),
            },
        }
    }

    /// What functions may do here that they may not in `before`: each grant with the functions that have it, `env LANG (resize,
    /// crop)`, or by itself if all of them do.
    pub fn granted_beyond(&self, before: Option<&Self>) -> Vec<String> {
        let nothing = Grants::default();
        let mut newly = BTreeMap::<String, Vec<&str>>::new();
        for function in &self.functions {
            let mut functions = before.into_iter().flat_map(|before| &before.functions);
            let had = functions.find(|had| had.name == function.name);
            let had = had.map_or(&nothing, |had| &had.grants);
            for grant in function.grants.beyond(had) {
                newly.entry(grant).or_default().push(&function.name);
            }
        }
        let newly = newly.into_iter().map(|(grant, functions)| {
            if functions.len() == self.functions.len() {
                return grant;
            }
            format!("{grant} ({})", functions.join(", "))
        });
        newly.collect()
    }

    /// The functions of `before` that take or give something else here, or that are not here.
    pub fn retyped_since(&self, before: &Self) -> Vec<Retyped> {
        let retyped = before.functions.iter().filter_map(|before| {
            let mut functions = self.functions.iter();
            let after = functions.find(|function| function.name == before.name);
            (!after.is_some_and(|after| after.is_called_like(before))).then(|| Retyped {
                name: before.name.clone(),
                before: before.signature(),
                after: after.map_or_else(String::new, Function::signature),
            })
        });
        retyped.collect()
    }
}

/// A function that takes or gives something else than in another version of its module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retyped {
    /// Its name.
    pub name: String,
    /// What it took and gave.
    pub before: String,
    /// What it takes and gives now; empty if it is gone.
    pub after: String,
}

/// Modules by namespace and name. Written by the ledger alone.
#[derive(Debug, Default)]
pub struct Registry {
    modules: HashMap<String, BTreeMap<String, Versions>>,
    /// One module for each digest there is.
    by_digest: HashMap<Digest, Arc<Module>>,
    /// Whether any function was ever granted anything: where none was, nobody looks for it.
    has_grants: bool,
}

/// Why a function cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// There is no such module.
    #[error("namespace `{namespace}` has no module `{module}`{nearest}")]
    Module {
        /// The namespace.
        namespace: String,
        /// The module's name.
        module: String,
        /// The nearest names, as they end the message.
        nearest: Nearest,
    },
    /// The module has no such version.
    #[error("module `{module}` has no version {version}; it has {versions}")]
    Version {
        /// The module's name.
        module: String,
        /// The version asked for.
        version: String,
        /// The versions there are.
        versions: String,
    },
    /// The module has no such function.
    #[error("module `{module}` has no function `{function}`{nearest}")]
    Function {
        /// The module's name.
        module: String,
        /// The function's name.
        function: String,
        /// The nearest names, as they end the message.
        nearest: Nearest,
    },
    /// The module exports it, but no task can call it.
    #[error("function `{function}` of module `{module}` cannot be called: {why}")]
    Uncallable {
        /// The module's name.
        module: String,
        /// The function's name.
        function: String,
        /// Why not.
        why: String,
    },
    /// The module has several functions and none was named.
    #[error("module `{module}` has {count} functions, so name one: `{module}/{first}`")]
    Ambiguous {
        /// The module's name.
        module: String,
        /// How many functions it has.
        count: usize,
        /// One of them.
        first: String,
    },
}

/// Names near to one that is not there, or a few of those there are if none is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    names: Vec<String>,
    is_near: bool,
}

impl Nearest {
    fn new<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Self {
        const SHOWN_MAX: usize = 3;
        let candidates: Vec<&str> = candidates.collect();
        let near = nearest(name, candidates.iter().copied());
        let is_near = !near.is_empty();
        let names = if is_near { near } else { candidates };
        Self {
            names: names
                .into_iter()
                .take(SHOWN_MAX)
                .map(str::to_owned)
                .collect(),
            is_near,
        }
    }
}

impl std::fmt::Display for Nearest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, name) in self.names.iter().enumerate() {
            let before = match (index, self.is_near) {
                (0, true) => "; did you mean ",
                (0, false) => "; there is ",
                (_, _) => ", ",
            };
            write!(f, "{before}`{name}`")?;
        }
        Ok(())
    }
}

impl Registry {
    /// Adds a version. It becomes the current one when [`Registry::set_current`] says so.
    pub fn insert(&mut self, namespace: &str, module: Module) {
        let module = Arc::new(module);
        let mut grants = module.functions.iter().map(|function| &function.grants);
        self.has_grants |= grants.any(|grants| !grants.is_empty());
        self.by_digest
            .entry(module.digest)
            .or_insert_with(|| Arc::clone(&module));
        let versions = self
            .modules
            .entry(namespace.to_owned())
            .or_default()
            .entry(module.name.clone())
            .or_default();
        versions.last = versions.last.max(module.version);
        versions.all.insert(module.version, module);
    }

    /// Points a name at one of its versions, of which `last` is the highest that there ever was.
    pub fn set_current(&mut self, namespace: &str, name: &str, version: u32, last: u32) {
        if let Some(versions) = self
            .modules
            .get_mut(namespace)
            .and_then(|modules| modules.get_mut(name))
        {
            versions.current = version;
            versions.last = versions.last.max(last);
        }
    }

    /// Removes a version; the name goes with the last one.
    pub fn remove(&mut self, namespace: &str, name: &str, version: u32) {
        let Some(modules) = self.modules.get_mut(namespace) else {
            return;
        };
        let Some(versions) = modules.get_mut(name) else {
            return;
        };
        let Some(removed) = versions.all.remove(&version) else {
            return;
        };
        if versions.all.is_empty() {
            modules.remove(name);
        }
        let mut others = self.modules.values().flat_map(BTreeMap::values);
        let same = others.find_map(|versions| {
            let mut all = versions.all.values();
            all.find(|module| module.digest == removed.digest)
        });
        match same.map(Arc::clone) {
            Some(same) => self.by_digest.insert(removed.digest, same),
            None => self.by_digest.remove(&removed.digest),
        };
    }

    /// All versions of a module.
    ///
    /// # Errors
    /// [`Unknown::Module`] with the nearest names.
    pub fn versions(&self, namespace: &str, name: &str) -> Result<&Versions, Unknown> {
        let modules = self.modules.get(namespace);
        modules
            .and_then(|modules| modules.get(name))
            .ok_or_else(|| Unknown::Module {
                namespace: namespace.to_owned(),
                module: name.to_owned(),
                nearest: Nearest::new(
                    name,
                    modules.into_iter().flatten().map(|(name, _)| name.as_str()),
                ),
            })
    }

    /// The module that `NAME` or `NAME@VERSION` names.
    ///
    /// # Errors
    /// [`Unknown`] says which part of it is not there.
    pub fn module(&self, namespace: &str, reference: &str) -> Result<&Arc<Module>, Unknown> {
        let (name, version) = reference
            .split_once('@')
            .map_or((reference, None), |(name, version)| (name, Some(version)));
        let versions = self.versions(namespace, name)?;
        let number = version.map_or(Some(versions.current), |version| version.parse().ok());
        number
            .and_then(|number| versions.all.get(&number))
            .ok_or_else(|| Unknown::Version {
                module: name.to_owned(),
                version: version.unwrap_or_default().to_owned(),
                versions: versions
                    .all
                    .keys()
                    .map(u32::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// The function that `MODULE/FUNCTION` names, or `MODULE` alone when it has one.
    ///
    /// # Errors
    /// [`Unknown`] says which part of it is not there.
    pub fn function(
        &self,
        namespace: &str,
        reference: &str,
    ) -> Result<(&Arc<Module>, &Function), Unknown> {
        let (module, function) = reference
            .split_once('/')
            .map_or((reference, None), |(module, function)| {
                (module, Some(function))
            });
        let module = self.module(namespace, module)?;
        let found = match (function, module.functions.as_slice()) {
            (None, [only]) => only,
            (None, functions) => {
                return Err(Unknown::Ambiguous {
                    module: module.name.clone(),
                    count: functions.len(),
                    first: functions
                        .first()
                        .map_or_else(String::new, |function| function.name.clone()),
                });
            }
            (Some(name), functions) => functions
                .iter()
                .find(|function| function.is_named(name))
                .ok_or_else(|| module.lacks(name))?,
        };
        Ok((module, found))
    }

    /// The same call, of the module's current version if that still has the function. A limit that the call had from its
    /// function is that of the new one: raising it may be why there is a new version. One that the call had lowered stays,
    /// under the new one.
    pub fn on_current_version(&self, spec: &Spec) -> Spec {
        let mut spec = spec.clone();
        let reference = format!("{}/{}", spec.module, spec.function);
        let Ok((module, function)) = self.function(&spec.namespace, &reference) else {
            return spec;
        };
        if let Some(old) = self.as_submitted(&spec) {
            macro_rules! renew {
                ($($field:ident)+) => {
                    Limits {
                        $($field: renewed(spec.limits.$field, old.limits.$field, function.limits.$field),)+
                    }
                };
            }
            spec.limits = each_limit!(renew);
        }
        (spec.version, spec.digest) = (module.version, module.digest);
        spec
    }

    /// The function of a call, in the version that it names.
    pub fn of_call(&self, spec: &Spec) -> Option<(&Module, &Function)> {
        let versions = self.versions(&spec.namespace, &spec.module).ok()?;
        let module = versions.all.get(&spec.version)?;
        let mut functions = module.functions.iter();
        let function = functions.find(|function| function.name == spec.function)?;
        Some((module, function))
    }

    fn as_submitted(&self, spec: &Spec) -> Option<&Function> {
        self.of_call(spec).map(|(_, function)| function)
    }

    /// What a task may do beside computing: what its function had granted in the version that the task was submitted to.
    /// None is nothing.
    pub fn grants(&self, spec: &Spec) -> Option<Arc<Grants>> {
        if !self.has_grants {
            return None;
        }
        let function = self.as_submitted(spec)?;
        (!function.grants.is_empty()).then(|| Arc::clone(&function.grants))
    }

    /// The modules of a namespace, by name.
    pub fn list(&self, namespace: &str) -> impl Iterator<Item = &Versions> {
        self.modules
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// Every module with its namespace, in no order of namespaces.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Versions)> {
        self.modules.iter().flat_map(|(namespace, modules)| {
            modules
                .values()
                .map(move |versions| (&**namespace, versions))
        })
    }

    /// A module with these bytes, in any namespace.
    pub fn by_digest(&self, digest: &Digest) -> Option<&Arc<Module>> {
        self.by_digest.get(digest)
    }
}

/// The limit of a call whose function had `old` and has `new`.
fn renewed<T: Ord>(own: T, old: T, new: T) -> T {
    if own == old { new } else { own.min(new) }
}

#[cfg(test)]
mod tests {
    use tq_typed::Type;

    use super::*;

    #[test]
    fn limits_are_renewed_unless_the_call_had_lowered_them() {
        assert_eq!(renewed(128, 128, 256), 256);
        assert_eq!(renewed(128, 128, 64), 64);
        assert_eq!(renewed(32, 128, 256), 32);
        assert_eq!(renewed(32, 128, 16), 16);
    }

    fn module(name: &str, version: u32, bytes: u8) -> Module {
        Module {
            name: name.to_owned(),
            version,
            digest: Digest([bytes; 32]),
            size_bytes: u64::from(bytes),
            entry: Entry::Handler,
            functions: Vec::new(),
            uploaded_at: Timestamp::EPOCH,
            retired_at: Timestamp::EPOCH,
            not_granted: Vec::new(),
            uncallable: Vec::new(),
        }
    }

    #[test]
    fn typed_functions_are_found_by_both_of_their_names() {
        let typed = |name: &str, interface: &str, export: &str| Function {
            name: name.to_owned(),
            typed: Some(Arc::new(Typed {
                interface: interface.to_owned(),
                export: export.to_owned(),
                function: tq_typed::Function::default(),
            })),
            ..Function::default()
        };
        let module = Module {
            functions: vec![
                typed("add", "", "add"),
                typed("crop", "a:b/ops@1.0.0", "crop"),
            ],
            uncallable: vec![Uncallable {
                name: "open".to_owned(),
                why: "it has a resource in its types".to_owned(),
            }],
            ..module("m", 1, 1)
        };
        let mut registry = Registry::default();
        registry.insert("a", module);
        registry.set_current("a", "m", 1, 1);
        let found = |reference: &str| match registry.function("a", reference) {
            Ok((_, function)) => function.name.clone(),
            Err(unknown) => unknown.to_string(),
        };
        assert_eq!(found("m/add"), "add");
        assert_eq!(found("m/crop"), "crop");
        assert_eq!(found("m@1/a:b/ops@1.0.0#crop"), "crop");
        assert_eq!(
            found("m/a:b/ops@2.0.0#crop"),
            "module `m` has no function `a:b/ops@2.0.0#crop`; did you mean `crop`"
        );
        assert_eq!(
            found("m/open"),
            "function `open` of module `m` cannot be called: it has a resource in its types"
        );
    }

    #[test]
    fn new_grants_are_named_with_the_functions_that_have_them() {
        let granting = |functions: &[(&str, &[&str])]| Module {
            functions: functions
                .iter()
                .map(|(name, env)| Function {
                    name: (*name).to_owned(),
                    grants: Arc::new(Grants {
                        env: env
                            .iter()
                            .map(|name| ((*name).to_owned(), String::new()))
                            .collect(),
                        ..Grants::default()
                    }),
                    ..Function::default()
                })
                .collect(),
            ..module("m", 1, 1)
        };
        let before = granting(&[("a", &["X"]), ("b", &[]), ("c", &[])]);
        let after = granting(&[("a", &["X", "Y"]), ("b", &["X", "Y"]), ("d", &["Y"])]);
        assert_eq!(after.granted_beyond(Some(&before)), ["env X (b)", "env Y"]);
        assert_eq!(
            after.granted_beyond(None),
            ["env X (a, b)", "env Y"],
            "all is new"
        );
        assert!(before.granted_beyond(Some(&after)).is_empty());
    }

    #[test]
    fn functions_that_are_called_otherwise_are_named() {
        let typed = |name: &str, ty: Type, of: &str| Function {
            name: name.to_owned(),
            typed: Some(Arc::new(Typed {
                interface: String::new(),
                export: name.to_owned(),
                function: tq_typed::Function {
                    params: vec![tq_typed::Field {
                        name: of.to_owned(),
                        ty,
                    }],
                    result: None,
                },
            })),
            ..Function::default()
        };
        let kinds = |name: &str, input: &str, output: &str| Function {
            name: name.to_owned(),
            input: input.to_owned(),
            output: output.to_owned(),
            ..Function::default()
        };
        let having = |functions: Vec<Function>| Module {
            functions,
            ..module("m", 1, 1)
        };
        let before = having(vec![
            typed("same", Type::U8, "n"),
            typed("wider", Type::U8, "n"),
            kinds("gone", "json", ""),
            kinds("told", "json", "json"),
            kinds("kept", "text", "none"),
        ]);
        let after = having(vec![
            kinds("kept", "text", "none"),
            kinds("told", "json", "bytes"),
            typed("wider", Type::U16, "n"),
            typed("same", Type::U8, "n"),
            kinds("new", "", ""),
        ]);
        let retyped = after.retyped_since(&before);
        let shown = retyped.iter().map(|retyped| {
            let Retyped {
                name,
                before,
                after,
            } = retyped;
            format!("{name}: {before} | {after}")
        });
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                "wider: wider: func(n: u8) | wider: func(n: u16)",
                "gone: json -> anything | ",
                "told: json -> json | json -> bytes",
            ]
        );
        assert!(after.retyped_since(&after).is_empty());
    }

    #[track_caller]
    fn check(registry: &Registry, bytes: &[u8]) {
        for number in 0..=u8::MAX {
            let found = registry.by_digest(&Digest([number; 32]));
            let expected = bytes.contains(&number).then_some(u64::from(number));
            assert_eq!(found.map(|module| module.size_bytes), expected, "{number}");
        }
    }

    #[test]
    fn every_version_of_every_namespace_is_found_by_its_digest() {
        let mut registry = Registry::default();
        check(&registry, &[]);
        registry.insert("a", module("resize", 1, 1));
        registry.insert("a", module("resize", 2, 2));
        registry.insert("b", module("resize", 1, 3));
        registry.insert("b", module("other", 1, 2));
        registry.set_current("a", "resize", 2, 2);
        check(&registry, &[1, 2, 3]);
        // A rollback leaves the later version for tasks that were submitted for it.
        registry.set_current("a", "resize", 1, 2);
        check(&registry, &[1, 2, 3]);
        // The bytes of version 1 again, as a third version.
        registry.insert("a", module("resize", 3, 1));
        check(&registry, &[1, 2, 3]);
        // What goes is found as long as another version has its bytes.
        registry.remove("a", "resize", 1);
        check(&registry, &[1, 2, 3]);
        registry.remove("a", "resize", 3);
        registry.remove("b", "resize", 1);
        check(&registry, &[2]);
        assert!(registry.versions("b", "resize").is_err());
        assert_eq!(registry.all().count(), 2);
    }
}
