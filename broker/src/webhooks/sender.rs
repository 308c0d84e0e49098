//! Sending requests to where a tenant says: to the internet by `https`, and to nothing else that nobody opened.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use tokio::sync::Semaphore;
use tq_core::Timestamp;
use tq_core::grant::{Host, Scheme};
use tq_core::limits::{
    WEBHOOK_ANSWER_BYTES_MAX, WEBHOOK_ERROR_BYTES_MAX, WEBHOOK_TESTS_MAX, WEBHOOK_TIMEOUT,
};
use tq_core::network::{Forbidden, Network, judge};
use tq_core::webhook::Endpoint;
use ureq::config::Config;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use super::event;
use super::signing::Secret;
use crate::outbound;

/// Sends requests of webhooks.
#[derive(Debug)]
pub(crate) struct Sender {
    agent: Agent,
    allowed: Vec<Network>,
    /// Lets in so many tests at once.
    pub(crate) tests: Arc<Semaphore>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 if there was none.
    pub(crate) status: u16,
    /// Why it is no success; empty if it is.
    pub(crate) error: String,
    pub(crate) took: Duration,
}

/// Why an endpoint cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreachable {
    /// Its address is none of the internet.
    #[error("address {0} may not be reached: {1}")]
    Forbidden(std::net::IpAddr, Forbidden),
    /// What is told would be read by others.
    #[error(
        "events go by `https`; by `http` only into a network that the broker was started to allow"
    )]
    InTheClear,
}

/// What is sent.
pub(super) struct Request<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) secret: &'a Secret,
    pub(super) id: &'a str,
    pub(super) attempt: u32,
    pub(super) at: Timestamp,
    pub(super) body: &'a [u8],
}

impl Sender {
    /// One that may also reach these networks.
    pub(crate) fn new(allowed: Vec<Network>) -> Self {
        let config = outbound::config(WEBHOOK_TIMEOUT)
            // What is asked for by others goes by no proxy, which would reach what may not be reached.
            .proxy(None)
            .http_status_as_error(false)
            .user_agent(concat!("tq/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = Checked {
            allowed: allowed.clone(),
            inner: DefaultResolver::default(),
        };
        Self {
            agent: Agent::with_parts(config, DefaultConnector::default(), resolver),
            allowed,
            tests: Arc::new(Semaphore::new(WEBHOOK_TESTS_MAX)),
        }
    }

    /// What can be said of an endpoint before its name is looked up. Every request is checked again.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), Unreachable> {
        let destination = endpoint.destination();
        if destination.scheme == Scheme::Http && self.allowed.is_empty() {
            return Err(Unreachable::InTheClear);
        }
        match destination.host {
            Host::Address(address) => {
                let to = SocketAddr::new(address, destination.port);
                checked(to, destination.scheme == Scheme::Http, &self.allowed).map(drop)
            }
            Host::Name(_) => Ok(()),
        }
    }

    /// Sends an event that is of no task, to see whether it arrives. Blocks, for [`WEBHOOK_TIMEOUT`] at most.
    pub(crate) fn ping(
        &self,
        endpoint: &Endpoint,
        secret: &Secret,
        (namespace, webhook): (&str, &str),
        at: Timestamp,
    ) -> Answer {
        self.send(&Request {
            endpoint,
            secret,
            id: &format!("msg_ping_{}", uuid::Uuid::new_v4().simple()),
            attempt: 1,
            at,
            body: &event::ping(namespace, webhook, at),
        })
    }

    /// Sends one. Blocks, for [`WEBHOOK_TIMEOUT`] at most.
    pub(super) fn send(&self, request: &Request<'_>) -> Answer {
        let Request {
            endpoint,
            secret,
            id,
            attempt,
            at,
            body,
        } = *request;
        let timestamp = at.0 / 1_000;
        let began = instant();
        let answered = self
            .agent
            .post(endpoint.url())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", secret.sign(id, timestamp, body))
            .header("tq-attempt", attempt.to_string())
            .send(body);
        let (status, error) = match answered {
            Ok(mut answer) => {
                let status = answer.status().as_u16();
                let rest = answer.body_mut().with_config();
                // For the connection only. One that says more is closed.
                drop(rest.limit(WEBHOOK_ANSWER_BYTES_MAX).read_to_vec());
                (status, refusal(status))
            }
            Err(error) => (0, said(&error)),
        };
        Answer {
            status,
            error,
            took: instant().saturating_duration_since(began),
        }
    }
}

