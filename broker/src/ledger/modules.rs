//! Deploying modules.

use std::sync::Arc;

use super::{Deploy, Error, Ledger, Refused, read, write};
use crate::modules::registry::Module;
use crate::tables::Namespace;
use crate::tables::{key, row};

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
