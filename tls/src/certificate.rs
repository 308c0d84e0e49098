//! Whom a certificate names, and until when.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Whom a certificate names. It says who somebody is only if the certificate was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its first URI among the alternative names, such as `tq://host/worker-1`. Nothing else names anybody: a common name may be
    /// whatever its bearer has asked for, since authorities check alternative names only.
    pub uri: Arc<str>,
    /// From when on it is nobody's any more, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// Whom a certificate names; `None` if it names nobody.
pub(crate) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut names = names.value.general_names.iter();
    let uri = names.find_map(|name| match name {
        GeneralName::URI(uri) => Some(Arc::from(*uri)),
        _ => None,
    })?;
    // It holds through the second that it names (RFC 5280, section 4.1.2.5).
    let last = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    Some(Identity {
        uri,
        expires_ms: last.saturating_add(1).saturating_mul(1_000),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    #[track_caller]
    fn check(names: &[SanType], subject: &[(DnType, &str)], expected: Option<&str>) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, text) in subject {
            params.distinguished_name.push(kind.clone(), *text);
        }
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(5_000_000_000);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let expected = expected.map(|uri| Identity {
            uri: uri.into(),
            expires_ms: 5_000_000_001_000,
        });
        assert_eq!(identity(certificate.der()), expected);
    }

    #[test]
    fn first_uri_is_who_it_names_and_nothing_else_is() {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let name = SanType::DnsName("worker-1.internal".try_into().unwrap());
        let host = "tq://host/worker-1";
        let common = [
            (DnType::OrganizationName, "Example"),
            (DnType::CommonName, host),
        ];
        check(&[name.clone(), uri(host)], &common, Some(host));
        check(&[uri(host), uri("tq://host/other")], &[], Some(host));
        check(std::slice::from_ref(&name), &common, None);
        check(&[], &common, None);
        check(&[name], &[], None);
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("tq://host/a".try_into().unwrap())];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let der = certificate.der();
        for len in 0..der.len() {
            assert_eq!(identity(&der[..len].into()), None, "{len}");
        }
    }
}
