//! Secrets of namespaces, sealed.

use std::collections::BTreeMap;

use tq_core::Timestamp;
use tq_core::limits::SECRETS_MAX;

use super::{Error, Ledger, Refused, Reply, write};
use crate::secrets::Sealed;
use crate::store::Space;
use crate::tables::{key, row};

/// The secrets of a namespace, by name.
pub type Secrets = BTreeMap<String, StoredSecret>;

/// A secret as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSecret {
    /// The value.
    pub sealed: Sealed,
    /// How often it was set since it was there, from 1.
    pub version: u32,
    /// When it was set last.
    pub updated_at: Timestamp,
}

/// A secret to be set or removed.
pub struct SecretChange {
    /// The namespace's name. It is made if it is new, and something is to be set.
    pub namespace: String,
    /// The secret's name.
    pub name: String,
    /// What it is from now on; none removes it.
    pub sealed: Option<Sealed>,
    /// What it was set to, or was.
    pub reply: Reply<Result<StoredSecret, Refused>>,
}

impl Ledger {
    pub(super) fn change_secret(&mut self, change: SecretChange) {
        let SecretChange {
            namespace,
            name,
            sealed,
            reply,
        } = change;
        let changed = match sealed {
            Some(sealed) => self.set_secret(&namespace, name, sealed),
            None => self.remove_secret(&namespace, name),
        };
        self.answer(reply, changed);
    }

    fn set_secret(
        &mut self,
        namespace: &str,
        name: String,
        sealed: Sealed,
    ) -> Result<StoredSecret, Refused> {
        let number = self.namespace_or_new(namespace);
        let mut secrets = write(&self.shared.secrets);
        let secrets = secrets.entry(number).or_default();
        let version = match secrets.get(&name) {
            Some(before) => before.version + 1,
            None if secrets.len() >= SECRETS_MAX => return Err(Refused::TooManySecrets),
            None => 1,
        };
        let secret = StoredSecret {
            sealed,
            version,
            updated_at: self.time,
        };
        self.step
            .batch
            .put(key::secret_of(number, &name), row::encode_secret(&secret));
        self.step.durable = true;
        secrets.insert(name, secret.clone());
        Ok(secret)
    }

    fn remove_secret(&mut self, namespace: &str, name: String) -> Result<StoredSecret, Refused> {
        let removed = self.namespace(namespace).and_then(|number| {
            let mut secrets = write(&self.shared.secrets);
            let before = secrets.get_mut(&number)?.remove(&name)?;
            Some((number, before))
        });
        let Some((number, before)) = removed else {
            return Err(Refused::NoSecret {
                namespace: namespace.to_owned(),
                name,
            });
        };
        self.step.batch.delete(key::secret_of(number, &name));
        self.step.durable = true;
        Ok(before)
    }

    pub(super) fn recover_secrets(&mut self) -> Result<(), Error> {
        let rows = self.read_all(Space::Meta, &key::secrets())?;
        let mut secrets = write(&self.shared.secrets);
        for (at, bytes) in rows {
            if let Some((namespace, name)) = key::secret_name_of(&at) {
                let of_namespace = secrets.entry(namespace).or_default();
                of_namespace.insert(name.to_owned(), row::decode_secret(bytes)?);
            }
        }
        Ok(())
    }
}
