//! Tokens that an issuer elsewhere has signed (JSON Web Tokens, RFC 7519).
//!
//! What is checked: an algorithm of [`ALGORITHMS`], which has to be that of the key; a key of the issuer's set that has the id in the
//! token; the signature; `iss`, `aud`, `exp` and `nbf`. Reading and checking is `jsonwebtoken`'s, the cryptography `ring`'s.

mod provider;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use tokio::time::Instant;
use tq_core::Timestamp;
use tq_core::access::{Principal, Role, Scope};
use tq_core::limits::{
    ACCESS_KEY_NAMESPACES_MAX, JWKS_BYTES_MAX, JWKS_EVERY, JWKS_TIMEOUT, JWKS_UNKNOWN_EVERY,
    JWT_BYTES_MAX, JWT_LEEWAY, JWTS_VERIFIED_MAX,
};
use ureq::Proxy;

use self::provider::PROVIDER;
use crate::ledger::{lock, read, write};
use crate::outbound;

/// Public keys only, and none that is weak: a token with any other, `none` among them, is refused before a key is looked for.
pub const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// What `iss` has to be.
    pub name: String,
    /// What `aud` has to be, or to have.
    pub audience: String,
    /// Where its keys are.
    pub keys: KeySet,
}

/// Where an issuer's keys are: a JSON Web Key Set (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySet {
    /// A file, which may be replaced at any time.
    File(PathBuf),
    /// An address: `https`, or `http` on loopback.
    Url(String),
}

impl fmt::Display for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// A token that was checked.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) principal: Arc<Principal>,
    pub(super) expires_at: Timestamp,
    /// What it was signed with.
    pub(super) key: Arc<Jwk>,
}

/// Why a token lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unverified {
    /// It does not hold, for the log.
    Invalid(String),
    /// The issuer's keys could not be had when they were asked for last, and its key is none of those before.
    Unknown,
}

impl From<String> for Unverified {
    fn from(reason: String) -> Self {
        Self::Invalid(reason)
    }
}

/// What is known of an issuer's keys.
#[derive(Debug)]
struct Known {
    set: JwkSet,
    /// They could be had when they were asked for last.
    is_current: bool,
}

impl Known {
    /// A key by its id.
    fn find(&self, id: &str) -> Option<&Jwk> {
        self.set.find(id)
    }
}

/// Checks tokens of one issuer.
#[derive(Debug)]
pub(crate) struct Tokens {
    issuer: Issuer,
    keys: Arc<RwLock<Known>>,
    /// When the keys were asked for last.
    asked: tokio::sync::Mutex<Option<Instant>>,
    /// Tokens that were found good, by their hash: checking a signature takes longer than all the rest of a call.
    verified: Mutex<HashMap<blake3::Hash, Verified>>,
}

/// The claims that say what a token is for. The others are checked by the library.
#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    exp: u64,
    tq_role: Option<String>,
    tq_namespaces: Option<Namespaces>,
}

/// `"*"`, or a list of names.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Namespaces {
    All(String),
    Only(BTreeSet<String>),
}

impl Tokens {
    pub(crate) fn new(issuer: Issuer) -> Self {
        // Another one may be there already in this process, which is the same.
        PROVIDER.install_default().ok();
        Self {
            issuer,
            keys: Arc::new(RwLock::new(Known {
                set: JwkSet { keys: Vec::new() },
                is_current: false,
            })),
            asked: tokio::sync::Mutex::default(),
            verified: Mutex::default(),
        }
    }

