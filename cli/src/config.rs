//! Settings: flags, then `TQ_*` variables, then `config.toml`, then defaults. Merged here and nowhere else.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{env, fs, io};

use tq_client::Bearer;

use crate::args::{BrokerArgs, BrokerCommand, BrokerVerb, Cli, Command, DevArgs, HostArgs};
use crate::cors::OriginList;
use crate::credential::{KeySetArg, KeySource};
use crate::document::{self, Table};
use crate::exit::Failure;
use crate::labels::LabelList;
use crate::limits::Ceilings;
use crate::networks::NetworkList;
use crate::nodes::Isolation;
use crate::output::Format;
use crate::telemetry::LogFormat;
use crate::units::Size;

/// What `tq dev` listens on, and where clients look for a broker, unless told otherwise.
const DEFAULT_LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 7171);

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag,
    /// An environment variable.
    Variable(&'static str),
    /// The configuration file.
    File(PathBuf),
    /// Nothing set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// Its origin.
    pub(crate) origin: Origin,
}

/// All settings.
#[derive(Debug)]
pub(crate) struct Config {
    /// The broker's address, for clients and hosts.
    pub(crate) broker: Setting<String>,
    /// The authority that the broker's certificate is of; `None` is one that this machine trusts.
    pub(crate) tls_ca: Setting<Option<PathBuf>>,
    /// The certificate that the broker is shown.
    pub(crate) tls_cert: Setting<Option<PathBuf>>,
    /// Its key.
    pub(crate) tls_key: Setting<Option<PathBuf>>,
    /// A key may go to the broker without TLS.
    pub(crate) plaintext: Setting<bool>,
    /// The namespace of clients.
    pub(crate) namespace: Setting<String>,
    /// What clients and hosts show the broker; `None` is nothing.
    pub(crate) key: Setting<Option<KeySource>>,
    /// How clients print.
    pub(crate) output: Setting<Format>,
    /// How the log is written.
    pub(crate) log_format: Setting<LogFormat>,
    /// What the log has, such as `info,tq_broker=debug`; by itself as much as the command needs.
    pub(crate) log_filter: Setting<Option<String>>,
    /// Where nodes send traces; `None` sends none.
    pub(crate) otlp_endpoint: Setting<Option<String>>,
    /// `tq dev`: everything's folder.
    pub(crate) dev_data_dir: Setting<PathBuf>,
    /// `tq dev`: the address to serve on.
    pub(crate) dev_listen: Setting<SocketAddr>,
    /// `tq dev`: tasks at once.
    pub(crate) dev_slots: Setting<u32>,
    /// `tq dev`: where guests run.
    pub(crate) dev_isolation: Setting<Isolation>,
    /// `tq dev`: networks that requests of tasks may reach.
    pub(crate) dev_allow_networks: Setting<NetworkList>,
    /// `tq broker`: its folder.
    pub(crate) broker_data_dir: Setting<PathBuf>,
    /// `tq broker`: the address to serve on.
    pub(crate) broker_listen: Setting<SocketAddr>,
    /// `tq broker`: its certificate; `None` is plain text.
    pub(crate) broker_tls_cert: Setting<Option<PathBuf>>,
    /// `tq broker`: its key.
    pub(crate) broker_tls_key: Setting<Option<PathBuf>>,
    /// `tq broker`: the authorities of clients' certificates.
    pub(crate) broker_tls_client_ca: Setting<Option<PathBuf>>,
    /// `tq broker`: whether a proxy in front speaks TLS.
    pub(crate) broker_plaintext: Setting<bool>,
    /// `tq broker`: the file with the key of secrets; `None` is in its folder.
    pub(crate) broker_secrets_key: Setting<Option<PathBuf>>,
    /// `tq broker`: networks that webhooks may reach although they are not the internet.
    pub(crate) broker_webhook_networks: Setting<NetworkList>,
    /// `tq broker`: tasks that may wait.
    pub(crate) broker_max_waiting: Setting<NonZeroU64>,
    /// `tq broker`: whose tokens are taken; `None` is nobody's.
    pub(crate) broker_jwt_issuer: Setting<Option<String>>,
    /// `tq broker`: for whom these tokens have to be.
    pub(crate) broker_jwt_audience: Setting<Option<String>>,
    /// `tq broker`: where the issuer's keys are.
    pub(crate) broker_jwt_keys: Setting<Option<KeySetArg>>,
    /// `tq broker`: web pages that may use `/v1`.
    pub(crate) broker_cors_origins: Setting<OriginList>,
    /// `tq host`: its name.
    pub(crate) host_name: Setting<String>,
    /// `tq host`: tasks at once.
    pub(crate) host_slots: Setting<u32>,
    /// `tq host`: what it says of itself.
    pub(crate) host_labels: Setting<LabelList>,
    /// `tq host`: what the memory limits of its attempts may add up to; `None` is no limit.
    pub(crate) host_memory: Setting<Option<Size>>,
    /// `tq host`: the most that an attempt may have.
    pub(crate) host_ceilings: Setting<Ceilings>,
    /// `tq host`: where guests run.
    pub(crate) host_isolation: Setting<Isolation>,
    /// `tq host`: its folder.
    pub(crate) host_data_dir: Setting<PathBuf>,
    /// `tq host`: where its metrics are; `None` is nowhere.
    pub(crate) host_metrics_listen: Setting<Option<SocketAddr>>,
    /// `tq host`: the certificate of its metrics; `None` is plain text.
    pub(crate) host_metrics_tls_cert: Setting<Option<PathBuf>>,
    /// `tq host`: its key.
    pub(crate) host_metrics_tls_key: Setting<Option<PathBuf>>,
    /// `tq host`: networks that requests of tasks may reach.
    pub(crate) host_allow_networks: Setting<NetworkList>,
}

