//! `tq broker`

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use tq_core::network::Network;

use tq_broker::CorsOrigin;

use crate::credential::KeySetArg;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BrokerCommand {
    #[command(subcommand)]
    pub(crate) command: Option<BrokerVerb>,
    #[command(flatten)]
    pub(crate) args: BrokerArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BrokerVerb {
    /// Turn access control on, while no broker runs on the directory, and print the first key of an administrator
    #[command(
        after_help = "From then on nobody gets in without a credential, and the broker may serve others than this machine. The key is shown this once.

Examples:
  tq broker init > admin.key
  tq broker init --data-dir /var/lib/tq > admin.key"
    )]
    Init {
        /// Where tasks and modules are kept, or will be [env: TQ_BROKER_DATA_DIR] [default: `tq/broker` in the user's state folder]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tq broker --data-dir /var/lib/tq --listen 127.0.0.1:7171
  tq broker --tls-cert broker.pem --tls-key broker.key --tls-client-ca hosts-ca.pem
  tq broker --max-waiting 100000")]
pub(crate) struct BrokerArgs {
    /// Where tasks and modules are kept [env: TQ_BROKER_DATA_DIR] [default: `tq/broker` in the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to serve on; loopback only, unless `tq broker init` has turned access control on [env: TQ_BROKER_LISTEN] [default: 127.0.0.1:7171]
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
    /// Network that webhooks may reach although it is not the internet, by `http` too, such as `10.0.0.0/8`; may be given again [env: TQ_BROKER_WEBHOOK_ALLOW_NETWORKS, with commas between them]
    #[arg(long = "webhook-allow-network", value_name = "CIDR")]
    pub(crate) webhook_allow_networks: Vec<Network>,
    /// Take tokens (JWT) of this issuer, beside keys: what `iss` has to be [env: TQ_BROKER_JWT_ISSUER]
    #[arg(long, value_name = "ISSUER")]
    pub(crate) jwt_issuer: Option<String>,
    /// What `aud` of such a token has to be, or to have [env: TQ_BROKER_JWT_AUDIENCE]
    #[arg(long, value_name = "AUDIENCE")]
    pub(crate) jwt_audience: Option<String>,
    /// The issuer's keys (JWKS): a file, or an address with `https` [env: TQ_BROKER_JWT_KEYS]
    #[arg(long, value_name = "FILE|URL")]
    pub(crate) jwt_keys: Option<KeySetArg>,
    /// Let web pages of this origin use `/v1` from a browser, such as `https://app.example`; may be given several times; `*` is all pages, for a broker with access control [env: TQ_BROKER_CORS_ORIGINS, with commas between them]
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    pub(crate) cors_origins: Vec<CorsOrigin>,
    /// Tasks that may wait, in all namespaces, before submits are refused: those of a low priority at 80 % of it, of a normal one at 90 % [env: TQ_BROKER_MAX_WAITING] [default: 20000000]
    #[arg(long, value_name = "TASKS")]
    pub(crate) max_waiting: Option<NonZeroU64>,
}
