//! What the host offers to guests besides WASI: one file per interface of `wit/`.

mod runtime;

pub(crate) use bindings::tq::task::types::TaskError;

pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "tq:task/task",
        imports: { default: trappable },
        exports: { default: async },
    });
}
