//! Deploying modules, and removing what nobody uses of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tq_core::Timestamp;
use tq_core::planted::{Bug, is_planted};
use tq_core::task::Spec;

use super::{Deploy, Deployed, Error, Ledger, Refused, read, write};
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

    /// Writes what has changed. There is no row of a version without tasks.
    pub(super) fn write(&mut self, batch: &mut Batch) {
        for name in std::mem::take(&mut self.changed) {
            let Some(uses) = self.of_name.get_mut(&name) else {
                continue;
            };
            for of in uses.iter_mut().filter(|of| of.is_changed) {
                of.is_changed = false;
                let at = key::module_uses(of.namespace, &name, of.version);
                match of.tasks {
                    0 => batch.delete(at),
                    tasks => batch.put(at, tasks.to_be_bytes().to_vec()),
                }
            }
            uses.retain(|of| of.tasks > 0);
            if uses.is_empty() {
                self.of_name.remove(&name);
            }
        }
    }

    /// As of the last commit.
    pub(super) fn get(&self, namespace: Namespace, name: &str, version: u32) -> u64 {
        let mut uses = self.of_name.get(name).into_iter().flatten();
        uses.find(|of| (of.namespace, of.version) == (namespace, version))
            .map_or(0, |of| of.tasks)
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
            deny_new_grants,
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
            let last = versions.map_or(0, |versions| versions.last);
            (current, last)
        };
        let newly_granted = module.granted_beyond(current.as_deref());
        if deny_new_grants && !newly_granted.is_empty() {
            let refused = Refused::NewGrants {
                name: module.name,
                grants: newly_granted,
            };
            self.answer(reply, Err(refused));
            return Ok(());
        }
        let same = current.as_ref().filter(|current| {
            ***current
                == Module {
                    version: current.version,
                    uploaded_at: current.uploaded_at,
                    retired_at: current.retired_at,
                    ..module.clone()
                }
        });
        let digest = module.digest;
        let answer = match same {
            Some(current) => Deployed {
                version: current.version,
                is_unchanged: true,
                newly_granted,
                retyped: Vec::new(),
            },
            None => {
                let known = self.namespace(&namespace);
                let stored = known.map_or(Ok(()), |of| self.refuse_stored(of, module.size_bytes));
                if let Err(refused) = stored {
                    self.answer(reply, Err(refused));
                    return Ok(());
                }
                let retyped = current
                    .as_deref()
                    .map_or_else(Vec::new, |current| module.retyped_since(current));
                module.version = last + 1;
                module.uploaded_at = self.time;
                let number = self.namespace_or_new(&namespace);
                let (name, version) = (module.name.clone(), module.version);
                self.shares.keep(number, 0, module.size_bytes);
                self.put_version(&namespace, number, module);
                self.set_current(&namespace, number, &name, version);
                if !newly_granted.is_empty() {
                    tracing::info!(
                        namespace, module = name, version, grants = ?newly_granted,
                        "functions were granted what they did not have"
                    );
                }
                Deployed {
                    version,
                    is_unchanged: false,
                    newly_granted,
                    retyped,
                }
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
        self.set_current(namespace, number, name, module.version);
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
        Ok(doomed.len())
    }

    /// Has it looked soon which versions nobody uses.
    pub(super) fn look_at_modules(&mut self) {
        self.module_uses.look_at = self.time;
    }

    /// Removes versions that have not been current for as long as their namespace keeps them, that no task needs and that
    /// nobody would go back to: neither the current one nor the one before it. A bounded number; returns whether there are more.
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
                        && module.uploaded_at.max(module.retired_at).after(keep) <= self.time
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
            size_bytes,
            ..
        } = module;
        self.step.batch.delete(key::module(number, name, *version));
        self.step.unnamed.push(*digest);
        self.shares.keep(number, *size_bytes, 0);
        // Before it leaves the registry, since whoever finds it gone has to wait for this step to be on disk.
        self.step.durable = true;
        self.shared.owed.store(self.steps + 1, Ordering::Release);
        // Whoever reads it before the commit is done finds nothing; a submit that found it earlier is refused by the ledger.
        write(&self.shared.registry).remove(namespace, name, *version);
        self.remove_breakers(namespace, number, module);
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

    /// Adds a version, or changes what is known of it. Whoever reads it before the commit is done can submit nothing that
    /// comes before it in the ledger.
    fn put_version(&mut self, namespace: &str, number: Namespace, module: Module) {
        self.step.batch.put(
            key::module(number, &module.name, module.version),
            row::encode_module(number, &module),
        );
        self.step.durable = true;
        write(&self.shared.registry).insert(namespace, module);
    }

    /// Points a name at one of its versions, and retires the one before.
    fn set_current(&mut self, namespace: &str, number: Namespace, name: &str, version: u32) {
        let (last, before) = {
            let registry = read(&self.shared.registry);
            let versions = registry.versions(namespace, name).ok();
            let last = versions.map_or(version, |versions| versions.last);
            let before = versions.and_then(|versions| versions.all.get(&versions.current).cloned());
            (last, before)
        };
        if let Some(before) = before.filter(|before| before.version != version) {
            let retired = Module {
                retired_at: self.time,
                ..Module::clone(&before)
            };
            self.put_version(namespace, number, retired);
        }
        self.step.batch.put(
            key::current(number, name),
            row::encode_current(version, last),
        );
        self.step.durable = true;
        write(&self.shared.registry).set_current(namespace, name, version, last);
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
