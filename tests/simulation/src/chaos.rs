//! What fails, and when.

use bytes::Bytes;
use tokio::sync::oneshot;
use tq_broker::dispatch::message::{AttemptOutcome, AttemptRef, Data, FromHost, Token};
use tq_broker::ledger::{Command, HostOrder};
use tq_broker::store::memory::{Crash, Fault};
use tq_core::outcome::Usage;
use tq_core::{Epoch, Outcome};

use crate::clients::MODULES;
use crate::host::HOSTS;
use crate::world::{Event, World};

impl World {
    pub(crate) fn something_fails(&mut self) {
        if self.is_calm {
            return;
        }
        match self.random.u32(..112) {
            0..18 => self.cut_some(),
            18..30 => self.stop_some_line(),
            30..38 => {
                let host = self.some_host();
                self.kill_host(host);
            }
            38..44 => {
                let host = self.some_host();
                let span = self.micros(100_000..15_000_000);
                self.say(|| format!("host {host} stands still for {span:?}"));
                self.hosts[host].frozen_until = self.now + span;
            }
            44..47 => {
                let host = self.some_host();
                self.drain_host(host);
            }
            47..49 => {
                // At most one of them never comes back.
                if self.hosts.iter().all(|host| !host.is_lost) {
                    let host = self.some_host();
                    self.hosts[host].is_lost = true;
                    self.kill_host(host);
                }
            }
            49..52 => {
                let host = self.some_host();
                let digest = MODULES[self.random.usize(..MODULES.len())];
                self.drop_module(host, digest);
            }
            52..60 => {
                let crash = match self.random.u32(..3) {
                    0 => Crash::Process,
                    1 => Crash::Power,
                    _ => Crash::PowerAfter(self.random.u64(..4)),
                };
                self.crash_broker(crash);
            }
            60..63 => self.stop_broker(),
            63..68 => {
                let span = self.micros(50_000..12_000_000);
                self.say(|| format!("broker stands still for {span:?}"));
                self.broker.frozen_until = self.now + span;
                if let Some(process) = &mut self.broker.process {
                    process.stood += span;
                }
            }
            68..76 => {
                let faults = [
                    Fault::NotCommitted,
                    Fault::UnknownBefore,
                    Fault::UnknownAfter,
                ];
                let fault = faults[self.random.usize(..faults.len())];
                let n = self.random.u64(1..4);
                self.say(|| format!("commit {n} from now on is to fail: {fault:?}"));
                self.broker.disk.fail_commit(n, fault);
            }
            76..79 => self.broker.disk.fail_sync(),
            79..84 => self.broker.slow_sync = self.micros(100_000..3_000_000),
            84..88 => {
                let free = if self.one_in(4) { 1 } else { u64::MAX };
                self.broker.disk.set_free_bytes(free);
            }
            88..92 => {
                let jumps = [-3_600_000, -1_000, 1_000, 30_000, 3_600_000];
                let jump = jumps[self.random.usize(..jumps.len())];
                self.say(|| format!("the broker's clock jumps by {jump} ms"));
                self.broker.skew_ms += jump;
            }
            92..96 => self.some_order(),
            96..104 => {
                self.is_broken = !self.is_broken;
                let is_broken = self.is_broken;
                self.say(|| format!("a function fails from now on: {is_broken}"));
            }
            _ => self.claim_anothers(),
        }
        let pause = self.micros(5_000..1_500_000);
        self.after(pause, Event::Chaos);
    }

    fn some_host(&mut self) -> usize {
        self.random.usize(..self.hosts.len())
    }

    fn some_connection(&mut self) -> Option<u64> {
        let index = self.random.usize(..self.connections.len().max(1));
        self.connections.keys().nth(index).copied()
    }

    fn cut_some(&mut self) {
        let Some(id) = self.some_connection() else {
            return;
        };
        // Who hears of it: both, one, or nobody until a lease runs out.
        let told = self.random.u32(..4);
        self.say(|| format!("connection {id} is cut, and {told:02b} hear of it"));
        self.cut(id, told & 1 == 1, told & 2 == 2);
    }

