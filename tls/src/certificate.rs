//! Whom a certificate names.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Tags and the object identifier that a common name is found by (X.690 and X.520).
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Whom a certificate is for: its first URI among the alternative names, such as `tq://host/worker-1`, or else its common name. `None`
/// if it has neither. It says who somebody is only if the certificate was verified.
#[must_use]
pub fn identity(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    if let Some(uri) = certificate.valid_uri_names().next() {
        return Some(uri.into());
    }
    common_name(certificate.subject()).map(Into::into)
}

/// The first common name in the contents of a subject: a list of sets of pairs. Written out because a parser of whole certificates
/// would be a dozen crates, for a field that webpki has found and a verified authority has signed.
fn common_name(subject: &[u8]) -> Option<&str> {
    let mut names = subject;
    while let Some((SET, mut set, rest)) = element(names) {
        names = rest;
        while let Some((SEQUENCE, pair, rest)) = element(set) {
            set = rest;
            let (OBJECT_IDENTIFIER, kind, value) = element(pair)? else {
                continue;
            };
            let (UTF8_STRING | PRINTABLE_STRING | IA5_STRING, text, _) = element(value)? else {
                continue;
            };
            if kind == COMMON_NAME {
                let text = std::str::from_utf8(text).ok();
                return text.filter(|text| !text.is_empty());
            }
        }
    }
    None
}

/// The first element of some DER: its tag, its contents, and what follows it. `None` if it is cut, or longer than 64 KiB.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, der) = der.split_first()?;
    let (&short, der) = der.split_first()?;
    let (len, der) = match short {
        0..=0x7f => (usize::from(short), der),
        0x81 => {
            let (&len, der) = der.split_first()?;
            (usize::from(len), der)
        }
        0x82 => {
            let (len, der) = der.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*len)), der)
        }
        _ => return None,
    };
    let (contents, rest) = der.split_at_checked(len)?;
    Some((tag, contents, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[track_caller]
    fn check(names: &[SanType], subject: &[(DnType, &str)], expected: Option<&str>) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, text) in subject {
            params.distinguished_name.push(kind.clone(), *text);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(identity(certificate.der()).as_deref(), expected);
    }

    #[test]
    fn uri_comes_before_the_common_name() {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let name = SanType::DnsName("worker-1.internal".try_into().unwrap());
        let common = [
            (DnType::OrganizationName, "Example"),
            (DnType::CommonName, "worker-1"),
        ];
        let host = "tq://host/worker-1";
        check(&[name.clone(), uri(host)], &common, Some(host));
        check(&[uri(host), uri("tq://host/other")], &[], Some(host));
        check(std::slice::from_ref(&name), &common, Some("worker-1"));
        check(&[name], &[], None);
        let long = "w".repeat(300);
        check(&[], &[(DnType::CommonName, &long)], Some(&long));
    }

    #[test]
    fn subject_that_is_cut_has_no_name() {
        let name = [
            &[SET, 0x0c, SEQUENCE, 0x0a, OBJECT_IDENTIFIER, 3][..],
            COMMON_NAME,
            &[UTF8_STRING, 3],
            b"abc",
        ]
        .concat();
        assert_eq!(common_name(&name), Some("abc"));
        for len in 0..name.len() {
            assert_eq!(common_name(&name[..len]), None, "{len}");
        }
    }
}