/// One line of `tq config show`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// `table.key` of the configuration file.
    pub(crate) key: &'static str,
    /// The value as it would be written.
    pub(crate) value: String,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// The tables and keys of the file.
const KEYS: &[(&str, &[&str])] = &[
    (
        "client",
        &[
            "broker",
            "tls_ca",
            "tls_cert",
            "tls_key",
            "plaintext",
            "namespace",
            "key_file",
            "output",
        ],
    ),
    ("log", &["format", "filter", "otlp_endpoint"]),
    (
        "dev",
        &["data_dir", "listen", "slots", "isolation", "allow_networks"],
    ),
    (
        "broker",
        &[
            "data_dir",
            "listen",
            "tls_cert",
            "tls_key",
            "tls_client_ca",
            "plaintext",
            "secrets_key",
            "webhook_allow_networks",
            "max_waiting",
            "jwt_issuer",
            "jwt_audience",
            "jwt_keys",
            "cors_origins",
        ],
    ),
    (
        "host",
        &[
            "name",
            "slots",
            "labels",
            "memory",
            "ceilings",
            "isolation",
            "data_dir",
            "metrics_listen",
            "metrics_tls_cert",
            "metrics_tls_key",
            "allow_networks",
        ],
    ),
];

impl Config {
    /// Merges all layers for this command line.
    ///
    /// # Errors
    /// A variable or a key of the file that has no meaning, or a value that it cannot have.
    pub(crate) fn resolve(cli: &Cli) -> Result<Self, Failure> {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let named = cli
            .global
            .config
            .clone()
            .or_else(|| variable("TQ_CONFIG").map(PathBuf::from));
        let (path, is_named) = match named {
            Some(path) => (path, true),
            None => (
                user_folder("XDG_CONFIG_HOME", ".config").join("config.toml"),
                false,
            ),
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => String::new(),
            Err(error) => {
                let failed = format!(
                    "failed to read the configuration file `{}`: {error}",
                    path.display()
                );
                return Err(Failure::usage(failed));
            }
        };
        Self::merge(cli, &variable, &path, &text)
    }

    /// What clients and hosts show the broker.
    ///
    /// # Errors
    /// The key cannot be read.
    pub(crate) fn bearer(&self) -> Result<Bearer, Failure> {
        let key = self.key.value.as_ref();
        let bearer = key.map_or_else(|| Ok(Bearer::default()), KeySource::bearer)?;
        Ok(match self.plaintext.value {
            true => bearer.in_the_clear(),
            false => bearer,
        })
    }

