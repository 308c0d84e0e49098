//! Beginning with what is in the store.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use prost::Message;
use rustc_hash::FxHashMap;
use tokio::sync::watch;
use tq_core::task::State;
use tq_core::{TaskId, Timestamp};

use super::audit_log::AuditLog;
use super::claims::Claims;
use super::costs::Costs;
use super::ids::Ids;
use super::keyvalue::Buckets;
use super::modules::Uses;
use super::ready::is_ready;
use super::retention::Collector;
use super::step::Step;
use super::step::needs_open_row;
use super::token::Secret;
use super::{Admission, Config, Error, Ledger, Now, Recent, Shared};
use crate::access::Keys;
use crate::blobs::Unnamed;
use crate::dispatch::breakers::Breakers;
use crate::dispatch::queues::Queues;
use crate::dispatch::shares::Shares;
use crate::dispatch::{Hosts, Lanes};
use crate::modules::Registry;
use crate::observe::Metrics;
use crate::store::{Bytes, Direction, Key, Space, Store, Syncer};
use crate::tables::key::{self, Namespace};
use crate::tables::row::{self, Counters, LedgerRow, Record};

/// Rows that are read at once.
const PAGE: usize = 1_000;

impl Ledger {
    /// Opens the ledger of a store: reads what is in it and takes up where it ended. Attempts that ran then are waited
    /// for, as those of a host that has just gone silent.
    ///
    /// # Errors
    /// [`Error`] if the store cannot be read, or its rows make no sense.
    pub fn open(
        store: Box<dyn Store>,
        config: Config,
        now: Now,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let ledger_row = match store.get(&key::ledger())? {
            Some(bytes) => LedgerRow::decode(bytes).map_err(|source| row::Error::Decode {
                kind: "ledger",
                source,
            })?,
            None => LedgerRow::default(),
        };
        let last_id = id(&ledger_row.last_id);
        let settled = store.seq();
        let shared = Shared {
            registry: RwLock::new(Registry::default()),
            namespaces: RwLock::new(HashMap::new()),
            settings: RwLock::default(),
            keys: Keys::default(),
            secrets: RwLock::default(),
            time: AtomicU64::new(ledger_row.time_ms),
            webhooks: RwLock::default(),
            webhooks_changed: watch::Sender::new(()),
            progress: Mutex::new(HashMap::new()),
            followed: Mutex::default(),
            settled: watch::Sender::new(settled),
            recent: Mutex::new(Recent::new(settled)),
            owed: AtomicU64::new(0),
            said: watch::Sender::new(0),
            forgotten: AtomicU64::new(0),
            counters: Mutex::new(Counters::default()),
            claims: RwLock::default(),
            unnamed: Unnamed::default(),
            admission: Arc::new(Admission::new(config.waiting_max, metrics.clone())),
            metrics,
        };
        let mut ledger = Self {
            secret: Secret([0; 32]),
            config,
            shared: Arc::new(shared),
            time: now.wall.max(Timestamp(ledger_row.time_ms)),
            mono: now.mono,
            ids: Ids::new(last_id, config.seed),
            last_id,
            epochs: 0,
            open: FxHashMap::default(),
            payload_bytes: 0,
            unindexed: VecDeque::new(),
            submitted: 0,
            lanes: Lanes::new(config.ready_window),
            queues: Queues::default(),
            breakers: Breakers::new(config.breaker_attempts_min),
            shares: Shares::default(),
            costs: Costs::default(),
            last_spot: None,
            ready_rows: FxHashMap::default(),
            claims: Claims::default(),
            hosts: Hosts::default(),
            counters: BTreeMap::new(),
            total: Counters::default(),
            watches: HashMap::new(),
            watched: HashMap::new(),
            next_timer: None,
            timers_from: Timestamp::EPOCH,
            free_bytes: None,
            log_sizes: BTreeMap::new(),
            leftovers: VecDeque::new(),
            collector: Collector::new(config.retention),
            module_uses: Uses::default(),
            buckets: Buckets::default(),
            audit_log: AuditLog::default(),
            last_webhook: 0,
            #[cfg(any(test, feature = "simulation"))]
            removed: Vec::new(),
            steps: 0,
            step: Step::default(),
            store,
        };
        ledger.recover_secret()?;
        ledger.recover_modules()?;
        ledger.recover_finished()?;
        ledger.recover_queues()?;
        ledger.recover_breakers()?;
        ledger.recover_settings()?;
        ledger.recover_access()?;
        ledger.recover_secrets()?;
        ledger.recover_webhooks()?;
        ledger.recover_buckets()?;
        ledger.recover_costs()?;
        ledger.recover_shares()?;
        ledger.recover_lanes()?;
        ledger.recover_hosts()?;
        ledger.recover_claims()?;
        ledger.recover_open(id(&ledger_row.open_from))?;
        ledger.recover_leftovers()?;
        ledger.recover_retention()?;
        let timers =
            ledger
                .store
                .scan(Space::Index, &key::timers(), &[], Direction::Ascending, 1)?;
        ledger.next_timer = timers
            .first()
            .and_then(|pair| key::timer_of(&pair.key))
            .map(|(at, ..)| at);
        let answers = ledger.commit()?;
        let durable_seq = ledger.store.syncer().sync()?;
        answers.give(durable_seq);
        Ok(ledger)
    }

