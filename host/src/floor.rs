//! What a task takes at least: in the bare engine, and in a sandbox that no broker feeds.
//!
//! The bare engine has the settings of a host's and none of its surroundings, so that the difference between the two is
//! what tq adds: limits, logs, timing, the measuring of what was used. `tq bench` sets its figures beside these.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker, ResourceTable};
use wasmtime::{ResourceLimiter, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use tq_core::limits::COMPILED_CACHE_BYTES;
use tq_core::{Digest, Epoch, Limits, Outcome, TaskId};

use crate::clock;
use crate::component::{Cache, Compiler, Config, OpenError, PrepareError, Ready};
use crate::imports::TaskError;
use crate::runner::{Attempt, Finished, Slot};
use crate::sandbox::{Engine, EngineError, Layout, compiler};

/// Beyond every tick of a measurement.
const NO_EPOCH: u64 = 1 << 40;

/// A floor cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no engine to be had.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Nor a place for the compiled form.
    #[error(transparent)]
    Cache(#[from] OpenError),
    /// The component cannot be run on a host.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The engine refuses the component, or its call failed.
    #[error("the bare engine failed: {0}")]
    Bare(String),
    /// A slot cannot be made.
    #[error("no slot to run attempts in")]
    Slot(#[from] std::io::Error),
    /// The component did not succeed, so that its time says nothing.
    #[error("an attempt of the measurement ended {0}")]
    Ended(Outcome),
    /// A thread of the measurement panicked.
    #[error("a thread of the measurement panicked")]
    Panicked,
}

impl From<wasmtime::Error> for Error {
    fn from(error: wasmtime::Error) -> Self {
        Self::Bare(format!("{error:#}"))
    }
}

/// What tasks took together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// How many there were.
    pub tasks: u32,
    /// From the first to the last.
    pub wall: Duration,
    /// On all processors. The work of other programs is not in it.
    pub cpu: Duration,
}

/// One component, ready to be called again and again without a broker.
pub struct Floor {
    engine: Engine,
    ready: Arc<Ready>,
    bare: InstancePre<Bare>,
    run: ComponentExportIndex,
}

impl Floor {
    /// Compiles `wasm`, a component with a handler, as a host does, for as many `threads` as will call it at once. Its
    /// compiled form is kept in `directory`. The calling program answers to `__compile`, as [`Compiler::default`] has it.
    ///
    /// # Errors
    /// [`Error`] if the component is none that a host would run.
    pub async fn prepare(wasm: Bytes, threads: u32, directory: &Path) -> Result<Self, Error> {
        // As many slots as a host has by default.
        let engine = Engine::new(threads.saturating_mul(2))?;
        let cache = Cache::open(
            Config {
                directory: directory.to_owned(),
                compiler: Compiler::default(),
                bytes_max: COMPILED_CACHE_BYTES,
            },
            engine.clone(),
        )?;
        let digest = Digest(Sha256::digest(&wasm).into());
        let ready = cache.prepare(digest, wasm.clone()).await?;
        let component = Component::from_binary(engine.raw(), &wasm)?;
        let run = component
            .get_export_index(None, "tq:task/handler@0.1.0")
            .and_then(|handler| component.get_export_index(Some(&handler), "run"))
            .ok_or_else(|| Error::Bare("the component has no handler".to_owned()))?;
        let mut linker = Linker::<Bare>::new(engine.raw());
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        let bare = linker.instantiate_pre(&component)?;
        Ok(Self {
            engine,
            ready,
            bare,
            run,
        })
    }

    /// Calls `function` in the bare engine: a store, an instance, the call, and all of it dropped, for each of `tasks`,
    /// shared out among `threads`. Blocks.
    ///
    /// # Errors
    /// [`Error`] if a call fails.
    pub fn bare(
        &self,
        threads: u32,
        tasks: u32,
        function: &str,
        payload: &[u8],
    ) -> Result<Cost, Error> {
        measure(threads, tasks, |tasks| {
            for _ in 0..tasks {
                self.bare_once(function, payload)?;
            }
            Ok(())
        })
    }

    /// Runs attempts in slots, one for each of `threads`: all that a host does for a task but to hear of it and to tell
    /// of it. Blocks.
    ///
    /// # Errors
    /// [`Error`] if an attempt does not succeed.
    pub fn slots(
        &self,
        threads: u32,
        tasks: u32,
        function: &str,
        payload: &Bytes,
    ) -> Result<Cost, Error> {
        measure(threads, tasks, |tasks| {
            // Nothing is logged, so that nobody needs to take what slots tell.
            let (events, _untaken) = mpsc::channel(1);
            let mut slot = Slot::new(self.engine.clone(), events)?;
            for epoch in 0..tasks {
                let finished = slot.run(attempt(&self.ready, epoch, function, payload));
                if finished.outcome != Outcome::Succeeded {
                    return Err(Error::Ended(finished.outcome));
                }
            }
            Ok(())
        })
    }

    fn bare_once(&self, function: &str, payload: &[u8]) -> Result<(), Error> {
        type Run = Result<Vec<u8>, TaskError>;
        let mut store = Store::new(
            self.bare.engine(),
            Bare {
                wasi: WasiCtx::builder().build(),
                table: ResourceTable::new(),
            },
        );
        store.limiter(|bare| bare);
        store.set_fuel(Limits::DEFAULT.fuel)?;
        store.set_epoch_deadline(NO_EPOCH);
        let instance = self.bare.instantiate(&mut store)?;
        let run = instance
            .get_func(&mut store, self.run)
            .ok_or_else(|| Error::Bare("the component has no handler".to_owned()))?
            .typed::<(&str, &[u8]), (Run,)>(&store)?;
        match run.call(&mut store, (function, payload))? {
            (Ok(_),) => Ok(()),
            (Err(error),) => Err(Error::Bare(format!("{error:?}"))),
        }
    }
}

fn attempt(ready: &Arc<Ready>, epoch: u32, function: &str, payload: &Bytes) -> Attempt {
    Attempt {
        payload: payload.clone(),
        ..Attempt::new(
            Epoch(epoch.into()),
            TaskId([7; 16]),
            Arc::clone(ready),
            function,
        )
    }
}

impl std::fmt::Debug for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Floor")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

/// Compiles a program or a handler here, and not in a process of its own, and runs it once. Blocks.
///
/// # Errors
/// [`Error`] if no host would run it.
pub fn once(
    engine: &Engine,
    wasm: &[u8],
    payload: &Bytes,
    limits: Limits,
) -> Result<Finished, Error> {
    let mut finished = calls(engine, wasm, &[("run", payload.clone())], limits)?;
    Ok(finished.remove(0))
}

/// Compiles a component likewise, and calls functions of it, each in a sandbox of its own; how each ended, in their order.
/// Blocks.
///
/// # Errors
/// [`Error`] if no host would run it.
pub fn calls(
    engine: &Engine,
    wasm: &[u8],
    calls: &[(&str, Bytes)],
    limits: Limits,
) -> Result<Vec<Finished>, Error> {
    let component = Component::from_binary(engine.raw(), wasm)?;
    let digest = Digest(Sha256::digest(wasm).into());
    let ready = Arc::new(Ready::new(engine, digest, Ok(component))?);
    let (events, _untaken) = mpsc::channel(1);
    let mut slot = Slot::new(engine.clone(), events)?;
    let finished = (1..).zip(calls).map(|(epoch, (function, payload))| {
        slot.run(Attempt {
            limits,
            ..attempt(&ready, epoch, function, payload)
        })
    });
    Ok(finished.collect())
}

/// How long the engine's compiler works on `wasm`, here and not in a process of its own. Blocks.
///
/// # Errors
/// [`Error::Bare`] if it refuses the component.
pub fn compile(wasm: &[u8]) -> Result<Duration, Error> {
    let engine = compiler(Layout::Reserved)?;
    let start = clock::now();
    engine.precompile_component(wasm)?;
    Ok(start.elapsed())
}

/// What a guest needs at least: WASI to be linked against, and a limit on its memory.
struct Bare {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Bare {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl ResourceLimiter for Bare {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired as u64 <= Limits::DEFAULT.memory_bytes)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        _desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

/// What it takes when each of `threads` runs its share by `run`, which is given how many that are.
fn measure(
    threads: u32,
    tasks: u32,
    run: impl Fn(u32) -> Result<(), Error> + Sync,
) -> Result<Cost, Error> {
    let threads = threads.max(1);
    let share = tasks / threads;
    let (start, before) = (clock::now(), process_cpu());
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(|| run(share))).collect();
        started
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| Error::Panicked)?)
    })?;
    Ok(Cost {
        tasks: share * threads,
        wall: start.elapsed(),
        cpu: process_cpu().saturating_sub(before),
    })
}

/// The processor time of this process so far.
fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Neither is ever negative, and the second one is below a billion.
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
