//! `tq broker`

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tq broker --data-dir /var/lib/tq --listen 127.0.0.1:7171
  tq broker --tls-cert broker.pem --tls-key broker.key --tls-client-ca hosts-ca.pem
  tq broker --max-waiting 100000")]
pub(crate) struct BrokerArgs {
    /// Where tasks and modules are kept [env: TQ_BROKER_DATA_DIR] [default: `tq/broker` in the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to serve on; loopback only, until there is access control [env: TQ_BROKER_LISTEN] [default: 127.0.0.1:7171]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Certificate to serve TLS with, in PEM, and after it those that lead to its authority; read again when it changes [env: TQ_BROKER_TLS_CERT]
    // In the place of the client's, which has this name everywhere else: a broker connects to nobody.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM [env: TQ_BROKER_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Certificates of the authorities that clients' are of, in PEM; a client need not show one [env: TQ_BROKER_TLS_CLIENT_CA]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// A proxy in front of the broker speaks TLS, so the broker does not; connections are not limited by address then [env: TQ_BROKER_PLAINTEXT]
    #[arg(long)]
    pub(crate) plaintext: bool,
    /// File with the key that secrets are sealed with, 64 hexadecimal digits; made when the first secret is set [env: TQ_BROKER_SECRETS_KEY] [default: `secrets.key` in the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets_key: Option<PathBuf>,
    /// Tasks that may wait, in all namespaces, before submits are refused: those of a low priority at 80 % of it, of a normal one at 90 % [env: TQ_BROKER_MAX_WAITING] [default: 20000000]
    #[arg(long, value_name = "TASKS")]
    pub(crate) max_waiting: Option<NonZeroU64>,
}