    /// What others may look at.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// What makes its commits durable.
    pub fn syncer(&self) -> Box<dyn Syncer> {
        self.store.syncer()
    }

    /// What others may read the store through.
    pub fn reader(&self) -> Arc<dyn crate::store::Read> {
        self.store.reader()
    }

    fn recover_secret(&mut self) -> Result<(), Error> {
        let secret = match self
            .store
            .get(&key::secret())?
            .and_then(|bytes| bytes[..].try_into().ok())
        {
            Some(secret) => secret,
            None => {
                // Two random UUIDs have 244 random bits between them; hashing spreads them over the key.
                let random = [
                    *uuid::Uuid::new_v4().as_bytes(),
                    *uuid::Uuid::new_v4().as_bytes(),
                ]
                .concat();
                let secret = *blake3::hash(&random).as_bytes();
                self.step.batch.put(key::secret(), secret.to_vec());
                self.step.durable = true;
                secret
            }
        };
        self.secret = Secret(secret);
        Ok(())
    }

    fn recover_modules(&mut self) -> Result<(), Error> {
        let mut names = HashMap::new();
        for pair in self.read_all(Space::Meta, &key::namespaces())? {
            if let (Some(name), Ok(number)) = (key::namespace_of(&pair.0), pair.1[..].try_into()) {
                let number = Namespace(u32::from_be_bytes(number));
                names.insert(number, name.to_owned());
            }
        }
        let modules = self.read_all(Space::Meta, &key::modules())?;
        let currents = self.read_all(Space::Meta, &key::currents())?;
        let mut registry = super::write(&self.shared.registry);
        for (_, bytes) in modules {
            let (namespace, module) = row::decode_module(&bytes)?;
            if let Some(name) = names.get(&namespace) {
                registry.insert(name, module);
            }
        }
        for (at, bytes) in currents {
            if let (Some((namespace, module)), Some((version, last))) =
                (key::current_of(&at), row::decode_current(&bytes))
                && let Some(name) = names.get(&namespace)
            {
                registry.set_current(name, module, version, last);
            }
        }
        drop(registry);
        for (at, count) in self.read_all(Space::Meta, &key::all_module_uses())? {
            if let (Some((namespace, name, version)), Ok(count)) =
                (key::module_uses_of(&at), count[..].try_into())
            {
                let count = u64::from_be_bytes(count);
                self.module_uses.recover(namespace, name, version, count);
            }
        }
        *super::write(&self.shared.namespaces) = names
            .into_iter()
            .map(|(number, name)| (name, number))
            .collect();
        Ok(())
    }

    /// Finds the lines that have ready rows, by skipping from one to the next. What their conditions are is read from
    /// the first task that is still ready by one of its rows; rows that lead to none go.
    fn recover_lanes(&mut self) -> Result<(), Error> {
        let mut from = Vec::new();
        loop {
            let pairs = self.store.scan(
                Space::Index,
                &key::ready_all(),
                &from,
                Direction::Ascending,
                1,
            )?;
            let Some((pair, (lane, priority, position))) = pairs
                .first()
                .and_then(|pair| Some((pair, key::ready_of(&pair.key)?)))
            else {
                return Ok(());
            };
            let ids: Vec<_> = row::decode_ready(&pair.value).collect();
            let tasks = row::find_tasks::<Error>(&*self.store, lane.namespace, &ids)?;
            let first = tasks.into_iter().flatten().find_map(|record| {
                let is_led_to = record.beside.position == Some(position);
                match record.task.state {
                    State::Ready { since } if is_led_to => Some((record.task.spec, since)),
                    _ => None,
                }
            });
            match first {
                Some((spec, since)) => {
                    let spot = self.spot(lane.namespace, &spec);
                    self.lanes.mark_behind(&spot, since, position);
                    from = key::ready(lane, priority, key::Position(u64::MAX)).bytes;
                }
                None => {
                    self.step.batch.delete(key::ready(lane, priority, position));
                    from = key::ready(lane, priority, position).bytes;
                }
            }
            from.push(0);
        }
    }

