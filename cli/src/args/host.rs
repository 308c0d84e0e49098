//! `tq host`, and `tq host …`

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use tq_host::egress::Network;

use crate::labels::Label;
use crate::limits::Limit;
use crate::nodes::Isolation;
use crate::units::{Size, Span};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  tq host --broker http://127.0.0.1:7171 --name worker-1 --slots 8
  tq host --label gpu=a100 --label zone=eu --memory 8GiB
  tq host list
  tq host drain worker-1 --deadline 60s")]
pub(crate) struct HostCommand {
    #[command(subcommand)]
    pub(crate) command: Option<HostVerb>,
    #[command(flatten)]
    pub(crate) args: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HostArgs {
    /// Name of this host, the same at every start [env: TQ_HOST_NAME] [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Tasks that run at once [env: TQ_HOST_SLOTS] [default: by the number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    /// What this host says of itself, such as `zone=eu`; may be given again [env: TQ_HOST_LABELS, with commas between them]
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,
    /// What the memory limits of its tasks may add up to, such as `8GiB`; only slots limit it if this is not given [env: TQ_HOST_MEMORY]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Size>,
    /// The most that any task may have here, such as `timeout=5m`; may be given again [env: TQ_HOST_CEILINGS, with commas between them]
    #[arg(long = "ceiling", value_name = "NAME=VALUE")]
    pub(crate) ceilings: Vec<Limit>,
    /// Where guests run: in a process for each namespace, or in the host's own [env: TQ_HOST_ISOLATION] [default: process]
    #[arg(long, value_name = "WHERE")]
    pub(crate) isolation: Option<Isolation>,
    /// Where compiled modules and unacknowledged outcomes are kept [env: TQ_HOST_DATA_DIR] [default: `tq/hosts/NAME` in the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to serve /metrics on; loopback only; not served if it is not given [env: TQ_HOST_METRICS_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Certificate to serve /metrics by TLS with, in PEM; read again when it changes [env: TQ_HOST_METRICS_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics_tls_cert: Option<PathBuf>,
    /// Private key of that certificate, in PEM [env: TQ_HOST_METRICS_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics_tls_key: Option<PathBuf>,
    /// Network that requests of tasks may reach although it is not the internet, such as `10.0.0.0/8`; may be given again [env: TQ_HOST_ALLOW_NETWORKS, with commas between them]
    #[arg(long = "allow-network", value_name = "CIDR")]
    pub(crate) allow_networks: Vec<Network>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// List the hosts that the broker knows
    #[command(after_help = "Example:\n  tq host list --output json")]
    List,
    /// Show one host: its state and why, what it runs, its labels and memory
    #[command(after_help = "Example:\n  tq host show worker-1")]
    Show {
        /// The host's name
        name: String,
    },
    /// Let a host take nothing new; it finishes what it has, and stays paused over restarts
    #[command(after_help = "Example:\n  tq host pause worker-1")]
    Pause {
        /// The host's name
        name: String,
    },
    /// Let a host work again: ends a pause, a drain and a quarantine
    #[command(after_help = "Example:\n  tq host resume worker-1")]
    Resume {
        /// The host's name
        name: String,
    },
    /// Empty a host, and wait until it is: what it has not begun goes to others at once
    #[command(
        after_help = "What still runs at the deadline is stopped and goes back to its queue; that counts neither as a failure nor as a loss.
The host is `drained` then, until `tq host resume`. Interrupted, the drain goes on.

Examples:
  tq host drain worker-1
  tq host drain worker-1 --deadline 1h --no-wait"
    )]
    Drain {
        /// The host's name
        name: String,
        /// How long what runs may go on
        #[arg(long, value_name = "DURATION", default_value = "60s")]
        deadline: Span,
        /// Do not wait until the host is empty
        #[arg(long)]
        no_wait: bool,
    },
    /// Forget a host; one that is connected is told to end, and its work goes to others at once
    #[command(
        after_help = "Drain it first if its work is to be finished where it is. A later start under the name is a new host.

Example:
  tq host remove worker-1"
    )]
    Remove {
        /// The host's name
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn host_is_a_node_and_a_noun() {
        let node = Cli::try_parse_from([
            "tq", "host", "--broker", "b:1", "--name", "a", "--slots", "4",
        ]);
        let node = node.expect("a host can be started");
        assert_eq!(node.global.broker.as_deref(), Some("b:1"));
        assert!(matches!(
            node.command,
            Command::Host(HostCommand { command: None, .. })
        ));
        let list = Cli::try_parse_from(["tq", "host", "list", "--output", "json"]);
        let list = list.expect("hosts can be listed");
        assert!(matches!(
            list.command,
            Command::Host(HostCommand {
                command: Some(HostVerb::List),
                ..
            })
        ));
    }
}
