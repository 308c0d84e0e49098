//! The gate: finds out who calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Uri, header};
use tokio::time::Instant;
use tq_core::Timestamp;
use tq_core::access::{Principal, Role, Scope};
use tq_tls::Identity;

use super::jwt::{Tokens, Unverified, Verified};
use super::origin::{self, Foreign};
use super::throttle::Throttle;
use super::{KeyId, KeyText, TextHash};
use crate::api::Peer;
use crate::ledger::{Shared, wall};

/// What the value of an `authorization` header begins with.
const BEARER: &str = "Bearer ";

/// Decides who is let in.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    tokens: Option<Arc<Tokens>>,
    throttle: Throttle,
    started: Instant,
}

/// A caller that was let in.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    /// None if there is no access control.
    pub(super) principal: Option<Arc<Principal>>,
    /// The host that it is, if its credential is of one.
    pub(super) only_host: Option<Arc<str>>,
    /// When its credential ends, if it does so by itself.
    pub(super) expires_at: Option<Timestamp>,
    /// By what; it may cease to hold while the call goes on.
    pub(super) credential: Credential,
}

/// What lets a caller in.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    /// There is no access control.
    None,
    /// A key.
    Key(KeyId, TextHash),
    /// A token.
    Token(Verified),
    /// A certificate of a host, which ends then.
    Certificate(Timestamp),
}

/// Why nobody is let in. The caller learns the least of it that helps; the reason goes to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It comes from a web page, or is for someone else.
    Foreign {
        /// Why it is not let in.
        foreign: Foreign,
        /// Whether it is worth a line in the log.
        is_told: bool,
    },
    /// It has no credential.
    Missing,
    /// Its credential is none.
    Invalid {
        /// For the log.
        reason: String,
        /// Whether it is worth a line there.
        is_told: bool,
    },
    /// Its address has tried too often.
    Throttled(Duration),
    /// It may be one: whose it is cannot be found out now.
    Unknown,
}

impl Gate {
    pub(crate) fn new(shared: Arc<Shared>, tokens: Option<Arc<Tokens>>) -> Self {
        Self {
            shared,
            tokens,
            throttle: Throttle::default(),
            started: Instant::now(),
        }
    }

    /// Finds out who makes a request.
    pub(super) async fn admit(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Admitted, Refusal> {
        if !self.shared.keys.are_needed() {
            origin::check(uri, headers).map_err(|foreign| Refusal::Foreign {
                foreign,
                is_told: self
                    .throttle
                    .failed(peer.address.ip(), self.started.elapsed()),
            })?;
            return Ok(Admitted {
                principal: None,
                only_host: None,
                expires_at: None,
                credential: Credential::None,
            });
        }
        let Some(header) = headers.get(header::AUTHORIZATION) else {
            return match &peer.certificate {
                Some(identity) => {
                    let admitted = with_certificate(identity, wall());
                    admitted.map_err(|reason| self.refuse(reason.into(), peer.address))
                }
                None => Err(Refusal::Missing),
            };
        };
        let text = header
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix(BEARER));
        let found = match text.map(str::trim) {
            None => Err("the `authorization` header is no `Bearer` one"
                .to_owned()
                .into()),
            Some(text) => self.find(text, wall()).await,
        };
        found.map_err(|unverified| self.refuse(unverified, peer.address))
    }

    async fn find(&self, text: &str, now: Timestamp) -> Result<Admitted, Unverified> {
        if let Some(text) = KeyText::read(text) {
            return Ok(self.with_key(&text, now)?);
        }
        let Some(tokens) = &self.tokens else {
            let reason = "it is no key, and the broker takes no tokens";
            return Err(reason.to_owned().into());
        };
        let verified = tokens.check(text, now).await?;
        Ok(Admitted {
            principal: Some(Arc::clone(&verified.principal)),
            only_host: None,
            expires_at: Some(verified.expires_at),
            credential: Credential::Token(verified),
        })
    }

    fn with_key(&self, text: &KeyText, now: Timestamp) -> Result<Admitted, String> {
        let Some((held, expires_at)) = self.shared.keys.find(text, now) else {
            return Err(match self.shared.keys.get(text.id) {
                None => format!("there is no key {}", text.id),
                Some(held) => format!("the text is none of {}, or no longer", held.key.title()),
            });
        };
        Ok(Admitted {
            principal: Some(Arc::clone(&held.principal)),
            only_host: None,
            expires_at,
            credential: Credential::Key(text.id, text.hash()),
        })
    }

    /// A credential that is none. Those that are any are let in however many others failed before, since many may share an address.
    fn refuse(&self, unverified: Unverified, address: SocketAddr) -> Refusal {
        let Unverified::Invalid(reason) = unverified else {
            return Refusal::Unknown;
        };
        let now = self.started.elapsed();
        if let Some(wait) = self.throttle.wait(address.ip(), now) {
            return Refusal::Throttled(wait);
        }
        let is_told = self.throttle.failed(address.ip(), now);
        Refusal::Invalid { reason, is_told }
    }

    /// Whether a credential still holds.
    pub(super) fn holds(&self, credential: &Credential) -> bool {
        match credential {
            Credential::None => true,
            Credential::Certificate(expires_at) => wall() < *expires_at,
            Credential::Key(id, hash) => {
                let held = self.shared.keys.get(*id);
                held.is_some_and(|held| held.key.holds_until(*hash, wall()).is_some())
            }
            Credential::Token(verified) => {
                let tokens = self.tokens.as_ref();
                tokens.is_some_and(|tokens| tokens.holds(verified, wall()))
            }
        }
    }
}

/// What the identity in a host's certificate begins with; its name follows.
const HOST_URI: &str = "tq://host/";

/// Who shows a certificate that the authority of clients has signed: hosts are the only ones that are known by one.
fn with_certificate(identity: &Identity, now: Timestamp) -> Result<Admitted, String> {
    let Identity { uri, expires_ms } = identity;
    let expires_at = Timestamp(*expires_ms);
    if now >= expires_at {
        return Err("the certificate of the connection has expired".to_owned());
    }
    let name = uri.strip_prefix(HOST_URI);
    let name = name.filter(|name| tq_core::name::check("host name", name).is_ok());
    let name = name.ok_or_else(|| {
        let shown: String = uri.chars().take(120).collect();
        format!(
            "the certificate is of `{}`, and not of a host: that is `{HOST_URI}NAME`, as its first alternative name of kind URI",
            shown.escape_debug()
        )
    })?;
    Ok(Admitted {
        principal: Some(Arc::new(Principal {
            name: format!("certificate {uri}"),
            role: Role::Host,
            scope: Scope::All,
        })),
        only_host: Some(name.into()),
        expires_at: Some(expires_at),
        credential: Credential::Certificate(expires_at),
    })
}
