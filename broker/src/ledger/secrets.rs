//! Secrets of namespaces, sealed.

use std::collections::BTreeMap;

use tq_core::Timestamp;
use tq_core::limits::SECRETS_MAX;

use super::{Error, Ledger, Refused, Reply, read, write};
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
        let before = self.shared.secret(namespace, &name);
        if before.is_none() && self.shared.secrets(namespace).len() >= SECRETS_MAX {
            return Err(Refused::TooManySecrets);
        }
        let number = self.namespace_or_new(namespace);
        let secret = StoredSecret {
            sealed,
            version: before.map_or(0, |before| before.version) + 1,
            updated_at: self.time,
        };
        self.step
            .batch
            .put(key::secret_of(number, &name), row::encode_secret(&secret));
        self.step.durable = true;
        write(&self.shared.secrets)
            .entry(namespace.to_owned())
            .or_default()
            .insert(name, secret.clone());
        Ok(secret)
    }

    fn remove_secret(&mut self, namespace: &str, name: String) -> Result<StoredSecret, Refused> {
        let number = self.namespace(namespace);
        let before = write(&self.shared.secrets)
            .get_mut(namespace)
            .and_then(|secrets| secrets.remove(&name));
        let (Some(number), Some(before)) = (number, before) else {
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
        let namespaces = read(&self.shared.namespaces).clone();
        for (namespace, number) in namespaces {
            let prefix = key::secrets_of(number);
            let mut secrets = Secrets::new();
            for (at, bytes) in self.read_all(Space::Meta, &prefix)? {
                if let Some(name) = at
                    .strip_prefix(&prefix[..])
                    .and_then(|name| std::str::from_utf8(name).ok())
                {
                    secrets.insert(name.to_owned(), row::decode_secret(bytes)?);
                }
            }
            if !secrets.is_empty() {
                write(&self.shared.secrets).insert(namespace, secrets);
            }
        }
        Ok(())
    }
}