    /// Who holds this token; or why nobody does, for the log.
    pub(super) async fn check(&self, token: &str, now: Timestamp) -> Result<Verified, Unverified> {
        if token.len() > JWT_BYTES_MAX {
            let len = token.len();
            let reason = format!("the token has {len} bytes, over the limit of {JWT_BYTES_MAX}");
            return Err(Unverified::Invalid(reason));
        }
        let hash = blake3::hash(token.as_bytes());
        let known = lock(&self.verified).get(&hash).cloned();
        if let Some(verified) = known.filter(|verified| self.holds(verified, now)) {
            return Ok(verified);
        }
        let header = jsonwebtoken::decode_header(token);
        let header = header.map_err(|error| format!("the token cannot be read: {error}"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(format!("algorithm {:?} is not taken", header.alg).into());
        }
        // RFC 7515, 4.1.11: who does not know what is critical refuses it, and nothing of that is known here.
        if header.crit.is_some() {
            return Err("the token has critical headers (`crit`)".to_owned().into());
        }
        let id = header
            .kid
            .ok_or("the token names no key (`kid`)".to_owned())?;
        let key = self.key(&id).await?;
        let verified = self.verify(token, header.alg, key)?;
        let mut all = lock(&self.verified);
        if all.len() >= JWTS_VERIFIED_MAX {
            all.retain(|_, verified| verified.expires_at > now);
        }
        if all.len() >= JWTS_VERIFIED_MAX {
            // They are checked again when they come again.
            all.clear();
        }
        all.insert(hash, verified.clone());
        Ok(verified)
    }

    /// Whether a token that was good still is.
    pub(super) fn holds(&self, verified: &Verified, now: Timestamp) -> bool {
        let id = verified.key.common.key_id.as_deref().unwrap_or_default();
        now < verified.expires_at && read(&self.keys).find(id) == Some(&*verified.key)
    }

    /// A key of the issuer. One that is not known may be new: the keys are asked for again, if that was not done just now.
    async fn key(&self, id: &str) -> Result<Jwk, Unverified> {
        let known = || read(&self.keys).find(id).cloned();
        if let Some(key) = known() {
            return Ok(key);
        }
        self.refresh(JWKS_UNKNOWN_EVERY).await;
        if let Some(key) = known() {
            return Ok(key);
        }
        if !read(&self.keys).is_current {
            return Err(Unverified::Unknown);
        }
        let shown: String = id.chars().take(80).collect();
        let (shown, keys) = (shown.escape_debug(), &self.issuer.keys);
        Err(format!("key `{shown}` is none of {keys}").into())
    }

    /// Asks for the keys, unless that was done within `least`. If they cannot be had, those that were there stay.
    pub(super) async fn refresh(&self, least: Duration) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < least) {
            return;
        }
        *asked = Some(Instant::now());
        let (source, keys) = (self.issuer.keys.clone(), Arc::clone(&self.keys));
        // It comes to its end also if the call goes away that asked for it.
        let loading = tokio::task::spawn_blocking(move || match load(&source) {
            Ok(set) => {
                *write(&keys) = Known {
                    set,
                    is_current: true,
                };
            }
            Err(error) => {
                tracing::warn!(%source, error, "the keys of the issuer cannot be had");
                write(&keys).is_current = false;
            }
        });
        if let Err(error) = loading.await {
            tracing::error!(%error, "reading the keys of the issuer failed, which is a bug in tq");
        }
    }

    /// Keeps the keys fresh, for as long as it is polled.
    pub(crate) async fn keep_fresh(&self) {
        loop {
            self.refresh(Duration::ZERO).await;
            tokio::time::sleep(JWKS_EVERY).await;
        }
    }

    fn verify(&self, token: &str, algorithm: Algorithm, key: Jwk) -> Result<Verified, String> {
        let of_key = key
            .common
            .key_algorithm
            .map(|algorithm| algorithm.to_string());
        if of_key.is_some_and(|of_key| of_key != format!("{algorithm:?}")) {
            return Err(format!("algorithm {algorithm:?} is not that of the key"));
        }
        if key.common.public_key_use == Some(PublicKeyUse::Encryption) {
            return Err("the key is not for signatures".to_owned());
        }
        let decoding = DecodingKey::from_jwk(&key);
        let decoding = decoding.map_err(|error| format!("the key cannot be used: {error}"))?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = JWT_LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer.name]);
        validation.set_audience(&[&self.issuer.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let decoded = jsonwebtoken::decode::<Claims>(token, &decoding, &validation);
        let claims = decoded
            .map_err(|error| format!("the token does not hold: {error}"))?
            .claims;
        let expires_at = Duration::from_secs(claims.exp).saturating_add(JWT_LEEWAY);
        let expires_ms = u64::try_from(expires_at.as_millis()).unwrap_or(u64::MAX);
        Ok(Verified {
            principal: Arc::new(self.principal(claims)?),
            expires_at: Timestamp(expires_ms),
            key: Arc::new(key),
        })
    }

    fn principal(&self, claims: Claims) -> Result<Principal, String> {
        let Claims {
            sub,
            exp: _,
            tq_role,
            tq_namespaces,
        } = claims;
        let role = tq_role.ok_or("the token has no `tq_role`")?;
        let role: Role = role
            .parse()
            .map_err(|error| format!("`tq_role`: {error}"))?;
        // What says nothing is for nothing: all of them have to be meant.
        let scope = match tq_namespaces.ok_or("the token has no `tq_namespaces`")? {
            Namespaces::All(text) if text == "*" => Scope::All,
            Namespaces::All(_) => {
                return Err("`tq_namespaces` is neither `*` nor a list of names".to_owned());
            }
            Namespaces::Only(names) if names.is_empty() => {
                return Err("`tq_namespaces` is empty".to_owned());
            }
            Namespaces::Only(names) if names.len() > ACCESS_KEY_NAMESPACES_MAX => {
                return Err(format!(
                    "`tq_namespaces` has {} names, over the limit of {ACCESS_KEY_NAMESPACES_MAX}",
                    names.len()
                ));
            }
            Namespaces::Only(names) => {
                Scope::of(names).map_err(|error| format!("`tq_namespaces`: {error}"))?
            }
        };
        if role == Role::Host && scope != Scope::All {
            return Err("a host is for all namespaces, and the token is not".to_owned());
        }
        let subject: String = sub.chars().take(SUBJECT_CHARS_MAX).collect();
        Ok(Principal {
            name: format!("token {} of {}", subject.escape_debug(), self.issuer.name),
            role,
            scope,
        })
    }
}

/// Of a subject that is longer, the rest is left out of the log.
const SUBJECT_CHARS_MAX: usize = 128;

/// Reads a set of keys. Blocks.
fn load(source: &KeySet) -> Result<JwkSet, String> {
    let bytes = match source {
        KeySet::File(path) => {
            let mut bytes = Vec::new();
            let file = File::open(path).map_err(|error| error.to_string())?;
            // One more than may be there, so that more of them are noticed.
            let read = file.take(JWKS_BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|error| error.to_string())?;
            if bytes.len() as u64 > JWKS_BYTES_MAX {
                return Err(format!("it is over the limit of {JWKS_BYTES_MAX} bytes"));
            }
            bytes
        }
        KeySet::Url(url) => {
            // Loopback needs no proxy, and one would read what goes there in the clear.
            let proxy = url.starts_with("https:").then(Proxy::try_from_env);
            let config = outbound::config(JWKS_TIMEOUT);
            let agent = config.proxy(proxy.flatten()).build();
            let answer = ureq::Agent::new_with_config(agent).get(url).call();
            let mut answer = answer.map_err(|error| error.to_string())?;
            let body = answer.body_mut().with_config().limit(JWKS_BYTES_MAX);
            body.read_to_vec().map_err(|error| error.to_string())?
        }
    };
    let set: JwkSet = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Ok(set)
}
