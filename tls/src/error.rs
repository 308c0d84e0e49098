//! What is wrong with the files, before anybody connects.

use std::io;
use std::path::PathBuf;

use crate::files::PEM_BYTES_MAX;

/// Why TLS cannot be used as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("failed to read the file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is too large for what it should have.
    #[error("`{}` is over the limit of {PEM_BYTES_MAX} bytes for certificates and keys", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file is no PEM.
    #[error("`{}` is not valid PEM: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no certificate in a file.
    #[error("`{}` has no certificate; it needs a section `-----BEGIN CERTIFICATE-----`", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no private key in a file.
    #[error("`{}` has no private key; it needs a section such as `-----BEGIN PRIVATE KEY-----`", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error(
        "key `{}` does not match certificate `{}`; give the key that the certificate was made with",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// What is in a file is well-formed, and cannot be used.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nobody could be trusted.
    #[error(
        "this machine has no root certificates; install them, such as the package `ca-certificates`, or name the authority's certificate"
    )]
    NoRoots,
    /// Files for TLS were named for an address without it.
    #[error(
        "`{url}` is not an address of TLS, so certificates for it have no effect; write it as `https://…`, or leave them out"
    )]
    NoEffect {
        /// The address.
        url: String,
    },
    /// The reading was given up, because the process ends.
    #[error("the process ends")]
    Stopped,
}
