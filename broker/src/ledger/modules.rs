//! Deploying modules, and removing what nobody uses of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tq_core::Timestamp;
use tq_core::planted::{Bug, is_planted};
use tq_core::task::Spec;

use super::{Deploy, Error, Ledger, Refused, read, write};
use crate::modules::registry::Module;
use crate::store::Batch;
use crate::tables::Namespace;
use crate::tables::{key, row};

/// How often it is looked which versions nobody uses.
const LOOK: Duration = Duration::from_secs(3600);
/// Versions that a step removes by itself.
const REMOVED_PER_STEP: usize = 64;

/// How many tasks there are of each version of each module, whatever their state: those need it, also to be redriven.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// By name, then the versions of that name in all namespaces, which are few.
    of_name: FxHashMap<String, Vec<Use>>,
    /// The names of which a count is not on disk as it is.
    changed: BTreeSet<String>,
    /// When it is looked next which ones have none.
    look_at: Timestamp,
}

#[derive(Debug)]
struct Use {
    namespace: Namespace,
    version: u32,
    tasks: u64,
    is_changed: bool,
}

impl Uses {
    /// Takes over what is on disk.
    pub(super) fn recover(&mut self, namespace: Namespace, name: &str, version: u32, tasks: u64) {
        let uses = self.of_name.entry(name.to_owned()).or_default();
        uses.push(Use {
            namespace,
            version,
            tasks,
            is_changed: false,
        });
    }

    /// A task goes from one version to another; none is before its submit or after its removal.
    pub(super) fn change(
        &mut self,
        namespace: Namespace,
        name: &str,
        before: Option<u32>,
        after: Option<u32>,
    ) {
        if !self.of_name.contains_key(name) {
            self.of_name.insert(name.to_owned(), Vec::new());
        }
        let Some(uses) = self.of_name.get_mut(name) else {
            return;
        };
        for (version, is_more) in [(before, false), (after, true)] {
            let Some(version) = version else { continue };
            let found = uses
                .iter()
                .position(|of| (of.namespace, of.version) == (namespace, version));
            let at = found.unwrap_or_else(|| {
                uses.push(Use {
                    namespace,
                    version,
                    tasks: 0,
                    is_changed: false,
                });
                uses.len() - 1
            });
            let of = &mut uses[at];
            of.tasks = match is_more {
                true => of.tasks + 1,
                false => of.tasks.saturating_sub(1),
            };
            if !of.is_changed {
                of.is_changed = true;
                if !self.changed.contains(name) {
                    self.changed.insert(name.to_owned());
                }
            }
        }
    }

    /// Writes what has changed.
    pub(super) fn write(&mut self, batch: &mut Batch) {
        for name in std::mem::take(&mut self.changed) {
            let uses = self.of_name.get_mut(&name).into_iter().flatten();
            for of in uses.filter(|of| of.is_changed) {
                of.is_changed = false;
                let at = key::module_uses(of.namespace, &name, of.version);
                batch.put(at, of.tasks.to_be_bytes().to_vec());
            }
        }
    }

    /// As of the last commit.
    pub(super) fn get(&self, namespace: Namespace, name: &str, version: u32) -> u64 {
        let mut uses = self.of_name.get(name).into_iter().flatten();
        uses.find(|of| (of.namespace, of.version) == (namespace, version))
            .map_or(0, |of| of.tasks)
    }

    fn forget(&mut self, namespace: Namespace, name: &str, version: u32) {
        if let Some(uses) = self.of_name.get_mut(name) {
            uses.retain(|of| (of.namespace, of.version) != (namespace, version));
            if uses.is_empty() {
                self.of_name.remove(name);
            }
        }
    }

    /// Every count there is.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Namespace, &str, u32, u64)> {
        self.of_name.iter().flat_map(|(name, uses)| {
            uses.iter()
                .map(move |of| (of.namespace, &**name, of.version, of.tasks))
        })
    }
}