    fn merge(
        cli: &Cli,
        variable: &dyn Fn(&str) -> Option<OsString>,
        path: &Path,
        text: &str,
    ) -> Result<Self, Failure> {
        let (dev_data_dir, dev_listen, dev_slots, dev_isolation, dev_networks) = match &cli.command
        {
            Command::Dev(DevArgs {
                watch: _,
                data_dir,
                listen,
                slots,
                isolation,
                allow_networks,
            }) => {
                let networks = NetworkList::gather(allow_networks);
                (data_dir.clone(), *listen, *slots, *isolation, networks)
            }
            _ => (None, None, None, None, None),
        };
        let (broker, init_dir) = match &cli.command {
            Command::Broker(BrokerCommand {
                command: Some(BrokerVerb::Init { data_dir }),
                args: _,
            }) => (None, data_dir.clone()),
            Command::Broker(BrokerCommand {
                command: None,
                args,
            }) => (Some(args), None),
            _ => (None, None),
        };
        let (jwt_issuer, jwt_audience, jwt_keys) = match broker {
            Some(args) => (
                args.jwt_issuer.clone(),
                args.jwt_audience.clone(),
                args.jwt_keys.clone(),
            ),
            None => (None, None, None),
        };
        let (broker_data_dir, broker_listen, secrets_key, max_waiting) = match broker {
            Some(BrokerArgs {
                data_dir,
                listen,
                tls_cert: _,
                tls_key: _,
                tls_client_ca: _,
                plaintext: _,
                secrets_key,
                webhook_allow_networks: _,
                max_waiting,
                jwt_issuer: _,
                jwt_audience: _,
                jwt_keys: _,
                cors_origins: _,
            }) => (data_dir.clone(), *listen, secrets_key.clone(), *max_waiting),
            None => (init_dir, None, None, None),
        };
        let hook_networks =
            broker.and_then(|broker| NetworkList::gather(&broker.webhook_allow_networks));
        let cors_origins = broker.and_then(|broker| OriginList::gather(&broker.cors_origins));
        let broker_plaintext = broker.and_then(|broker| broker.plaintext.then_some(true));
        let host = match &cli.command {
            Command::Host(host) => Some(&host.args),
            _ => None,
        };
        let (host_name, host_slots, host_data_dir, metrics_listen) = match host {
            Some(HostArgs {
                name,
                slots,
                labels: _,
                memory: _,
                ceilings: _,
                isolation: _,
                data_dir,
                metrics_listen,
                metrics_tls_cert: _,
                metrics_tls_key: _,
                allow_networks: _,
            }) => (name.clone(), *slots, data_dir.clone(), *metrics_listen),
            None => (None, None, None, None),
        };
        let labels = LabelList::gather(host.map_or(&[], |host| &host.labels))
            .map_err(|error| Failure::usage(error.to_string()))?;
        let memory = host.and_then(|host| host.memory);
        let ceilings = Ceilings::gather(host.map_or(&[], |host| &host.ceilings));
        let ceilings = ceilings.map_err(Failure::usage)?;
        let isolation = host.and_then(|host| host.isolation);
        let host_networks = host.and_then(|host| NetworkList::gather(&host.allow_networks));
        let global = &cli.global;

        document::parse(path, text, |root| {
            root.only(&KEYS.iter().map(|(table, _)| *table).collect::<Vec<_>>())?;
            for (table, keys) in KEYS {
                root.table(table, |table| table.only(keys))?;
            }
            let layers = Layers {
                path,
                root,
                variable,
            };
            let listen = SocketAddr::from(DEFAULT_LISTEN);
            let broker_url = || format!("http://{listen}");
            let state = user_folder("XDG_STATE_HOME", ".local/state");
            let key_file = global.key_file.clone().map(KeySource::File);
            let key = match (&key_file, variable("TQ_KEY")) {
                (None, Some(text)) => Setting {
                    value: Some(KeySource::Text(text.to_string_lossy().into_owned())),
                    origin: Origin::Variable("TQ_KEY"),
                },
                _ => layers.pick_optional(key_file, &["TQ_KEY_FILE"], "client", "key_file")?,
            };
            let host_name =
                layers.pick(host_name, &["TQ_HOST_NAME"], "host", "name", machine_name)?;
            let host_folder = state.join("hosts").join(&host_name.value);
            let filter = layers.pick_optional(None, &["TQ_LOG"], "log", "filter")?;
            let file = |flag: Option<&Option<PathBuf>>, variable: &'static str, table, key| {
                layers.pick_optional(flag.cloned().flatten(), &[variable], table, key)
            };
            // For a broker these two are its own certificate and key.
            let of_client = |flag| Some(flag).filter(|_| broker.is_none());
            let metrics = layers.pick_optional(
                metrics_listen,
                &["TQ_HOST_METRICS_LISTEN"],
                "host",
                "metrics_listen",
            )?;
            Ok(Self {
                broker: layers.pick(
                    global.broker.clone(),
                    &["TQ_BROKER"],
                    "client",
                    "broker",
                    broker_url,
                )?,
                tls_ca: file(Some(&global.tls_ca), "TQ_TLS_CA", "client", "tls_ca")?,
                tls_cert: file(
                    of_client(&global.tls_cert),
                    "TQ_TLS_CERT",
                    "client",
                    "tls_cert",
                )?,
                tls_key: file(
                    of_client(&global.tls_key),
                    "TQ_TLS_KEY",
                    "client",
                    "tls_key",
                )?,
                plaintext: layers.pick_flag(
                    (global.plaintext && broker.is_none()).then_some(true),
                    "TQ_PLAINTEXT",
                    "client",
                    "plaintext",
                )?,
                namespace: layers.pick(
                    global.namespace.clone(),
                    &["TQ_NAMESPACE"],
                    "client",
                    "namespace",
                    String::new,
                )?,
                key,
                output: layers.pick(global.output, &["TQ_OUTPUT"], "client", "output", || {
                    Format::Table
                })?,
                log_format: layers.pick(global.log, &["TQ_LOG_FORMAT"], "log", "format", || {
                    LogFormat::Text
                })?,
                log_filter: filter,
                otlp_endpoint: layers.pick_optional(
                    global.otlp_endpoint.clone(),
                    &["TQ_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
                    "log",
                    "otlp_endpoint",
                )?,
                dev_data_dir: layers.pick(
                    dev_data_dir,
                    &["TQ_DEV_DATA_DIR"],
                    "dev",
                    "data_dir",
                    || ".tq".into(),
                )?,
                dev_listen: layers
                    .pick(dev_listen, &["TQ_DEV_LISTEN"], "dev", "listen", || listen)?,
                dev_slots: layers.pick(
                    dev_slots,
                    &["TQ_DEV_SLOTS"],
                    "dev",
                    "slots",
                    default_slots,
                )?,
                dev_isolation: layers.pick(
                    dev_isolation,
                    &["TQ_DEV_ISOLATION"],
                    "dev",
                    "isolation",
                    || Isolation::None,
                )?,
                dev_allow_networks: layers.pick(
                    dev_networks,
                    &["TQ_DEV_ALLOW_NETWORKS"],
                    "dev",
                    "allow_networks",
                    NetworkList::default,
                )?,
                broker_data_dir: layers.pick(
                    broker_data_dir,
                    &["TQ_BROKER_DATA_DIR"],
                    "broker",
                    "data_dir",
                    || state.join("broker"),
                )?,
                broker_listen: layers.pick(
                    broker_listen,
                    &["TQ_BROKER_LISTEN"],
                    "broker",
                    "listen",
                    || listen,
                )?,
                broker_tls_cert: file(
                    broker.map(|broker| &broker.tls_cert),
                    "TQ_BROKER_TLS_CERT",
                    "broker",
                    "tls_cert",
                )?,
                broker_tls_key: file(
                    broker.map(|broker| &broker.tls_key),
                    "TQ_BROKER_TLS_KEY",
                    "broker",
                    "tls_key",
                )?,
                broker_tls_client_ca: file(
                    broker.map(|broker| &broker.tls_client_ca),
                    "TQ_BROKER_TLS_CLIENT_CA",
                    "broker",
                    "tls_client_ca",
                )?,
                broker_plaintext: layers.pick_flag(
                    broker_plaintext,
                    "TQ_BROKER_PLAINTEXT",
                    "broker",
                    "plaintext",
                )?,
                broker_secrets_key: layers.pick_optional(
                    secrets_key,
                    &["TQ_BROKER_SECRETS_KEY"],
                    "broker",
                    "secrets_key",
                )?,
                broker_webhook_networks: layers.pick(
                    hook_networks,
                    &["TQ_BROKER_WEBHOOK_ALLOW_NETWORKS"],
                    "broker",
                    "webhook_allow_networks",
                    NetworkList::default,
                )?,
                broker_max_waiting: layers.pick(
                    max_waiting,
                    &["TQ_BROKER_MAX_WAITING"],
                    "broker",
                    "max_waiting",
                    default_max_waiting,
                )?,
                broker_jwt_issuer: layers.pick_optional(
                    jwt_issuer,
                    &["TQ_BROKER_JWT_ISSUER"],
                    "broker",
                    "jwt_issuer",
                )?,
                broker_jwt_audience: layers.pick_optional(
                    jwt_audience,
                    &["TQ_BROKER_JWT_AUDIENCE"],
                    "broker",
                    "jwt_audience",
                )?,
                broker_jwt_keys: layers.pick_optional(
                    jwt_keys,
                    &["TQ_BROKER_JWT_KEYS"],
                    "broker",
                    "jwt_keys",
                )?,
                broker_cors_origins: layers.pick(
                    cors_origins,
                    &["TQ_BROKER_CORS_ORIGINS"],
                    "broker",
                    "cors_origins",
                    OriginList::default,
                )?,
                host_slots: layers.pick(
                    host_slots,
                    &["TQ_HOST_SLOTS"],
                    "host",
                    "slots",
                    default_slots,
                )?,
                host_labels: layers.pick(
                    labels,
                    &["TQ_HOST_LABELS"],
                    "host",
                    "labels",
                    LabelList::default,
                )?,
                host_memory: layers.pick_optional(memory, &["TQ_HOST_MEMORY"], "host", "memory")?,
                host_ceilings: layers.pick(
                    ceilings,
                    &["TQ_HOST_CEILINGS"],
                    "host",
                    "ceilings",
                    Ceilings::default,
                )?,
                host_isolation: layers.pick(
                    isolation,
                    &["TQ_HOST_ISOLATION"],
                    "host",
                    "isolation",
                    || Isolation::Process,
                )?,
                host_data_dir: layers.pick(
                    host_data_dir,
                    &["TQ_HOST_DATA_DIR"],
                    "host",
                    "data_dir",
                    || host_folder,
                )?,
                host_metrics_listen: metrics,
                host_metrics_tls_cert: file(
                    host.map(|host| &host.metrics_tls_cert),
                    "TQ_HOST_METRICS_TLS_CERT",
                    "host",
                    "metrics_tls_cert",
                )?,
                host_metrics_tls_key: file(
                    host.map(|host| &host.metrics_tls_key),
                    "TQ_HOST_METRICS_TLS_KEY",
                    "host",
                    "metrics_tls_key",
                )?,
                host_allow_networks: layers.pick(
                    host_networks,
                    &["TQ_HOST_ALLOW_NETWORKS"],
                    "host",
                    "allow_networks",
                    NetworkList::default,
                )?,
                host_name,
            })
        })
    }

