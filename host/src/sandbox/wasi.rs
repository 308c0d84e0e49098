//! The guest's surroundings: every interface of WASI 0.2 is there, and nothing works but what is granted.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use tq_core::Outcome;
use tq_core::limits::{HOSTCALL_BYTES_MAX, HTTP_FIELDS_BYTES_MAX, RANDOM_BYTES_MAX};

use super::Engine;
use super::ambient::{Coarse, Random, Stepping, Use, seed_of_task};
use super::budget::Budget;
use super::limits::Meter;
use super::requests::Requests;
use super::scratch::{Scratch, View};
use super::sockets::{self, Sockets};
use super::stdio::{LogStream, ResultStream};
use crate::component::Entry;
use crate::runner::checkpoint::unpacked;
use crate::runner::{Attempt, Interrupt, Outbox, Timing};
use crate::services::Services;

/// What the host holds for one attempt: the data of its store.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    requests: Requests,
    /// Its directory, if it was granted one.
    scratch: Option<Arc<Scratch>>,
    sockets: Option<sockets::Session>,
    pub(crate) services: Option<Arc<dyn Services>>,
    pub(crate) table: ResourceTable,
    pub(crate) meter: Meter,
    pub(crate) budget: Arc<Budget>,
    /// The first call of `tq:task` that the guest was refused because of a limit, and could go on without.
    pub(crate) refused: Option<Refused>,
    pub(crate) result: ResultStream,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) timing: Timing,
    /// The newest state that this attempt saved or the last one left.
    pub(crate) checkpoint: Option<Bytes>,
}

/// Something that a guest was refused because of a limit.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// What a failure after it is called.
    pub(crate) outcome: Outcome,
    /// The limit and what was asked for.
    pub(crate) message: String,
}

impl Guest {
    /// A fresh store for one attempt, with its fuel and every limit set.
    ///
    /// # Errors
    /// If the engine has no room for another store, or the attempt's checkpoint cannot be read.
    pub(crate) fn store(
        engine: &Engine,
        attempt: &Arc<Attempt>,
        outbox: &Arc<Outbox>,
        timing: Timing,
    ) -> wasmtime::Result<Store<Self>> {
        let limits = &attempt.limits;
        let budget = Arc::new(Budget::new(engine.raw(), *limits));
        let handles = usize::try_from(limits.handles).unwrap_or(usize::MAX);
        let result = ResultStream::new(limits.output_bytes);
        let log = LogStream(Arc::clone(outbox));
        let mut wasi = WasiCtx::builder();
        match attempt.component.entry() {
            Entry::Program(_) => {
                wasi.stdin(MemoryInputPipe::new(attempt.payload.clone()))
                    .stdout(result.clone())
                    // A program expects its own name first.
                    .arg(&attempt.function)
                    .args(&attempt.arguments);
            }
            Entry::Handler(_) | Entry::Typed(_) => {
                wasi.stdout(log.clone());
            }
        }
        wasi.stderr(log).max_random_size(RANDOM_BYTES_MAX);
        for (name, value) in &attempt.grants.env {
            wasi.env(name, value);
        }
        let scratch_of = |clock| {
            let is_granted = attempt.grants.has_scratch;
            is_granted.then(|| Scratch::new(limits.scratch_bytes, clock))
        };
        let scratch = if attempt.grants.is_deterministic {
            let id = attempt.task_id;
            let clock = Stepping::of_task(id);
            wasi.secure_random(Random::of_task(id, Use::Secure, &budget))
                .insecure_random(Random::of_task(id, Use::Insecure, &budget))
                .insecure_random_seed(seed_of_task(id))
                .wall_clock(clock.clone())
                .monotonic_clock(clock.clone());
            scratch_of(Box::new(clock))
        } else {
            wasi.secure_random(Random::real(&budget))
                .insecure_random(Random::real(&budget))
                .wall_clock(Coarse::new(timing.started()))
                .monotonic_clock(Coarse::new(timing.started()));
            scratch_of(Box::new(Coarse::new(timing.started())))
        };
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HTTP_FIELDS_BYTES_MAX);
        let mut store = Store::try_new(
            engine.raw(),
            Self {
                wasi: wasi.build(),
                http,
                requests: Requests::new(engine.egress(), attempt, outbox),
                scratch,
                services: engine.services(),
                sockets: None,
                table,
                meter: Meter::new(limits.memory_bytes),
                budget,
                refused: None,
                result,
                outbox: Arc::clone(outbox),
                attempt: Arc::clone(attempt),
                timing,
                checkpoint: attempt.checkpoint.as_ref().map(unpacked).transpose()?,
            },
        )?;
        store.limiter(|guest| &mut guest.meter);
        store.set_fuel(limits.fuel)?;
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.set_max_component_handles(handles);
        store.set_epoch_deadline(1);
        // One callback decides everything that time decides.
        store.epoch_deadline_callback(|context| match context.data().tick() {
            Some(interrupt) => Err(interrupt.into()),
            None => Ok(wasmtime::UpdateDeadline::Continue(1)),
        });
        Ok(store)
    }

    /// The first thing that the guest was refused because of a limit, and could go on without.
    pub(crate) fn refused(&self) -> Option<Refused> {
        let refused = self.refused.as_ref().or_else(|| self.requests.refused());
        let of_scratch = || self.scratch.as_ref()?.refused();
        refused.cloned().or_else(of_scratch)
    }

    /// Its files, for one of its calls.
    pub(super) fn files(&mut self) -> View<'_> {
        self.budget.count_call();
        View {
            scratch: self.scratch.as_ref(),
            table: &mut self.table,
        }
    }

    /// What calls of `wasi:sockets` work on.
    pub(super) fn sockets(&mut self) -> sockets::View<'_> {
        self.budget.count_call();
        sockets::View {
            sockets: Sockets {
                egress: self.requests.egress(),
                attempt: &self.attempt,
                outbox: &self.outbox,
                session: &mut self.sockets,
            },
            table: &mut self.table,
        }
    }

    fn tick(&self) -> Option<Interrupt> {
        let exceeded = self.budget.exceeded().map(Interrupt::Exceeded);
        let interrupt = exceeded.or_else(|| self.timing.interrupt());
        if interrupt.is_none() {
            self.outbox.flush();
        }
        interrupt
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // The engine asks for it once in each call of the guest.
        self.budget.count_call();
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.budget.count_call();
        WasiHttpCtxView {
            hooks: &mut self.requests,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}
