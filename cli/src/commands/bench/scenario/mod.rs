//! What is measured of tq itself: one file for each scenario.

mod access;
mod aged;
mod backlog;
mod burst;
mod cold_start;
mod connections;
mod fan_in;
mod half_load;
mod latency;
mod long;
mod payloads;
mod rest;
mod search;
mod tenants;
mod throughput;
mod waiting;

use std::path::{Path, PathBuf};
use std::process;

use tq_client::Client;

use super::floor::Floors;
use super::guests::{self, Make, PAYLOAD, all_alike};
use super::load::{Amount, Load};
use super::nodes::Nodes;
use super::plan::Plan;
use super::report::{Figure, Report};
use crate::args::BenchScenario;
use crate::units::now_ms;

/// What scenarios have in common.
pub(crate) struct Stage<'a> {
    /// Where data directories are made.
    pub(crate) folder: &'a Path,
    /// A broker that is there already, if it is to be measured.
    pub(crate) others: Option<Client>,
    pub(crate) floors: Floors,
    pub(crate) plan: &'a Plan,
}

impl Stage<'_> {
    /// Measures one scenario. `report` has what was measured before it.
    pub(crate) async fn play(
        &self,
        scenario: BenchScenario,
        report: &Report,
    ) -> anyhow::Result<Vec<Figure>> {
        match scenario {
            BenchScenario::Floors => Ok(Vec::new()),
            BenchScenario::Throughput => throughput::run(self).await,
            BenchScenario::Latency => latency::run(self).await,
            BenchScenario::HalfLoad => half_load::run(self, report).await,
            BenchScenario::Burst => burst::run(self).await,
            BenchScenario::FanIn => fan_in::run(self).await,
            BenchScenario::Payloads => payloads::run(self).await,
            BenchScenario::ColdStart => cold_start::run(self).await,
            BenchScenario::Backlog => backlog::run(self).await,
            BenchScenario::Tenants => tenants::run(self).await,
            BenchScenario::Waiting => waiting::run(self).await,
            BenchScenario::Long => long::run(self).await,
            BenchScenario::Connections => connections::run(self).await,
            BenchScenario::Access => access::run(self).await,
            BenchScenario::Rest => rest::run(self).await,
            BenchScenario::Aged => aged::run(self).await,
            BenchScenario::Search => search::run(self).await,
        }
    }

    /// Nodes that have done nothing yet, or the broker that is there, in a namespace that nobody else uses: a watch then
    /// sees nobody else's tasks.
    async fn nodes(&self, name: &str, slots: u32) -> anyhow::Result<Nodes> {
        match &self.others {
            None => Nodes::start(&self.place(name), slots, self.plan.isolation).await,
            Some(client) => {
                let namespace = format!("bench-{name}-{}-{}", process::id(), now_ms());
                Ok(Nodes::others(client.clone().with_namespace(&namespace)))
            }
        }
    }

    /// Measures on nodes of its own, which are gone afterwards.
    async fn on_nodes(
        &self,
        name: &str,
        slots: u32,
        measure: impl AsyncFnOnce(&Nodes) -> anyhow::Result<Vec<Figure>>,
    ) -> anyhow::Result<Vec<Figure>> {
        let nodes = self.nodes(name, slots).await?;
        let figures = nodes.watch_over(measure(&nodes)).await?;
        self.end(nodes, name).await?;
        Ok(figures)
    }

    /// Stops the nodes and gives back what they have on disk.
    async fn end(&self, nodes: Nodes, name: &str) -> anyhow::Result<()> {
        nodes.stop().await?;
        if self.others.is_none() {
            std::fs::remove_dir_all(self.place(name))?;
        }
        Ok(())
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Deploys the echo and runs some of it, so that the host has compiled it and every buffer has its size. Returns what makes
/// such tasks.
async fn warm_echo(client: &Client, tasks: u64) -> anyhow::Result<Make> {
    guests::deploy_echo(client).await?;
    let make = all_alike(guests::echo()?);
    Load::peak(make.clone(), PAYLOAD, Amount::Tasks(tasks))
        .run(client)
        .await?;
    Ok(make)
}
