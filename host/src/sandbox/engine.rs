//! The one engine of the process.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::Notify;
use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    Strategy, WasmBacktraceDetails,
};

use tq_core::TaskId;
use tq_core::limits::{
    BACKTRACE_FRAMES_MAX, EPOCH_TICK, INSTANCES_MAX, Limits, MEMORIES_MAX, STACK_BYTES_MAX,
    TABLE_ELEMENTS_MAX, TABLES_MAX,
};

use super::Guest;
use super::link::link;
use crate::egress::Egress;
use crate::services::Services;

/// How linear memories lie in the address space. It decides how compiled code checks its bounds, so that a compiled
/// form belongs to one layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Memories come from a pool in which each has the whole of its 4 GiB reserved; the processor checks the bounds.
    Reserved,
    /// Memories are mapped when they are needed and no larger than needed, and code checks the bounds: slower, for
    /// machines that limit the address space (`ulimit -v`).
    Compact,
}

impl Layout {
    fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Compact => "compact",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        [Self::Reserved, Self::Compact]
            .into_iter()
            .find(|layout| layout.name() == text)
            .ok_or_else(|| EngineError(format!("`{text}` is not a memory layout")))
    }
}

/// The engine cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the WebAssembly engine: {0}")]
pub struct EngineError(String);

impl From<wasmtime::Error> for EngineError {
    fn from(error: wasmtime::Error) -> Self {
        // `wasmtime::Error` is no `std::error::Error`, so its chain is kept as text.
        Self(format!("{error:#}"))
    }
}

/// The engine: compiled code runs in it, and everything that tasks share. Cheap to clone; one per process.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    engine: wasmtime::Engine,
    linker: Linker<Guest>,
    layout: Layout,
    ticker: Arc<Ticker>,
    ticker_thread: Option<JoinHandle<()>>,
    room: Notify,
    egress: OnceLock<Arc<dyn Egress>>,
    services: OnceLock<Arc<dyn Services>>,
    task_id: OnceLock<TaskId>,
}

impl Engine {
    /// Makes the engine for `slots` attempts at once, with its memory pool. Where the pool cannot be had, memories are
    /// mapped on demand, which is logged: attempts then start about four times slower.
    ///
    /// # Errors
    /// [`EngineError`] if this machine cannot run WebAssembly at all, or start a thread.
    pub fn new(slots: u32) -> Result<Self, EngineError> {
        match wasmtime::Engine::new(&pooled(slots)) {
            Ok(engine) => Self::with(engine, Layout::Reserved),
            Err(error) => {
                tracing::warn!(
                    slots,
                    error = format!("{error:#}"),
                    "no memory pool: memories are mapped on demand and attempts start slower; raise the limit on \
                     address space (`ulimit -v`) or lower the number of slots"
                );
                Self::on_demand()
            }
        }
    }

    /// Makes the engine without a memory pool.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn on_demand() -> Result<Self, EngineError> {
        Self::with(compiler(Layout::Compact)?, Layout::Compact)
    }

    fn with(engine: wasmtime::Engine, layout: Layout) -> Result<Self, EngineError> {
        let mut linker = Linker::new(&engine);
        link(&mut linker)?;
        let ticker = Arc::new(Ticker::default());
        let ticker_thread = std::thread::Builder::new()
            .name("tq-epoch".to_owned())
            .spawn({
                let (ticker, engine) = (Arc::clone(&ticker), engine.weak());
                move || ticker.run(&engine)
            })
            .map_err(|error| EngineError(format!("failed to start its clock: {error}")))?;
        Ok(Self(Arc::new(Inner {
            engine,
            linker,
            layout,
            ticker,
            ticker_thread: Some(ticker_thread),
            room: Notify::new(),
            egress: OnceLock::new(),
            services: OnceLock::new(),
            task_id: OnceLock::new(),
        })))
    }

    /// How memories lie in this engine; the compiler has to know.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.0.layout
    }

    /// Guests of this engine send their requests and connect through `egress`. Without it, and before, all of them are refused. The first
    /// one stays.
    #[must_use]
    pub fn with_egress(self, egress: Arc<dyn Egress>) -> Self {
        self.0.egress.get_or_init(|| egress);
        self
    }

    /// Guests of this engine ask `services` for what the broker has. Without it, and before, nothing of that is granted. The first
    /// one stays.
    #[must_use]
    pub fn with_services(self, services: Arc<dyn Services>) -> Self {
        self.0.services.get_or_init(|| services);
        self
    }

    /// Guests of this engine see this id for that of their task, whichever task they run for: what follows from it is the same each
    /// time. The first one stays.
    #[must_use]
    pub fn with_task_id(self, id: TaskId) -> Self {
        self.0.task_id.get_or_init(|| id);
        self
    }

    pub(crate) fn task_id(&self) -> Option<TaskId> {
        self.0.task_id.get().copied()
    }

    pub(crate) fn services(&self) -> Option<Arc<dyn Services>> {
        self.0.services.get().cloned()
    }

    pub(crate) fn egress(&self) -> Option<Arc<dyn Egress>> {
        self.0.egress.get().cloned()
    }

    pub(crate) fn raw(&self) -> &wasmtime::Engine {
        &self.0.engine
    }

    pub(crate) fn linker(&self) -> &Linker<Guest> {
        &self.0.linker
    }

    /// Woken whenever an attempt gave back its share of the pool.
    pub(crate) fn room(&self) -> &Notify {
        &self.0.room
    }

    /// Time is measured for guests as long as the returned guard lives.
    pub(crate) fn running(&self) -> Running<'_> {
        self.0.ticker.enter();
        Running(&self.0.ticker)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("layout", &self.0.layout)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ticker.close();
        if let Some(thread) = self.ticker_thread.take() {
            // The thread ends within one tick. It cannot have panicked with anything that matters here.
            thread.join().ok();
        }
    }
}