    /// Takes up what operators want of hosts.
    fn recover_hosts(&mut self) -> Result<(), Error> {
        for (at, bytes) in self.read_all(Space::Meta, &key::hosts())? {
            let duty = row::decode_host(bytes)?;
            if let Some(name) = key::host_of(&at) {
                let session = self.hosts.entry(&name.into(), self.mono);
                session.duty = duty;
                session.is_gone = true;
            }
        }
        Ok(())
    }

    /// Shows all tasks with ids from `first` on, namespace by namespace, in the order of their ids in each.
    pub(super) fn each_task(
        &mut self,
        first: TaskId,
        mut show: impl FnMut(&mut Self, Namespace, Record) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let namespaces: Vec<_> = super::read(&self.shared.namespaces)
            .values()
            .copied()
            .collect();
        for namespace in namespaces {
            let mut from = Some(key::call(namespace, first).bytes);
            while let Some(begin) = from {
                let (prefix, up) = (key::tasks(namespace), Direction::Ascending);
                let pairs = self.store.scan(Space::Calls, &prefix, &begin, up, PAGE)?;
                for record in row::with_states::<Error>(&*self.store, &pairs)? {
                    show(self, namespace, record)?;
                }
                let last = pairs.last().filter(|_| pairs.len() == PAGE);
                from = last.map(|last| [&last.key[..], &[0]].concat());
            }
        }
        Ok(())
    }

    /// Takes up ready tasks that no index leads to.
    fn recover_open(&mut self, open_from: TaskId) -> Result<(), Error> {
        for (at, _) in self.read_all(Space::Index, &key::opens())? {
            if let Some((namespace, id)) = key::task_of(&at)
                && self.load(namespace, id)?
            {
                self.recover_task(id, false);
            }
        }
        let mut recent = Vec::new();
        self.each_task(open_from, |ledger, namespace, record| {
            let id = record.task.id;
            let open = ledger.open.get(&id);
            let is_taken_up =
                open.is_some_and(|open| open.claimed_in.is_some() || open.in_window.is_some());
            if needs_open_row(&record.task, &record.beside) && !is_taken_up {
                recent.push((namespace, id));
            }
            Ok(())
        })?;
        // Over namespaces, ids rise together, and the front of `unindexed` has to be the lowest.
        recent.sort_unstable_by_key(|(_, id)| *id);
        for (namespace, id) in recent {
            if self.load(namespace, id)? {
                self.recover_task(id, true);
            }
        }
        Ok(())
    }

    /// Puts a ready task that has no row into the window.
    fn recover_task(&mut self, id: TaskId, unindexed: bool) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if !is_ready(&open.task) || open.beside.position.is_some() {
            return;
        }
        open.unindexed = unindexed;
        if self.lanes.is_full() {
            self.touch(id);
            self.enqueue(id, true);
        } else {
            // It was in the window already, so it comes before whatever is behind it now.
            self.enter_window(id, None);
        }
        if unindexed {
            self.unindexed.push_back((id, self.submitted));
        }
    }

    /// Reads every pair under a prefix, of which there are few.
    pub(super) fn read_all(
        &self,
        space: Space,
        prefix: &[u8],
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let mut all = Vec::new();
        let mut from = Vec::new();
        loop {
            let pairs = self
                .store
                .scan(space, prefix, &from, Direction::Ascending, PAGE)?;
            let is_last = pairs.len() < PAGE;
            all.extend(pairs.into_iter().map(|pair| (pair.key, pair.value)));
            match all.last() {
                Some((last, _)) if !is_last => {
                    from = Key::new(space, [&last[..], &[0]].concat()).bytes
                }
                Some(_) | None => return Ok(all),
            }
        }
    }
}

fn id(bytes: &[u8]) -> TaskId {
    TaskId(bytes.try_into().unwrap_or([0; 16]))
}
