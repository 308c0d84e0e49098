//! Settings of namespaces.

use tq_core::Quotas;
use tq_core::limits::LimitOverrides;
use tq_core::retry::RetryOverrides;

use super::{Error, Ledger, Reply, read, write};
use crate::tables::{key, row};

/// What holds in a namespace unless something nearer to a task says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceSettings {
    /// The retry policy of tasks whose module, function and submit name none.
    pub retry: RetryOverrides,
    /// What no attempt here may have more of, whatever its function is deployed with.
    pub ceilings: LimitOverrides,
    /// How much it may have, whatever its tasks ask for.
    pub quotas: Quotas,
}

/// Settings of a namespace to be changed.
pub struct SetNamespace {
    /// The namespace's name. It is made if it is new.
    pub namespace: String,
    /// Makes the new settings of the old ones.
    pub change: Box<dyn FnOnce(NamespaceSettings) -> NamespaceSettings + Send>,
    /// The settings from now on.
    pub reply: Reply<NamespaceSettings>,
}

impl Ledger {
    pub(super) fn set_namespace(&mut self, set: SetNamespace) {
        let SetNamespace {
            namespace,
            change,
            reply,
        } = set;
        let number = self.namespace_or_new(&namespace);
        let before = self.shared.settings(&namespace);
        let settings = change(before);
        self.step
            .batch
            .put(key::settings(number), row::encode_settings(&settings));
        self.step.durable = true;
        self.set_quotas(number, settings.quotas);
        write(&self.shared.settings).insert(namespace, settings);
        self.answer(reply, settings);
    }

    pub(super) fn recover_settings(&mut self) -> Result<(), Error> {
        let namespaces = read(&self.shared.namespaces).clone();
        for (name, number) in namespaces {
            if let Some(bytes) = self.store.get(&key::settings(number))? {
                let settings = row::decode_settings(bytes)?;
                self.shares.restore(number, settings.quotas, self.time);
                write(&self.shared.settings).insert(name, settings);
            }
        }
        Ok(())
    }
}
