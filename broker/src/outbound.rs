//! Requests that the broker sends by itself.

use std::sync::Arc;
use std::time::Duration;

use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::typestate::AgentScope;

/// What holds of all of them: so long for everything, no redirects, and certificates of authorities that this machine trusts
/// (`SSL_CERT_FILE`, or the system's).
pub(crate) fn config(timeout: Duration) -> ConfigBuilder<AgentScope> {
    ureq::Agent::config_builder()
        .tls_config(trusting_the_system())
        .timeout_global(Some(timeout))
        .max_redirects(0)
}

fn trusting_the_system() -> TlsConfig {
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = roots
        .iter()
        .map(|root| Certificate::from_der(root).to_owned())
        .collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}
