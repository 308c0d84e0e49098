//! `tq dev`

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tq_host::egress::Network;

use crate::nodes::Isolation;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tq dev
  tq dev --data-dir /tmp/try --listen 127.0.0.1:9000
  tq dev --allow-network 127.0.0.1/32
  tq dev --watch                          deploys the module in this folder at every save
  tq dev --watch images")]
pub(crate) struct DevArgs {
    /// Build and deploy the module in this folder, `.` if none is named, now and whenever a file of it is saved. Hidden files, those that
    /// a `.gitignore` in it names, `target`, editors' temporary files and `cases` do not count
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = ".")]
    pub(crate) watch: Option<PathBuf>,
    /// Where everything is kept [env: TQ_DEV_DATA_DIR] [default: ./.tq]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to serve on; loopback only [env: TQ_DEV_LISTEN] [default: 127.0.0.1:7171]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Tasks that run at once [env: TQ_DEV_SLOTS] [default: by the number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    /// Where guests run: in a process for each namespace, or in this one [env: TQ_DEV_ISOLATION] [default: none]
    #[arg(long, value_name = "WHERE")]
    pub(crate) isolation: Option<Isolation>,
    /// Network that requests of tasks, and webhooks, may reach although it is not the internet, such as `127.0.0.1/32`; may be given again [env: TQ_DEV_ALLOW_NETWORKS, with commas between them]
    #[arg(long = "allow-network", value_name = "CIDR")]
    pub(crate) allow_networks: Vec<Network>,
}