impl Ledger {
    /// Adds a version of a module, unless the current one is the same.
    pub(super) fn deploy(&mut self, deploy: Deploy) -> Result<(), Error> {
        let Deploy {
            namespace,
            mut module,
            reply,
        } = deploy;
        // The same bytes again are another chance for hosts that could not compile them.
        self.hosts.mend(&module.digest);
        let (current, last) = {
            let registry = read(&self.shared.registry);
            let versions = registry.versions(&namespace, &module.name).ok();
            let current = versions
                .and_then(|versions| versions.all.get(&versions.current))
                .map(Arc::clone);
            let last = versions
                .and_then(|versions| versions.all.keys().next_back().copied())
                .unwrap_or(0);
            (current, last)
        };
        let same = current.filter(|current| {
            let (version, uploaded_at) = (current.version, current.uploaded_at);
            **current
                == Module {
                    version,
                    uploaded_at,
                    ..module.clone()
                }
        });
        let digest = module.digest;
        let answer = match same {
            Some(current) => (current.version, true),
            None => {
                module.version = last + 1;
                module.uploaded_at = self.time;
                let number = self.namespace_or_new(&namespace);
                self.step.batch.put(
                    key::module(number, &module.name, module.version),
                    row::encode_module(number, &module),
                );
                self.set_current(number, &module.name, module.version);
                self.step.durable = true;
                let version = module.version;
                // Whoever reads it before the commit is done can submit nothing that comes before it in the ledger.
                let mut registry = write(&self.shared.registry);
                let name = module.name.clone();
                registry.insert(&namespace, module);
                registry.set_current(&namespace, &name, version);
                (version, false)
            }
        };
        self.prepare(&digest);
        self.answer(reply, Ok(answer));
        Ok(())
    }

    pub(super) fn rollback(
        &mut self,
        namespace: &str,
        name: &str,
        version: u32,
    ) -> Result<(), Refused> {
        let module = {
            let registry = read(&self.shared.registry);
            let versions = registry.versions(namespace, name)?;
            let version = match version {
                0 => versions
                    .all
                    .range(..versions.current)
                    .next_back()
                    .map(|(version, _)| *version),
                version => Some(version),
            };
            let none = || Refused::NoEarlierVersion {
                name: name.to_owned(),
                current: versions.current,
            };
            Arc::clone(
                registry.module(namespace, &format!("{name}@{}", version.ok_or_else(none)?))?,
            )
        };
        let number = self.namespace_or_new(namespace);
        self.set_current(number, name, module.version);
        self.step.durable = true;
        write(&self.shared.registry).set_current(namespace, name, module.version);
        self.prepare(&module.digest);
        Ok(())
    }

    /// Removes a version that no task needs, or all of them with the name.
    pub(super) fn delete_module(
        &mut self,
        namespace: &str,
        name: &str,
        version: u32,
    ) -> Result<usize, Refused> {
        let (doomed, current) = {
            let registry = read(&self.shared.registry);
            let versions = registry.versions(namespace, name)?;
            let doomed: Vec<_> = match version {
                0 => versions.all.values().cloned().collect(),
                version => {
                    vec![Arc::clone(
                        registry.module(namespace, &format!("{name}@{version}"))?,
                    )]
                }
            };
            (doomed, versions.current)
        };
        if version == current {
            return Err(Refused::CurrentVersion {
                name: name.to_owned(),
                version,
            });
        }
        let number = self.namespace_or_new(namespace);
        let uses = doomed.iter().map(|module| self.uses(number, module));
        let tasks: u64 = uses.sum();
        if tasks > 0 {
            return Err(Refused::ModuleInUse {
                name: match version {
                    0 => name.to_owned(),
                    version => format!("{name}@{version}"),
                },
                tasks,
            });
        }
        if version == 0 {
            self.step.batch.delete(key::current(number, name));
        }
        for module in &doomed {
            self.remove_version(namespace, number, module);
        }
        self.step.durable = true;
        Ok(doomed.len())
    }

    /// Has it looked soon which versions nobody uses.
    pub(super) fn look_at_modules(&mut self) {
        self.module_uses.look_at = self.time;
    }

