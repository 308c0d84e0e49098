//! Reading of certificates and keys.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

/// A file with certificates or a key. The largest bundles of public authorities have a quarter of it.
pub const PEM_BYTES_MAX: u64 = 1 << 20;

/// A certificate, and the key that proves it to be one's own. Both are files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate, and after it those that lead to its authority, if there are some between.
    pub certificate: PathBuf,
    /// The private key, in PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
}

/// The provider is named here and not set for the whole process, so that it does not matter what else uses rustls.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl KeyPair {
    /// Reads both, without comparing them.
    pub(crate) fn read(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let chain = certificates(&self.certificate)?;
        let bytes = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => Error::NoKey {
                path: self.key.clone(),
            },
            error => unreadable(&self.key, &error),
        })?;
        self.warn_if_others_read_the_key();
        Ok((chain, key))
    }

    /// What rustls says of the two together.
    pub(crate) fn unusable(&self, error: &rustls::Error) -> Error {
        match error {
            rustls::Error::InconsistentKeys(_) => Error::Mismatch {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
            },
            rustls::Error::InvalidCertificate(_) => Error::Unusable {
                path: self.certificate.clone(),
                reason: error.to_string(),
            },
            error => Error::Unusable {
                path: self.key.clone(),
                reason: error.to_string(),
            },
        }
    }

    /// Not refused: in a container everybody may be the same user, and the file belong to another.
    fn warn_if_others_read_the_key(&self) {
        let mode = std::fs::metadata(&self.key).map(|found| found.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o004 != 0) {
            tracing::warn!(
                path = %self.key.display(),
                "every user of this machine can read the private key; take the right from them, such as by `chmod o-r`"
            );
        }
    }
}

/// All certificates in a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| unreadable(path, &error))?;
    if found.is_empty() {
        return Err(Error::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

/// Authorities that are trusted, from a file.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| Error::Unusable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// The authorities that this machine trusts.
pub(crate) fn authorities_of_the_system() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    // Some of a system's certificates are of kinds that nothing uses any more; the others are enough.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Error::NoRoots);
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let read = file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes);
    if read.map_err(failed)? as u64 > PEM_BYTES_MAX {
        return Err(Error::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: &pem::Error) -> Error {
    Error::Pem {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
