//! The keys that there are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use tq_core::Timestamp;
use tq_core::access::{Principal, Role, Scope};
use tq_core::limits::ACCESS_KEYS_PER_NAMESPACE_MAX;

use super::{KeyId, KeyText, TextHash};
use crate::ledger::{read, write};

/// A key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Which it is.
    pub id: KeyId,
    /// For people.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Where.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Of the text that it has.
    pub hash: TextHash,
    /// When it was given that text, if it is not the first.
    pub rotated_at: Option<Timestamp>,
    /// The text before, as long as that holds.
    pub previous: Option<Previous>,
}

/// What a key was before it was rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Of the text.
    pub hash: TextHash,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What is to become of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrder {
    /// It is new.
    Create(Box<StoredKey>),
    /// It is given another text.
    Rotate {
        /// Which key.
        id: KeyId,
        /// Of the new text.
        hash: TextHash,
        /// Until when the one before holds.
        previous_until: Timestamp,
    },
    /// It ends.
    Revoke(KeyId),
}

impl StoredKey {
    /// Until when a text with this hash holds; none if it does not, or no longer. `Some(None)` is for ever.
    #[must_use]
    pub fn holds_until(&self, hash: TextHash, now: Timestamp) -> Option<Option<Timestamp>> {
        let of_text = match &self.previous {
            _ if self.hash == hash => None,
            Some(previous) if previous.hash == hash => Some(previous.expires_at),
            Some(_) | None => return None,
        };
        let until = of_text.into_iter().chain(self.expires_at).min();
        until.is_none_or(|until| now < until).then_some(until)
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// What it is called in the audit log and in errors.
    #[must_use]
    pub fn title(&self) -> String {
        format!("key {} ({})", self.id, self.name)
    }
}

/// A key in memory.
#[derive(Debug)]
pub struct Held {
    /// The key.
    pub key: StoredKey,
    /// Who calls with it.
    pub principal: Arc<Principal>,
    /// When it was used last, in milliseconds since the Unix epoch; 0 if it was not.
    used_ms: AtomicU64,
}

impl Held {
    /// When it was used last since the broker started.
    pub fn used_at(&self) -> Option<Timestamp> {
        let used = self.used_ms.load(Ordering::Relaxed);
        (used > 0).then_some(Timestamp(used))
    }
}

/// All keys. The ledger changes them.
#[derive(Debug, Default)]
pub struct Keys {
    held: RwLock<HashMap<KeyId, Arc<Held>>>,
    /// There is access control.
    are_needed: AtomicBool,
}

impl Keys {
    /// Whether there is access control: nobody gets in without a credential.
    pub fn are_needed(&self) -> bool {
        self.are_needed.load(Ordering::Relaxed)
    }

    /// There is access control from now on.
    pub(crate) fn need(&self) {
        self.are_needed.store(true, Ordering::Relaxed);
    }

    /// A key.
    pub fn get(&self, id: KeyId) -> Option<Arc<Held>> {
        read(&self.held).get(&id).cloned()
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Held>> {
        let mut all: Vec<_> = read(&self.held).values().cloned().collect();
        all.sort_by(|one, other| {
            let (one, other) = (&one.key, &other.key);
            (&one.name, one.id).cmp(&(&other.name, other.id))
        });
        all
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        read(&self.held).len()
    }

    /// The first namespace of a scope that has as many keys as it may. What has expired does not count.
    pub fn full_namespace(&self, scope: &Scope, now: Timestamp) -> Option<String> {
        let Scope::Only(names) = scope else {
            return None;
        };
        let held = read(&self.held);
        let is_full = |name: &&String| {
            let of_it = held.values().filter(|held| match &held.key.scope {
                Scope::Only(names) => names.contains(*name) && !held.key.has_expired(now),
                Scope::All => false,
            });
            of_it.count() >= ACCESS_KEYS_PER_NAMESPACE_MAX
        };
        names.iter().find(is_full).cloned()
    }

    /// Who holds this text, and until when; none if nobody does.
    pub fn find(&self, text: &KeyText, now: Timestamp) -> Option<(Arc<Held>, Option<Timestamp>)> {
        let held = self.get(text.id)?;
        let until = held.key.holds_until(text.hash(), now)?;
        held.used_ms.fetch_max(now.0, Ordering::Relaxed);
        Some((held, until))
    }

    pub(crate) fn insert(&self, key: StoredKey) {
        let principal = Principal {
            name: key.title(),
            role: key.role,
            scope: key.scope.clone(),
        };
        let mut held = write(&self.held);
        let used = held
            .get(&key.id)
            .map(|held| held.used_ms.load(Ordering::Relaxed));
        let entry = Held {
            principal: Arc::new(principal),
            used_ms: AtomicU64::new(used.unwrap_or(0)),
            key,
        };
        held.insert(entry.key.id, Arc::new(entry));
    }

    pub(crate) fn remove(&self, id: KeyId) {
        write(&self.held).remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &KeyText) -> StoredKey {
        StoredKey {
            id: text.id,
            name: "ci".into(),
            role: Role::Submitter,
            scope: Scope::All,
            created_at: Timestamp(1),
            created_by: String::new(),
            expires_at: None,
            hash: text.hash(),
            rotated_at: None,
            previous: None,
        }
    }

    #[test]
    fn rotated_key_has_two_texts_for_a_while() {
        let first = KeyText::draw().unwrap();
        let second = KeyText::for_key(first.id).unwrap();
        let rotated = StoredKey {
            hash: second.hash(),
            previous: Some(Previous {
                hash: first.hash(),
                expires_at: Timestamp(100),
            }),
            ..key(&first)
        };
        let keys = Keys::default();
        keys.insert(rotated.clone());
        let until = |text: &KeyText, now| {
            let found = keys.find(text, Timestamp(now));
            found.map(|(_, until)| until)
        };
        assert_eq!(until(&first, 99), Some(Some(Timestamp(100))));
        assert_eq!(until(&first, 100), None, "its time is over");
        assert_eq!(until(&second, 100), Some(None));
        let third = KeyText::for_key(first.id).unwrap();
        assert_eq!(until(&third, 1), None, "it is of no secret that there was");
        keys.insert(StoredKey {
            expires_at: Some(Timestamp(50)),
            ..rotated
        });
        assert_eq!(
            until(&first, 49),
            Some(Some(Timestamp(50))),
            "the key's end is sooner"
        );
        assert_eq!(until(&second, 50), None);
        keys.remove(first.id);
        assert_eq!(until(&second, 1), None, "it was revoked");
    }

    #[test]
    fn last_use_is_known_over_a_change() {
        let text = KeyText::draw().unwrap();
        let keys = Keys::default();
        keys.insert(key(&text));
        let used = || keys.get(text.id).and_then(|held| held.used_at());
        assert_eq!(used(), None);
        keys.find(&text, Timestamp(7));
        keys.insert(StoredKey {
            name: "other".into(),
            ..key(&text)
        });
        assert_eq!(used(), Some(Timestamp(7)));
    }
}
