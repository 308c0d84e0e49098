//! Certificates for tests of TLS.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as Key, SanType,
    date_time_ymd,
};
use tq_client::KeyPair;

/// An authority, which signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, Key>,
    folder: PathBuf,
}

impl Authority {
    /// One that keeps its files in `folder`, which is made.
    ///
    /// # Panics
    /// The folder cannot be written to.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key());
        let issuer = issuer.expect("an authority can be made");
        fs::create_dir_all(folder).expect("the folder can be made");
        let authority = Self {
            issuer,
            folder: folder.to_owned(),
        };
        replace(&authority.certificate(), &authority.issuer.pem());
        authority
    }

    /// The file with its own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Makes a certificate for a node at 127.0.0.1, as `localhost` too, in the files `NAME.pem` and `NAME.key` of `folder`, in the place
    /// of what is there.
    ///
    /// # Panics
    /// The folder cannot be written to.
    #[must_use]
    pub fn for_node(&self, folder: &Path, name: &str) -> KeyPair {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let localhost = "localhost".try_into().expect("it is a name");
        let names = vec![SanType::IpAddress(loopback), SanType::DnsName(localhost)];
        self.issue(folder, name, names, None)
    }

    /// Makes a certificate of who is called `uri`, likewise.
    ///
    /// # Panics
    /// The folder cannot be written to.
    #[must_use]
    pub fn for_client(&self, folder: &Path, name: &str, uri: &str) -> KeyPair {
        self.issue(folder, name, vec![of_uri(uri)], None)
    }

    /// Makes one that ends so long after now, likewise.
    ///
    /// # Panics
    /// The folder cannot be written to.
    #[must_use]
    pub fn for_client_while(
        &self,
        folder: &Path,
        name: &str,
        uri: &str,
        lasts: Duration,
    ) -> KeyPair {
        self.issue(folder, name, vec![of_uri(uri)], Some(lasts))
    }

    fn issue(
        &self,
        folder: &Path,
        name: &str,
        names: Vec<SanType>,
        lasts: Option<Duration>,
    ) -> KeyPair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        if let Some(lasts) = lasts {
            params.not_after = date_time_ymd(1970, 1, 1) + since_epoch() + lasts;
        }
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer);
        let pair = KeyPair {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        replace(&pair.key, &key.serialize_pem());
        let certificate = certificate.expect("a certificate can be signed");
        replace(&pair.certificate, &certificate.pem());
        pair
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a certificate ends by the clock of who looks at it, which is another process"
)]
fn since_epoch() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("it is after 1970")
}

fn of_uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("it is a URI"))
}

fn key() -> Key {
    Key::generate().expect("a key can be made")
}

/// Writes a file at once, as those do who renew certificates.
///
/// # Panics
/// It cannot be written.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("it can be written");
    fs::rename(&new, path).expect("it can be renamed");
}
