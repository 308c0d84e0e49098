//! Secrets in the headers of requests: put in after the guest, and only where they were granted for.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use memchr::memmem;
use tq_core::grant::{Destination, SecretName};

use super::{Holders, Refusal};
use crate::egress::{Egress, Failure, Request, Response, Scope, tcp};

/// What a guest writes in place of a secret: `{{secret:NAME}}`.
const OPEN: &[u8] = b"{{secret:";
const CLOSE: &[u8] = b"}}";

/// Sends requests with the secrets that their headers name.
pub(crate) struct WithSecrets {
    egress: Arc<dyn Egress>,
    holders: Holders,
}

impl WithSecrets {
    /// Sends through `egress`.
    pub(crate) fn new(egress: Arc<dyn Egress>, holders: Holders) -> Self {
        Self { egress, holders }
    }
}

impl Egress for WithSecrets {
    fn send(
        &self,
        scope: Scope,
        mut request: Request,
    ) -> BoxFuture<'static, Result<Response, Failure>> {
        let names = |(_, value): &(String, Bytes)| memmem::find(value, OPEN).is_some();
        if !request.headers.iter().any(names) {
            return self.egress.send(scope, request);
        }
        let (egress, holders) = (Arc::clone(&self.egress), self.holders.clone());
        Box::pin(async move {
            put_in(&holders, &scope, &mut request).await?;
            egress.send(scope, request).await
        })
    }

    fn dial(&self, scope: tcp::Scope) -> Arc<dyn tcp::Dial> {
        self.egress.dial(scope)
    }
}

/// Puts secrets into the headers that name them.
async fn put_in(holders: &Holders, scope: &Scope, request: &mut Request) -> Result<(), Failure> {
    let destination = Destination::parse(request.scheme, &request.authority)?;
    for (header, value) in &mut request.headers {
        let mut rest = value.clone();
        let mut whole = BytesMut::new();
        while let Some((at, name, len)) = next(&rest) {
            let secret = holders
                .secret_for(scope.epoch, name, &request.method, &destination)
                .await
                .map_err(|refusal| failure(header, &refusal))?;
            whole.extend_from_slice(&rest[..at]);
            whole.extend_from_slice(&secret);
            rest = rest.slice(at + len..);
        }
        if !whole.is_empty() {
            whole.extend_from_slice(&rest);
            *value = whole.freeze();
        }
    }
    Ok(())
}

/// The first secret that is named: where, which, and how long its name is with what is around it.
fn next(value: &[u8]) -> Option<(usize, SecretName, usize)> {
    let mut from = 0;
    while let Some(at) = memmem::find(&value[from..], OPEN).map(|at| from + at) {
        let name = &value[at + OPEN.len()..];
        if let Some(end) = memmem::find(name, CLOSE)
            && let Ok(text) = std::str::from_utf8(&name[..end])
            && let Ok(name) = text.parse()
        {
            return Some((at, name, OPEN.len() + end + CLOSE.len()));
        }
        from = at + 1;
    }
    None
}

fn failure(header: &str, refusal: &Refusal) -> Failure {
    let header = header.escape_debug().take(60).collect();
    let message = refusal.to_string();
    match refusal {
        Refusal::NotGranted(_) => Failure::SecretNotGranted { header, message },
        Refusal::Missing(_) | Refusal::Invalid(_) | Refusal::Unavailable(_) => {
            Failure::SecretUnavailable { header, message }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Option<(usize, &str, usize)>) {
        let next = next(value.as_bytes());
        let next = next
            .as_ref()
            .map(|(at, name, len)| (*at, name.as_str(), *len));
        assert_eq!(next, expected);
    }

    #[test]
    fn secrets_are_named_in_double_braces() {
        check("Bearer {{secret:key}}", Some((7, "key", 14)));
        check("{{secret:a}}{{secret:b}}", Some((0, "a", 12)));
        check("{{secret:{{secret:b}}", Some((9, "b", 12)));
    }

    #[test]
    fn what_names_none_stays_as_it_is() {
        for value in [
            "",
            "{{secret:",
            "{{secret:a b}}",
            "{{secret:}}",
            "{secret:a}",
        ] {
            check(value, None);
        }
    }
}