/// What compiling and running share: every setting that changes the code, and what code is accepted.
fn base(layout: Layout) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX)
        .async_stack_size(4 * STACK_BYTES_MAX)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .generate_address_map(true)
        .relaxed_simd_deterministic(true);
    // Proposals that no task needs are so much less to attack; most advisories of the engine are about them. Multiple
    // memories stay: languages do not use them, but they cost nothing and their sum is limited like any other.
    config
        .concurrency_support(false)
        .gc_support(false)
        .shared_memory(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .wasm_shared_everything_threads(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        .wasm_stack_switching(false)
        .wasm_component_model_gc(false)
        .wasm_component_model_map(false)
        .wasm_component_model_memory64(false)
        .wasm_component_model_fixed_length_lists(false)
        .wasm_component_model_implements(false);
    match layout {
        Layout::Reserved => config.memory_reservation(Limits::MAX.memory_bytes),
        Layout::Compact => config
            .memory_reservation(0)
            .memory_reservation_for_growth(1 << 20)
            .memory_guard_size(1 << 16),
    };
    config
}

fn pooled(slots: u32) -> Config {
    let mut config = base(Layout::Reserved);
    let mut pool = PoolingAllocationConfig::new();
    let max = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    // Most components have one memory and a few tables. One that has as many as it may still finds room when the
    // others leave it, and waits until then.
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(max(INSTANCES_MAX)))
        .total_memories(slots.saturating_mul(2).saturating_add(max(MEMORIES_MAX)))
        .total_tables(slots.saturating_mul(8).saturating_add(max(TABLES_MAX)))
        .total_stacks(slots)
        .max_core_instances_per_component(max(INSTANCES_MAX))
        .max_memories_per_component(max(MEMORIES_MAX))
        .max_memories_per_module(max(MEMORIES_MAX))
        .max_tables_per_component(max(TABLES_MAX))
        .max_tables_per_module(max(TABLES_MAX))
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(usize::try_from(Limits::MAX.memory_bytes).unwrap_or(usize::MAX))
        .max_unused_warm_slots(slots.saturating_mul(4).max(16))
        // Measured: these four bring a task from 34 to 8 µs. PAGEMAP_SCAN (Linux 6.7) finds the pages that a guest
        // wrote to, so that only they are cleared; what is kept resident needs no page fault in the next task.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .decommit_batch_size(16);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// An engine that compiles for [`Engine`]s of this layout, and reserves nothing.
///
/// # Errors
/// [`EngineError`] if this machine cannot run WebAssembly.
pub(crate) fn compiler(layout: Layout) -> Result<wasmtime::Engine, EngineError> {
    Ok(wasmtime::Engine::new(&base(layout))?)
}

/// Names what a compiled form depends on: the engine's version, its settings and this processor's features.
pub(crate) fn engine_key(engine: &wasmtime::Engine) -> [u8; 8] {
    struct Stable(blake3::Hasher);
    impl Hasher for Stable {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            u64::from_le_bytes(key(&self.0))
        }
    }
    fn key(hasher: &blake3::Hasher) -> [u8; 8] {
        let mut key = [0; 8];
        hasher.finalize_xof().fill(&mut key);
        key
    }
    // The standard library's hasher may change with the compiler, and the key is in the names of files.
    let mut hasher = Stable(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    key(&hasher.0)
}

/// The clock of running guests. It ticks only while there are some, so that an idle host wakes for nothing.
#[derive(Default)]
struct Ticker {
    running: AtomicUsize,
    is_parked: AtomicBool,
    is_closed: Mutex<bool>,
    wake: Condvar,
}

impl Ticker {
    fn run(&self, engine: &EngineWeak) {
        loop {
            if self.park() {
                return;
            }
            std::thread::sleep(EPOCH_TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    }

    /// Waits until something runs. Returns whether the engine is gone instead.
    fn park(&self) -> bool {
        let mut is_closed = self
            .is_closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The order matters: whoever enters counts itself first and then looks for the mark, so that one of the two
        // sees the other.
        self.is_parked.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && !*is_closed {
            is_closed = self
                .wake
                .wait(is_closed)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.is_parked.store(false, Ordering::SeqCst);
        *is_closed
    }

    fn enter(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.is_parked.load(Ordering::SeqCst) {
            let _held = self
                .is_closed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_one();
        }
    }

    fn close(&self) {
        *self
            .is_closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }
}

/// A guest runs.
pub(crate) struct Running<'a>(&'a Ticker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `proposal` is how the engine calls it.
    #[track_caller]
    fn refuses(proposal: &str, wat: &str) {
        let engine = compiler(Layout::Reserved).unwrap();
        let wasm = wat::parse_str(wat).unwrap();
        let is_component = wasmparser_is_component(&wasm);
        let result = if is_component {
            engine.precompile_component(&wasm)
        } else {
            engine.precompile_module(&wasm)
        };
        let Err(error) = result else {
            panic!("{proposal} is accepted");
        };
        let message = format!("{error:#}");
        assert!(message.contains(proposal), "{proposal}: {message}");
    }

    fn wasmparser_is_component(wasm: &[u8]) -> bool {
        // Bytes 4..8 of a binary are its version and layer; a component has layer 1.
        wasm.get(6) == Some(&1)
    }

    #[test]
    fn proposals_that_no_task_needs_are_refused() {
        let cases = [
            ("the gc feature", "(module (type (struct (field i32))))"),
            ("requires gc", "(module (func (param externref)))"),
            (
                "function references",
                "(module (type $f (func)) (func (param (ref $f))))",
            ),
            ("exceptions", "(module (tag))"),
            ("threads must be enabled", "(module (memory 1 1 shared))"),
            (
                "threads support",
                "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
            ),
            ("memory64", "(module (memory i64 1))"),
            ("tail calls", "(module (func $f (return_call $f)))"),
            (
                "wide arithmetic",
                "(module (func (param i64 i64) (result i64 i64) (i64.mul_wide_u (local.get 0) (local.get 1))))",
            ),
            ("custom page sizes", "(module (memory 1 (pagesize 1)))"),
            (
                "stack switching",
                "(module (type $f (func)) (type $c (cont $f)))",
            ),
            ("component model async", "(component (type (stream u8)))"),
            (
                "async component functions",
                "(component (type (func async)))",
            ),
            ("fixed-length lists", "(component (type (list u8 4)))"),
            ("component model map", "(component (type (map string u8)))"),
            (
                "component model error-context",
                "(component (type error-context))",
            ),
        ];
        for (proposal, wat) in cases {
            refuses(proposal, wat);
        }
    }

    #[test]
    fn what_compilers_emit_is_accepted() {
        let engine = compiler(Layout::Reserved).unwrap();
        for wat in [
            "(module (memory 1) (memory 1) (table 1 funcref) (table 1 funcref))",
            "(module (func (result i32 i32) i32.const 1 i32.const 2))",
            "(module (func (param v128) (result v128) local.get 0))",
            "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 9))))",
        ] {
            let wasm = wat::parse_str(wat).unwrap();
            assert!(engine.precompile_module(&wasm).is_ok(), "{wat}");
        }
    }

    #[test]
    fn compiled_code_belongs_to_its_layout() {
        let reserved = compiler(Layout::Reserved).unwrap();
        let pool = wasmtime::Engine::new(&pooled(2)).unwrap();
        let compact = compiler(Layout::Compact).unwrap();
        assert_eq!(engine_key(&reserved), engine_key(&pool));
        assert_ne!(engine_key(&reserved), engine_key(&compact));
    }

    #[test]
    fn clock_stands_still_while_nothing_runs() {
        let ticker = Arc::new(Ticker::default());
        let engine = compiler(Layout::Compact).unwrap();
        let thread = std::thread::spawn({
            let (ticker, engine) = (Arc::clone(&ticker), engine.weak());
            move || ticker.run(&engine)
        });
        let parked = || {
            while !ticker.is_parked.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        };
        parked();
        ticker.enter();
        while ticker.is_parked.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        drop(Running(&ticker));
        parked();
        ticker.close();
        thread.join().unwrap();
    }
}