    /// Removes versions that have been there for as long as their namespace keeps them, that no task needs and that nobody
    /// would go back to: neither the current one nor the one before it. A bounded number; returns whether there are more.
    pub(super) fn collect_modules(&mut self) -> bool {
        if self.time < self.module_uses.look_at {
            return false;
        }
        let mut over = Vec::new();
        {
            let registry = read(&self.shared.registry);
            for (namespace, versions) in registry.all() {
                let Some(number) = self.namespace(namespace) else {
                    continue;
                };
                let keep = self.collector.of(number).modules;
                let before = versions.all.range(..versions.current).next_back();
                let before = before.map(|(version, _)| *version);
                let is_over = |module: &Module| {
                    module.version != versions.current
                        && Some(module.version) != before
                        && module.uploaded_at.after(keep) <= self.time
                        && self.uses(number, module) == 0
                };
                let of_name = versions.all.values().filter(|module| is_over(module));
                over.extend(
                    of_name.map(|module| (namespace.to_owned(), number, Arc::clone(module))),
                );
                if over.len() > REMOVED_PER_STEP {
                    break;
                }
            }
        }
        let are_more = over.len() > REMOVED_PER_STEP;
        over.truncate(REMOVED_PER_STEP);
        for (namespace, number, module) in &over {
            tracing::info!(
                namespace,
                module = module.name,
                version = module.version,
                "removed a version that nobody uses"
            );
            self.remove_version(namespace, *number, module);
        }
        if !are_more {
            self.module_uses.look_at = self.time.after(LOOK);
        }
        are_more
    }

    /// How many tasks there are of a version, those of this step included.
    fn uses(&self, namespace: Namespace, module: &Module) -> u64 {
        if is_planted(Bug::UsesUnseen) {
            return 0;
        }
        let before = self
            .module_uses
            .get(namespace, &module.name, module.version);
        let of = (namespace, &*module.name, module.version);
        before.saturating_add_signed(self.step.further_uses(&self.open, of))
    }

    fn remove_version(&mut self, namespace: &str, number: Namespace, module: &Module) {
        let Module {
            name,
            version,
            digest,
            ..
        } = module;
        self.step.batch.delete(key::module(number, name, *version));
        self.step
            .batch
            .delete(key::module_uses(number, name, *version));
        self.module_uses.forget(number, name, *version);
        self.step.unnamed.push(*digest);
        // Whoever reads it before the commit is done finds nothing; a submit that found it earlier is refused by the ledger.
        write(&self.shared.registry).remove(namespace, name, *version);
        self.shared.metrics.modules_removed.inc();
    }

    /// Refuses what names a version that is not there any more.
    pub(super) fn has_module(&self, spec: &Spec) -> Result<(), Refused> {
        if is_planted(Bug::DeletedModuleTaken) {
            return Ok(());
        }
        let registry = read(&self.shared.registry);
        let versions = registry.versions(&spec.namespace, &spec.module)?;
        let version = versions.all.get(&spec.version);
        // One that was deployed under the name and number of a deleted one is another.
        if version.is_some_and(|module| module.digest == spec.digest) {
            return Ok(());
        }
        let reference = format!("{}@{}", spec.module, spec.version);
        registry.module(&spec.namespace, &reference)?;
        Err(Refused::Replaced(reference))
    }

    fn set_current(&mut self, namespace: Namespace, name: &str, version: u32) {
        self.step.batch.put(
            key::current(namespace, name),
            version.to_be_bytes().to_vec(),
        );
    }

    pub(super) fn namespace_or_new(&mut self, name: &str) -> Namespace {
        if let Some(number) = self.namespace(name) {
            return number;
        }
        let mut namespaces = write(&self.shared.namespaces);
        let number = Namespace(
            namespaces
                .values()
                .map(|number| number.0)
                .max()
                .unwrap_or(0)
                + 1,
        );
        namespaces.insert(name.to_owned(), number);
        self.step
            .batch
            .put(key::namespace(name), number.0.to_be_bytes().to_vec());
        number
    }
}
