//! What the host offers to guests besides WASI: one file per interface of `wit/`.

pub(crate) mod keyvalue;
mod runtime;
mod secrets;

pub(crate) use bindings::tq::task::types::TaskError;

pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "tq:task/task",
        imports: {
            "tq:task/secrets.get": async | trappable,
            default: trappable,
        },
        exports: { default: async },
    });
}
