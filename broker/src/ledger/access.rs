//! Keys that let callers in, and the audit log.

use tq_core::limits::ACCESS_KEYS_MAX;

use super::audit_log::AuditLog;
use super::step::Step;
use super::{Error, Ledger, Refused, Reply};
use crate::access::audit::Event;
use crate::access::{KeyId, KeyOrder, Previous, StoredKey};
use crate::store::Space;
use crate::tables::{key, row};

/// A key to be made, changed or ended.
pub struct KeyChange {
    /// What is to become of it.
    pub order: KeyOrder,
    /// The key as it is from now on; as it was, if it has ended.
    pub reply: Reply<Result<StoredKey, Refused>>,
}

impl Ledger {
    /// Whether nobody gets in without a credential.
    pub fn has_access_control(&self) -> bool {
        self.shared.keys.are_needed()
    }

    pub(super) fn change_key(&mut self, change: KeyChange) {
        let KeyChange { order, reply } = change;
        let changed = match order {
            KeyOrder::Create(key) => self.create_key(*key),
            KeyOrder::Rotate {
                id,
                hash,
                previous_until,
            } => self.with_key(id, |key, now| StoredKey {
                previous: (previous_until > now).then_some(Previous {
                    hash: key.hash,
                    expires_at: previous_until,
                }),
                hash,
                rotated_at: Some(now),
                ..key
            }),
            KeyOrder::Revoke(id) => self.revoke_key(id),
        };
        self.answer(reply, changed);
    }

    fn create_key(&mut self, key: StoredKey) -> Result<StoredKey, Refused> {
        let keys = &self.shared.keys;
        if keys.count() >= ACCESS_KEYS_MAX {
            let now = self.time;
            let all = keys.all().into_iter();
            for held in all.filter(|held| held.key.has_expired(now)) {
                self.end_key(held.key.id);
            }
        }
        let keys = &self.shared.keys;
        if keys.count() >= ACCESS_KEYS_MAX {
            return Err(Refused::TooManyKeys);
        }
        if let Some(namespace) = keys.full_namespace(&key.scope, self.time) {
            return Err(Refused::TooManyKeysOfNamespace(namespace));
        }
        let key = StoredKey {
            created_at: self.time,
            ..key
        };
        self.write_key(&key);
        Ok(key)
    }

    fn with_key(
        &mut self,
        id: KeyId,
        change: impl FnOnce(StoredKey, tq_core::Timestamp) -> StoredKey,
    ) -> Result<StoredKey, Refused> {
        let held = self.shared.keys.get(id).ok_or(Refused::NoAccessKey(id))?;
        if held.key.has_expired(self.time) {
            return Err(Refused::AccessKeyExpired(id));
        }
        let key = change(held.key.clone(), self.time);
        self.write_key(&key);
        Ok(key)
    }

    fn write_key(&mut self, key: &StoredKey) {
        let at = key::access_key(key.id);
        self.step.batch.put(at, row::encode_access_key(key));
        self.step.durable = true;
        self.shared.keys.insert(key.clone());
    }

    /// It ends before that is on disk, and stays ended, or nobody was told that it had.
    fn revoke_key(&mut self, id: KeyId) -> Result<StoredKey, Refused> {
        let held = self.shared.keys.get(id).ok_or(Refused::NoAccessKey(id))?;
        self.end_key(id);
        Ok(held.key.clone())
    }

    fn end_key(&mut self, id: KeyId) {
        self.step.batch.delete(key::access_key(id));
        self.step.durable = true;
        self.shared.keys.remove(id);
    }

    pub(super) fn record_audit(&mut self, event: Event, reply: Reply<()>) -> Result<(), Error> {
        let Step { batch, durable, .. } = &mut self.step;
        self.audit_log
            .append(event, self.time, &*self.store, batch)?;
        *durable = true;
        self.answer(reply, ());
        Ok(())
    }

    pub(super) fn recover_access(&mut self) -> Result<(), Error> {
        if let Some(bytes) = self.store.get(&key::access())? {
            row::decode_access(bytes)?;
            self.shared.keys.need();
        }
        for (_, bytes) in self.read_all(Space::Meta, &key::access_keys())? {
            self.shared.keys.insert(row::decode_access_key(bytes)?);
        }
        self.audit_log = AuditLog::recover(&*self.store)?;
        Ok(())
    }
}