    /// Every setting, in the order of the configuration file.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        // Destructured whole, so that a new setting cannot be left out.
        let Self {
            broker,
            tls_ca,
            tls_cert,
            tls_key,
            plaintext,
            namespace,
            key,
            output,
            log_format,
            log_filter,
            otlp_endpoint,
            dev_data_dir,
            dev_listen,
            dev_slots,
            dev_isolation,
            dev_allow_networks,
            broker_data_dir,
            broker_listen,
            broker_tls_cert,
            broker_tls_key,
            broker_tls_client_ca,
            broker_plaintext,
            broker_secrets_key,
            broker_webhook_networks,
            broker_max_waiting,
            broker_jwt_issuer,
            broker_jwt_audience,
            broker_jwt_keys,
            broker_cors_origins,
            host_name,
            host_slots,
            host_labels,
            host_memory,
            host_ceilings,
            host_isolation,
            host_data_dir,
            host_metrics_listen,
            host_metrics_tls_cert,
            host_metrics_tls_key,
            host_allow_networks,
        } = self;
        fn show<T: ToString>(key: &'static str, setting: &Setting<T>) -> Shown {
            Shown {
                key,
                value: setting.value.to_string(),
                origin: setting.origin.clone(),
            }
        }
        fn optional<T: ToString>(key: &'static str, setting: &Setting<Option<T>>) -> Shown {
            let value = setting.value.as_ref().map(T::to_string).unwrap_or_default();
            Shown {
                key,
                value,
                origin: setting.origin.clone(),
            }
        }
        let path = |key, setting: &Setting<PathBuf>| Shown {
            key,
            value: setting.value.display().to_string(),
            origin: setting.origin.clone(),
        };
        let file = |key, setting: &Setting<Option<PathBuf>>| {
            let path = setting.value.as_ref();
            Shown {
                key,
                value: path.map_or_else(String::new, |path| path.display().to_string()),
                origin: setting.origin.clone(),
            }
        };
        vec![
            show("client.broker", broker),
            file("client.tls_ca", tls_ca),
            file("client.tls_cert", tls_cert),
            file("client.tls_key", tls_key),
            show("client.plaintext", plaintext),
            show("client.namespace", namespace),
            optional("client.key_file", key),
            show("client.output", output),
            show("log.format", log_format),
            optional("log.filter", log_filter),
            optional("log.otlp_endpoint", otlp_endpoint),
            path("dev.data_dir", dev_data_dir),
            show("dev.listen", dev_listen),
            show("dev.slots", dev_slots),
            show("dev.isolation", dev_isolation),
            show("dev.allow_networks", dev_allow_networks),
            path("broker.data_dir", broker_data_dir),
            show("broker.listen", broker_listen),
            file("broker.tls_cert", broker_tls_cert),
            file("broker.tls_key", broker_tls_key),
            file("broker.tls_client_ca", broker_tls_client_ca),
            show("broker.plaintext", broker_plaintext),
            file("broker.secrets_key", broker_secrets_key),
            show("broker.webhook_allow_networks", broker_webhook_networks),
            show("broker.max_waiting", broker_max_waiting),
            optional("broker.jwt_issuer", broker_jwt_issuer),
            optional("broker.jwt_audience", broker_jwt_audience),
            optional("broker.jwt_keys", broker_jwt_keys),
            show("broker.cors_origins", broker_cors_origins),
            show("host.name", host_name),
            show("host.slots", host_slots),
            show("host.labels", host_labels),
            optional("host.memory", host_memory),
            show("host.ceilings", host_ceilings),
            show("host.isolation", host_isolation),
            path("host.data_dir", host_data_dir),
            optional("host.metrics_listen", host_metrics_listen),
            file("host.metrics_tls_cert", host_metrics_tls_cert),
            file("host.metrics_tls_key", host_metrics_tls_key),
            show("host.allow_networks", host_allow_networks),
        ]
    }
}

