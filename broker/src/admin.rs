//! What is done to a data directory while no broker runs on it: looking at it, accepting a loss in it, and setting up access control.

use std::path::{Path, PathBuf};

use tq_core::access::{Role, Scope};

use crate::access::audit::Event;
use crate::access::{KeyText, NoRandom, StoredKey};
use crate::config::store_of;
use crate::ledger::{self, AuditLog, wall};
use crate::store::{self, Batch, Check, Committed, Level, Read as _, Repair, Store as _};
use crate::tables::{key, row};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The data directory cannot be made.
    #[error("cannot make the data directory `{}`", .path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is access control already.
    #[error("the broker with its data in `{}` has access control already", .0.display())]
    HasAccessControl(PathBuf),
    /// There is no access control.
    #[error("the broker with its data in `{}` has no access control", .0.display())]
    HasNone(PathBuf),
    /// There is no randomness.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The audit log cannot be added to.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// It may be on disk or not.
    #[error("the key could not be written for sure; try again")]
    Uncertain,
}

/// Turns access control on for the broker with its data in `data_dir`, which is made if it is not there, and makes a key of role `admin`
/// for all namespaces. From then on nobody gets in without a credential. The key is on disk, as a hash, when this returns.
///
/// # Errors
/// [`KeyError`], if there is access control already, or a broker runs on the directory.
pub fn init(data_dir: &Path) -> Result<String, KeyError> {
    let path = data_dir.join("broker");
    std::fs::create_dir_all(&path).map_err(|source| KeyError::DataDir { path, source })?;
    admin_key(data_dir, "tq broker init", "first", false)
}

/// Makes another key of role `admin` for all namespaces, for whoever has lost theirs.
///
/// # Errors
/// [`KeyError`], if there is no access control, or a broker runs on the directory.
pub fn new_admin_key(data_dir: &Path) -> Result<String, KeyError> {
    // A directory that is not there is not made.
    check(data_dir)?;
    admin_key(data_dir, "tq admin key", "recovery", true)
}

fn admin_key(
    data_dir: &Path,
    call: &str,
    name: &str,
    has_access: bool,
) -> Result<String, KeyError> {
    let (dir, options) = store_of(data_dir);
    let mut store = Box::new(store::open(&dir, &options)?);
    let found = store.get(&key::access())?.is_some();
    if found != has_access {
        store.close()?;
        let of = data_dir.to_owned();
        return Err(match found {
            true => KeyError::HasAccessControl(of),
            false => KeyError::HasNone(of),
        });
    }
    let text = KeyText::draw()?;
    let now = wall();
    let admin = StoredKey {
        id: text.id,
        name: name.to_owned(),
        role: Role::Admin,
        scope: Scope::All,
        created_at: now,
        created_by: "tq on the broker's machine".to_owned(),
        expires_at: None,
        hash: text.hash(),
        rotated_at: None,
        previous: None,
    };
    let mut batch = Batch::new();
    if !has_access {
        batch.put(key::access(), row::encode_access(now));
    }
    batch.put(key::access_key(text.id), row::encode_access_key(&admin));
    let event = Event {
        principal: "local".to_owned(),
        peer: String::new(),
        call: call.to_owned(),
        namespace: String::new(),
        subject: admin.title(),
        outcome: "ok".to_owned(),
        left_out: 0,
    };
    let mut log = AuditLog::recover(&*store)?;
    log.append(event, now, &*store, &mut batch)?;
    let committed = store.commit(batch, Level::Disk)?;
    store.close()?;
    match committed {
        Committed::Unknown(_) | Committed::No => Err(KeyError::Uncertain),
        Committed::Yes(_) => Ok(text.to_string()),
    }
}

/// Reads all of a store and compares it with its marks. Changes nothing.
///
/// # Errors
/// [`store::Error`] if there is no store, or a broker has it open. What is wrong with it is in the report.
pub fn check(data_dir: &Path) -> Result<Check, store::Error> {
    let (dir, options) = store_of(data_dir);
    store::check(&dir, &options)
}

/// Accepts that a store has less than it had acknowledged, so that it can be opened again.
///
/// # Errors
/// [`store::Error`] if there is no store, a broker has it open, or its tables themselves are damaged.
pub fn repair(data_dir: &Path) -> Result<Repair, store::Error> {
    let (dir, options) = store_of(data_dir);
    store::repair(&dir, &options)
}
