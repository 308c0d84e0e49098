//! What a task costs in its sandbox, beside the bare engine: microseconds a task, for one thread and for two.
//!
//! `cargo bench -p tq-host --bench sandbox` measures a component of the text format; with `-- FILE FUNCTION` another one,
//! given 16 bytes. What a slot takes is also a workload whose instructions are counted.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement that cannot be made fails, and it reads the clock"
)]

#[expect(dead_code, reason = "only one of the tests' components is measured")]
#[path = "../tests/sandbox/guests.rs"]
mod guests;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter, Store,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use tq_core::{Digest, Epoch, Limits, Outcome, TaskId};
use tq_host::component::{Cache, CompileLimits, Compiler, Ready, compile_unbounded};
use tq_host::runner::{Attempt, Event, Pool, Slot};
use tq_host::sandbox::Engine;
use tq_micro::{Run, Workload};

const TASKS: u32 = 50_000;
const ROUNDS: usize = 5;
const PAYLOAD: &[u8] = b"sixteen bytes...";

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
        Ok(desired <= 128 << 20)
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

fn bare_engine() -> wasmtime::Engine {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(64)
        .total_tables(64)
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .decommit_batch_size(16);
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .concurrency_support(false)
        .gc_support(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    wasmtime::Engine::new(&config).unwrap()
}

fn bare_once(pre: &InstancePre<Bare>, function: &str) {
    type Run = Result<Vec<u8>, bare::Error>;
    let mut store = Store::new(
        pre.engine(),
        Bare {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
        },
    );
    store.limiter(|bare| bare);
    store.set_fuel(Limits::DEFAULT.fuel).unwrap();
    store.set_epoch_deadline(1_000_000);
    let instance = pre.instantiate(&mut store).unwrap();
    let handler = instance
        .get_export_index(&mut store, None, "tq:task/handler@0.1.0")
        .unwrap();
    let run = instance
        .get_export_index(&mut store, Some(&handler), "run")
        .unwrap();
    let run = instance
        .get_typed_func::<(&str, &[u8]), (Run,)>(&mut store, run)
        .unwrap();
    let (result,) = run.call(&mut store, (function, PAYLOAD)).unwrap();
    assert!(result.is_ok());
}

/// The error of a handler, for the bare engine.
#[expect(dead_code, reason = "read by the derived code alone")]
mod bare {
    use wasmtime::component::{ComponentType, Lift};

    #[derive(ComponentType, Lift)]
    #[component(record)]
    pub(crate) struct Retry {
        message: String,
        #[component(name = "after-ms")]
        after_ms: Option<u64>,
    }

    #[derive(ComponentType, Lift)]
    #[component(variant)]
    pub(crate) enum Error {
        #[component(name = "invalid-input")]
        InvalidInput(String),
        #[component(name = "retryable")]
        Retryable(Retry),
        #[component(name = "fatal")]
        Fatal(String),
    }
}

fn attempt(component: &Arc<Ready>, function: &str, epoch: u32) -> Attempt {
    Attempt {
        payload: Bytes::from_static(PAYLOAD),
        ..Attempt::new(
            Epoch(epoch.into()),
            TaskId([7; 16]),
            Arc::clone(component),
            function,
        )
    }
}

/// What a task takes, in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    /// On all processors together. Other programs on the machine do not show in it.
    cpu: f64,
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// What a task takes when each of `threads` runs its share by `run`, which is given their number.
fn measure(threads: u32, run: impl Fn(u32) + Sync) -> Cost {
    let (started, before) = (Instant::now(), cpu());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run(TASKS / threads));
        }
    });
    let us = |span: Duration| span.as_secs_f64() * 1e6 / f64::from(TASKS);
    Cost {
        wall: us(started.elapsed()),
        cpu: us(cpu() - before),
    }
}

/// The least of each: what is more is the machine's other work.
fn least(costs: &[Cost]) -> Cost {
    let least = |pick: fn(&Cost) -> f64| costs.iter().map(pick).fold(f64::INFINITY, f64::min);
    Cost {
        wall: least(|cost| cost.wall),
        cpu: least(|cost| cost.cpu),
    }
}

/// The argument with which this is a compiler. The layout follows.
const COMPILE: &str = "--compile";

/// The component, compiled for `engine` and read from a cache of its own, as a host has it.
fn ready(engine: &Engine, wasm: Vec<u8>, compiler: Compiler) -> Arc<Ready> {
    let directory = tempfile::TempDir::new().unwrap();
    let config = tq_host::component::Config {
        directory: directory.path().to_owned(),
        compiler,
        bytes_max: u64::MAX,
    };
    let cache = Cache::open(config, engine.clone()).unwrap();
    let digest = Digest(Sha256::digest(&wasm).into());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(cache.prepare(digest, Bytes::from(wasm)))
        .unwrap()
}