/// What settings are looked up in, below the flags.
struct Layers<'a> {
    path: &'a Path,
    root: Table<'a>,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Layers<'_> {
    fn pick<T: FromStr<Err: fmt::Display>>(
        &self,
        flag: Option<T>,
        variables: &[&'static str],
        table: &str,
        key: &str,
        default: impl FnOnce() -> T,
    ) -> Result<Setting<T>, Failure> {
        let found = self.find(flag, variables, table, key)?;
        Ok(found.unwrap_or_else(|| Setting {
            value: default(),
            origin: Origin::Default,
        }))
    }

    fn pick_optional<T: FromStr<Err: fmt::Display>>(
        &self,
        flag: Option<T>,
        variables: &[&'static str],
        table: &str,
        key: &str,
    ) -> Result<Setting<Option<T>>, Failure> {
        Ok(match self.find(flag, variables, table, key)? {
            Some(Setting { value, origin }) => Setting {
                value: Some(value),
                origin,
            },
            None => Setting {
                value: None,
                origin: Origin::Default,
            },
        })
    }

    fn find<T: FromStr<Err: fmt::Display>>(
        &self,
        flag: Option<T>,
        variables: &[&'static str],
        table: &str,
        key: &str,
    ) -> Result<Option<Setting<T>>, Failure> {
        if let Some(given) = self.given(flag, variables)? {
            return Ok(Some(given));
        }
        let value = self.root.table(table, |table| table.value(key))?.flatten();
        Ok(value.map(|value| self.of_file(value)))
    }

    /// One that is either so or not, which the file says without quotes.
    fn pick_flag(
        &self,
        flag: Option<bool>,
        variable: &'static str,
        table: &str,
        key: &str,
    ) -> Result<Setting<bool>, Failure> {
        if let Some(given) = self.given(flag, &[variable])? {
            return Ok(given);
        }
        let value = self.root.table(table, |table| table.flag(key))?.flatten();
        Ok(value.map_or(
            Setting {
                value: false,
                origin: Origin::Default,
            },
            |value| self.of_file(value),
        ))
    }

    fn of_file<T>(&self, value: T) -> Setting<T> {
        Setting {
            value,
            origin: Origin::File(self.path.to_owned()),
        }
    }

    /// What the command line or a variable says.
    fn given<T: FromStr<Err: fmt::Display>>(
        &self,
        flag: Option<T>,
        variables: &[&'static str],
    ) -> Result<Option<Setting<T>>, Failure> {
        if let Some(value) = flag {
            return Ok(Some(Setting {
                value,
                origin: Origin::Flag,
            }));
        }
        for name in variables {
            let Some(value) = (self.variable)(name) else {
                continue;
            };
            let text = value.into_string().map_err(|value| {
                Failure::usage(format!("{name}: `{}` is not text", value.display()))
            })?;
            let value = text.parse().map_err(|error| {
                Failure::usage(format!("{name}: `{text}` cannot be used: {error}"))
            })?;
            return Ok(Some(Setting {
                value,
                origin: Origin::Variable(name),
            }));
        }
        Ok(None)
    }
}

/// The folder `tq` in one of the user's folders, as the XDG base directory specification names them.
fn user_folder(variable: &str, below_home: &str) -> PathBuf {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute(variable)
        .or_else(|| absolute("HOME").map(|home| home.join(below_home)))
        .unwrap_or_else(|| PathBuf::from(below_home));
    base.join("tq")
}

/// The machine's name, with what a host's name may not have replaced.
fn machine_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '-'
            }
        })
        .take(tq_core::limits::NAME_BYTES_MAX)
        .collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() {
        "host".to_owned()
    } else {
        name.to_owned()
    }
}

