//! What each command does: one file each.

mod admin;
mod audit;
mod bench;
mod breaker;
mod broker;
mod call;
mod completions;
mod config;
mod cost;
mod dead;
mod demo;
mod deploy;
mod describe;
mod dev;
mod host;
mod key;
mod kv;
mod module;
mod namespace;
mod new;
mod overload;
mod queue;
mod retention;
mod run;
mod secret;
mod submit;
mod task;
mod test;
mod waiting;
mod webhook;
mod whoami;

use tq_client::Client;

use crate::args::{
    AdminCommand, AuditCommand, BreakerCommand, BrokerVerb, Command, ConfigCommand, DeadCommand,
    HostVerb, KeyCommand, KvCommand, ModuleCommand, NamespaceCommand, QueueCommand,
    RetentionCommand, SecretCommand, TaskCommand, WebhookCommand,
};
use crate::config::Config;
use crate::exit::Exit;
use crate::nodes;

/// Does what the command line asks for.
///
/// # Errors
/// Whatever keeps it from being done; `exit::code` says which exit code that is.
pub(crate) async fn run(command: Command, config: &Config) -> anyhow::Result<Exit> {
    match command {
        Command::Dev(args) => dev::run(config, args.watch).await,
        Command::Broker(broker) => match broker.command {
            None => broker::run(config).await,
            Some(BrokerVerb::Init { data_dir: _ }) => broker::init(config),
        },
        Command::Host(host) => match host.command {
            None => host::run(config).await,
            Some(HostVerb::List) => host::list::run(config).await,
            Some(HostVerb::Show { name }) => host::show::run(config, &name).await,
            Some(HostVerb::Pause { name }) => host::pause::run(config, &name).await,
            Some(HostVerb::Resume { name }) => host::resume::run(config, &name).await,
            Some(HostVerb::Drain {
                name,
                deadline,
                no_wait,
            }) => host::drain::run(config, &name, deadline, no_wait).await,
            Some(HostVerb::Remove { name }) => host::remove::run(config, &name).await,
        },
        Command::New(args) => new::run(&args),
        Command::Test(args) => test::run(config, args).await,
        Command::Deploy(args) => deploy::run(config, args).await,
        Command::Describe { function } => describe::run(config, &function).await,
        Command::Run(args) => run::run(config, args).await,
        Command::Submit(args) => submit::run(config, args).await,
        Command::Task(task) => match task {
            TaskCommand::Show { id, payload } => task::show::run(config, &id, payload).await,
            TaskCommand::List(args) => task::list::run(config, args).await,
            TaskCommand::Export(args) => task::export::run(config, args).await,
            TaskCommand::Bulk(args) => task::bulk::run(config, args).await,
            TaskCommand::Watch { id, no_log } => task::watch::run(config, &id, !no_log).await,
            TaskCommand::Logs(args) => task::logs::run(config, &args).await,
            TaskCommand::Cancel(args) => task::cancel::run(config, args).await,
            TaskCommand::Update(args) => task::update::run(config, args).await,
            TaskCommand::Redrive { id } => task::redrive::run(config, &id).await,
            TaskCommand::Delete(args) => task::delete::run(config, args).await,
            TaskCommand::Wait { ids } => task::wait::run(config, ids).await,
        },
        Command::Logs(args) => task::logs::run(config, &args).await,
        Command::Queue(command) => match command {
            QueueCommand::List => queue::list::run(config).await,
            QueueCommand::Show { name } => queue::show::run(config, &name).await,
            QueueCommand::Set(args) => queue::change::set(config, args).await,
            QueueCommand::Pause { name } => queue::change::pause(config, &name).await,
            QueueCommand::Resume { name } => queue::change::resume(config, &name).await,
            QueueCommand::Delete { name } => queue::change::delete(config, &name).await,
        },
        Command::Breaker(command) => match command {
            BreakerCommand::List => breaker::list::run(config).await,
            BreakerCommand::Show { function } => breaker::show::run(config, &function).await,
            BreakerCommand::Force(args) => breaker::change::force(config, args).await,
            BreakerCommand::Release { function } => {
                breaker::change::release(config, &function).await
            }
        },
        Command::Overload => overload::run(config).await,
        Command::Cost(args) => cost::run(config, args).await,
        Command::Dead(dead) => match dead {
            DeadCommand::List(args) => dead::list::run(config, args).await,
            DeadCommand::Show { id } => dead::show::run(config, &id).await,
            DeadCommand::Signatures { limit } => dead::signatures::run(config, limit).await,
            DeadCommand::Redrive(args) => dead::redrive::run(config, args).await,
            DeadCommand::Discard(args) => dead::discard::run(config, args).await,
        },
        Command::Namespace(namespace) => match namespace {
            NamespaceCommand::Show { name } => namespace::show::run(config, &name).await,
            NamespaceCommand::Set(args) => namespace::set::run(config, args).await,
        },
        Command::Module(module) => match module {
            ModuleCommand::List => module::list::run(config).await,
            ModuleCommand::Show { name } => module::show::run(config, &name).await,
            ModuleCommand::Rollback { name, to } => module::rollback::run(config, &name, to).await,
            ModuleCommand::Delete { module } => module::delete::run(config, &module).await,
            ModuleCommand::Schema => module::schema::run(),
        },
        Command::Whoami => whoami::run(config).await,
        Command::Key(command) => match command {
            KeyCommand::Create(args) => key::create::run(config, args).await,
            KeyCommand::List => key::list::run(config).await,
            KeyCommand::Rotate { id, grace } => key::rotate::run(config, &id, grace).await,
            KeyCommand::Revoke { id } => key::revoke::run(config, &id).await,
        },
        Command::Audit(command) => match command {
            AuditCommand::List(args) => audit::list::run(config, args).await,
            AuditCommand::Export => audit::export::run(config).await,
            AuditCommand::Verify { file, head } => {
                audit::verify::run(config, file.as_deref(), head.as_deref()).await
            }
        },
        Command::Secret(command) => match command {
            SecretCommand::Set { name, file } => {
                secret::set::run(config, &name, file.as_deref()).await
            }
            SecretCommand::List => secret::list::run(config).await,
            SecretCommand::Delete { name } => secret::delete::run(config, &name).await,
        },
        Command::Webhook(command) => match command {
            WebhookCommand::Create(args) => webhook::create::run(config, args).await,
            WebhookCommand::List => webhook::list::run(config).await,
            WebhookCommand::Show { name } => webhook::show::run(config, &name).await,
            WebhookCommand::Pause { name } => webhook::change::pause(config, &name).await,
            WebhookCommand::Resume { name } => webhook::change::resume(config, &name).await,
            WebhookCommand::Delete { name } => webhook::change::delete(config, &name).await,
            WebhookCommand::Test { name } => webhook::test::run(config, &name).await,
            WebhookCommand::Deliveries {
                name,
                failed,
                limit,
            } => webhook::deliveries::run(config, &name, failed, limit).await,
            WebhookCommand::Redeliver { name, id } => {
                webhook::change::redeliver(config, &name, &id).await
            }
        },
        Command::Kv(command) => match command {
            KvCommand::List { bucket, after } => {
                kv::list::run(config, bucket.as_deref(), after).await
            }
            KvCommand::Get { bucket, key } => kv::get::run(config, &bucket, &key).await,
            KvCommand::Set { bucket, key, value } => {
                kv::set::run(config, &bucket, &key, value).await
            }
            KvCommand::Delete { bucket, key } => {
                kv::delete::run(config, &bucket, key.as_deref()).await
            }
        },
        Command::Retention(command) => match command {
            RetentionCommand::Show => retention::show::run(config).await,
            RetentionCommand::Set(args) => retention::set::run(config, args).await,
        },
        Command::Admin(admin) => match admin {
            AdminCommand::Check(args) => admin::check::run(config, &args),
            AdminCommand::Repair(args) => admin::repair::run(config, &args),
            AdminCommand::Key(args) => admin::key::run(&args),
        },
        Command::Config(ConfigCommand::Show) => config::show::run(config),
        Command::Demo => demo::run().await,
        Command::Bench(args) => bench::run(config, args).await,
        Command::Completions { shell } => completions::run(shell),
    }
}

/// A client of the broker that the settings name.
async fn connect(config: &Config) -> anyhow::Result<Client> {
    let bearer = config.bearer()?;
    let client = Client::connect_to(nodes::remote(config)?).await?;
    let client = client.with_credential(bearer)?;
    Ok(client.with_namespace(&config.namespace.value))
}