fn refusal(status: u16) -> String {
    match status {
        200..=299 => String::new(),
        300..=399 => {
            format!("the endpoint answered {status}, and redirects are not followed")
        }
        _ => format!("the endpoint answered {status}"),
    }
}

fn said(error: &Error) -> String {
    let mut text = match error {
        Error::Other(ours) => ours.to_string(),
        error => error.to_string(),
    };
    let end = text.floor_char_boundary(WEBHOOK_ERROR_BYTES_MAX);
    text.truncate(end);
    text
}

/// Looks names up, and lets no address through that may not be reached: what is dialled is what was checked.
struct Checked {
    allowed: Vec<Network>,
    inner: DefaultResolver,
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked").finish_non_exhaustive()
    }
}

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let in_the_clear = uri.scheme() != Some(&http::uri::Scheme::HTTPS);
        let found = self.inner.resolve(uri, config, timeout)?;
        let mut through = self.empty();
        for address in &*found {
            // One that may not be reached stands for all: which of them is taken is nobody's to choose.
            let address = checked(*address, in_the_clear, &self.allowed);
            through.push(address.map_err(|why| Error::Other(why.into()))?);
        }
        Ok(through)
    }
}

fn checked(
    to: SocketAddr,
    in_the_clear: bool,
    allowed: &[Network],
) -> Result<SocketAddr, Unreachable> {
    let address = judge(to.ip(), allowed, is_own);
    let address = address.map_err(|why| Unreachable::Forbidden(to.ip(), why))?;
    if in_the_clear && !allowed.iter().any(|network| network.contains(address)) {
        return Err(Unreachable::InTheClear);
    }
    Ok(SocketAddr::new(address, to.port()))
}

/// Whether this machine has the address: only an own one can be bound to.
fn is_own(address: std::net::IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long an endpoint took to answer; nothing is decided by it"
)]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, allowed: &[&str], expected: Result<(), &str>) {
        let allowed = allowed.iter().map(|network| network.parse().unwrap());
        let sender = Sender::new(allowed.collect());
        let endpoint = url.parse().unwrap();
        let got = sender.check(&endpoint).map_err(|error| error.to_string());
        assert_eq!(got, expected.map_err(str::to_owned), "{url}");
        if got.is_err() {
            let secret = Secret::from_bytes(&[1; 32]);
            let answer = sender.send(&Request {
                endpoint: &endpoint,
                secret: &secret,
                id: "msg_1",
                attempt: 1,
                at: Timestamp(1),
                body: b"{}",
            });
            assert_eq!((answer.status, Err(answer.error)), (0, got), "{url}");
        }
    }

    #[test]
    fn only_the_internet_and_what_was_opened_is_reached() {
        let clear = "events go by `https`; by `http` only into a network that the broker was started to allow";
        let loopback = "address 127.0.0.1 may not be reached: it is loopback";
        check("https://127.0.0.1:9/", &[], Err(loopback));
        check("https://127.0.0.1:9/", &["10.0.0.0/8"], Err(loopback));
        check("https://127.0.0.1:9/", &["127.0.0.1/32"], Ok(()));
        check("http://127.0.0.1:9/", &["127.0.0.1/32"], Ok(()));
        check("http://127.0.0.1:9/", &["10.0.0.0/8"], Err(loopback));
        check("http://1.1.1.1/", &["127.0.0.1/32"], Err(clear));
        check(
            "https://169.254.169.254/",
            &["169.254.0.0/16"],
            Err("address 169.254.169.254 may not be reached: it is a metadata service"),
        );
        check(
            "https://[::1]:9/",
            &[],
            Err("address ::1 may not be reached: it is loopback"),
        );
    }

    #[test]
    fn names_are_checked_as_what_they_are_resolved_to() {
        let sender = Sender::new(Vec::new());
        let endpoint = "https://localhost:9/".parse().unwrap();
        assert_eq!(sender.check(&endpoint), Ok(()));
        let answer = sender.send(&Request {
            endpoint: &endpoint,
            secret: &Secret::from_bytes(&[1; 32]),
            id: "msg_1",
            attempt: 1,
            at: Timestamp(1),
            body: b"{}",
        });
        assert!(answer.error.contains("it is loopback"), "{answer:?}");
    }
}