fn default_max_waiting() -> NonZeroU64 {
    NonZeroU64::new(tq_core::limits::WAITING_MAX).unwrap_or(NonZeroU64::MAX)
}

/// Twice the processors: a task that waits leaves its processor to another.
fn default_slots() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(processors)
        .unwrap_or(u32::MAX)
        .saturating_mul(2)
        .min(tq_core::limits::SLOTS_MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    const FILE: &str = "
        [client]
        broker = \"http://file:1\"
        namespace = \"from-file\"
        [dev]
        slots = 3
    ";

    fn merge(line: &[&str], variables: &[(&str, &str)], text: &str) -> Result<Config, Failure> {
        let cli = Cli::try_parse_from(line).expect("the line is valid");
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Config::merge(&cli, &variable, Path::new("config.toml"), text)
    }

    #[track_caller]
    fn check(line: &[&str], variables: &[(&str, &str)], key: &str, value: &str, origin: Origin) {
        let shown = merge(line, variables, FILE).expect("it is valid").shown();
        let found = shown
            .into_iter()
            .find(|shown| shown.key == key)
            .expect("it is a key");
        assert_eq!((found.value.as_str(), found.origin), (value, origin));
    }

    #[test]
    fn upper_layers_win() {
        let show = ["tq", "config", "show"];
        let file = Origin::File("config.toml".into());
        let variable = [("TQ_BROKER", "http://env:1")];
        check(&show, &[], "client.broker", "http://file:1", file.clone());
        check(
            &show,
            &variable,
            "client.broker",
            "http://env:1",
            Origin::Variable("TQ_BROKER"),
        );
        let flag = ["tq", "--broker", "http://flag:1", "config", "show"];
        check(
            &flag,
            &variable,
            "client.broker",
            "http://flag:1",
            Origin::Flag,
        );
        check(&show, &[], "client.namespace", "from-file", file.clone());
        check(&show, &[], "client.output", "table", Origin::Default);
        check(&show, &[], "dev.slots", "3", file);
        check(
            &["tq", "dev", "--slots", "9"],
            &[],
            "dev.slots",
            "9",
            Origin::Flag,
        );
        check(&show, &[], "dev.listen", "127.0.0.1:7171", Origin::Default);
        let both = [
            ("TQ_OTLP_ENDPOINT", "http://a:1"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1"),
        ];
        check(
            &show,
            &both,
            "log.otlp_endpoint",
            "http://a:1",
            Origin::Variable("TQ_OTLP_ENDPOINT"),
        );
    }

    #[test]
    fn certificates_of_a_broker_are_not_those_of_clients() {
        let broker = [
            "tq",
            "broker",
            "--tls-cert",
            "b.pem",
            "--tls-key",
            "b.key",
            "--plaintext",
        ];
        check(&broker, &[], "broker.tls_cert", "b.pem", Origin::Flag);
        check(&broker, &[], "broker.tls_key", "b.key", Origin::Flag);
        check(&broker, &[], "broker.plaintext", "true", Origin::Flag);
        check(&broker, &[], "client.tls_cert", "", Origin::Default);
        for line in [
            ["tq", "--tls-cert", "c.pem", "host"],
            ["tq", "host", "--tls-cert", "c.pem"],
            ["tq", "overload", "--tls-cert", "c.pem"],
        ] {
            check(&line, &[], "client.tls_cert", "c.pem", Origin::Flag);
            check(&line, &[], "broker.tls_cert", "", Origin::Default);
        }
        let variables = [("TQ_TLS_KEY", "c.key"), ("TQ_BROKER_PLAINTEXT", "true")];
        let of_variable = |name| Origin::Variable(name);
        check(
            &["tq", "overload"],
            &variables,
            "client.tls_key",
            "c.key",
            of_variable("TQ_TLS_KEY"),
        );
        let plaintext = of_variable("TQ_BROKER_PLAINTEXT");
        check(
            &["tq", "broker"],
            &variables,
            "broker.plaintext",
            "true",
            plaintext,
        );
    }

    #[test]
    fn labels_of_a_host_come_from_one_layer() {
        let labels = "[host]\nlabels = \"zone=file\"\nmemory = \"2GiB\"";
        let merged = |line: &[&str], variables: &[(&str, &str)]| {
            let config = merge(line, variables, labels).expect("it is valid");
            let memory = config.host_memory.value.map(|Size(bytes)| bytes >> 20);
            (config.host_labels.value.to_string(), memory)
        };
        let file = ("zone=file".to_owned(), Some(2_048));
        assert_eq!(merged(&["tq", "host"], &[]), file);
        let variables = [
            ("TQ_HOST_LABELS", "zone=env,gpu=a100"),
            ("TQ_HOST_MEMORY", "8GiB"),
        ];
        let of_variables = ("gpu=a100,zone=env".to_owned(), Some(8_192));
        assert_eq!(merged(&["tq", "host"], &variables), of_variables);
        let flags = [
            "tq", "host", "--label", "a=b", "--label", "c=d", "--memory", "1GiB",
        ];
        assert_eq!(
            merged(&flags, &variables),
            ("a=b,c=d".to_owned(), Some(1_024))
        );
        let twice = ["tq", "host", "--label", "a=b", "--label", "a=c"];
        let refused = merge(&twice, &[], "").expect_err("it has one key twice");
        assert_eq!(
            refused.to_string(),
            "label `a` is given twice; a key has one value"
        );
    }

    #[test]
    fn default_broker_is_where_dev_listens() {
        let config = merge(&["tq", "config", "show"], &[], "").expect("it is valid");
        assert_eq!(
            config.broker.value,
            format!("http://{}", config.dev_listen.value)
        );
    }

    #[test]
    fn every_key_of_the_file_is_shown() {
        let config = merge(&["tq", "config", "show"], &[], "").expect("it is valid");
        let shown: Vec<_> = config
            .shown()
            .into_iter()
            .map(|shown| shown.key.to_owned())
            .collect();
        let keys = KEYS
            .iter()
            .flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}")));
        assert_eq!(shown, keys.collect::<Vec<_>>());
    }

    #[track_caller]
    fn check_refused(variables: &[(&str, &str)], text: &str, expected: &str) {
        let refused =
            merge(&["tq", "config", "show"], variables, text).expect_err("it is not valid");
        assert_eq!(crate::exit::text(&refused.into()), expected);
    }

    #[test]
    fn wrong_values_and_keys_are_named() {
        check_refused(
            &[],
            "[client]\nbrokr = \"x\"",
            "error: config.toml:2: `client.brokr` is not a key\nhint: did you mean `broker`?",
        );
        check_refused(
            &[],
            "[client]\noutput = \"xml\"",
            "error: config.toml:2: `client.output`: `xml` is not a format; use `table` or `json`",
        );
        check_refused(
            &[("TQ_DEV_SLOTS", "many")],
            "",
            "error: TQ_DEV_SLOTS: `many` cannot be used: invalid digit found in string",
        );
        check_refused(
            &[],
            "[broker]\nplaintext = \"yes\"",
            "error: config.toml:2: `broker.plaintext` is of type string, and has to be `true` or `false`",
        );
        check_refused(
            &[],
            "[client",
            "error: config.toml:1: unclosed table, expected `]`",
        );
    }
}
