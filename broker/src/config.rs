//! What a broker is set up with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access::jwt::Issuer;
use crate::api::CorsOrigin;
use tq_core::limits::{FREE_BYTES_FLOOR, WAITING_MAX};
use tq_core::network::Network;
use tq_tls::ServerFiles;

/// What a broker is set up with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its data is. Made if it is not there.
    pub data_dir: PathBuf,
    /// Where it listens. On loopback only, as long as there is no access control.
    pub listen: SocketAddr,
    /// What it speaks TLS with; `None` is plain text. The files are read again when they change.
    pub tls: Option<ServerFiles>,
    /// Whether a proxy in front of it speaks TLS in its place. Connections are not counted by their address then.
    pub plaintext: bool,
    /// Free space under which submits and uploads of modules are refused, in bytes.
    pub free_bytes_floor: u64,
    /// Tasks that may wait before every submit is refused; tasks of the low and the normal tier are refused before. At least 1.
    pub waiting_max: u64,
    /// How long requests may take to finish when it stops.
    pub drain_timeout: Duration,
    /// Whose tokens are taken beside keys, if anyone's.
    pub tokens: Option<Issuer>,
    /// Web pages that may use `/v1` from a browser.
    pub cors_origins: Vec<CorsOrigin>,
    /// The file with the key that secrets are sealed with, 64 hexadecimal digits. Made if it is not there when it is needed.
    pub secrets_key: PathBuf,
    /// Networks that webhooks may reach although they are not the internet, by `http` too.
    pub webhook_networks: Vec<Network>,
}

impl Config {
    /// The defaults for a data directory and an address.
    pub fn new(data_dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        let data_dir = data_dir.into();
        Self {
            secrets_key: data_dir.join("secrets.key"),
            data_dir,
            listen,
            tls: None,
            plaintext: false,
            free_bytes_floor: FREE_BYTES_FLOOR,
            waiting_max: WAITING_MAX,
            drain_timeout: Duration::from_secs(5),
            tokens: None,
            webhook_networks: Vec::new(),
            cors_origins: Vec::new(),
        }
    }
}

/// Where the store is in a data directory, and where its second mark is: beside the whole directory, so that an older
/// copy of the directory that is put back is noticed.
pub(crate) fn store_of(data_dir: &Path) -> (PathBuf, crate::store::OpenOptions) {
    // Without a trailing slash, which would put the mark inside.
    let dir: PathBuf = data_dir.components().collect();
    let mut mark = dir.clone().into_os_string();
    mark.push(".mark");
    (
        data_dir.join("broker").join("store"),
        crate::store::OpenOptions {
            mark_beside: Some(mark.into()),
        },
    )
}