/// One attempt after the other in a slot, where valgrind runs this.
fn slot() -> Run {
    let engine = Engine::new(1).unwrap();
    // Valgrind knows fewer instructions than some processors, and the compiler would use those that it finds. Nor does
    // valgrind work within the bounds of the usual one.
    let this = std::env::current_exe().unwrap();
    let compiler = Compiler {
        program: PathBuf::from("valgrind"),
        arguments: vec![
            "--quiet".into(),
            "--tool=none".into(),
            this.into(),
            COMPILE.into(),
        ],
        limits: CompileLimits::default(),
    };
    let ready = ready(&engine, guests::echo(), compiler);
    let (events, receiver) = mpsc::channel(1_024);
    let mut slot = Slot::new(engine, events).unwrap();
    let mut epoch = 0;
    Box::new(move |rounds| {
        let _open = &receiver;
        for _ in 0..rounds {
            epoch += 1;
            let finished = slot.run(attempt(&ready, "echo", epoch));
            assert_eq!(finished.outcome, Outcome::Succeeded, "{finished:?}");
        }
    })
}

const WORKLOADS: &[Workload] = &[Workload {
    name: "sandbox/slot",
    tasks: 1,
    rounds: 500,
    start: slot,
}];

fn main() -> ExitCode {
    if tq_micro::is_asked() {
        tq_micro::main(WORKLOADS).unwrap();
        return ExitCode::SUCCESS;
    }
    // Cargo adds `--bench`.
    let given: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if let [COMPILE, layout, ..] = &given.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return compile_unbounded(layout.parse().unwrap());
    }
    let (wasm, function) = match &given[..] {
        [file, function] => (std::fs::read(file).unwrap(), function.clone()),
        _ => (guests::echo(), "echo".to_owned()),
    };
    let bare = bare_engine();
    let component = Component::from_binary(&bare, &wasm).unwrap();
    let mut linker = Linker::<Bare>::new(&bare);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
    linker.define_unknown_imports_as_traps(&component).unwrap();
    let pre = linker.instantiate_pre(&component).unwrap();

    let engine = Engine::new(2).unwrap();
    let compiler = Compiler {
        program: PathBuf::from(env!("CARGO_BIN_EXE_tq-host-compile")),
        arguments: Vec::new(),
        limits: CompileLimits::default(),
    };
    let ready = ready(&engine, wasm, compiler);

    let mut out = std::io::stdout().lock();
    for threads in [1, 2] {
        let bare = || {
            measure(threads, |tasks| {
                for _ in 0..tasks {
                    bare_once(&pre, &function);
                }
            })
        };
        let slot = || {
            measure(threads, |tasks| {
                let (events, _receiver) = mpsc::channel(1_024);
                let mut slot = Slot::new(engine.clone(), events).unwrap();
                for epoch in 0..tasks {
                    let finished = slot.run(attempt(&ready, &function, epoch));
                    assert_eq!(finished.outcome, Outcome::Succeeded, "{finished:?}");
                }
            })
        };
        let pool = || {
            measure(1, |tasks| {
                through_pool(threads, tasks, &engine, &ready, &function)
            })
        };
        // In turn, so that all of them meet the same machine.
        let costs: Vec<[Cost; 3]> = (0..ROUNDS).map(|_| [bare(), slot(), pool()]).collect();
        let of = |index: usize| least(&costs.iter().map(|costs| costs[index]).collect::<Vec<_>>());
        let bare = of(0);
        for (name, cost) in [("bare", bare), ("slot", of(1)), ("pool", of(2))] {
            writeln!(
                out,
                "{threads} threads, {name}: {:6.2} µs of processor time ({:.2} ×), {:6.2} µs of wall time, {:7.0} tasks/s",
                cost.cpu,
                cost.cpu / bare.cpu,
                cost.wall,
                1e6 / cost.wall,
            )
            .unwrap();
        }
    }
    ExitCode::SUCCESS
}

/// Feeds and drains a pool from one thread, as an agent does.
fn through_pool(slots: u32, tasks: u32, engine: &Engine, ready: &Arc<Ready>, function: &str) {
    const AHEAD: u32 = 256;
    let config = tq_host::runner::Config {
        slots,
        queue_max: AHEAD as usize,
    };
    let (pool, mut events) = Pool::start(config, engine).unwrap();
    let mut batch = Vec::new();
    let (mut sent, mut ended) = (0, 0);
    while ended < tasks {
        while sent < tasks && sent - ended < AHEAD {
            pool.run(Box::new(attempt(ready, function, sent))).unwrap();
            sent += 1;
        }
        let taken = events.blocking_recv_many(&mut batch, AHEAD as usize);
        assert!(taken > 0);
        ended += batch.drain(..).fold(0, |count, event| {
            count + u32::from(matches!(event, Event::Finished(_)))
        });
    }
}