    /// One direction of a connection stands still for a while.
    fn stop_some_line(&mut self) {
        let Some(id) = self.some_connection() else {
            return;
        };
        let until = self.now + self.micros(100_000..15_000_000);
        let to_host = self.one_in(2);
        self.say(|| format!("connection {id} stands still to the host ({to_host})"));
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let stopped = match to_host {
            true => &mut connection.to_host.stopped_until,
            false => &mut connection.to_broker.stopped_until,
        };
        *stopped = (*stopped).max(until);
    }

    /// An operator pauses, resumes, drains or removes a host. What becomes of it is not waited for.
    fn some_order(&mut self) {
        let host = self.some_host();
        let within = self.micros(0..20_000_000);
        let order = match self.random.u32(..5) {
            0 => Some(HostOrder::Pause),
            1 => Some(HostOrder::Resume),
            2 | 3 => Some(HostOrder::Drain(within)),
            _ => None,
        };
        self.say(|| format!("operator wants of host {host}: {}", text(order)));
        self.has_orders[host] |= self.broker.process.is_some();
        let name = format!("host-{host}");
        match order {
            Some(order) => {
                let (reply, _) = oneshot::channel();
                self.command(Command::Host { name, order, reply });
            }
            None => {
                let (reply, _) = oneshot::channel();
                self.command(Command::RemoveHost { name, reply });
            }
        }
    }

    /// The operator lets every host work again that was told otherwise. Asks again until that is answered.
    pub(crate) fn resume_hosts(&mut self) {
        for host in 0..self.hosts.len() {
            if let Some(answer) = self.resumed.get_mut(&host)
                && let Ok(answered) = answer.try_recv()
            {
                // One that the broker does not know works when it comes.
                let is_gone = answered.is_err();
                self.say(|| format!("host {host} is to work again (unknown: {is_gone})"));
                self.resumed.remove(&host);
                self.has_orders[host] = false;
            }
            if self.has_orders[host] && self.broker.process.is_some() {
                let (reply, answer) = oneshot::channel();
                self.resumed.insert(host, answer);
                let (name, order) = (format!("host-{host}"), HostOrder::Resume);
                self.command(Command::Host { name, order, reply });
            }
        }
    }

    /// A host claims to have run what another one has: without that one's token, or with one of its own, from before.
    fn claim_anothers(&mut self) {
        let Some(process) = &self.broker.process else {
            return;
        };
        let is_forged = self.random.bool();
        let tasks = process.ledger.tasks();
        let leases = tasks
            .values()
            .filter_map(|(_, task, _)| Some((task, task.lease()?)));
        let claims = leases.filter_map(|(task, lease)| {
            let of_task = self.handed_out.get(&task.id)?;
            let held_by = |host: usize| *lease.host == *format!("host-{host}");
            match is_forged {
                true => {
                    let host = (0..HOSTS).find(|host| !held_by(*host))?;
                    Some((task, host, lease.epoch, Token([0; 16])))
                }
                false => {
                    let earlier = |(_, epoch, _): &&(usize, Epoch, Token)| *epoch < lease.epoch;
                    let (host, epoch, token) = *of_task.iter().find(earlier)?;
                    Some((task, host, epoch, token))
                }
            }
        });
        let sessions: Vec<_> = claims
            .filter_map(|claim| {
                let mut of_host = self.connections.values().rev();
                let connection = of_host
                    .find(|connection| connection.at_broker && connection.host == claim.1)?;
                Some((claim, connection.session?))
            })
            .collect();
        let Some(((task, _, epoch, token), session)) = sessions.first() else {
            return;
        };
        let outcome = AttemptOutcome {
            attempt: AttemptRef {
                namespace: task.spec.namespace.clone(),
                id: task.id,
                epoch: *epoch,
                token: *token,
            },
            outcome: Outcome::Succeeded,
            result: Some(Data::Inline(Bytes::from_static(b"forged"))),
            failure: None,
            retry_after: None,
            usage: Usage::default(),
        };
        let message = FromHost::Outcomes(vec![outcome]);
        self.command(Command::FromHost(*session, message));
    }
}

fn text(order: Option<HostOrder>) -> String {
    order.map_or_else(
        || "to go".to_owned(),
        |order| format!("{order:?}").to_lowercase(),
    )
}
